"""What is minimised: denoising objectives (teacher and fake score) and distillation losses (generator)."""

from .consistency import Consistency
from .denoising import AmbientTweedie, Draw, Objective, Standard, prior_of
from .distillation import DMD, SDS, DistillationLoss, SiD
from .noise_levels import GeneratorLevels, LogNormalLevels

__all__ = [
    "DMD",
    "SDS",
    "AmbientTweedie",
    "Consistency",
    "DistillationLoss",
    "Draw",
    "GeneratorLevels",
    "LogNormalLevels",
    "Objective",
    "SiD",
    "Standard",
    "prior_of",
]
