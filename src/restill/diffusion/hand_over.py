"""Two denoisers as one: one for high noise levels, one for low ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.tensors import right_broadcast
from .denoiser import Denoiser, Noisy
from .preconditioning import Prior


class HandedOver(Denoiser):
    r"""`high` above the noise level `at`, `low` below it, blended in between.

    The blend is linear in :math:`\ln s` from `at/band` to `at band`.

    The band makes the estimate continuous in the level, so that samplers and gradients pass it without a jump.

    Args:
        high: the denoiser above; it says prior and classes.
        low: the denoiser below, of the same domain.
        at: the level of the hand-over, above 0.
        band: at least 1; half of its width as a factor.
    """

    def __init__(self, high: Denoiser, low: Denoiser, at: float, band: float = 1.15) -> None:
        super().__init__()
        if not (at > 0 and band >= 1):
            raise ValueError(f"the hand-over needs a level above 0 and a band of at least 1, not {at} and {band}")
        self.high, self.low, self.at, self.band = high, low, at, band
        self.num_classes = high.num_classes

    @property
    def prior(self) -> Prior:
        return self.high.prior

    def denoised(self, given: Noisy) -> Tensor:
        return self._blended(given, lambda part, its: part.denoised(its))

    def image(self, given: Noisy) -> Tensor:
        return self._blended(given, lambda part, its: part.image(its))

    def share_of_high(self, sigma: Tensor) -> Tensor:
        """Weight of `high`, from 0 below the band to 1 above it."""
        if self.band == 1:
            return (sigma >= self.at).to(sigma)
        return ((sigma.log() - math.log(self.at)) / (2 * math.log(self.band)) + 0.5).clamp(0, 1)

    def _blended(self, given: Noisy, estimate: Callable[[Denoiser, Noisy], Tensor]) -> Tensor:
        """Each denoiser sees the samples of its own levels; who sees which is asked of the device once."""
        x = given.x_t
        sigma = torch.as_tensor(given.sigma, dtype=x.dtype, device=x.device).expand(len(x))
        high = self.share_of_high(sigma)
        shares = ((self.high, high), (self.low, 1 - high))
        given, out = given._replace(sigma=sigma), None
        for part, share in shares:
            index = share.nonzero()[:, 0]
            if len(index):
                found = estimate(part, given.part(index))
                found = found * right_broadcast(share[index], found).to(found)
                out = x.new_zeros(len(x), *found.shape[1:], dtype=found.dtype) if out is None else out
                out = out.index_add(0, index, found.to(out))
        assert out is not None  # there is no batch without a sample
        return out
