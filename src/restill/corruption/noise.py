"""Additive white Gaussian noise: `y = x + sigma_n * eps`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .bases import Identity
from .corruption import Corruption


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise(Corruption, kind="noise"):
    """White Gaussian noise of one level, or of several levels of which each sample has one (Ambient Tweedie, DSD)."""

    allows_clean: ClassVar[bool] = True

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Identity:
        return self.partly_cleared(Identity(self.draw_sigma_n(n, generator)), generator)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> Identity:
        return Identity(parameters["sigma_n"])
