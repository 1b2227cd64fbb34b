"""Training of the teacher and distillation of the student."""

from .batches import Batches
from .distillation import Distillation, FakeScore, Generator, opponents_of
from .ema import EMA, Average, frozen_copy
from .loop import Progress, run
from .players import Opponent, Player, Work
from .pool import Below, LowLevels, Pool
from .refinement import RefineSettings
from .settings import DistillationSettings, TeacherSettings, loss_in_one_place
from .state import Training
from .teacher import TeacherTraining
from .update import Adam, FiniteGuard

__all__ = [
    "EMA",
    "Adam",
    "Average",
    "Batches",
    "Below",
    "Distillation",
    "DistillationSettings",
    "FakeScore",
    "FiniteGuard",
    "Generator",
    "LowLevels",
    "Opponent",
    "Player",
    "Pool",
    "Progress",
    "RefineSettings",
    "TeacherSettings",
    "TeacherTraining",
    "Training",
    "Work",
    "frozen_copy",
    "loss_in_one_place",
    "opponents_of",
    "run",
]
