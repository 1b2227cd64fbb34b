"""The section `sampling` of a recipe: how the teacher draws, and how many images at a time.

A sampler of your own is a class in a plug-in, and `sampling: {sampler: KIND, ...}` in a recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

from ..core.kinds import Described, OfKind
from ..core.settings import setting
from .sampler import Heun, Sampler


class SamplingSettings(Described, ABC, family="sampling", tag="sampler"):
    """How samples are drawn from the teacher, and how many at a time."""

    section = "sampling"

    batch_size: int = setting(256, "images drawn at a time", gt=0, unit="images")
    show: int = setting(64, "images in a grid", gt=0, unit="images")

    @abstractmethod
    def of_teacher(self, stop_at: float) -> Sampler:
        """The teacher's sampler, which ends at the noise level `stop_at`; 0 for the whole way."""


class HeunSampling(SamplingSettings, kind="heun"):
    """Heun's method, as in EDM."""

    num_steps: int = setting(18, "steps of Heun's method", ge=2)

    def of_teacher(self, stop_at: float) -> Sampler:
        return Heun(num_steps=self.num_steps, stop_at=stop_at)


AnySampling = Annotated[SamplingSettings, OfKind(SamplingSettings, "heun")]
"""For fields of settings."""
