"""Samplers as plain data: how a denoiser is turned into images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..corruption import Operator
from ..diffusion import Denoiser
from .heun import heun


class Sampler(ABC):
    """Turns unit-variance latents into images with a denoiser."""

    @abstractmethod
    def __call__(
        self, denoiser: nn.Module, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Images `[n, C, H, W]` from latents `[n, *noise_shape]`; image `i` depends on row `i` of each alone."""


@dataclass(frozen=True)
class Heun(Sampler):
    """EDM's deterministic sampler; `stop_at = sigma_n` makes it the truncated one."""

    num_steps: int = 18
    stop_at: float = 0.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __call__(
        self, denoiser: nn.Module, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        def seen(x: Tensor, sigma: Tensor) -> Tensor:
            if operator is None:
                out: Tensor = denoiser(x, sigma, None, labels)
                return out
            return operator.embed(denoiser(operator.noise(x), sigma, operator, labels))

        options = {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max, "rho": self.rho, "stop_at": self.stop_at}
        found = heun(seen, latents, self.num_steps, **options).to(latents.dtype)
        return found if operator is None else operator.extract(found)


@dataclass(frozen=True)
class OneStep(Sampler):
    r"""The distilled generator :math:`G(z) = D(\sigma_{init} z; \sigma_{init})`: one network call (SiD, RSD)."""

    init_sigma: float = 2.5

    def __call__(
        self, denoiser: nn.Module, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        sigma = torch.full((len(latents),), self.init_sigma, dtype=latents.dtype, device=latents.device)
        if operator is None:
            out: Tensor = denoiser(latents * self.init_sigma, sigma, None, labels)
        elif isinstance(denoiser, Denoiser):
            out = denoiser.image(denoiser.start(latents, self.init_sigma, operator), sigma, operator, labels)
        else:  # a closed form has only the domain
            out = denoiser(operator.noise(latents * self.init_sigma), sigma, operator, labels)
        return out
