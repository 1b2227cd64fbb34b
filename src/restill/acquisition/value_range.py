"""Images in blocks, and the range of their values that becomes [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..estimation import ImageSet
from ..io import ImageSource
from ..store.manifest import Normalisation

_BLOCK_BYTES = 8 << 20
_BATCH_VALUES = 1 << 20
_SAMPLED_VALUES = 1 << 22
_PERCENTILES = (0.1, 99.9)


class Block(NamedTuple):
    """Consecutive images of a source: number of the first, normalised `[n, C, H, W]` float32, classes `[n]` or None."""

    start: int
    x: Tensor
    labels: Tensor | None


def blocks(source: ImageSource, normalisation: Normalisation) -> Iterator[Block]:
    """All images of `source` in order, normalised, a few megabytes at a time."""
    start = 0
    for images in batches(source, _BLOCK_BYTES // 4):
        x = normalisation.normalise(images)
        yield Block(start, x, None if source.labels is None else torch.tensor(source.labels[start : start + len(x)]))
        start += len(x)


def image_set(source: ImageSource) -> ImageSet:
    """The images, for estimates of their noise."""
    return ImageSet(source.name, len(source), source.shape, lambda: batches(source))


def batches(source: ImageSource, values: int = _BATCH_VALUES) -> Iterator[Tensor]:
    """All images in order, in the units of the files, `[n, C, H, W]`, about `values` numbers at a time."""
    size = max(1, min(256, values // math.prod(source.shape)))
    images = iter(source)
    while some := list(islice(images, size)):
        yield torch.from_numpy(np.stack(some))


def extremes(source: ImageSource, is_complex: bool, advance: Advance = silent) -> tuple[float, float]:
    """The range of clean images that becomes [-1, 1]: the nominal one, or the smallest and largest value.

    Of complex images that is from minus to plus the largest magnitude.
    """
    if source.value_range is not None:
        return source.value_range
    low, high = math.inf, -math.inf
    for image in source:
        values = np.hypot(image[::2], image[1::2]) if is_complex else image
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        advance(done=1)
    low = -high if is_complex else low
    if low == high:
        raise UserError(f"{source.name}: all values are {high:g}; a model cannot learn from constant images")
    return low, high


def percentiles(source: ImageSource, advance: Advance = silent) -> tuple[float, float]:
    """The range of measurements that becomes [-1, 1] by default, in the units of the files.

    The nominal range, or the 0.1 and 99.9 percentiles of the observed values: of equally many values of each image,
    drawn from a fixed seed.
    """
    if source.value_range is not None:
        return source.value_range
    size = math.prod(source.shape)
    share = max(1, min(size, _SAMPLED_VALUES // len(source)))
    values = np.empty((len(source), share), dtype=np.float32)
    for i, image in enumerate(source):
        flat = image.reshape(-1)
        values[i] = flat if share == size else flat[np.random.default_rng(i).integers(size, size=share)]
        advance(done=1)
    observed = values[~np.isnan(values)]
    low, high = (float(value) for value in np.percentile(observed, _PERCENTILES)) if len(observed) else (0.0, 0.0)
    if low == high:
        raise UserError(
            f"{source.name}: 99.8% of the values are {low:g}, so the range cannot be found; state the range in the "
            "units of the files (--range LOW,HIGH, data.range in a recipe)"
        )
    return low, high
