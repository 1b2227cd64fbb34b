"""Posterior samples and the levels below the noise, on Gaussian images, where all of it is matrices.

A linear denoiser makes the reverse process linear in the measurement and in each step's noise. Rows of the identity
in their places return these matrices, so nothing here is statistical.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from closed_form import covariance, gaussian_denoiser
from closed_form_operators import posterior_mean
from restill.corruption import Identity, MaskOperator, Operator
from restill.diffusion import ClosedForm, Denoiser, GaussianDenoiser, HandedOver, Noisy
from restill.sampling import Reverse, reverse

F64 = torch.float64
SHAPE = (1, 1, 5)
DIM = 5
SIGMA = 0.4


class MaskedGaussian(ClosedForm):
    """`E[x | M (x + s n)]` of Gaussian images, for one mask in a batch."""

    def __init__(self, cov: Tensor) -> None:
        super().__init__()
        self.cov = cov

    def denoised(self, given: Noisy) -> Tensor:
        assert isinstance(given.operator, MaskOperator)
        matrix = posterior_mean(self.cov, given.operator.mask[0], float(torch.as_tensor(given.sigma)[0]))
        return (given.x_t.flatten(1) @ matrix.T).view_as(given.x_t)


def matrices(
    sampler: Reverse, denoiser: Denoiser, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    """What the sampler makes of the measurement `[d, d]`, and of the noise of all steps `[d, (steps - 1) d]`."""
    n = sampler.num_steps * DIM
    rows = torch.eye(n, dtype=F64).view(n, sampler.num_steps, *SHAPE)
    noises: Iterator[Tensor] = iter(rows[:, k] for k in range(1, sampler.num_steps))
    with monkeypatch.context() as patch:
        patch.setattr(reverse.torch, "randn", lambda *shape, **how: next(noises))
        out = sampler(denoiser, rows[:, 0], operator.select(torch.zeros(n, dtype=torch.int64)), torch.Generator())
    assert next(noises, None) is None  # every step has noise of its own
    matrix = out.flatten(1).T
    return matrix[:, :DIM], matrix[:, DIM:]


def identity() -> Identity:
    return Identity(torch.full((1,), SIGMA, dtype=F64))


def posterior_covariance(cov: Tensor, sigma: float) -> Tensor:
    return cov - gaussian_denoiser(cov, sigma) @ cov


@pytest.mark.parametrize(("steps", "tolerance"), [(16, 0.08), (64, 0.08), (256, 0.01)])
def test_posterior_samples_of_gaussian_images(steps: int, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean is right at any number of steps; the variance in each direction comes near with their number."""
    cov = covariance(DIM, low=2e-3, high=20.0)
    sampler = Reverse(num_steps=steps, smallest=0.01 if steps < 100 else 1e-3)
    mean, noise = matrices(sampler, GaussianDenoiser(cov), identity(), monkeypatch)
    torch.testing.assert_close(mean, gaussian_denoiser(cov, SIGMA), rtol=1e-9, atol=1e-11)
    values, vectors = torch.linalg.eigh(posterior_covariance(cov, SIGMA))
    drawn = vectors.T @ noise @ noise.T @ vectors
    assert (drawn - drawn.diag().diag()).abs().max() < 1e-10
    assert (drawn.diag() / values - 1).abs().max() < tolerance


def test_posterior_samples_of_masked_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """`p(M x | y)`: what was not observed stays 0, the rest has the conditional moments of the observed pixels."""
    cov = covariance(DIM, seed=3, low=0.05, high=2.0)
    mask = torch.tensor([True, True, False, True, False]).view(1, *SHAPE)
    operator = MaskOperator(torch.full((1,), SIGMA, dtype=F64), mask)
    mean, noise = matrices(Reverse(num_steps=128, smallest=1e-3), MaskedGaussian(cov), operator, monkeypatch)
    shown = mask.flatten()
    sub = cov[shown][:, shown]
    torch.testing.assert_close(mean[shown][:, shown], gaussian_denoiser(sub, SIGMA), rtol=1e-7, atol=1e-9)
    expected = posterior_covariance(sub, SIGMA)
    torch.testing.assert_close((noise @ noise.T)[shown][:, shown], expected, rtol=0, atol=0.02 * float(expected.max()))
    assert not mean[~shown].any() and not noise[~shown].any()


