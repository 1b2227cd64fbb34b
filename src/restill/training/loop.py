"""The loop: training as a Python generator. The caller logs, evaluates, saves and stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

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
    """Advance to the end, yielding after every step; with a row to log every `log_every` steps and at the end.

    Values stay on the device between rows. Raises NonFiniteError when a loss or gradient is not finite.
    """
    steps, since = 0, time.perf_counter()
    while training.step < training.steps:
        training.means.add(training.advance())
        steps += 1
        row = None
        if training.step % log_every == 0 or training.step == training.steps:
            training.guard.check()
            row = training.means.take()
            row["images_per_second"] = steps * training.batch_size / (time.perf_counter() - since)
        yield Progress(training.step, training.images_seen, row)
        if row is not None:  # what the caller did with the row is not training time
            steps, since = 0, time.perf_counter()
