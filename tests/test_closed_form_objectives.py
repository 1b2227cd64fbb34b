"""Minimisers of the denoising objectives over linear denoisers, for Gaussian data, without statistical error.

The sample of (x, eps, n) has a second moment of exactly the identity, so that the loss, quadratic in all of them, is
its own expectation. The minimiser then follows from the normal equations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from closed_form import (
    LinearDenoiser,
    covariance,
    edm_weight,
    gaussian_denoiser,
    gradient,
    quadratic_minimiser,
    whitened,
)
from custom_corruptions import BlurOperator, FourierMaskOperator, MaskOperator
from restill.corruption import Identity, Mri, Operator
from restill.diffusion import Prior
from restill.objectives import AmbientTweedie, Draw, Objective, Standard

F64 = torch.float64


class Problem:
    """An objective on an exact sample, as a function of the matrix of a linear denoiser.

    Each part is a batch `(operator, further)` with equal parameters in all of its rows.
    """

    def __init__(
        self,
        objective: Objective,
        cov: Tensor,
        shape: tuple[int, ...],
        parts: Sequence[tuple[Operator, Operator]],
        sigma: float,
    ) -> None:
        self.objective, self.shape, self.batches = objective, shape, []
        dim = len(cov)
        for k, (operator, further) in enumerate(parts):
            x, eps, noise = whitened(len(operator), 3 * dim, seed=k).split(dim, dim=1)
            x = (x @ torch.linalg.cholesky(cov).T).view(-1, *shape)
            y = operator.apply(x) + operator.sigma_n.view(-1, 1, 1, 1) * eps.reshape(-1, *shape)
            draw = Draw(torch.full((len(operator),), sigma, dtype=F64), noise.reshape(-1, *shape))
            self.batches.append((y, operator, further, draw))

    def __call__(self, weight: Tensor) -> Tensor:
        denoiser = LinearDenoiser(weight)
        return torch.stack([self.objective(denoiser, *batch).mean() for batch in self.batches]).mean()


def expect_minimiser(problem: Problem, expected: Tensor) -> None:
    torch.testing.assert_close(quadratic_minimiser(problem, expected), expected, rtol=0, atol=1e-9)
    assert gradient(problem, expected).abs().max() < 1e-10
    assert gradient(problem, 0.9 * expected).abs().max() > 1e-3


def rows(dim: int) -> int:
    return 6 * dim + 10


def noise_parts(dim: int, levels: Sequence[float]) -> list[tuple[Operator, Operator]]:
    operators = [Identity(torch.full((rows(dim),), level, dtype=F64)) for level in levels]
    return [(operator, operator) for operator in operators]


@pytest.mark.parametrize("c_min", [0.05, 1.0])
@pytest.mark.parametrize("levels", [(0.0,), (0.4,), (0.0, 0.2, 0.4)], ids=str)
@pytest.mark.parametrize("sigma", [0.41, 0.9, 6.0])
def test_ambient_tweedie_learns_the_clean_denoiser(sigma: float, levels: tuple[float, ...], c_min: float) -> None:
    cov = covariance(4)
    problem = Problem(AmbientTweedie(c_min=c_min), cov, (1, 2, 2), noise_parts(4, levels), sigma)
    expect_minimiser(problem, gaussian_denoiser(cov, sigma))


def test_ambient_tweedie_mixes_levels_within_one_batch() -> None:
    """The same as above, with the levels interleaved in one call instead of one call for each."""
    cov, sigma = covariance(4), 0.7
    parts = noise_parts(4, (0.0, 0.2, 0.4))
    problem = Problem(AmbientTweedie(), cov, (1, 2, 2), parts, sigma)
    order = torch.randperm(3 * rows(4), generator=torch.Generator().manual_seed(0))
    y = torch.cat([batch[0] for batch in problem.batches])[order]
    operator = Operator.concatenate([part[0] for part in parts]).select(order)
    draw = Draw(*(torch.cat([batch[3][i] for batch in problem.batches])[order] for i in range(2)))
    problem.batches = [(y, operator, operator, draw)]
    expect_minimiser(problem, gaussian_denoiser(cov, sigma))


@pytest.mark.parametrize("sigma", [0.1, 0.41, 6.0])
def test_standard_learns_the_denoiser_of_the_noisy_data(sigma: float) -> None:
    cov, sigma_n = covariance(4), 0.4
    noisy = cov + sigma_n**2 * torch.eye(4, dtype=F64)
    problem = Problem(Standard(), cov, (1, 2, 2), noise_parts(4, (sigma_n,)), sigma)
    expect_minimiser(problem, gaussian_denoiser(noisy, sigma))


def test_no_gradient_at_the_clamp() -> None:
    """At s = sigma_n Ambient Tweedie says nothing about D: what the clamped levels waste."""
    problem = Problem(AmbientTweedie(), covariance(4), (1, 2, 2), noise_parts(4, (0.4,)), 0.4)
    assert gradient(problem, torch.eye(4, dtype=F64)).abs().max() == 0


def test_loss_at_the_optimum_is_the_weighted_posterior_variance() -> None:
    """Noise-free data: the least loss is lambda(s) tr(C - K C) / d; with c_min = 1, and c = 1, the weight is EDM's."""
    cov, sigma = covariance(4), 0.7
    best = gaussian_denoiser(cov, sigma)
    expected = (0.7**2 + 0.5**2) / (0.7 * 0.5) ** 2 * torch.trace(cov - best @ cov) / 4
    for objective in (Standard(), AmbientTweedie(), AmbientTweedie(c_min=1.0)):
        loss = Problem(objective, cov, (1, 2, 2), noise_parts(4, (0.0,)), sigma)(best)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


