r"""Closed-form denoisers of Gaussian data: the oracle against which objectives, samplers and losses are checked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..corruption import Operator


class GaussianDenoiser(nn.Module):
    r"""The optimal denoiser of :math:`x \sim N(0, C)`:

    .. math:: D(x_t; s) = E[x | x_t] = C (C + s^2 I)^{-1} x_t

    for images `[n, *shape]` whose flattened covariance is `C`. With :math:`C = E E^T + \sigma_n^2 I` it is the denoiser
    of the noisy measurements. Differentiable in `x_t` and, where `covariance` requires it, in `C`.

    Args:
        covariance: `[d, d]`, symmetric positive semi-definite, `d` the number of entries of an image.
    """

    def __init__(self, covariance: Tensor, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.covariance = covariance
        self.sigma_data = sigma_data

    def forward(
        self,
        x_t: Tensor,
        sigma: Tensor | float,
        operator: Operator | None = None,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        sigma_N = torch.as_tensor(sigma, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        if torch.is_grad_enabled() and self.covariance.requires_grad:
            # eigenvectors of repeated eigenvalues (low rank, white noise) have no gradient; the inverse has one
            noise = sigma_N[:, None, None] ** 2 * torch.eye(len(self.covariance), dtype=x_t.dtype, device=x_t.device)
            whitened = torch.linalg.solve(self.covariance + noise, x_t.flatten(1)[..., None])
            return (self.covariance @ whitened).view_as(x_t)
        values, vectors = torch.linalg.eigh(self.covariance)
        shrink = values / (values + sigma_N[:, None] ** 2)
        return ((x_t.flatten(1) @ vectors * shrink) @ vectors.T).view_as(x_t)
