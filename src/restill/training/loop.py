"""The loop: training as a Python generator. The caller logs, evaluates, saves and stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .state import Training


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Attributes:
        step, images: done so far.
        row: means over the steps since the last row, with `images_per_second`; None between rows.
    """

    step: int
    images: int
    row: dict[str, float] | None


def run(training: Training, log_every: int = 50) -> Iterator[Progress]:
    """Advance to the end, yielding after every step; every `log_every` steps and at the end with a row to log.

    Values stay on the device between rows. Raises NonFiniteError when a loss or gradient is not finite.
    """
    sums: dict[str, Tensor] = {}
    steps, since = 0, time.perf_counter()
    while training.step < training.steps:
        values = training.advance()
        sums = {name: sums[name] + value if name in sums else value for name, value in values.items()}
        steps += 1
        row = None
        if training.step % log_every == 0 or training.step == training.steps:
            training.guard.check()
            means = (torch.stack(list(sums.values())) / steps).tolist()
            now = time.perf_counter()
            row = dict(zip(sums, means, strict=True))
            row["images_per_second"] = steps * training.batch_size / (now - since)
            sums, steps, since = {}, 0, now
        yield Progress(training.step, training.images_seen, row)
        if row is not None:
            since = time.perf_counter()  # what the caller did with the row is not training time