def test_all_coils_together_weigh_as_much_as_one_image() -> None:
    """Complete measurements, D = 0: |F S x| = |x|, so that the loss does not depend on the number of coils."""
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    nothing = LinearDenoiser(torch.zeros(128, 128, dtype=F64))
    for coils in (1, 2, 5):
        operator = Mri(acceleration=1, acs=2, coils=coils).draw(2, (2, 8, 8), torch.Generator().manual_seed(1))
        draw = Draw(torch.full((2,), 0.7, dtype=F64), torch.zeros(2, 2 * coils, 8, 8, dtype=F64))
        loss = AmbientTweedie()(nothing, operator.apply(x), operator, operator, draw)
        expected = edm_weight(draw.sigma, 0.5) * x.square().flatten(1).mean(1)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_weight_is_capped_near_the_noise_level() -> None:
    sigma = torch.tensor([0.5, 0.9], dtype=F64)
    c = torch.tensor([0.01, 0.5], dtype=F64)
    residual, operator = torch.ones(2, 1, 1, 1, dtype=F64), Identity(torch.zeros(2))
    got = AmbientTweedie().whitened(residual, operator, sigma, c, Prior.white(0.5)).flatten() ** 2
    torch.testing.assert_close(got, edm_weight(sigma, 0.5) / torch.tensor([0.05, 0.5], dtype=F64))
    got = AmbientTweedie(c_min=1.0).whitened(residual, operator, sigma, c, Prior.white(0.5)).flatten() ** 2
    torch.testing.assert_close(got, edm_weight(sigma, 0.5))


@pytest.mark.parametrize(
    ("objective", "sigma_n", "learned_noise"),
    [(Standard(), 0.0, 0.0), (Standard(), 0.3, 0.3), (AmbientTweedie(), 0.3, 0.0)],
    ids=["standard", "standard-noisy", "tweedie"],
)
def test_blur_models_blurred_images(objective: Objective, sigma_n: float, learned_noise: float) -> None:
    cov, shape, sigma = covariance(6), (1, 2, 3), 0.8
    operator = BlurOperator(torch.full((rows(6),), sigma_n, dtype=F64), width=0.7)
    blur = operator.select(slice(0, 6)).apply(torch.eye(6, dtype=F64).view(6, *shape)).flatten(1).T
    modelled = blur @ cov @ blur.T + learned_noise**2 * torch.eye(6, dtype=F64)
    problem = Problem(objective, cov, shape, [(operator, operator)], sigma)
    expect_minimiser(problem, gaussian_denoiser(modelled, sigma))


def posterior_mean(cov: Tensor, projection: Tensor, sigma: float) -> Tensor:
    """`E[x | P (x + s n)] = C P (P (C + s^2) P)^+` as a matrix on `P (x + s n)`."""
    noisy = cov + sigma**2 * torch.eye(len(cov), dtype=F64)
    return cov @ projection @ torch.linalg.pinv(projection @ noisy @ projection, rtol=1e-10, hermitian=True)


def masks(width: int, keep: int | None = None) -> list[Tensor]:
    """All masks `[1, 1, width]` of one row of pixels, or those that keep pixel `keep`."""
    rows_of_bits = [torch.tensor(bits, dtype=F64).view(1, 1, width) for bits in itertools.product((0, 1), repeat=width)]
    return [mask for mask in rows_of_bits if keep is None or mask[..., keep] == 1]


@pytest.mark.parametrize("sigma_n", [0.0, 0.3])
@pytest.mark.parametrize(
    ("kind", "candidates"),
    [(MaskOperator, masks(3)), (FourierMaskOperator, masks(3, keep=1))],
    ids=["pixels", "frequencies"],
)
def test_masked_objective_learns_the_posterior_mean(
    kind: type[MaskOperator] | type[FourierMaskOperator], candidates: list[Tensor], sigma_n: float
) -> None:
    """For every further mask, over all masks it may have come from: D predicts unmeasured entries as well.

    Two channels share a mask; for frequencies they are the real and the imaginary part of one image.
    """
    cov, shape, sigma = covariance(6), (2, 1, 3), 0.8

    def operator(mask: Tensor) -> MaskOperator | FourierMaskOperator:
        return kind(torch.full((rows(6),), sigma_n, dtype=F64), mask.expand(rows(6), 1, 1, 3))

    for shown in candidates:
        parts = [(operator(mask), operator(shown)) for mask in candidates if (mask >= shown).all()]
        basis = torch.eye(6, dtype=F64).view(6, *shape)
        projection = operator(shown).select(slice(0, 6)).seen(basis).flatten(1).T
        expected = posterior_mean(cov, projection, sigma)
        problem = Problem(AmbientTweedie(), cov, shape, parts, sigma)
        torch.testing.assert_close(quadratic_minimiser(problem, expected), expected, rtol=0, atol=1e-8)
        assert gradient(problem, expected).abs().max() < 1e-9
        if shown.any():
            assert gradient(problem, 0.9 * expected).abs().max() > 1e-3
            outside = torch.eye(6, dtype=F64) - projection
            assert shown.all() or (outside @ expected).abs().max() > 1e-3
