"""Training of the teacher and distillation of the student."""

from .batches import Batches
from .distillation import Distillation, DistillationSettings, loss_in_one_place
from .ema import EMA, Average, frozen_copy
from .loop import Progress, run
from .state import Training
from .teacher import TeacherSettings, TeacherTraining
from .update import Adam, FiniteGuard

__all__ = [
    "EMA",
    "Adam",
    "Average",
    "Batches",
    "Distillation",
    "DistillationSettings",
    "FiniteGuard",
    "Progress",
    "TeacherSettings",
    "TeacherTraining",
    "Training",
    "frozen_copy",
    "loss_in_one_place",
    "run",
]
