"""Learning rates over images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up over `warmup` images, then constant, cosine or linear decay to `final` times the peak.

    Attributes:
        peak: learning rate after the warm-up.
        warmup: images of the warm-up.
        total: images of the whole training, where a decay ends.
        decay: `"none"`, `"cosine"` or `"linear"`.
        final: factor on the peak at the end of a decay.
    """

    peak: float
    warmup: int = 0
    total: int = 0
    decay: Literal["none", "cosine", "linear"] = "none"
    final: float = 0.0

    def at(self, images_seen: int) -> float:
        """Learning rate of a step that begins after `images_seen` images."""
        factor = min(1.0, images_seen / self.warmup) if self.warmup else 1.0
        if self.decay != "none" and self.total > self.warmup:
            done = min(1.0, max(0.0, (images_seen - self.warmup) / (self.total - self.warmup)))
            shape = (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else 1 - done
            factor *= self.final + (1 - self.final) * shape
        return self.peak * factor
