r"""The level of white Gaussian noise, estimated from noisy images alone.

*Set.* The few quietest coefficients (`coefficients.py`) are found on one half of the images and measured on the other,
and the other way round, so that none is chosen for its own small values. The level is that of the median magnitude of
all of them (Donoho and Johnstone, Biometrika 81, 1994): :math:`\hat\sigma = \mathrm{median}|c| / 0.6745`.

*Single images.* Mean square of all coefficients about as quiet, without the largest tenth; the distribution of
levels, which these noisy values hide, is found by empirical Bayes, and shrinks them (`distribution`).

Chosen by measurement among estimators of the level of a set. Error in per cent, of two seeds the larger, for images in
[-1, 1] and sigma_n = .05, .1, .2, .3, .5 (`bench/noise_level.py` prints all):

=============================================  =================================  ==============================
estimator                                      8x8 digits (1,797)                 CIFAR-10 (2,000)
=============================================  =================================  ==============================
wavelet MAD, median over images                +323, +136, +54, +27, +7           +23, +6, -0.4, -2.0, -2.8
patch PCA per image (Chen, ICCV 2015), median  +529, +228, +85, +41, +13          -5.4, -6.7, -7.1, -7.4, -7.5
patch PCA of the set, mean = median            -7.2, -1.0, -2.1, -1.6, -2.8       +0.5, -0.2, -0.3, -0.2, -0.2
whole images, Marchenko-Pastur                 +16, +14, +12, +10, +8             +27, +19, +12, +8, +5
finest DCT bands, quiet images                 +345, +141, +54, +30, +12          +0.8, +0.3, +0.2, +0.2, +0.1
across channels                                (grey)                             +0.2, -0.1, -0.2, -0.2, -0.2
patch PCA, learned on half the images          +6.4, +5.0, +5.0, +5.4, +5.4       +1.0, +0.5, +0.4, +0.4, +0.4
this one                                       +1.1, +1.1, +1.2, -1.2, -1.1      +0.7, +0.4, +0.2, +0.6, +0.5
=============================================  =================================  ==============================

Patch PCA of the set comes close, but textured grey images mislead it (CIFAR-10 in grey, 1,000 images, sigma_n .05: +16,
here +1.2), and it has no values of single images. What no method here can do is to tell noise from content that is as
white: smooth 128x128 brain scans, whose finest band holds .02, come out 6% too high at sigma_n .05, at the lower end of
the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..core.tensors import seeded
from .coefficients import Coefficients, candidates_of, killed_frequencies, quietest
from .image_set import ImageSet, image_set

METHOD = "median magnitude of the quietest DCT bands and pixels"
METHOD_KILLED = "median magnitude at frequencies that the blur does not pass"
MIXED = 0.25  # levels differ if the spread is wider than this part of them, and than
MIXED_ERRORS = 3.0  # so many standard errors of one image, and more of them in small sets
_WANTED = 10_000  # coefficients for the level of the set: a standard error of 1.2%
_TOLERANCE = 0.1  # further coefficients for single images may hold this much more than the quietest
_KEPT = 0.9  # of an image's squared coefficients; the largest are texture where anything is
_MEDIAN = 0.6744897501960817  # of |N(0, 1)|
_DENSITY = 2 * math.exp(-(_MEDIAN**2) / 2) / math.sqrt(2 * math.pi)  # of |N(0, 1)| there
_Z = 1.96
_APPROXIMATE = 0.005  # of the level, either way: measured bias that the other terms do not cover
_CONTENT = 2.0  # times the difference of root mean square and median: what content may account for
_CALIBRATION_VALUES, _CALIBRATION_IMAGES = 1 << 23, 500
_POINTS, _ITERATIONS = 160, 300
_MAX_FITTED = 5_000  # the distribution of levels is fitted to so many images


class NoiseEstimate(NamedTuple):
    """Standard deviation of white Gaussian noise, in the units of the images.

    Attributes:
        sigma: level of the set; where levels differ, about that of the median image.
        low, high: 95% interval of `sigma`. The low end allows for content that the coefficients still hold,
            which can only raise the estimate.
        per_sample: level of each image, `[n]`, float64, shrunk to the distribution of all.
        error: relative standard error of one image's level before it is shrunk.
        spread: levels below which 5% and 95% of the images lie, with the uncertainty of single images taken out.
        mixed: whether levels differ (`MIXED`); then `sigma` describes no image in particular.
        method: in words, for the record.
    """

    sigma: float
    low: float
    high: float
    per_sample: Tensor
    error: float
    spread: tuple[float, float]
    mixed: bool
    method: str


def estimate_sigma(
    images: Tensor | ImageSet, response: Tensor | None = None, advance: Advance = silent
) -> NoiseEstimate:
    """The noise level of images `[n, C, H, W]`, n at least 2, H and W at least 4, in any units.

    The noise must be white: independent between pixels and channels and of one level within an image. Noise that was
    resized, demosaiced, compressed or clipped is not; the estimate is then too small. The level
    of the set comes from 5,000 images at most (and 33 million values), evenly spread; the levels of single images from
    all, in a second pass.

    Args:
        response: known transfer function `[H, W]` of the blur before the noise (`torch.fft.fft2` of the point-spread
            function), to look only at frequencies that it does not pass. The estimate holds without it too.
        advance: told of images, of each twice.

    Raises:
        UserError: too few or too small images, NaN or infinity, images that are all constant, a response without zeros.
    """
    images = image_set(images)
    count, shape = images.count, images.shape
    if response is not None and tuple(response.shape) != shape[1:]:
        raise UserError(f"response must have the images' shape {list(shape[1:])}, not {list(response.shape)}")
    learned = images.sample(advance)
    half, used = _halves(count), images.indices()
    half[used] = _halves(len(used))
    few, many, measured = _choose(learned, half[used], response)
    sigma, low, high = _level([choice(part).abs() for choice, part in zip(few, measured, strict=True)])
    gauges = [_Gauge(choice, shape) for choice in many]
    squares = _squares(images.batches(), half, gauges, advance)
    freedom = torch.tensor([gauge.freedom for gauge in gauges], dtype=torch.float64)[half]
    per_sample, spread = distribution(squares, freedom)
    error = float((1 / (2 * freedom)).mean().sqrt())
    mixed = spread[1] > (1 + max(MIXED, MIXED_ERRORS * error * (1 + 5 / math.sqrt(count)))) * spread[0]
    method = METHOD if response is None else METHOD_KILLED
    return NoiseEstimate(sigma, low, high, per_sample, error, spread, mixed, method)


def _halves(count: int) -> Tensor:
    """0 or 1 for every image, at random and never all the same, int64 `[count]`."""
    return torch.randperm(count, generator=seeded("estimate-noise", "halves")) % 2


def _choose(
    images: Tensor, half: Tensor, response: Tensor | None
) -> tuple[list[Coefficients], list[Coefficients], list[Tensor]]:
    """For each half: coefficients for the set, for single images (both chosen on the other half), and its images."""
    parts = [images[half == k] for k in (0, 1)]
    if response is not None:
        killed = killed_frequencies(response)
        return [killed] * 2, [killed] * 2, parts
    choices = []
    for part in parts:
        candidates = candidates_of(part)
        values = math.prod(part.shape[1:])
        choices.append(quietest(candidates, part, min(_WANTED // 2, len(part) * values), _TOLERANCE))
    few, many = zip(*reversed(choices), strict=True)
    return list(few), list(many), parts


def _level(magnitudes: list[Tensor]) -> tuple[float, float, float]:
    """Level and interval from magnitudes of coefficients of two sets of images, `[n, m]` each.

    The standard error is that of the infinitesimal jackknife over images: each adds the share of its coefficients below
    the median, divided by the density there.
    """
    every = torch.cat([part.flatten() for part in magnitudes])
    median = every.median()
    share = torch.cat([(part < median).double().mean(1) for part in magnitudes])
    sigma = float(median) / _MEDIAN
    error = sigma * float(share.std()) / (_DENSITY * _MEDIAN * math.sqrt(len(share)))
    content = _CONTENT * max(0.0, float(every.square().mean().sqrt()) - sigma)
    error = (_Z + 2.5 / (len(share) - 1)) * error + _APPROXIMATE * sigma  # about Student's t
    return sigma, max(0.0, sigma - error - content), sigma + error


class _Gauge:
    """Mean square of an image's noise, calibrated on white noise of level 1.

    Attributes:
        freedom: degrees of freedom of the chi-squared distribution with the same relative variance.
    """

    def __init__(self, coefficients: Coefficients, shape: tuple[int, ...]) -> None:
        self._coefficients, self._scale = coefficients, 1.0
        n = max(20, min(_CALIBRATION_IMAGES, _CALIBRATION_VALUES // math.prod(shape)))
        generator = seeded("estimate-noise", "calibration")
        white = (torch.randn((1, *shape), generator=generator, dtype=torch.float64) for _ in range(n))
        zero = coefficients(torch.zeros(1, *shape, dtype=torch.float64))  # of pixels, these are their means
        values = torch.cat([self._mean_square(coefficients(image) - zero) for image in white])
        self._scale = float(values.mean())
        self.freedom = float(2 * values.mean() ** 2 / values.var())

    def __call__(self, images: Tensor) -> Tensor:
        """Unbiased for `sigma^2`, `[n]`."""
        return self._mean_square(self._coefficients(images)) / self._scale

    @staticmethod
    def _mean_square(coefficients: Tensor) -> Tensor:
        kept = math.ceil(_KEPT * coefficients.shape[1])
        return coefficients.square().sort(1).values[:, :kept].mean(1)


def _squares(batches: Iterator[Tensor], half: Tensor, gauges: list[_Gauge], advance: Advance) -> Tensor:
    """Mean square of the noise in every image, `[count]`."""
    squares, start = torch.empty(len(half), dtype=torch.float64), 0
    for batch in batches:
        which = half[start : start + len(batch)]
        for k, gauge in enumerate(gauges):
            rows = (which == k).nonzero()[:, 0]
            if len(rows):
                squares[start + rows] = gauge(batch[rows].to(torch.float64))
        start += len(batch)
        advance(done=len(batch))
    return squares


class Levels(NamedTuple):
    """Levels of single images, and their distribution.

    Attributes:
        per_sample: posterior mean of each image's level, `[n]`.
        spread: the levels below which 5% and 95% of the images lie.
    """

    per_sample: Tensor
    spread: tuple[float, float]


def distribution(squares: Tensor, freedom: Tensor) -> Levels:
    """Empirical Bayes: the most likely distribution of levels, and with it the level of each image.

    Given its level `s`, an image's mean square is `s^2 chi^2_f / f`. The distribution that maximises the likelihood of
    all images is found on a fixed grid of levels by expectation maximisation (the non-parametric estimator of Kiefer
    and Wolfowitz 1956; Koenker and Mizera 2014). Equal levels come out as one; a few distinct ones as a few.

    Args:
        squares: mean square of the noise in each image, `[n]`, at least 0.
        freedom: degrees of freedom of each, `[n]`.
    """
    positive = squares[squares > 0]
    if not len(positive):
        return Levels(torch.zeros_like(squares), (0.0, 0.0))
    low, high = float(positive.min().log()) - 0.1, float(positive.max().log()) + 0.1
    grid = torch.linspace(low, high, _POINTS, dtype=torch.float64)
    freedom = freedom.clamp_max(2 / float(grid[1] - grid[0]) ** 2)  # no narrower than the grid can tell
    some = torch.linspace(0, len(squares) - 1, min(len(squares), _MAX_FITTED)).round().long()
    likelihood = _likelihood(squares[some], freedom[some], grid)
    weights = torch.full_like(grid, 1 / len(grid))
    for _ in range(_ITERATIONS):
        weights = (likelihood * weights / (likelihood @ weights)[:, None]).mean(0).clamp_min(1e-12)
    posterior = _likelihood(squares, freedom, grid) * weights
    levels = (grid / 2).exp()
    below = weights.cumsum(0)
    ends = [float(levels[(below >= share).nonzero()[0, 0]]) for share in (0.05, 0.95)]
    return Levels(posterior @ levels / posterior.sum(1), (ends[0], ends[1]))


def _likelihood(squares: Tensor, freedom: Tensor, grid: Tensor) -> Tensor:
    """Likelihood of each image at each level, `[n, points]`, up to a factor for each image."""
    ratio = squares.clamp_min(float(grid[0].exp()))[:, None].log() - grid
    logarithm = freedom[:, None] / 2 * (ratio - ratio.exp())
    return (logarithm - logarithm.amax(1, keepdim=True)).exp()
