"""`corrupt_images`: clean images to a store of measurements, in one seeded pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..core.tensors import seeded
from ..corruption import Corruption
from ..io import ImageSource
from ..store.manifest import Contents, Normalisation
from ..store.samples import Store, open_store
from ..store.writer import SHARD_BYTES, StoreWriter
from ..store.writing import check_free
from .phase import with_phase

_BLOCK_BYTES = 8 << 20


class Block(NamedTuple):
    """Consecutive images of a source: number of the first, normalised `[n, C, H, W]` float32, classes `[n]` or None."""

    start: int
    x: Tensor
    labels: Tensor | None


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
        advance: told of every block of images that is done.
        shard_bytes: approximate size of a shard.

    Raises:
        UserError: a path exists, an image cannot be read, the disk is full.
    """
    out, reference = Path(out), None if reference is None else Path(reference)
    for path in (out, reference):
        if path is not None:
            check_free(path)
    if reference is not None and reference.resolve() == out.resolve():
        raise UserError(f"{out}: measurements and their reference must be two stores; choose another reference path")
    source = with_phase(source, seed) if corruption.is_complex else source
    contents = contents_of(source, _range(source, corruption.is_complex), corruption)
    with ExitStack() as stack:  # left in reverse: the reference appears first, the measurements once all is written
        measured = stack.enter_context(
            StoreWriter(out, contents, source=source.name, seed=seed, shard_bytes=shard_bytes)
        )
        clean: StoreWriter | None = None
        if reference is not None:
            contents_clean = contents_of(source, contents.value_range, None, is_complex=corruption.is_complex)
            clean = StoreWriter(reference, contents_clean, source=source.name, seed=seed, shard_bytes=shard_bytes)
            stack.enter_context(clean)
        for block in blocks(source, contents.normalisation):
            measured.append(*_measure(block, corruption, seed), block.labels)
            if clean is not None:
                clean.append(block.x, {"sigma_n": torch.zeros(len(block.x))}, block.labels)
            advance(done=len(block.x))
        measured.seal()
    return open_store(out, verify=False)


def contents_of(
    source: ImageSource,
    value_range: tuple[float, float],
    corruption: Corruption | None,
    image_shape: tuple[int, int, int] | None = None,
    *,
    is_complex: bool = False,
) -> Contents:
    """Contents of the measurements of images, or of their reference where `corruption` is None.

    Args:
        source: the images; or what was measured of images of `image_shape`.
        is_complex: whether a reference is of complex images; of measurements their law says it.
    """
    low, high = (float(value) for value in value_range)
    image_shape = image_shape or source.shape
    return Contents(
        kind="reference" if corruption is None else "measurements",
        shape=image_shape if corruption is None else tuple(corruption.observation_shape(image_shape)),
        image_shape=image_shape,
        normalisation=Normalisation.of_range(low, high),
        value_range=(low, high),
        classes=source.classes,
        corruption=None if corruption is None else corruption.describe(),
        values="complex" if is_complex or (corruption is not None and corruption.is_complex) else "real",
    )


def blocks(source: ImageSource, normalisation: Normalisation) -> Iterator[Block]:
    """All images of `source` in order, normalised, a few megabytes at a time."""
    size = max(1, min(256, _BLOCK_BYTES // (4 * math.prod(source.shape))))
    images = iter(source)
    start = 0
    while images_of_block := list(islice(images, size)):
        x = normalisation.normalise(torch.from_numpy(np.stack(images_of_block)))
        yield Block(start, x, None if source.labels is None else torch.tensor(source.labels[start : start + len(x)]))
        start += len(x)


def _measure(block: Block, corruption: Corruption, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Observations `[n, ...]` of a block, and the operators' parameters."""
    y, parameters = [], []
    for i, x in enumerate(block.x.split(1), start=block.start):
        generator = seeded("corrupt", seed, i)
        operator = corruption.draw(1, tuple(x.shape[1:]), generator)
        y.append(corruption.corrupt(x, operator, generator))
        parameters.append(operator.parameters())
    return torch.cat(y), {name: torch.cat([p[name] for p in parameters]) for name in parameters[0]}


def _range(source: ImageSource, is_complex: bool) -> tuple[float, float]:
    """What becomes [-1, 1]; of complex images from minus to plus the largest magnitude."""
    if not is_complex:
        return source.value_range or _extremes(source)
    if source.value_range is not None:
        return source.value_range
    largest = max(float(np.hypot(image[::2], image[1::2]).max()) for image in source)
    if largest == 0:
        raise UserError(f"{source.name}: all values are 0; images of one value cannot be learned from")
    return -largest, largest


def _extremes(source: ImageSource) -> tuple[float, float]:
    """Smallest and largest value of all images."""
    extremes = [(float(image.min()), float(image.max())) for image in source]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    if low == high:
        raise UserError(f"{source.name}: all values are {low:g}; images of one value cannot be learned from")
    return low, high
