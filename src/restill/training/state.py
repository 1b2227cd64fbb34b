"""What every training has in common: a step counter, and a state that is plain tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.settings import Section, setting, wrong
from .ema import Average
from .means import Means
from .update import FiniteGuard


class PhaseSettings(Section):
    """What the settings of both phases have in common."""

    images: int = setting(..., "length of the training in images, repeats counted", unit="images", gt=0)
    batch_size: int = setting(..., "images in an iteration", unit="images", gt=0)
    accumulate: int = setting(1, "parts into which a batch is split to save memory; must divide batch_size", gt=0)
    ema: Average = setting(Average(), "average of the weights, which is used as the result")

    @model_validator(mode="after")
    def _parts_of_one_size(self) -> Self:
        if self.batch_size % self.accumulate:
            raise wrong("accumulate", f"must divide batch_size {self.batch_size}, not {self.accumulate}")
        return self


class Training(ABC):
    """A training that advances step by step and can be put aside as plain tensors and one number.

    Attributes:
        images: length in images.
        batch_size: images per step.
        step: optimiser steps done.
        means: of the logged values since the last row.
        guard: watches for NaN.
    """

    guard: FiniteGuard

    def __init__(self, images: int, batch_size: int) -> None:
        self.images, self.batch_size, self.step = images, batch_size, 0
        self.means = Means()

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return -(-self.images // self.batch_size)

    @property
    def images_seen(self) -> int:
        """Images presented so far."""
        return self.step * self.batch_size

    @abstractmethod
    def advance(self) -> dict[str, Tensor]:
        """One step; returns 0-dimensional tensors to log. Raises NonFiniteError before weights are touched by a NaN."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that a continued run needs beside `step`."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from `state()` after `step` steps. Raises UserError where shapes do not fit."""


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix/`."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `prefixed`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
