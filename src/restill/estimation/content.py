r"""Noise told from content: the level at which quiet coefficients and louder ones agree.

Sites of images (patches, pixels) are put into bins by how much content they seem to hold. Of each bin the mean square
of quiet coefficients, :math:`v`, and of louder ones, :math:`t`, is known. White noise adds the same variance to both,
content adds less to the quiet ones, and natural images, drawings and scans share a regularity: the ratio of the two
contents is nearly the same in all bins of a set. So

.. math:: v = \sigma^2 + c, \qquad t = \sigma^2 + x, \qquad c = \rho\, x\, (x / x_{max})^{-\gamma},

with one :math:`\rho` and one small :math:`\gamma` for the set: the points :math:`(t, v)` lie on a line, which meets
the line :math:`v = t` where there is no content. Content is thereby extrapolated to none, not taken for noise, and
where little is known of :math:`\rho`, the interval reaches down as far as that allows. The posterior of
:math:`\sigma^2` under flat priors of :math:`\sigma^2` and :math:`\rho` is summed on a grid. Measured on clean images:
:math:`\rho` is .01 to .04 of colour photographs, .15 to .25 of grey ones, .4 of small grey ones, .3 to .4 of brain
scans, .45 of discs and boxes, and varies by a tenth between bins, most of it as :math:`\gamma = -.2` to .15.

What it cannot see is one fine texture that fills all images: its bins are one point, which noise explains as well.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_RATIOS = (torch.arange(16, dtype=torch.float64) + 0.5) / 16 * 0.6  # rho
_BENDS = torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2], dtype=torch.float64)  # gamma
_BEND_WEIGHTS = torch.tensor([0.05, 0.2, 0.35, 0.3, 0.1], dtype=torch.float64)
_POINTS, _ZOOMS = 200, 4
_BEYOND = 6.0  # standard errors above the least mean square at which the grid ends
_NEGLIGIBLE = 1e-4  # part of the largest posterior
_QUANTILES = (0.025, 0.5, 0.975)
_DOWN, _UP, _SMALL_SETS = 1.75, 1.25, 1.3  # of half-widths: bins are correlated; about Student's t
_APPROXIMATE = 0.01  # of the level, either way: what the model leaves out


class Tally(NamedTuple):
    """What is known of every image in every bin of sites, quietest bin first; all `[n, bins]`.

    Attributes:
        sites: how many there are.
        quiet: sum over them of the mean square of the quiet coefficients of a site.
        louder: the same of the louder coefficients.
    """

    sites: Tensor
    quiet: Tensor
    louder: Tensor


class Level(NamedTuple):
    """Standard deviation of the noise, and its 95% interval."""

    sigma: float
    low: float
    high: float


class _Bins(NamedTuple):
    """Means of bins and their covariances, `[bins]` each."""

    quiet: Tensor
    louder: Tensor
    quiet_error: Tensor
    louder_error: Tensor
    covariance: Tensor


def level_of(tally: Tally, freedom: int, tolerance: float) -> Level:
    """The level of the noise.

    Args:
        freedom: number of coefficients in the mean square of a site, quiet or louder.
        tolerance: relative standard deviation of a bin's ratio of contents about the common one.
    """
    bins = _bins(tally, freedom)
    low, high = 0.0, float((bins.quiet + _BEYOND * bins.quiet_error.sqrt()).min())
    points = posterior = torch.empty(0)
    for _ in range(_ZOOMS):
        step = (high - low) / _POINTS
        points = low + step * (torch.arange(_POINTS, dtype=torch.float64) + 0.5)
        posterior = _posterior(points, bins, tolerance)
        likely = (posterior > _NEGLIGIBLE * posterior.max()).nonzero()[:, 0]
        narrow = max(0.0, low + step * (int(likely[0]) - 1)), min(high, low + step * (int(likely[-1]) + 2))
        if narrow[1] - narrow[0] > (high - low) / 2:
            break
        low, high = narrow
    below, sigma, above = (math.sqrt(value) for value in _quantiles(points, posterior))
    few = _SMALL_SETS / (len(tally.sites) - 1)
    down = (_DOWN + few) * (sigma - below) + _APPROXIMATE * sigma
    up = (_UP + few) * (above - sigma) + _APPROXIMATE * sigma
    return Level(sigma, max(0.0, sigma - down), sigma + up)


def _bins(tally: Tally, freedom: int) -> _Bins:
    """Bins that hold sites. Errors are those of a ratio of sums over images, at least those of white noise."""
    total = tally.sites.sum(0)
    held = total > 0
    count, total = tally.sites[:, held], total[held]
    means = [part[:, held].sum(0) / total for part in (tally.quiet, tally.louder)]
    rests = [
        (part[:, held] - mean * count) / total for part, mean in zip((tally.quiet, tally.louder), means, strict=True)
    ]
    factor = len(count) / (len(count) - 1)
    errors = [
        torch.maximum(factor * rest.square().sum(0), 2 * mean**2 / (total * freedom)).clamp_min(1e-300)
        for rest, mean in zip(rests, means, strict=True)
    ]
    return _Bins(means[0], means[1], errors[0], errors[1], factor * (rests[0] * rests[1]).sum(0))


def _posterior(points: Tensor, bins: _Bins, tolerance: float) -> Tensor:
    """Of the squared level, `[points]`, at most 1 each: the likelihood, summed over ratios and bends."""
    x = bins.louder - points[:, None]  # content of the louder coefficients, [points, bins]
    part = torch.maximum(x.abs(), bins.louder_error.sqrt()) / x.amax(1, keepdim=True).clamp_min(1e-300)
    bent = x * part.clamp_max(1) ** -_BENDS[:, None, None]  # [bends, points, bins]
    content = bent[:, :, None] * _RATIOS[:, None]  # [bends, points, ratios, bins]
    ratio = _RATIOS[:, None]
    variance = bins.quiet_error - 2 * ratio * bins.covariance + ratio**2 * bins.louder_error
    variance = variance.clamp_min(1e-300) + (tolerance * content.clamp_min(0)) ** 2
    rest = bins.quiet - points[:, None, None] - content
    logarithm = -(rest**2 / variance + variance.log()).sum(-1) / 2 + _BEND_WEIGHTS.log()[:, None, None]
    return (logarithm - logarithm.max()).exp().sum((0, 2))


def _quantiles(points: Tensor, posterior: Tensor) -> list[float]:
    """Linear between the midpoints of equal cells; none below 0."""
    cumulated = posterior.cumsum(0) - posterior / 2
    cumulated = cumulated / posterior.sum()
    found = []
    for share in _QUANTILES:
        right = int((cumulated < share).sum().clamp(1, len(points) - 1))
        left = right - 1
        part = (share - float(cumulated[left])) / max(1e-300, float(cumulated[right] - cumulated[left]))
        found.append(float(points[left] + min(1.0, max(0.0, part)) * (points[right] - points[left])))
    return found
