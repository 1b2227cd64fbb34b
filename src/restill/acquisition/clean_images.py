"""`corrupt_images`: clean images to a store of measurements, in one seeded pass."""

from __future__ import annotations

from pathlib import Path

import torch

from ..core.progress import Advance, silent
from ..core.tensors import seeded
from ..corruption import Corruption
from ..io import ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .phase import with_phase
from .pipeline import Acquisition, Plan, Samples, write
from .value_range import Block, blocks, extremes


class CleanImages(Acquisition):
    """Clean images, of which each is measured once (`corrupt_images`)."""

    def __init__(self, source: ImageSource, corruption: Corruption, seed: int) -> None:
        self.source = with_phase(source, seed) if corruption.is_complex else source
        self.corruption, self.seed, self._seed = corruption, seed, seed
        self.of_images(self.source, self.source.shape, looks=0 if source.value_range else 1)

    def survey(self, advance: Advance) -> Plan:
        value_range = extremes(self.source, self.corruption.is_complex, advance)
        normalised = blocks(self.source, Normalisation.of_range(*value_range))
        return Plan(map(self._measured, normalised), lambda: self.corruption, value_range)

    def _measured(self, block: Block) -> Samples:
        y, parameters = [], []
        for i, x in enumerate(block.x.split(1), start=block.start):
            generator = seeded("corrupt", self._seed, i)
            operator = self.corruption.draw(1, tuple(x.shape[1:]), generator)
            y.append(self.corruption.corrupt(x, operator, generator))
            parameters.append(operator.parameters())
        joined = {name: torch.cat([each[name] for each in parameters]) for name in parameters[0]}
        return Samples(torch.cat(y), joined, lambda: block.x, block.labels)


def corrupt_images(
    source: ImageSource,
    corruption: Corruption,
    out: str | Path,
    reference: str | Path | None = None,
    seed: int = 0,
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
