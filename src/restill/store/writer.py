"""`StoreWriter`: a store appears complete at its path, or not at all; until then it lies in a folder beside it."""

from __future__ import annotations

import array
import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.files import cannot_write, remove, sync_folder
from ..core.locks import Lock, holder, moved, take
from ..core.paths import writing_path
from ..core.reading import sha256
from ..core.version import VERSION
from .manifest import (
    FILE,
    SCHEMA,
    Contents,
    Manifest,
    Provenance,
    Shard,
    SigmaEstimate,
    SigmaSummary,
)
from .shard_files import PREFIX

SHARD_BYTES = 16 << 20  # writing one takes four times as much memory


class StoreWriter:
    """Writes samples to shards beside `path` and moves the whole to `path` at the end of the `with` block.

        with StoreWriter(path, contents, source="scans", seed=0) as writer:
            writer.append(y, operator.parameters(), labels)

    An exception inside the block removes everything that was written. A process that is killed leaves a folder
    `<name>.writing`, the file of its lock and nothing at `path`; the next writer of the same path removes them.

    Args:
        path: where the store will be; must not exist.
        contents: kind, shapes, normalisation and corruption.
        source: base name of what the samples come from, for provenance.
        seed: of the randomness in the samples; None where there is none of ours.
        estimate: how the noise levels were estimated; None where they were stated.
        shard_bytes: shards are closed once they hold this much.

    Raises:
        UserError: (on entering) `path` exists or another process is writing it; (later) it cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        contents: Contents,
        *,
        source: str,
        seed: int | None,
        estimate: SigmaEstimate | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.path = Path(path)
        self.contents = contents
        self._source, self._seed, self._estimate, self._shard_bytes = source, seed, estimate, shard_bytes
        self._folder = writing_path(self.path)
        self._shards: list[Shard] = []
        self._pending: list[dict[str, Tensor]] = []
        self._pending_bytes = 0
        self._names: list[str] = []
        self._sigma_n = array.array("f")
        self._sealed = False
        self._lock: Lock | None = None
        self._published = False
        self._first: StoreWriter | None = None

    def __enter__(self) -> Self:
        try:
            self._lock = _claimed(self.path)
            remove(self._folder)  # left behind by a process that was killed
            self._folder.mkdir()
        except OSError as error:
            self._end()
            raise self._cannot_write(error) from error
        return self

    def append(
        self,
        y: Tensor,
        parameters: Mapping[str, Tensor],
        labels: Tensor | None = None,
        *,
        scale: Tensor | None = None,
    ) -> None:
        """Add `n` samples.

        Args:
            y: normalised observations `[n, *contents.shape]`.
            parameters: of the operators, each `[n, ...]`; `sigma_n` `[n]` must be among them.
            labels: classes, integers `[n]`.
            scale: units of each sample, `[n]`, where they are not those of all: `physical = stored * scale`.

        Raises:
            UserError: NaN or infinity in `y`, or the disk is full.
            ValueError: shapes or names that do not agree with `contents` or with what was appended before.
        """
        if tuple(y.shape[1:]) != self.contents.shape or any(len(value) != len(y) for value in parameters.values()):
            raise ValueError(f"expected [n, {self.contents.shape}] and n parameters, not {tuple(y.shape)}")
        if not torch.isfinite(y).all():
            first = len(self._sigma_n) + int((~torch.isfinite(y)).flatten(1).any(1).nonzero()[0])
            raise UserError(f"{self.path}: sample {first} would hold NaN or infinity; check the corruption's settings")
        tensors = {"y": y.to(torch.float32), "sigma_n": parameters["sigma_n"].to(torch.float32)}
        tensors |= {f"{PREFIX}{name}": value for name, value in parameters.items() if name != "sigma_n"}
        if labels is not None:
            tensors["labels"] = labels.to(torch.int64)
        if scale is not None:
            tensors["scale"] = scale.to(torch.float32)
        self._names = self._names or sorted(tensors)
        if sorted(tensors) != self._names:
            raise ValueError(f"expected tensors {self._names}, not {sorted(tensors)}")
        tensors = {name: value.detach().cpu() for name, value in tensors.items()}
        self._sigma_n.extend(tensors["sigma_n"].tolist())
        self._pending.append(tensors)
        self._pending_bytes += sum(value.nbytes for value in tensors.values())
        if self._pending_bytes >= self._shard_bytes:
            self._flush()

    def seal(self) -> None:
        """Write all remaining samples; leaving the `with` block then only moves the folder. Idempotent."""
        if self._sealed:
            return
        self._flush()
        if not self._shards:
            raise UserError(f"{self.path}: nothing was written to it; a store needs at least one sample")
        sigma_n = torch.tensor(self._sigma_n, dtype=torch.float64)
        manifest = Manifest(
            schema=SCHEMA,
            **dict(self.contents),
            count=len(sigma_n),
            sigma_n=SigmaSummary(
                min=sigma_n.min().item(),
                mean=sigma_n.mean().item(),
                max=sigma_n.max().item(),
                estimated=self._estimate is not None,
                estimate=self._estimate,
            ),
            shards=tuple(self._shards),
            provenance=Provenance(
                source=self._source,
                seed=self._seed,
                restill_version=VERSION,
                created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            ),
        )
        self._write(FILE, (json.dumps(manifest.as_json(), indent=2) + "\n").encode())
        self._sealed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.seal()
                self._publish()
        finally:
            if not self._published and self._first is not None:
                self._first._withdraw()
            self._end()

    def appears_after(self, other: StoreWriter) -> None:
        """Note that `other`, which is sealed like this one, is published first: both stores belong to one command.

        Where this one cannot be published, the other one is removed again. If the process is killed in between,
        `check_free` knows that the other store is but a part of an unfinished pair, and moves it out of the way.
        """
        assert self._lock is not None and self._sealed and other._sealed
        partner = {"path": str(other.path.resolve()), "sha256": sha256(other._folder / FILE)}
        try:
            self._lock.note(json.dumps({"pid": os.getpid(), "partner": partner}), durable=True)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._first = other

    def _withdraw(self) -> None:
        if self._published:
            with contextlib.suppress(OSError):
                remove(self.path)

    def _end(self) -> None:
        """Remove what was not published, and the lock."""
        with contextlib.suppress(OSError):
            remove(self._folder)
        if self._lock is not None:
            self._lock.release()

    def _flush(self) -> None:
        """Close the shard that is being filled."""
        if not self._pending:
            return
        tensors = {name: torch.cat([part[name] for part in self._pending]).contiguous() for name in self._names}
        self._pending, self._pending_bytes = [], 0  # freed before the bytes are made
        data = safetensors.torch.save(tensors)
        name = f"shard-{len(self._shards):05d}.safetensors"
        self._write(name, data)
        self._shards.append(Shard(file=name, count=len(tensors["y"]), sha256=hashlib.sha256(data).hexdigest()))

    def _publish(self) -> None:
        try:
            sync_folder(self._folder)
            if self.path.exists() or self.path.is_symlink():
                raise UserError(f"{self.path}: appeared while it was being written; remove it and run again")
            moved(self._folder, self.path)
            self._published = True
        except OSError as error:
            raise self._cannot_write(error) from error
        sync_folder(self.path.parent)

    def _write(self, name: str, data: bytes) -> None:
        """Write a file through to the disk."""
        try:
            with (self._folder / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> UserError:
        return cannot_write(self.path, error, "nothing was left behind")


def writer_of(store: Path) -> str | None:
    """The process that is writing the store at `store`, in words; None where none is."""
    note = holder(_lock_path(store))
    return None if note is None else f"process {_noted(note).get('pid', '?')}"


def check_free(store: Path, partner: Path | None = None) -> None:
    """Nothing is at the path `store`, and no other process is writing it.

    Args:
        partner: a store that is written together with this one and appears after it. Where a killed process has
            published this one only, that is moved to `writing_path`, as the unfinished work that it is.

    Raises:
        UserError: otherwise; a store is never overwritten.
    """
    if (writer := writer_of(store)) is not None:
        raise UserError(f"{store}: is being written by {writer}; wait for it")
    if not (store.exists() or store.is_symlink()):
        return
    with contextlib.suppress(OSError):
        _lock_path(store).unlink(missing_ok=True)  # of a process that was killed just after it had finished
    if partner is None or not _is_half_of(store, partner):
        raise UserError(f"{store}: exists already and is never overwritten; remove it or choose another path")
    try:
        remove(writing_path(store))
        moved(store, writing_path(store))
    except OSError as error:
        raise cannot_write(store, error, f"remove it: it was left unfinished together with {partner}") from error


def _is_half_of(store: Path, partner: Path) -> bool:
    """Whether a killed process had published `store` as the first of the two, and not yet `partner`."""
    try:
        noted = _noted(_lock_path(partner).read_text(encoding="utf-8")).get("partner")
        ours = {"path": str(store.resolve()), "sha256": sha256(store / FILE)}
    except (OSError, UnicodeDecodeError):
        return False
    return not store.is_symlink() and not partner.exists() and bool(noted == ours)


def _lock_path(store: Path) -> Path:
    return store.with_name(f".{store.name}.lock")


def _noted(note: str) -> dict[str, Any]:
    try:
        found = json.loads(note)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _claimed(store: Path) -> Lock:
    """The lock of a store that is to be written. Raises UserError as `check_free`, and OSError."""
    check_free(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    lock = take(_lock_path(store))
    if lock is None:
        raise UserError(f"{store}: is being written by {writer_of(store) or 'another process'}; wait for it")
    if store.exists():  # another process has just finished
        lock.release()
        raise UserError(f"{store}: exists already and is never overwritten; remove it or choose another path")
    with contextlib.suppress(OSError):  # on a full disk the lock holds, only its owner is not named
        lock.note(json.dumps({"pid": os.getpid()}))
    return lock
