"""What both trainings have in common: a step counter, and a state that is plain tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from ..core.modules import prefixed, under
from .means import Means
from .update import FiniteGuard, Update


class Training(ABC):
    """A training that advances step by step and can be saved as plain tensors and one number.

    Attributes:
        images: length in images.
        batch_size: images per step.
        step: optimiser steps done.
        means: of the logged values since the last row.
        guard: watches for NaN.
    """

    def __init__(self, images: int, batch_size: int, device: torch.device) -> None:
        self.images, self.batch_size, self.device, self.step = images, batch_size, device, 0
        self.means, self.guard = Means(), FiniteGuard(device)

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

    @property
    @abstractmethod
    def updates(self) -> Sequence[Update[Any]]:
        """The networks in training."""

    @final
    def state(self) -> dict[str, Tensor]:
        """Everything that a continued run needs beside `step`."""
        state = prefixed("means", self.means.state())
        for update in self.updates:
            state |= update.state()
        return state

    @final
    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from `state()` after `step` steps. Raises UserError where shapes do not fit."""
        for update in self.updates:
            update.restore(tensors)
        self.means.restore(under("means", tensors), self.device)
        self.step = step
