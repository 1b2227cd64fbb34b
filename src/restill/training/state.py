"""What every training has in common: a step counter, and a state that is plain tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from .means import Means
from .update import FiniteGuard


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
