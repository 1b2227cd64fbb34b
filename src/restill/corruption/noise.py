"""Additive white Gaussian noise: `y = x + sigma_n * eps`."""

from __future__ import annotations

import torch

from .bases import Identity
from .operator import Operator
from .traits import GaussianNoise, PartlyClean, WithoutGaps


class AdditiveNoise(GaussianNoise, PartlyClean, WithoutGaps, kind="noise"):
    """White Gaussian noise of one level, or of several levels, one for each sample (Ambient Tweedie, DSD)."""

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        return self.partly_cleared(Identity(self.draw_sigma_n(n, generator)), generator)

    def operator_in_words(self) -> str:
        return ""
