"""Training of the teacher and distillation of the student."""

from .batches import Batches
from .distillation import Distillation, DistillationSettings
from .ema import EMA, frozen_copy
from .loop import Progress, run
from .schedule import LearningRate
from .state import Training
from .teacher import TeacherSettings, TeacherTraining
from .update import FiniteGuard, OptimiserSettings

__all__ = [
    "EMA",
    "Batches",
    "Distillation",
    "DistillationSettings",
    "FiniteGuard",
    "LearningRate",
    "OptimiserSettings",
    "Progress",
    "TeacherSettings",
    "TeacherTraining",
    "Training",
    "frozen_copy",
    "run",
]