def test_a_measurement_without_noise_stays_as_it_is() -> None:
    y = torch.randn(3, *SHAPE, dtype=F64, generator=torch.Generator().manual_seed(0))
    operator = Identity(torch.tensor([0.0, SIGMA, 0.0], dtype=F64))
    out = Reverse()(GaussianDenoiser(covariance(DIM)), y, operator, torch.Generator().manual_seed(1))
    assert torch.equal(out[[0, 2]], y[[0, 2]]) and not torch.isclose(out[1], y[1]).any()


def test_rounds_converge_to_the_clean_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Posterior samples of `y ~ N(0, C + s^2)` by a denoiser of `N(0, K)` have the covariance

    K' = A (C + s^2) A^T + K - A K,  A = K (K + s^2)^-1.

    `C` is its fixed point; near it, an error along an eigenvector of `C` with eigenvalue `c` shrinks by the factor
    `1 - (c / (c + s^2))^2`, so directions below the noise need many rounds.
    """
    cov = covariance(DIM, low=0.1, high=1.0)
    values, vectors = torch.linalg.eigh(cov)
    noisy, sampler = cov + SIGMA**2 * torch.eye(DIM, dtype=F64), Reverse(num_steps=512, smallest=1e-3)

    def round_of(model: Tensor) -> Tensor:
        mean, noise = matrices(sampler, GaussianDenoiser(model), identity(), monkeypatch)
        return mean @ noisy @ mean.T + noise @ noise.T

    at_rest = round_of(cov)
    torch.testing.assert_close(at_rest, cov, rtol=0, atol=5e-3)
    error = 1e-3 * values
    moved = round_of(cov + vectors @ error.diag() @ vectors.T) - at_rest
    shrunk = (vectors.T @ moved @ vectors).diag() / error
    torch.testing.assert_close(shrunk, 1 - (values / (values + SIGMA**2)) ** 2, rtol=0, atol=0.02)

    model = noisy.clone()  # a teacher that knows the measurements alone
    for _ in range(40):
        gain = gaussian_denoiser(model, SIGMA)
        model = gain @ noisy @ gain.T + model - gain @ model
    torch.testing.assert_close(model, cov, rtol=0, atol=0.03)


def test_hand_over_is_high_above_low_below_and_linear_between() -> None:
    high, low = GaussianDenoiser(covariance(DIM)), GaussianDenoiser(covariance(DIM, seed=5))
    both = HandedOver(high, low, at=0.4, band=1.2)
    sigma = torch.tensor([0.1, 0.4 / 1.2, 0.4, 0.48, 2.0, 0.35], dtype=F64)
    x = torch.randn(6, *SHAPE, dtype=F64, generator=torch.Generator().manual_seed(0))
    between = 0.5 + math.log(0.35 / 0.4) / (2 * math.log(1.2))
    share = torch.tensor([0, 0, 0.5, 1, 1, between])
    weight = share.to(F64).view(-1, 1, 1, 1)
    expected = weight * high(x, sigma) + (1 - weight) * low(x, sigma)
    torch.testing.assert_close(both(x, sigma), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(both(x[:1], 0.1), low(x[:1], 0.1))
    assert both.prior is high.prior


def test_only_the_denoiser_that_is_used_is_called() -> None:
    class Never(ClosedForm):
        def denoised(self, given: Noisy) -> Tensor:
            raise AssertionError

    x, known = torch.ones(2, *SHAPE, dtype=F64), GaussianDenoiser(covariance(DIM))
    HandedOver(known, Never(), at=0.4)(x, torch.tensor([0.5, 9.0], dtype=F64))
    HandedOver(Never(), known, at=0.4)(x, torch.tensor([0.1, 0.2], dtype=F64))
    HandedOver(known, Never(), at=0.4, band=1)(x, torch.tensor([0.4, 0.41], dtype=F64))
