"""The minimised functions: denoising objectives (teacher and fake score) and distillation losses (generator)."""

from .consistency import Consistency
from .denoising import AmbientTweedie, AnyObjective, Draw, Objective, Standard, noised
from .distillation_losses import DMD, SDS, AnyLoss, DistillationLoss, SiD
from .noise_levels import LogNormalLevels, generator_levels

__all__ = [
    "DMD",
    "SDS",
    "AmbientTweedie",
    "AnyLoss",
    "AnyObjective",
    "Consistency",
    "DistillationLoss",
    "Draw",
    "LogNormalLevels",
    "Objective",
    "SiD",
    "Standard",
    "generator_levels",
    "noised",
]
