"""Exponential moving averages of weights, in images rather than steps."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..core.settings import Section, setting

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A deep copy in evaluation mode whose parameters take no gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


class Average(Section):
    """Exponential moving average of the weights, which are the result of a training."""

    halflife_images: float = setting(500_000, "half-life of a past weight's share in the average", unit="images", gt=0)
    rampup: float | None = setting(0.05, "largest half-life as a share of the images so far; null sets no limit", gt=0)


class Averaging(ABC, Generic[Module]):
    """A copy of a module whose parameters are averages of its own.

    Attributes:
        module: the copy, frozen.
        required: whether a state must have it; others may be missing in older states.
    """

    required: ClassVar[bool] = True
    module: Module

    @abstractmethod
    def update(self, module: nn.Module, batch_size: int, images_seen: int) -> None:
        """One step after `batch_size` more images, `images_seen` in all before them."""


class EMA(Averaging[Module]):
    """Average of `module`'s parameters with a half-life in images (EDM, appendix F.2).

    The ramp-up lets early averages forget the initialisation.
    """

    def __init__(self, module: Module, average: Average) -> None:
        self.module, self.average = frozen_copy(module), average

    @torch.no_grad()
    def update(self, module: nn.Module, batch_size: int, images_seen: int) -> None:
        halflife, rampup = self.average.halflife_images, self.average.rampup
        halflife = halflife if rampup is None else min(halflife, rampup * images_seen)
        decay = 0.5 ** (batch_size / max(halflife, 1e-8))
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)
