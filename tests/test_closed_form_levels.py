"""The laws from which noise levels are drawn, against scipy's distributions and the grid's formula.

Kolmogorov-Smirnov statistics are compared with 1.95 / sqrt(n), which a correct sampler exceeds once in 1,000 times; the
seeds are fixed.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import stats

from restill.objectives import LogNormalLevels, generator_levels

N = 50_000
LOG_NORMAL = stats.lognorm(s=1.2, scale=math.exp(-1.2))


def draw(levels: LogNormalLevels, minimum: torch.Tensor, seed: int = 0) -> np.ndarray:
    return levels.draw_levels(minimum, torch.Generator().manual_seed(seed)).double().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("sigma_n", [0.0, 0.1, 0.4, 3.0, 20.0])
def test_truncated_levels_are_the_conditional_log_normal(sigma_n: float, dtype: torch.dtype) -> None:
    """n = 50,000. At sigma_n = 20 only 2.4e-4 of the log-normal is left to draw from."""
    minimum = torch.full((N,), sigma_n, dtype=dtype)
    levels = draw(LogNormalLevels(), minimum)
    assert np.isfinite(levels).all()
    assert (levels >= minimum.double().numpy()).all()
    if dtype == torch.float64:
        assert (levels > sigma_n).all()

    def distribution(s: np.ndarray) -> np.ndarray:
        # through survival functions, which keep their precision in the upper tail
        return 1 - np.asarray(LOG_NORMAL.sf(np.maximum(s, sigma_n))) / LOG_NORMAL.sf(sigma_n)

    assert stats.ks_1samp(levels, distribution).statistic < 1.95 / math.sqrt(N)


@pytest.mark.parametrize("floor", ["truncate", "clamp"])
def test_levels_are_a_function_of_the_generator(floor: Literal["truncate", "clamp"]) -> None:
    levels, minimum = LogNormalLevels(floor=floor), torch.full((50,), 0.2)
    first, again, other = (draw(levels, minimum, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_levels_follow_their_own_parameters() -> None:
    """n = 50,000, another mean and spread."""
    levels = draw(LogNormalLevels(p_mean=0.4, p_std=0.7), torch.zeros(N, dtype=torch.float64))
    assert stats.ks_1samp(np.log(levels), stats.norm(0.4, 0.7).cdf).statistic < 1.95 / math.sqrt(N)


def test_each_sample_keeps_its_own_minimum() -> None:
    """Three levels in one call, n = 50,000 of each."""
    minimum = torch.tensor([0.0, 0.2, 0.4], dtype=torch.float64).repeat(N)
    levels = draw(LogNormalLevels(), minimum).reshape(N, 3)
    for column, sigma_n in zip(levels.T, (0.0, 0.2, 0.4), strict=True):
        assert column.min() > sigma_n
        share = LOG_NORMAL.sf(max(1.0, sigma_n)) / LOG_NORMAL.sf(sigma_n)
        assert abs((column > 1).mean() - share) < 5 * math.sqrt(share * (1 - share) / N)


@pytest.mark.parametrize(("sigma_n", "published"), [(0.1, 0.18), (0.2, 0.37), (0.4, 0.59)])
def test_clamp_wastes_the_published_share(sigma_n: float, published: float) -> None:
    """n = 50,000, within 5 standard errors; above sigma_n the clamp leaves the log-normal as it is."""
    levels = draw(LogNormalLevels(floor="clamp"), torch.full((N,), sigma_n, dtype=torch.float64))
    share = LOG_NORMAL.cdf(sigma_n)
    assert abs(share - published) < 0.006
    assert levels.min() == sigma_n
    assert abs((levels == sigma_n).mean() - share) < 5 * math.sqrt(share * (1 - share) / N)
    above = levels[levels > sigma_n]
    truncated = draw(LogNormalLevels(), torch.full((N,), sigma_n, dtype=torch.float64), seed=1)
    bound = 1.95 * math.sqrt(1 / len(above) + 1 / N)
    assert stats.ks_2samp(above, truncated).statistic < bound


def test_generator_levels_are_the_karras_grid() -> None:
    """n = 50,000: the inverse of the grid's formula turns the levels into uniform t in [0, 0.8]."""
    levels = generator_levels(N, 800, torch.Generator().manual_seed(0)).double().numpy()
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    t = 1 - (levels ** (1 / 7) - high) / (low - high)
    assert stats.ks_1samp(t, stats.uniform(0, 0.8).cdf).statistic < 1.95 / math.sqrt(N)
    top = (high + 0.2 * (low - high)) ** 7
    assert 24 < top < 25
    assert levels.min() >= 0.002 * (1 - 1e-5) and 0.99 * top < levels.max() <= top * (1 + 1e-6)
    for q in (0.25, 0.5, 0.75):
        expected = (high + (1 - 0.8 * q) * (low - high)) ** 7
        # the slope of s(t) turns the standard error of t's quantile into that of s
        slope = 7 * expected ** (6 / 7) * (high - low) * 0.8
        assert abs(np.quantile(levels, q) - expected) < 5 * slope * math.sqrt(q * (1 - q) / N)


def test_the_whole_grid_reaches_its_largest_level() -> None:
    """And with the same random numbers a smaller tmax lowers each level."""
    whole, part = (generator_levels(N, tmax, torch.Generator().manual_seed(0)) for tmax in (1000, 500))
    assert 78 < whole.max() <= 80.001 and (part < whole).all()
