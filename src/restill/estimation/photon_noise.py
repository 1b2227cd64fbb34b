r"""Gain and read noise where photons are counted: :math:`y = g\,\mathrm{Poisson}(x / g) + N(0, r^2)`.

The variance of such noise rises with the signal, :math:`g\,x + r^2` (Foi, Trimeche, Katkovnik and Egiazarian, IEEE
Transactions on Image Processing 17, 2008). A coefficient of a filter :math:`f` of unit norm has the variance
:math:`g m + r^2`, where :math:`m` is the mean of the signal weighted by :math:`f^2`. So coefficients of the quietest
bands (`coefficients.py`) are sorted by the local mean of the image, their variance is taken in bins from the median
magnitude, and a line is fitted to it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from .coefficients import bands_of
from .image_set import ImageSet, image_set

BINS = 16
_SIDE = 8  # of the patches
LOUDER = 1.3  # a quarter of the bands may be louder than the quietest by this factor at most: white noise is not
_TOLERANCE = 0.1
_MAX_PAIRS = 1 << 21
_MIN_PATCHES = 30 * BINS
_GROUPS = 20  # of the jackknife over images
_ITERATIONS = 30
_MEDIAN = 0.6744897501960817
_EFFICIENCY = 0.3675  # of the squared median magnitude, against the mean square
_ROBUST = 2.0  # standard errors from which bins above the line count for less: what lies above is texture
_CONTENT = 0.04  # relative allowance in the intervals for content; below, half of what other bands are louder is added
_Z = 1.96


class _Bin(NamedTuple):
    """Magnitudes, local means and groups of images, `[m]` each."""

    magnitudes: Tensor
    means: Tensor
    group: Tensor


class PoissonGaussianEstimate(NamedTuple):
    """Noise of variance `gain * signal + read^2`, in the units of the images, whose zero is no light.

    Attributes:
        gain: units of the image per count.
        gain_interval, read_interval: 95% intervals (jackknife over images, and an allowance for content).
        read: standard deviation of the part that does not depend on the signal.
    """

    gain: float
    gain_interval: tuple[float, float]
    read: float
    read_interval: tuple[float, float]


def estimate_poisson_gaussian(images: Tensor | ImageSet, advance: Advance = silent) -> PoissonGaussianEstimate:
    """Gain and read noise of images `[n, C, H, W]`, n at least 2, in units in which 0 is no light.

    Measured on 500 CIFAR-10 images in 0 to 255 with gains of 1 to 10: within 2% of the gain, and within 6% of a read
    noise above a fifth of all noise; in grey within 5% of the gain; smooth 128x128 brain scans within 13%, inside the
    interval. A read noise that is a small part of all cannot be told from none, which its interval shows. 5,000 images
    are looked at at most, evenly spread, in one pass.

    Args:
        advance: told of images.

    Raises:
        UserError: too few or too small images, values that are not finite, constant images, or content that is as
            loud as the noise at every scale (small drawings such as the 8x8 digits).
    """
    every = image_set(images)
    some = every.sample(advance)
    magnitudes, means, content = _pairs(some, every.name)
    bins = _bins(magnitudes, means)
    gain, read = _fit(bins)
    left_out = [_fit(bins, group) for group in range(min(_GROUPS, len(some)))]
    error_gain, error_read = (_Z * _jackknife_error([fit[k] for fit in left_out]) for k in (0, 1))
    limits = max(0.0, gain * (1 - content) - error_gain), gain * (1 + _CONTENT) + error_gain
    error_read += content * (gain * max(0.0, float(means.mean())) + read)
    low, high = max(0.0, read - error_read), read + error_read
    return PoissonGaussianEstimate(gain, limits, math.sqrt(read), (math.sqrt(low), math.sqrt(high)))


def _pairs(images: Tensor, name: str) -> tuple[Tensor, Tensor, float]:
    """Magnitudes of the quietest bands, the local mean under each, both `[n, m]`, and what content may account for."""
    bands = bands_of(images, min(_SIDE, *images.shape[2:]))
    patches = len(images) * bands.patches(*images.shape[2:])
    if patches < _MIN_PATCHES:
        raise UserError(f"{name}: has too few patches to estimate gain and read noise; give more or larger images")
    squares = bands.mean_squares(images)
    order = squares.argsort()
    louder = float(squares[order[len(order) // 4]] / squares[order[0]])
    if not louder <= LOUDER:
        raise UserError(
            f"{name}: details are as strong as the noise at every scale, so gain and read noise cannot be separated "
            "from them; give images with smooth parts"
        )
    most = max(1, _MAX_PAIRS // patches)
    few = order[squares[order] <= (1 + _TOLERANCE) * squares[order[0]]][:most]
    filters = bands.filters[few]
    magnitudes = bands.coefficients(images, filters).abs().flatten(1)
    means = bands.coefficients(images, filters.square()).flatten(1)
    return magnitudes, means, _CONTENT + (louder - 1) / 2


def _bins(magnitudes: Tensor, means: Tensor) -> list[_Bin]:
    """About equally many values in each, in the order of the means."""
    group = (torch.arange(len(means)) % _GROUPS)[:, None].expand_as(means).flatten()
    magnitudes, means = magnitudes.flatten(), means.flatten()
    return [_Bin(magnitudes[part], means[part], group[part]) for part in means.argsort().tensor_split(BINS)]


def _fit(bins: list[_Bin], left_out: int | None = None) -> tuple[float, float]:
    """Gain and squared read noise, neither negative, without one group of images."""
    rows = []
    for values, means, group in bins:
        kept = slice(None) if left_out is None else group != left_out
        variance = (float(values[kept].median()) / _MEDIAN) ** 2
        rows.append((float(means[kept].mean()), variance, len(means[kept])))
    m, v, n = torch.tensor(rows, dtype=torch.float64).T
    precision = n * _EFFICIENCY / 2  # one over the squared relative error of a variance
    weight = precision / v.clamp_min(1e-300) ** 2
    gain, read = 0.0, 0.0
    for _ in range(_ITERATIONS):
        gain, read = _line(m, v, weight)
        line = (gain * m + read).clamp_min(1e-3 * float(v.mean()))
        above = (v / line - 1) * precision.sqrt()
        weight = precision / line**2 * (_ROBUST / above.clamp_min(_ROBUST)) ** 2
    return gain, read


def _line(m: Tensor, v: Tensor, weight: Tensor) -> tuple[float, float]:
    """Least squares of `v = gain m + read`, neither negative."""
    weight = weight / weight.sum()
    mean_m, mean_v = float((weight * m).sum()), float((weight * v).sum())
    scatter = float((weight * (m - mean_m) ** 2).sum())
    gain = float((weight * (m - mean_m) * v).sum()) / scatter if scatter > 0 else 0.0
    if gain < 0:
        return 0.0, mean_v
    read = mean_v - gain * mean_m
    if read < 0:
        return float((weight * m * v).sum() / (weight * m * m).sum()), 0.0
    return gain, read


def _jackknife_error(values: list[float]) -> float:
    left = torch.tensor(values, dtype=torch.float64)
    return math.sqrt((len(left) - 1) / len(left) * float((left - left.mean()).square().sum()))
