"""Samplers as plain data: how a denoiser is turned into images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..corruption import Operator
from ..diffusion import Denoiser
from .heun import heun


class Sampler(ABC):
    """Turns unit-variance latents into images with a denoiser."""

    @abstractmethod
    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Images `[n, C, H, W]` from latents `[n, ...]`; image `i` depends on row `i` of each alone.

        Args:
            latents: in the white space of the operators.
            operator: the operators that the denoiser is conditioned on, and whose domain it is.
        """


@dataclass(frozen=True)
class Heun(Sampler):
    """EDM's deterministic sampler; `stop_at = sigma_n` makes it the truncated one. Draws in the domain."""

    num_steps: int = 18
    stop_at: float = 0.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        def embedded(e: Tensor, sigma: Tensor) -> Tensor:
            """The estimate in the white space, where the state lies."""
            if operator is None:
                out: Tensor = denoiser(e, sigma, None, labels)
                return out
            return operator.embed(denoiser(operator.noise(e), sigma, operator, labels))

        options = {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max, "rho": self.rho, "stop_at": self.stop_at}
        found = heun(embedded, latents, self.num_steps, **options).to(latents.dtype)
        return found if operator is None else operator.extract(found)


@dataclass(frozen=True)
class OneStep(Sampler):
    r"""The distilled generator :math:`G(z) = D(\sigma_{init} z; \sigma_{init})`: one network call (SiD, RSD)."""

    init_sigma: float = 2.5

    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        sigma = torch.full((len(latents),), self.init_sigma, dtype=latents.dtype, device=latents.device)
        start = latents * self.init_sigma if operator is None else denoiser.start(latents, self.init_sigma, operator)
        return denoiser.image(start, sigma, operator, labels)
