"""`open_store`: measurements from disk, memory-mapped, in any order."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.files import sha256
from ..core.views import seen_shape
from ..corruption import Corruption, Operator, corruption_from
from .manifest import Manifest, Shard, read_manifest
from .writing import writer_of, writing_path

_NUMBERS = 1 << 24  # of measurements that are looked at at a time


@dataclass(frozen=True)
class Batch:
    """Some samples of a store, on one device.

    Attributes:
        y: normalised observations, float32 `[n, *shape]`; clean images in a reference.
        operator: what measured them, with their noise levels; None in a reference.
        labels: classes, int64 `[n]`; None where there are none.
    """

    y: Tensor
    operator: Operator | None
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Self:
        """The same samples on another device."""
        operator = None if self.operator is None else self.operator.to(device)
        labels = None if self.labels is None else self.labels.to(device)
        return type(self)(self.y.to(device), operator, labels)


class Store:
    """A store that `open_store` has checked. Samples stay on disk (memory-mapped) until they are asked for.

    Attributes:
        path: where it lies.
        manifest: what it holds.
        sigma_n: noise level of every sample in normalised units, float32 `[N]`; zeros in a reference.
        labels: classes, int64 `[N]`, or None.
        scale: units of every sample, float32 `[N]`, where each has its own, as slices of k-space: in those of the files
            a sample is `stored * scale`. None where the units are those of the manifest.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: list[dict[str, Tensor]]) -> None:
        self.path = path
        self.manifest = manifest
        self._shards = shards
        self._ends = torch.tensor([shard.count for shard in manifest.shards]).cumsum(0)
        self.sigma_n = torch.cat([shard["sigma_n"] for shard in shards])
        self.labels = torch.cat([shard["labels"] for shard in shards]) if "labels" in shards[0] else None
        self.scale = torch.cat([shard["scale"] for shard in shards]) if "scale" in shards[0] else None

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.manifest.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of the images that were measured."""
        return self.manifest.image_shape

    @property
    def is_complex(self) -> bool:
        """Whether the channels of an image are real and imaginary parts in turn."""
        return self.manifest.values == "complex"

    @property
    def seen_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of what is looked at and measured: the images, or the magnitudes of complex ones."""
        return seen_shape(self.image_shape, self.is_complex)

    @property
    def block(self) -> int:
        """How many samples to look at at a time: 1024, or fewer where these are more than 16 million numbers."""
        return max(1, min(1024, _NUMBERS // math.prod(self.shape)))

    @functools.cached_property
    def corruption(self) -> Corruption:
        """The law that the measurements follow. Raises UserError if this is a reference or the kind is not known."""
        if self.manifest.corruption is None:
            raise UserError(f"{self.path}: is a reference store of clean images; a store of measurements is needed")
        return corruption_from(self.manifest.corruption)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where samples have no labels."""
        if self.labels is None:
            return 0
        return len(self.manifest.classes) if self.manifest.classes else int(self.labels.max()) + 1

    @property
    def fingerprint(self) -> str:
        """Hex digest that is the same for equal samples in equal order and shards."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.manifest.shards).encode()).hexdigest()

    def batch(self, index: Tensor) -> Batch:
        """The samples `index`, int64 `[n]` with values 0 to len - 1, in the order asked for; on the CPU.

        Raises:
            IndexError: a value outside the store.
        """
        index = torch.as_tensor(index, dtype=torch.int64)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"indices must be 0 to {len(self) - 1}")
        values = self._gather(index)
        y, labels = values.pop("y"), values.pop("labels", None)
        values.pop("scale", None)
        if self.manifest.corruption is None:
            return Batch(y, None, labels)
        parameters = {name.removeprefix("operator."): value for name, value in values.items()}
        return Batch(y, self.corruption.rebuild(parameters, self.image_shape), labels)

    def iterate(self, batch_size: int) -> Iterator[Batch]:
        """All samples in order, in batches of `batch_size` and a last one of what is left."""
        for index in torch.arange(len(self)).split(batch_size):
            yield self.batch(index)

    def to_physical(self, y: Tensor) -> Tensor:
        """Normalised images, or k-space, in the units of the files that the store was made from, float32."""
        return self.manifest.normalisation.to_physical(y)

    def _gather(self, index: Tensor) -> dict[str, Tensor]:
        """Rows of every tensor, with one copy per shard that is touched."""
        owner = torch.bucketize(index, self._ends, right=True)
        touched = owner.unique().tolist()
        starts = self._ends - torch.tensor([shard.count for shard in self.manifest.shards])
        if len(touched) <= 1:
            k = touched[0] if touched else 0
            return {name: value[index - starts[k]] for name, value in self._shards[k].items()}
        result = {name: value.new_empty(len(index), *value.shape[1:]) for name, value in self._shards[0].items()}
        for k in touched:
            rows = (owner == k).nonzero()[:, 0]
            for name, value in self._shards[k].items():
                result[name][rows] = value[index[rows] - starts[k]]
        return result


def open_store(path: str | Path, verify: bool = True) -> Store:
    """The store at `path`.

    Args:
        verify: compare the SHA-256 of every shard with the manifest, which reads all bytes once.

    Raises:
        UserError: no store, not finished, of a newer schema, incomplete, damaged, or not what its manifest says.
    """
    path = Path(path)
    if not path.exists():
        raise _missing(path)
    manifest = read_manifest(path)
    shards = [_open_shard(path, manifest, shard, verify) for shard in manifest.shards]
    _check_alike(path, manifest, shards)
    return Store(path, manifest, shards)


def _missing(path: Path) -> UserError:
    folder = writing_path(path)
    if not folder.exists():
        return UserError(f"{path}: no such store; `restill corrupt` and `restill import` write stores")
    writer = writer_of(folder)
    if writer.alive:
        return UserError(f"{path}: is still being written by process {writer.pid}; wait until it has finished")
    return UserError(f"{path}: was left unfinished; run the command that writes it again")


def _open_shard(path: Path, manifest: Manifest, shard: Shard, verify: bool) -> dict[str, Tensor]:
    file = path / shard.file
    if not file.is_file():
        raise UserError(f"{file}: shard is missing; copy the store again or write it again")
    try:
        if verify and sha256(file) != shard.sha256:
            raise UserError(f"{file}: shard is damaged (its sha256 is not that of the manifest); write the store again")
        with safetensors.safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: shard is damaged ({error}); write the store again") from error
    for name, shape in {"y": (shard.count, *manifest.shape), "sigma_n": (shard.count,)}.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != shape or found.dtype != torch.float32:
            what = "is missing" if found is None else f"is {found.dtype} {tuple(found.shape)}"
            raise UserError(f"{file}: {name} {what}, but the manifest says float32 {shape}; write the store again")
    for name, value in tensors.items():
        if value.ndim == 0 or len(value) != shard.count:
            raise UserError(f"{file}: {name} does not hold {shard.count} samples as the manifest says; write it again")
    return tensors


def _check_alike(path: Path, manifest: Manifest, shards: list[dict[str, Tensor]]) -> None:
    def layout(tensors: dict[str, Tensor]) -> dict[str, Any]:
        return {name: (value.dtype, value.shape[1:]) for name, value in tensors.items()}

    for shard, tensors in zip(manifest.shards, shards, strict=True):
        if layout(tensors) != layout(shards[0]):
            names = json.dumps(sorted(tensors))
            raise UserError(
                f"{path / shard.file}: tensors {names} differ from the first shard's; write the store again"
            )
