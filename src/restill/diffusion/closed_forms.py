r"""Closed-form denoisers: the oracles against which objectives, samplers and losses are checked."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from .denoiser import Denoiser, Noisy
from .preconditioning import Prior


class ClosedForm(Denoiser):
    """A denoiser known by a formula in the domain of the measurements: subclasses say `denoised`.

    Args:
        prior: by which residuals are weighed; white images of deviation 0.5 by default.
    """

    def __init__(self, prior: Prior | None = None) -> None:
        super().__init__()
        self._prior = Prior.white(0.5) if prior is None else prior

    @property
    @final
    def prior(self) -> Prior:
        return self._prior

    @final
    def image(self, given: Noisy) -> Tensor:
        d = self.denoised(given)
        return d if given.operator is None else given.operator.lift(d)


class GaussianDenoiser(ClosedForm):
    r"""The optimal denoiser of :math:`x \sim N(0, C)`:

    .. math:: D(x_t; s) = E[x | x_t] = C (C + s^2 I)^{-1} x_t

    for images `[n, *shape]` whose flattened covariance is `C`. With :math:`C = E E^T + \sigma_n^2 I` it is the denoiser
    of the noisy measurements. Differentiable in `x_t` and, where `covariance` requires it, in `C`.

    Args:
        covariance: `[d, d]`, symmetric positive semi-definite, `d` the number of entries of an image.
    """

    def __init__(self, covariance: Tensor, sigma_data: float = 0.5) -> None:
        super().__init__(Prior.white(sigma_data))
        self.covariance = covariance

    def denoised(self, given: Noisy) -> Tensor:
        x_t = given.x_t
        sigma_N = torch.as_tensor(given.sigma, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        if torch.is_grad_enabled() and self.covariance.requires_grad:
            # eigenvectors of repeated eigenvalues (low rank, white noise) have no gradient; the inverse has one
            noise = sigma_N[:, None, None] ** 2 * torch.eye(len(self.covariance), dtype=x_t.dtype, device=x_t.device)
            whitened = torch.linalg.solve(self.covariance + noise, x_t.flatten(1)[..., None])
            return (self.covariance @ whitened).view_as(x_t)
        values, vectors = torch.linalg.eigh(self.covariance)
        shrink = values / (values + sigma_N[:, None] ** 2)
        return ((x_t.flatten(1) @ vectors * shrink) @ vectors.T).view_as(x_t)
