"""Tools for exact checks with Gaussian data: samples with exact moments, linear denoisers, quadratic minimisers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restill.diffusion import ClosedForm, Noisy, Prior


def whitened(n: int, dim: int, seed: int) -> Tensor:
    """Pseudo-random `[n, dim]`, float64, with mean zero and second moment exactly the identity.

    Expectations of quadratic functions over such a sample are exact, so that no statistical error is left.
    """
    assert n % 2 == 0 and n // 2 >= dim
    half = torch.randn(n // 2, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    factor = torch.linalg.cholesky(half.T @ half / len(half))
    z = torch.linalg.solve_triangular(factor, half.T, upper=False).T
    return torch.cat([z, -z])


def covariance(dim: int, seed: int = 0, low: float = 0.1, high: float = 2.0) -> Tensor:
    """A full covariance with eigenvalues spread geometrically from `low` to `high`, float64."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    values = torch.logspace(0, 1, dim, base=high / low, dtype=torch.float64) * low
    return vectors @ torch.diag(values) @ vectors.T


def gaussian_denoiser(cov: Tensor, sigma: float) -> Tensor:
    """The matrix `C (C + s^2)^-1`, by a solve (independent of the library's eigendecomposition)."""
    return torch.linalg.solve(cov + sigma**2 * torch.eye(len(cov), dtype=cov.dtype), cov)


class LinearDenoiser(ClosedForm):
    """`D = K x_t` with one matrix `K` `[d, d]`."""

    def __init__(self, weight: Tensor, sigma_data: float = 0.5) -> None:
        super().__init__(Prior.white(sigma_data))
        self.weight = weight

    def denoised(self, given: Noisy) -> Tensor:
        return (given.x_t.flatten(1) @ self.weight.T).view_as(given.x_t)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Gradient of a scalar function."""
    point = at.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(point), point)[0]


def quadratic_minimiser(loss: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The minimiser of least norm of a quadratic function: its normal equations, set up by autograd and solved."""
    start = torch.zeros_like(like)
    hessian = torch.autograd.functional.hessian(loss, start).reshape(like.numel(), like.numel())
    step = torch.linalg.pinv(hessian, rtol=1e-10, hermitian=True) @ gradient(loss, start).flatten()
    return start - step.view_as(like)


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """`lambda(s) = (s^2 + sigma_d^2) / (s sigma_d)^2` (EDM, table 1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
