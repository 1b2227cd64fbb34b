"""Error and extrapolation of the Fréchet distance: jackknife, spread over draws, Gaussians of known distance."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import (
    MomentAccumulator,
    Moments,
    frechet_distance,
    frechet_estimate,
    frechet_infinity,
    needs,
)


def frechet_error(kept: Tensor, a: Moments, b: Moments) -> float:
    error = frechet_estimate(a, b, kept).std
    assert error is not None
    return error


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded("test-frechet-error", seed), dtype=torch.float64)


def moments(features: Tensor) -> Moments:
    return MomentAccumulator(features.shape[1]).update(features).moments()


def brute_force(x: Tensor, b: Moments) -> float:
    """The delete-one jackknife."""
    n = len(x)
    values = np.array([frechet_distance(moments(torch.cat([x[:i], x[i + 1 :]])), b) for i in range(n)])
    return float(((n - 1) / n * np.sum((values - values.mean()) ** 2)) ** 0.5)


def law(dim: int, seed: int) -> tuple[Tensor, Tensor, Moments]:
    """A mixing matrix, an offset, and the moments of another Gaussian: neither covariances nor means agree."""
    other = normal(dim, dim, seed=seed + 1)
    cov = other @ other.T / dim + 0.1 * torch.eye(dim, dtype=torch.float64)
    return (
        normal(dim, dim, seed=seed) / dim**0.5,
        normal(dim, seed=seed + 2),
        Moments(10**6, normal(dim, seed=seed + 3), cov),
    )


@pytest.mark.parametrize("dim", [1, 3, 10])
def test_agrees_with_the_delete_one_jackknife(dim: int) -> None:
    mixing, mean, b = law(dim, 10 * dim)
    x = normal(100 * dim, dim, seed=1) @ mixing + mean
    assert frechet_error(x, moments(x), b) == pytest.approx(brute_force(x, b), rel=0.03)


def test_influence_is_the_derivative() -> None:
    """d/dt of the distance where the law of a becomes (1 - t) a + t (point x), against differences in float64."""
    dim, t = 5, 1e-6
    mixing, mean, b = law(dim, 7)
    x = normal(40, dim, seed=2) @ mixing + mean
    mu, cov = x.mean(dim=0), torch.cov(x.T, correction=0)

    def distance(mu: Tensor, cov: Tensor) -> float:
        root = scipy.linalg.sqrtm(cov.numpy() @ b.cov.numpy()).real
        return float((mu - b.mean).square().sum() + cov.trace() + b.cov.trace() - 2 * np.trace(root))

    influence = [
        (
            distance(mu + s * t * (p - mu), (1 - s * t) * cov + s * t * (1 - s * t) * torch.outer(p - mu, p - mu)),
            s,
        )
        for p in x
        for s in (1, -1)
    ]
    slopes = [(plus[0] - minus[0]) / (2 * t) for plus, minus in zip(influence[::2], influence[1::2], strict=True)]
    a = Moments(len(x), mu, cov)
    assert frechet_error(x, a, b) == pytest.approx(np.std(slopes, ddof=1) / len(x) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_agrees_with_the_spread_over_draws(heavy_tails: bool) -> None:
    """400 draws of n = 500: the sd of a spread is 3.5% for nearly normal values."""
    mixing, mean, b = law(4, 31)

    def draw(seed: int) -> Tensor:
        z = normal(500, 4, seed=seed)
        return (z * (0.5 + normal(500, 1, seed=seed + 10**6).abs()) if heavy_tails else z) @ mixing + mean

    estimates = [frechet_estimate(moments(x), b, x) for x in map(draw, range(1000, 1400))]
    spread = np.std([e.value for e in estimates], ddof=1)
    assert np.mean([e.std for e in estimates]) == pytest.approx(spread, rel=4 * 0.035)


def test_one_factorisation_gives_both_and_some_images_are_enough() -> None:
    mixing, mean, b = law(6, 41)
    x = normal(4000, 6, seed=3) @ mixing + mean
    a = moments(x)
    estimate = frechet_estimate(a, b, x)
    assert estimate.value == pytest.approx(frechet_distance(a, b), rel=1e-12)
    assert estimate.std is not None and estimate.std > 0
    assert estimate.uncertainty == "jackknife"
    assert frechet_error(x[:1000], a, b) == pytest.approx(estimate.std, rel=0.15)  # of 1,000: 2.2% for normal values
    assert frechet_error(x.float(), a, b) == pytest.approx(estimate.std, rel=1e-5)
    alone = frechet_estimate(a, b, x[:1])
    assert alone.std is None and alone.uncertainty is None
    assert alone.value == pytest.approx(estimate.value, rel=1e-12)


def test_constant_features_change_nothing() -> None:
    """A covariance with zero directions takes the other factorisation, and the map its pseudo-inverse."""
    mixing, mean, b = law(4, 51)
    x = normal(300, 4, seed=4) @ mixing + mean
    wide = torch.cat([x, torch.full((300, 3), 0.7, dtype=torch.float64)], dim=1)
    zeros = torch.zeros(3, dtype=torch.float64)
    b_wide = Moments(b.n, torch.cat([b.mean, zeros + 0.7]), torch.block_diag(b.cov, zeros.diag()))
    narrow, padded = frechet_estimate(moments(x), b, x), frechet_estimate(moments(wide), b_wide, wide)
    assert padded.value == pytest.approx(narrow.value, rel=1e-10)
    assert padded.std == pytest.approx(narrow.std, rel=1e-8)
    rotation = torch.linalg.qr(normal(7, 7, seed=5)).Q  # so that no feature is constant, but the rank is 4
    turned = Moments(b.n, b_wide.mean @ rotation, rotation.T @ b_wide.cov @ rotation)
    estimate = frechet_estimate(moments(wide @ rotation), turned, wide @ rotation)
    assert estimate.value == pytest.approx(narrow.value, rel=1e-9)
    assert estimate.std == pytest.approx(narrow.std, rel=1e-6)


def test_fewer_images_than_features_give_a_number() -> None:
    mixing, mean, b = law(30, 61)
    x = normal(20, 30, seed=6) @ mixing + mean
    estimate = frechet_estimate(moments(x), b, x)
    assert estimate.std is not None and 0 < estimate.std < estimate.value
    assert needs(30) == 31
    point = torch.ones(5, 2, dtype=torch.float64)
    constant = frechet_estimate(moments(point), Moments(9, torch.zeros(2).double(), torch.eye(2).double()), point)
    assert constant == (pytest.approx(4), 0, "jackknife")


def test_extrapolation_finds_a_known_distance() -> None:
    """40 draws of 1,200 images in 20 features: the mean at infinity is the closed form, the mean at 1,200 is not."""
    dim, n, draws = 20, 1200, 40
    reference = Moments(10**9, torch.full((dim,), 0.1).double(), 1.44 * torch.eye(dim).double())
    truth = dim * (0.1**2 + 0.2**2)
    sets = [normal(n, dim, seed=5000 + s) for s in range(draws)]
    plain = np.array([frechet_distance(moments(x), reference) for x in sets])
    estimates = [frechet_infinity(x, reference, seed=s) for s, x in enumerate(sets)]
    values = np.array([e.value for e in estimates])
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / draws**0.5 < 0.05 * truth
    assert plain.mean() - truth > 10 * plain.std(ddof=1) / draws**0.5
    assert all(e.uncertainty == "subsets" and e.std is not None and 0 < e.std < 0.2 * truth for e in estimates)


def test_extrapolation_is_a_line_and_reproducible() -> None:
    x = normal(400, 3, seed=8)
    reference = Moments(1000, torch.ones(3).double(), torch.eye(3).double())
    state = torch.get_rng_state()
    first, again, other = (frechet_infinity(x, reference, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again != other
    assert frechet_infinity(x, reference, points=5) != first


def test_mistakes_are_named() -> None:
    x = normal(10, 3)
    a = moments(x)
    for kept, b, words in (
        (normal(10, 4), a, r"\[n, 3\]"),
        (x, moments(normal(9, 4)), "3 and 4 features"),
        (x * math.nan, a, "NaN"),
        (x, Moments(1, a.mean, a.cov), "at least 2"),
    ):
        with pytest.raises(UserError, match=words):
            frechet_error(kept, a, b)
    for kept, points, words in (
        (x, 15, "at least 30"),
        (normal(7, 3), 3, "at least 8"),
        (x, 2, "3 points"),
        (x[0], 3, "8"),
    ):
        with pytest.raises(UserError, match=words):
            frechet_infinity(kept, a, points=points)
    with pytest.raises(UserError, match="NaN"):
        frechet_infinity(normal(40, 3) / 0, a)
