"""Samplers as plain data: how a denoiser is turned into images."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..core.kinds import Described
from ..core.settings import setting
from ..corruption import Operator
from ..diffusion import Denoiser
from .heun import heun


class Sampler(Described, ABC, family="sampler"):
    """Turns unit-variance latents into images with a denoiser."""

    section = "sampler"

    @abstractmethod
    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Images `[n, C, H, W]` from latents `[n, ...]`; image `i` depends on row `i` of each alone.

        Args:
            latents: in the white space of the operators.
            operator: the operators that the denoiser is conditioned on, and whose domain it is.
        """


class Heun(Sampler, kind="heun"):
    """EDM's deterministic sampler; `stop_at = sigma_n` makes it the truncated one. Draws in the domain."""

    num_steps: int = setting(18, "number of noise levels", ge=2)
    stop_at: float = setting(0.0, "noise level at which it ends; 0 for the whole way", ge=0)
    sigma_min: float = setting(0.002, "the smallest noise level", gt=0)
    sigma_max: float = setting(80.0, "the largest noise level", gt=0)
    rho: float = setting(7.0, "exponent of the grid of levels (EDM, eq. 5)", gt=0)

    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        def embedded(e: Tensor, sigma: Tensor) -> Tensor:
            """The estimate in the white space, where the state lies."""
            if operator is None:
                out: Tensor = denoiser(e, sigma, None, labels)
                return out
            return operator.embed(denoiser(operator.noise(e), sigma, operator, labels))

        found = heun(embedded, latents, **dict(self)).to(latents.dtype)
        return found if operator is None else operator.extract(found)


class OneStep(Sampler, kind="one-step"):
    r"""The distilled generator :math:`G(z) = D(\sigma_{init} z; \sigma_{init})`: one network call (SiD, RSD)."""

    init_sigma: float = setting(2.5, "noise level at which the generator starts", gt=0)

    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        return denoiser.generated(latents, self.init_sigma, operator, labels)
