"""Levels of single images, and their distribution, from a noisy mean square of each.

Empirical Bayes: given its level `s`, an image's mean square is `s^2 chi^2_f / f`. The distribution of levels that
maximises the likelihood of all images is found on a fixed grid by expectation maximisation (the non-parametric
estimator of Kiefer and Wolfowitz 1956; Koenker and Mizera 2014). Equal levels come out as one; a few distinct ones as a
few.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_POINTS, _ITERATIONS = 160, 300
_MAX_FITTED = 5_000  # the distribution of levels is fitted to so many images


class Levels(NamedTuple):
    """Levels of single images, and their distribution.

    Attributes:
        per_sample: posterior mean of each image's level, `[n]`.
        spread: the levels below which 5% and 95% of the images lie.
    """

    per_sample: Tensor
    spread: tuple[float, float]


def distribution(squares: Tensor, freedom: Tensor) -> Levels:
    """The most likely distribution of levels, and with it the level of each image.

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
