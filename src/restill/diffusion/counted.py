"""Counting the evaluations of a network, which cost the same whether or not the machine is busy."""

from __future__ import annotations

from typing import final

from torch import Tensor

from .denoiser import Denoiser, Noisy
from .preconditioning import Prior


@final
class Counted(Denoiser):
    """A denoiser that gives what another one gives, and counts.

    Attributes:
        evaluations: images that were denoised so far.
    """

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.num_classes, self.evaluations = inner, inner.num_classes, 0

    @property
    def prior(self) -> Prior:
        return self.inner.prior

    def denoised(self, given: Noisy) -> Tensor:
        self.evaluations += len(given.x_t)
        return self.inner.denoised(given)

    def image(self, given: Noisy) -> Tensor:
        self.evaluations += len(given.x_t)
        return self.inner.image(given)
