"""Means of logged values. They are part of a training's state, so a continued run repeats the log too."""

from __future__ import annotations

import torch
from torch import Tensor


class Means:
    """Sums of 0-dimensional values since the last row of the log; they stay on the device until asked for.

    Attributes:
        steps: number of values in each sum.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """The values of one step; the same names every time."""
        self._sums = {name: self._sums[name] + value if self.steps else value for name, value in values.items()}
        self.steps += 1

    def take(self) -> dict[str, float]:
        """The means, of at least one step; begins anew."""
        means = (torch.stack(list(self._sums.values())) / self.steps).tolist()
        row = dict(zip(self._sums, means, strict=True))
        self._sums, self.steps = {}, 0
        return row

    def state(self) -> dict[str, Tensor]:
        """Plain tensors."""
        return {f"sum.{name}": value for name, value in self._sums.items()} | {"steps": torch.tensor(self.steps)}

    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Continue from `state()`."""
        sums = {name.removeprefix("sum."): value for name, value in tensors.items() if name.startswith("sum.")}
        self._sums = {name: value.to(device) for name, value in sums.items()}
        self.steps = int(tensors["steps"]) if self._sums else 0
