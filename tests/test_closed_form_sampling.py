"""Samplers on Gaussian data, where they are linear maps of the latents that factorise over the eigenvectors.

Latents that are the rows of the identity return that map, so nothing here is statistical.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from closed_form import covariance
from restill.core.tensors import sample_normal
from restill.corruption import AdditiveNoise, Identity
from restill.diffusion import GaussianDenoiser
from restill.sampling import Heun, OneStep, Sampler, generate, heun, karras_levels

SHAPE = (1, 2, 3)
BASIS = torch.eye(6, dtype=torch.float64).view(6, *SHAPE)


def published_levels(num_steps: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> np.ndarray:
    ramp = np.arange(num_steps) / (num_steps - 1)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def factors(variance: np.ndarray, num_steps: int, stop_at: float = 0.0) -> np.ndarray:
    """What Heun's method multiplies each eigenvector of the latents by."""
    levels = [*published_levels(num_steps), 0.0]
    result = np.full_like(variance, levels[0])
    for s, following in itertools.pairwise(levels):
        shrink = variance / (variance + s**2)
        if following < stop_at or following == 0:
            return result * shrink
        slope = (1 - shrink) / s
        euler = 1 + (following - s) * slope
        slope_there = (1 - variance / (variance + following**2)) / following * euler
        result = result * (1 + (following - s) * (slope + slope_there) / 2)
    raise AssertionError


def as_matrix(factor: np.ndarray, vectors: np.ndarray) -> Tensor:
    return torch.from_numpy(vectors @ np.diag(factor) @ vectors.T)


def test_levels_are_the_published_grid() -> None:
    np.testing.assert_allclose(karras_levels(18).numpy(), published_levels(18), rtol=1e-12)
    np.testing.assert_allclose(
        karras_levels(5, 0.1, 10.0, 3.0).numpy(), published_levels(5, 0.1, 10.0, 3.0), rtol=1e-12
    )
    with pytest.raises(ValueError, match="at least 2"):
        karras_levels(1)


@pytest.mark.parametrize("stop_at", [0.0, 0.1, 0.4, 2.0])
@pytest.mark.parametrize("num_steps", [2, 5, 18])
def test_heun_is_the_discretised_map(num_steps: int, stop_at: float) -> None:
    cov = covariance(6)
    values, vectors = np.linalg.eigh(cov.numpy())
    expected = as_matrix(factors(values, num_steps, stop_at), vectors)
    denoiser = GaussianDenoiser(cov)
    for images in (
        heun(denoiser, BASIS, num_steps, stop_at=stop_at),
        Heun(num_steps=num_steps, stop_at=stop_at)(denoiser, BASIS),
        Heun(num_steps=num_steps, stop_at=stop_at)(denoiser, BASIS, Identity(torch.zeros(6))),
    ):
        torch.testing.assert_close(images.flatten(1), expected, rtol=0, atol=1e-10)


def test_network_calls_and_their_levels() -> None:
    """18 steps are 35 calls (EDM); a truncated run ends with the call at the last level above sigma_n."""
    denoiser, called = GaussianDenoiser(covariance(6)), []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        called.append(float(sigma))
        return denoiser(x, sigma)

    heun(counting, BASIS, 18)
    assert len(called) == 35 and called[0] == 80 and called[-1] == pytest.approx(0.002)
    called.clear()
    heun(counting, BASIS, 18, stop_at=0.4)
    above = [s for s in published_levels(18) if s >= 0.4]
    assert called[-1] == pytest.approx(above[-1]) and len(called) == 2 * len(above) - 1


