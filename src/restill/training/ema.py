"""Exponential moving averages of weights, in images rather than steps."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A deep copy in evaluation mode whose parameters take no gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


class EMA(Generic[Module]):
    """Average of `module`'s parameters with a half-life in images and a ramp-up (EDM, appendix F.2).

    Args:
        module: the network being trained.
        halflife: images after which a weight's share has halved.
        rampup: the half-life is at most this share of the images seen so far, so that early averages forget the
            initialisation; None for no ramp-up.
    """

    def __init__(self, module: Module, halflife: float, rampup: float | None = 0.05) -> None:
        self.module = frozen_copy(module)
        self.halflife = halflife
        self.rampup = rampup

    @torch.no_grad()
    def update(self, module: nn.Module, batch_size: int, images_seen: int) -> None:
        """One step after `batch_size` more images, `images_seen` in all before them."""
        halflife = self.halflife if self.rampup is None else min(self.halflife, self.rampup * images_seen)
        decay = 0.5 ** (batch_size / max(halflife, 1e-8))
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)
