"""`StoreWriter`: a store appears complete at its path, or not at all; until then it lies in a folder beside it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
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

SHARD_BYTES = 64 << 20
WRITER_FILE = "writer.json"
_THIS_PROCESS = uuid.uuid4().hex  # tells this process from a dead one with the same id, as in a restarted container


class StoreWriter:
    """Writes samples to shards beside `path` and moves the whole to `path` at the end of the `with` block.

        with StoreWriter(path, contents, source="scans", seed=0) as writer:
            writer.append(y, operator.parameters(), labels)

    An exception inside the block removes everything that was written. A process that is killed leaves a folder
    `<name>.writing` and nothing at `path`; the next writer of the same path removes it.

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
        self._sigma_n: list[Tensor] = []
        self._sealed = False

    def __enter__(self) -> Self:
        check_free(self.path)
        try:
            if self._folder.exists():  # left behind by a process that was killed
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True)
            sign(self._folder)
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
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
            first = sum(map(len, self._sigma_n)) + int((~torch.isfinite(y)).flatten(1).any(1).nonzero()[0])
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
        self._sigma_n.append(tensors["sigma_n"])
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
        sigma_n = torch.cat(self._sigma_n).to(torch.float64)
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
            shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        """Close the shard that is being filled."""
        if not self._pending:
            return
        tensors = {name: torch.cat([part[name] for part in self._pending]).contiguous() for name in self._names}
        data = safetensors.torch.save(tensors)
        name = f"shard-{len(self._shards):05d}.safetensors"
        self._write(name, data)
        self._shards.append(Shard(file=name, count=len(tensors["y"]), sha256=hashlib.sha256(data).hexdigest()))
        self._pending, self._pending_bytes = [], 0

    def _publish(self) -> None:
        try:
            _sync_folder(self._folder)
            if self.path.exists():
                raise UserError(f"{self.path}: appeared while it was being written; remove it and run again")
            self._folder.rename(self.path)
        except OSError as error:
            raise self._cannot_write(error) from error
        with contextlib.suppress(OSError):  # the store is complete; the signature in it would only be untidy
            (self.path / WRITER_FILE).unlink()
        _sync_folder(self.path.parent)

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
        return UserError(f"{self.path}: cannot be written ({error.strerror or error}); nothing was left behind")


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder durable, on systems and file systems that can do so."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


class Writer(NamedTuple):
    """The process that began a folder, and whether it still runs."""

    pid: int | None
    alive: bool


def writing_path(store: Path) -> Path:
    """Where the store at `store` lies until it is complete."""
    return store.with_name(f"{store.name}.writing")


def sign(folder: Path) -> None:
    """Record in `folder` which process is writing it. Raises OSError."""
    signature = {"pid": os.getpid(), "started": time.time(), "process": _THIS_PROCESS}
    (folder / WRITER_FILE).write_text(json.dumps(signature), encoding="utf-8")


def writer_of(folder: Path) -> Writer:
    """The process that began `folder`; a folder without a readable signature was abandoned at its start."""
    try:
        signature = json.loads((folder / WRITER_FILE).read_text(encoding="utf-8"))
        pid = int(signature["pid"])
        process = signature.get("process")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Writer(None, alive=False)
    if pid == os.getpid():
        return Writer(pid, alive=process == _THIS_PROCESS)
    return Writer(pid, alive=_runs(pid))


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere signal 0 does more than ask
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def check_free(store: Path) -> None:
    """Nothing is at the path `store`, and no living process is writing it.

    Raises:
        UserError: otherwise; a store is never overwritten.
    """
    if store.exists() or store.is_symlink():
        raise UserError(f"{store}: exists already and is never overwritten; remove it or choose another path")
    folder = writing_path(store)
    writer = writer_of(folder)
    if writer.alive:
        raise UserError(
            f"{store}: is being written by process {writer.pid}; wait for it, or remove {folder} if that process is "
            "not restill"
        )