def test_what_a_network_is_conditioned_on_is_passed_to_every_call() -> None:
    labels, calls = torch.eye(6), []

    def net(x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        calls.append(class_labels)
        return x / 2

    heun(net, BASIS, 3, class_labels=labels)
    assert len(calls) == 5 and all(given is labels for given in calls)


def test_heun_converges_with_second_order_to_the_exact_flow() -> None:
    """The flow maps latents by 80 sqrt((v + s_min^2)/(v + 80^2)); the last call then multiplies by v/(v + s_min^2)."""
    values, vectors = np.linalg.eigh(covariance(6).numpy())
    denoiser = GaussianDenoiser(covariance(6))
    flow = 80 * np.sqrt((values + 0.002**2) / (values + 80**2)) * values / (values + 0.002**2)
    exact = as_matrix(flow, vectors)
    error = [(heun(denoiser, BASIS, n).flatten(1) - exact).abs().max().item() for n in (64, 128, 256)]
    assert 3.6 < error[0] / error[1] < 4.4 and 3.6 < error[1] / error[2] < 4.4
    sampled = heun(denoiser, BASIS, 256).flatten(1)
    torch.testing.assert_close(sampled.T @ sampled, covariance(6), rtol=0, atol=1e-3)


def test_truncated_sampler_of_the_noisy_distribution_is_less_noisy_than_the_full_one() -> None:
    """Teacher of noisy data: off the data's subspace the full sampler returns their noise, the truncated one half.

    With D at s = sigma_n exactly, what is left there has standard deviation sigma_n^2 / sqrt(2 sigma_n^2).
    """
    clean = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    noisy = GaussianDenoiser(clean + 0.4**2 * torch.eye(6, dtype=torch.float64))
    full = heun(noisy, BASIS, 200).flatten(1)
    truncated = heun(noisy, BASIS, 200, stop_at=0.4).flatten(1)
    assert full[4, 4].item() == pytest.approx(0.4, rel=5e-3)
    assert truncated[4, 4].item() == pytest.approx(0.4 / 2**0.5, rel=2e-2)


@pytest.mark.parametrize("init_sigma", [0.7, 2.5])
def test_one_step_is_one_denoising(init_sigma: float) -> None:
    cov = covariance(6)
    values, vectors = np.linalg.eigh(cov.numpy())
    expected = as_matrix(init_sigma * values / (values + init_sigma**2), vectors)
    images = OneStep(init_sigma=init_sigma)(GaussianDenoiser(cov), BASIS)
    torch.testing.assert_close(images.flatten(1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "sampler", [Heun(num_steps=5), Heun(num_steps=5, stop_at=0.4), OneStep()], ids=["full", "truncated", "one-step"]
)
def test_generate_does_not_depend_on_batches(sampler: Sampler) -> None:
    denoiser = GaussianDenoiser(covariance(6).float())
    whole = torch.cat(list(generate(denoiser, sampler, range(7), SHAPE, seed=3)))
    parts = torch.cat(list(generate(denoiser, sampler, range(7), SHAPE, seed=3, batch_size=2)))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)
    some = torch.cat(list(generate(denoiser, sampler, [5, 2], SHAPE, seed=3, corruption=AdditiveNoise())))
    torch.testing.assert_close(some, whole[[5, 2]], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(whole, sampler(denoiser, sample_normal(3, range(7), SHAPE)), rtol=1e-3, atol=1e-4)
    assert not torch.equal(whole[0], whole[1])


def test_generate_leaves_the_callers_gradients_alone() -> None:
    denoiser = GaussianDenoiser(covariance(6).float())
    for images in generate(denoiser, OneStep(), range(4), SHAPE, batch_size=2):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        scale = torch.ones((), requires_grad=True)
        (scale * images).sum().backward()
        assert scale.grad is not None


def test_closed_form_denoiser_is_differentiable_in_a_covariance_with_repeated_eigenvalues() -> None:
    """Against finite differences; eigenvectors of repeated eigenvalues have no gradient of their own."""
    factor = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    sigma = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    x_t = sample_normal(0, range(3), SHAPE).double()

    def denoise(factor: Tensor) -> Tensor:
        return GaussianDenoiser(factor @ factor.T)(x_t, sigma)

    assert torch.autograd.gradcheck(denoise, (factor.requires_grad_(),))
    with torch.no_grad():
        torch.testing.assert_close(denoise(factor), denoise(factor.detach()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(denoise(factor), denoise(factor.detach()), rtol=1e-12, atol=1e-12)
