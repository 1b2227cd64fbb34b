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
from .pipeline import Acquisition, Plan, Samples, images_in_words, write
from .value_range import Block, blocks, extremes


def from_clean_images(source: ImageSource, corruption: Corruption, seed: int) -> Acquisition:
    """Clean images that are measured as `corrupt_images` says."""
    images = with_phase(source, seed) if corruption.is_complex else source

    def survey(advance: Advance) -> Plan:
        value_range = extremes(images, corruption.is_complex, advance)
        samples = (_measured(block, corruption, seed) for block in blocks(images, Normalisation.of_range(*value_range)))
        return Plan(images.shape, value_range, samples, lambda: corruption, seed=seed, classes=source.classes)

    return Acquisition(
        source.name,
        images_in_words(len(source), images.shape, images.shape),
        images.shape,
        len(source) * (1 if source.value_range else 2),
        survey,
        num_classes=source.num_classes,
    )


def _measured(block: Block, corruption: Corruption, seed: int) -> Samples:
    y, parameters = [], []
    for i, x in enumerate(block.x.split(1), start=block.start):
        generator = seeded("corrupt", seed, i)
        operator = corruption.draw(1, tuple(x.shape[1:]), generator)
        y.append(corruption.corrupt(x, operator, generator))
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
    return write(from_clean_images(source, corruption, seed), out, reference, advance, shard_bytes)
