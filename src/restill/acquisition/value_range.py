"""Images in blocks, and the range of their values that becomes [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..estimation import ImageSet
from ..io import ImageSource
from ..store.manifest import Normalisation
from .sentinels import check_sentinels

_BLOCK_BYTES = 4 << 20
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


def image_set(source: ImageSource, centred: bool = False) -> ImageSet:
    """The images, for estimates of their noise.

    Args:
        centred: whether a large offset may be subtracted, which white noise does not know: the estimate takes variation
            below the rounding of float32 for rounding.
    """
    first: NDArray[Any] = next(iter(source)) if centred else np.zeros(1, np.float32)
    offset = float(np.nanmedian(first)) if first.dtype == np.float64 else 0.0
    shifted = (lambda batch: batch - offset) if offset else (lambda batch: batch)
    return ImageSet(source.name, len(source), source.shape, lambda: map(shifted, batches(source)))


def batches(source: ImageSource, values: int = _BATCH_VALUES) -> Iterator[Tensor]:
    """All images in order, in the units of the files, `[n, C, H, W]`, about `values` numbers at a time."""
    size = max(1, min(256, values // math.prod(source.shape)))
    images = iter(source)
    while some := list(islice(images, size)):
        yield torch.from_numpy(np.stack(some))


def extremes(source: ImageSource, is_complex: bool, advance: Advance = silent) -> tuple[float, float]:
    """The range of clean images that becomes [-1, 1]: the nominal one, or the smallest and largest value.

    Of complex images that is from minus to plus the largest magnitude.

    Raises:
        UserError: all values are the same, or extreme ones look like a mark of missing values (`check_sentinels`).
    """
    if source.value_range is not None:
        return source.value_range
    low, high, sampled = math.inf, -math.inf, _Sampled(source)
    for image in source:
        values = np.hypot(image[::2], image[1::2]) if is_complex else image
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        sampled.add(values)
        advance(done=1)
    low = -high if is_complex else low
    if low == high:
        raise UserError(f"{source.name}: all values are {high:g}; a model cannot learn from constant images")
    remedy = "leave them out, or state --range LOW,HIGH (data.range) to take them as they are"
    check_sentinels(sampled.values(), source.name, remedy)
    return low, high


def percentiles(source: ImageSource, advance: Advance = silent) -> tuple[float, float]:
    """The range of measurements that becomes [-1, 1] by default, in the units of the files.

    The nominal range, or the 0.1 and 99.9 percentiles of the observed values: of equally many values of each image,
    drawn from a fixed seed.

    Raises:
        UserError: nearly all values are the same, or extreme ones look like a mark of missing values
            (`check_sentinels`).
    """
    if source.value_range is not None:
        return source.value_range
    sampled = _Sampled(source)
    for image in source:
        sampled.add(image)
        advance(done=1)
    observed = sampled.values()
    low, high = (float(value) for value in np.percentile(observed, _PERCENTILES)) if len(observed) else (0.0, 0.0)
    stated = "(--range LOW,HIGH, data.range in a recipe)"
    remedy = f"use --masks, with nan for NaN, or state the range {stated} to take them as they are"
    check_sentinels(observed, source.name, remedy)
    if low == high:
        raise UserError(
            f"{source.name}: 99.8% of the values are {low:g}, so the range cannot be found; state the range in the "
            f"units of the files {stated}"
        )
    return low, high


class _Sampled:
    """Equally many values of each image, drawn from a fixed seed; 4 million in all, or one of each."""

    def __init__(self, source: ImageSource) -> None:
        self._share = max(1, min(math.prod(source.shape), _SAMPLED_VALUES // len(source)))
        self._count, self._total = 0, len(source)
        self._values: NDArray[Any] = np.empty(0)

    def add(self, image: NDArray[Any]) -> None:
        """The values of the next image."""
        if self._count == 0:
            self._values = np.empty((self._total, min(self._share, image.size)), dtype=image.dtype)
        flat, share = image.reshape(-1), self._values.shape[1]
        whole = share == len(flat)
        chosen = flat if whole else flat[np.random.default_rng(self._count).integers(len(flat), size=share)]
        self._values[self._count] = chosen
        self._count += 1

    def values(self) -> NDArray[Any]:
        """All of them that are observed, `[n]`."""
        return self._values[~np.isnan(self._values)]
