r"""The level of white Gaussian noise, estimated from noisy images alone.

*Set.* Sites that may hold little besides noise are found on one half of the images and measured on the other, and the
other way round (`sites.py`); what content they still hold is extrapolated to none (`content.py`). Content can only
raise what is measured, so of several kinds of sites those with the lowest upper limits count, and of these the one
that knows best.

*Single images.* Mean square of the quietest sites of each; the distribution of levels, which these noisy values
hide, is found by empirical Bayes, and shrinks them (`image_levels.py`).

Chosen by measurement among estimators of the level of a set: `bench/noise_level.py` prints bias, coverage and width
of all for digits, photographs, scans and drawings, and docs/benchmarks.md has its figures. What no method here can do
is to tell noise from content that is as white: the grain of a film, the noise of the scans that "clean" images were
made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.progress import Advance, silent
from ..core.tensors import seeded
from .content import Level, Tally, level_of
from .image_levels import distribution
from .image_set import ImageSet, image_set
from .sites import Sites, sites_of

MIXED = 0.25  # levels differ if the spread is wider than this part of them, and than
MIXED_ERRORS = 3.0  # so many standard errors of one image, and more of them in small sets
VAGUE = 0.5  # low end of an interval, as part of its high end
_TOLERANCE = 0.1  # sites for single images may hold this much more than the quietest
_RARE = 0.5
_CALIBRATION_VALUES, _CALIBRATION_IMAGES = 1 << 21, 500


class NoiseEstimate(NamedTuple):
    """Standard deviation of white Gaussian noise, in the units of the images.

    Attributes:
        sigma: level of the set; where levels differ, about their root mean square.
        low, high: 95% interval of `sigma`. Content may account for what lies between `low` and `sigma`; where it
            cannot be told from noise at all, `low` is 0.
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

    @property
    def vague(self) -> bool:
        """Whether the interval is so wide that `sigma` should not be used."""
        return self.low < VAGUE * self.high


class _Found(NamedTuple):
    """One kind of sites, learned from either half, with their tally and the level that it gives."""

    sites: list[Sites]
    tally: Tally
    level: Level


def estimate_sigma(images: Tensor | ImageSet, advance: Advance = silent) -> NoiseEstimate:
    """The noise level of images `[n, C, H, W]`, n at least 2, H and W at least 4, in any units.

    The noise must be white: independent between pixels and channels and of one level within an image. Noise that was
    resized, demosaiced, compressed or clipped is not; the estimate is then too small. A blur before the noise does no
    harm. The level of the set comes from 5,000 images at most (and 8 million values), evenly spread; the levels of
    single images from all, in a second pass.

    Args:
        advance: told of images, of each twice.

    Raises:
        UserError: too few or too small images, NaN or infinity, images that are all constant.
    """
    images = image_set(images)
    learned = images.sample(advance)
    half, used = _halves(images.count), images.indices()
    half[used] = _halves(len(used))
    found = _quietest([learned[half[used] == k] for k in (0, 1)])
    gauges = [_Gauge(sites, found, images.shape) for sites in found.sites]
    squares = _squares(images.batches(), half, gauges, advance)
    freedom = torch.tensor([gauge.freedom for gauge in gauges], dtype=torch.float64)[half]
    per_sample, spread = distribution(squares, freedom)
    error = float((1 / (2 * freedom)).mean().sqrt())
    mixed = spread[1] > (1 + max(MIXED, MIXED_ERRORS * error * (1 + 5 / math.sqrt(images.count)))) * spread[0]
    method = f"content of {found.sites[0].name} extrapolated to none"
    level = found.level._replace(low=0.0) if _rare(squares, freedom) else found.level
    return NoiseEstimate(*level, per_sample, error, spread, mixed, method)


def level_of_images(images: Tensor) -> Level:
    """The level of the set alone, of images `[n, C, H, W]`, float64, all in memory."""
    half = _halves(len(images))
    return _quietest([images[half == k] for k in (0, 1)]).level


def _halves(count: int) -> Tensor:
    """0 or 1 for every image, at random and never all the same, int64 `[count]`."""
    return torch.randperm(count, generator=seeded("estimate-noise", "halves")) % 2


def _rare(squares: Tensor, freedom: Tensor) -> bool:
    """Whether the mean is made by few images, in that most have less than half of it: content does that, not noise."""
    expected = float(((1 - 2 / (9 * freedom)) ** 3).mean())  # median of chi-squared over its degrees of freedom
    return float(squares.median()) < _RARE * expected * float(squares.mean())


def _quietest(parts: list[Tensor]) -> _Found:
    """The kind of sites with the narrowest interval of those with low upper limits, from two halves of the images."""
    kinds = []
    for sites in sites_of(parts):  # learned from one half, read in the other
        sites.reverse()
        tallies = [one.read(part).tally(one.bins) for one, part in zip(sites, parts, strict=True)]
        bins = min(one.bins for one in sites)
        tally = Tally(*(torch.cat([part[:, :bins] for part in both]) for both in zip(*tallies, strict=True)))
        kinds.append(_Found(sites, tally, level_of(tally, sites[0].freedom, sites[0].tolerance)))
    lowest = min(kind.level.high for kind in kinds)
    as_low = [kind for kind in kinds if kind.level.sigma <= lowest]
    return min(as_low, key=lambda kind: kind.level.high - kind.level.low)


class _Gauge:
    """Mean square of an image's noise.

    Attributes:
        freedom: degrees of freedom of the chi-squared distribution with the same relative variance.
    """

    def __init__(self, sites: Sites, found: _Found, shape: tuple[int, ...]) -> None:
        held = found.tally.sites.sum(0)
        means = torch.where(held > 0, found.tally.quiet.sum(0) / held.clamp_min(1), torch.inf)
        quiet = (means <= (1 + _TOLERANCE) * means.min()).long().cumprod(0).sum()
        self._sites, self._bins = sites, max(int(quiet), sites.enough)
        used = slice(self._bins)
        mean = float(found.tally.quiet[:, used].sum() / held[used].sum().clamp_min(1))
        self._scale = min(1.0, found.level.sigma**2 / mean) if mean > 0 else 1.0  # content that they share
        n = max(20, min(_CALIBRATION_IMAGES, _CALIBRATION_VALUES // math.prod(shape)))
        generator = seeded("estimate-noise", "calibration")
        noise = torch.randn((n, *shape), generator=generator, dtype=torch.float64)
        values = self._mean_square(sites.white(noise))
        self.freedom = float(2 * values.mean() ** 2 / values.var())

    def __call__(self, images: Tensor) -> Tensor:
        """About `sigma^2`, `[n]`; 0 where nothing holds noise."""
        return self._mean_square(images) * self._scale

    def _mean_square(self, images: Tensor) -> Tensor:
        reading = self._sites.read(images)
        used = ((reading.bin >= 0) & (reading.bin < self._bins)).to(reading.quiet)
        return (reading.quiet * used).sum(1) / used.sum(1).clamp_min(1)


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
