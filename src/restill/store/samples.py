"""`open_store`: measurements from disk, memory-mapped, in any order; and what clean images on disk share with them."""

from __future__ import annotations

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.paths import check_store
from ..core.views import displayed_shape
from ..corruption import Corruption, Operator, corruption_from
from .manifest import Manifest, read_manifest
from .shard_files import PREFIX, open_shards
from .writer import writer_of

_NUMBERS = 1 << 24  # in a block of samples


@dataclass(frozen=True)
class Batch:
    """Some samples of a store, on one device.

    Attributes:
        y: normalised observations, float32 `[n, *shape]`.
        operator: what measured them, with their noise levels.
        labels: classes, int64 `[n]`; None where there are none.
    """

    y: Tensor
    operator: Operator
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Self:
        """The same samples on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return type(self)(self.y.to(device), self.operator.to(device), labels)


class Samples(ABC):
    """Measurements or clean images on disk, memory-mapped: samples are read on demand.

    An index of samples is int64 `[n]`, with values 0 to len - 1 in any order; others raise IndexError.

    Attributes:
        path: where they lie.
        manifest: what it holds.
        labels: classes, int64 `[N]`, or None.
        scale: float32 `[N]`, where each sample has units of its own, as slices of k-space: a sample is
            `stored * scale` in the units of the files. None where the manifest's normalisation holds for all.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: list[dict[str, Tensor]]) -> None:
        self.path = path
        self.manifest = manifest
        self._shards = shards
        self._ends = torch.tensor([shard.count for shard in manifest.shards]).cumsum(0)
        self.labels = self._whole("labels")
        self.scale = self._whole("scale")

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.manifest.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of the images, clean or measured."""
        return self.manifest.image_shape

    @property
    def is_complex(self) -> bool:
        """Whether the channels of an image alternate between real and imaginary parts."""
        return self.manifest.values == "complex"

    @property
    def displayed_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of the images as shown and compared: magnitudes of complex ones."""
        return displayed_shape(self.image_shape, self.is_complex)

    @property
    def block(self) -> int:
        """How many samples to process at a time: 1024, or fewer if these hold more than 16 million numbers."""
        return max(1, min(1024, _NUMBERS // math.prod(self.shape)))

    @property
    def nbytes(self) -> int:
        """Size of all samples with everything that belongs to them, such as masks and coil maps."""
        return sum(value.nbytes for shard in self._shards for value in shard.values())

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where samples have no labels."""
        if self.labels is None:
            return 0
        return len(self.manifest.classes) if self.manifest.classes else int(self.labels.max()) + 1

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value of an image as files can hold it, normalised; None where no range is known."""
        return self.manifest.bounds

    @property
    def clipping(self) -> str:
        """The range to which an evaluation clips images, in words and in the units of the files; `none` without one."""
        if self.bounds is None:
            return "none"
        low, high = (
            value * self.manifest.normalisation.scale + self.manifest.normalisation.offset for value in self.bounds
        )
        return f"{low:g} to {high:g}"

    @property
    def class_counts(self) -> tuple[int, ...]:
        """How many samples each class has; empty where samples have no labels."""
        if self.labels is None:
            return ()
        return tuple(self.labels.bincount(minlength=self.num_classes).tolist())

    @property
    def fingerprint(self) -> str:
        """Hex digest that is the same for equal samples in equal order and shards."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.manifest.shards).encode()).hexdigest()

    def to_physical(self, y: Tensor) -> Tensor:
        """Stored values in the units of the files that the store was made from, float32."""
        return self.manifest.normalisation.to_physical(y)

    def check_alike(self, other: Samples) -> None:
        """Raise UserError, which names the other, unless images of both can be compared."""
        ours, theirs = self.manifest, other.manifest
        path = other.path
        if ours.image_shape != theirs.image_shape:
            raise UserError(
                f"{path}: holds images {list(theirs.image_shape)}, but the measurements are of {list(ours.image_shape)}"
            )
        if ours.values != theirs.values:
            raise UserError(
                f"{path}: holds {theirs.values} images, but the measurements are of {ours.values} ones; make both with "
                "one command"
            )
        if ours.normalisation != theirs.normalisation:
            raise UserError(f"{path}: differs in its range of values from {self.path}; make both with one command")

    def stored(self, index: Tensor) -> Tensor:
        """The samples `index` alone, as they were stored, float32 `[n, *shape]`."""
        return self._gather(index)["y"]

    @abstractmethod
    def images(self, index: Tensor) -> Tensor:
        """The samples `index` on the image grid, float32 `[n, C, H, W]`."""

    def image_blocks(self) -> Iterator[Tensor]:
        """All samples on the image grid in order, `block` of them at a time."""
        for index in torch.arange(len(self)).split(self.block):
            yield self.images(index)

    def _whole(self, name: str) -> Tensor | None:
        """One tensor of all samples; None where they do not have it."""
        return torch.cat([shard[name] for shard in self._shards]) if name in self._shards[0] else None

    def _gather(self, index: Tensor) -> dict[str, Tensor]:
        """Rows of every tensor, with one copy per shard that is touched."""
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"indices must be 0 to {len(self) - 1}")
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


@final
class Store(Samples):
    """Measurements that `open_store` has checked.

    Attributes:
        sigma_n: noise level of every sample in normalised units, float32 `[N]`.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: list[dict[str, Tensor]]) -> None:
        super().__init__(path, manifest, shards)
        self.sigma_n = torch.cat([shard["sigma_n"] for shard in shards])

    @functools.cached_property
    def corruption(self) -> Corruption:
        """What the measurements were corrupted by. Raises UserError if restill does not know the kind."""
        return corruption_from(self.manifest.corruption or {})

    def images(self, index: Tensor) -> Tensor:
        """Measurements on the image grid, `[n, C, H, W]` (`to_image`): of k-space the zero-filled reconstructions."""
        batch = self.batch(index)
        return batch.operator.to_image(batch.y)

    def batch(self, index: Tensor) -> Batch:
        """The samples `index`, on the CPU."""
        values = self._gather(index)
        parameters = {"sigma_n": values["sigma_n"]}
        parameters |= {name[len(PREFIX) :]: value for name, value in values.items() if name.startswith(PREFIX)}
        return Batch(values["y"], self.corruption.rebuild(parameters, self.image_shape), values.get("labels"))

    def iterate(self, batch_size: int | None = None) -> Iterator[Batch]:
        """All samples in order, in batches of `batch_size`, by default `block`, and a last one of what is left."""
        for index in torch.arange(len(self)).split(batch_size or self.block):
            yield self.batch(index)


def open_store(path: str | Path, verify: bool = True) -> Store:
    """The store of measurements at `path`.

    Args:
        verify: compare the SHA-256 of every shard with the manifest, which reads all bytes once.

    Raises:
        UserError: no store, clean images, or a store that is unfinished, of a newer schema, incomplete, damaged, or at
            odds with its manifest.
    """
    return Store(*checked_files(Path(path), "measurements", verify))


def checked_files(
    path: Path, kind: Literal["measurements", "reference"], verify: bool
) -> tuple[Path, Manifest, list[dict[str, Tensor]]]:
    """The path, the manifest and the tensors of each shard of what lies at `path`. Raises UserError as `open_store`."""
    if not path.exists():
        raise _missing(path)
    manifest = read_manifest(path)
    if manifest.kind != kind:
        words = {"measurements": "measurements", "reference": "clean images"}
        raise UserError(f"{path}: holds {words[manifest.kind]}; a store of {words[kind]} is needed here")
    return path, manifest, open_shards(path, manifest, verify)


def _missing(path: Path) -> UserError:
    if (writer := writer_of(path)) is not None:
        return UserError(f"{path}: is still being written by {writer}; wait until it has finished")
    check_store(path)
    return UserError(f"{path}: was left unfinished; run the command that writes it again")
