"""`corrupt_images`: clean images to a store of measurements, in one seeded pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from ..core.progress import Advance, silent
from ..core.tensors import seeded
from ..corruption import Corruption
from ..io import ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .phase import with_phase
from .pipeline import Acquisition, Plan, Samples, images_in_words, write
from .value_range import Block, blocks, extremes, largest_magnitude


@dataclass(frozen=True)
class CleanImages(Acquisition):
    """Clean images that are measured by `corruption`, image `i` with `seeded("corrupt", seed, i)`."""

    source: ImageSource
    corruption: Corruption
    seed: int
    unit: ClassVar[str] = "images"

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def total(self) -> int:
        return len(self.source) * (1 if self.source.value_range else 2)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    @property
    def in_words(self) -> str:
        return images_in_words(len(self.source), self.image_shape, self.image_shape)

    @property
    def images(self) -> ImageSource:
        """The images, with a phase where the corruption is of complex ones."""
        return with_phase(self.source, self.seed) if self.corruption.is_complex else self.source

    def no_reference(self) -> None:
        return None

    def survey(self, advance: Advance) -> Plan:
        source = self.images
        value_range = (largest_magnitude if self.corruption.is_complex else extremes)(source, advance)
        units = Normalisation.of_range(*value_range)
        samples = (self._measured(block) for block in blocks(source, units))
        return Plan(source.shape, value_range, samples, lambda: self.corruption, seed=self.seed, classes=source.classes)

    def _measured(self, block: Block) -> Samples:
        y, parameters = [], []
        for i, x in enumerate(block.x.split(1), start=block.start):
            generator = seeded("corrupt", self.seed, i)
            operator = self.corruption.draw(1, tuple(x.shape[1:]), generator)
            y.append(self.corruption.corrupt(x, operator, generator))
            parameters.append(operator.parameters())
        joined = {name: torch.cat([each[name] for each in parameters]) for name in parameters[0]}
        return Samples(torch.cat(y), joined, lambda: block.x, block.labels)


def corrupt_images(
    source: ImageSource,
    corruption: Corruption,
    out: str | Path,
    reference: str | Path | None,
    seed: int,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Measure every image of `source` once and write the measurements, and nothing clean, to the store `out`.

    Operator and noise of image `i` are drawn with `seeded("corrupt", seed, i)`, image by image, so that they depend
    on nothing else and the same seed writes the same shards. The range of values (nominal, or the smallest and the
    largest value of the data, found in a pass before) becomes [-1, 1]. Where the corruption is of complex images, the
    magnitudes of a source of one channel get a smooth random phase (`with_phase`), 0 stays 0 and the largest magnitude
    becomes 1.

    Args:
        reference: where to write the clean images, normalised alike, for `evaluate`; None for nowhere.
        advance, shard_bytes: see `write`.

    Raises:
        UserError: as `write`, or a corruption that does not measure such images.
    """
    return write(CleanImages(source, corruption, seed), out, reference, advance, shard_bytes)
