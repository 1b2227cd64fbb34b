"""How fast images are drawn: in evaluations of the network, which are exact, and by the clock, in turns.

All subjects take turns, so that another program that keeps the machine busy slows all of them, and the median over the
turns ignores what slows one. Only the number of evaluations does not depend on the machine at all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..core.processes import Processes
from ..core.progress import progress_bar
from ..diffusion import Counted
from ..generator import Generator
from .results import Subject

TURNS = 5
_SMALLEST, _SHARE = 64, 20  # images of a turn, so that all turns together take little of an evaluation


class Speed(NamedTuple):
    """How one subject draws.

    Attributes:
        evaluations: of the network, for each image.
        rates: images per second in each turn, of all processes together.
    """

    evaluations: float
    rates: tuple[float, ...]

    def fields(self, n: int) -> dict[str, float | None]:
        """Fields of a `Result` for `n` images."""
        rate = statistics.median(self.rates)
        spread = statistics.stdev(self.rates) if len(self.rates) > 1 else None
        return {
            "evaluations": self.evaluations,
            "seconds": n / rate,
            "images_per_second": rate,
            "images_per_second_std": spread,
        }


def evaluations_of(generator: Generator, n: int) -> float:
    """Network evaluations for each of `n` images that the generator draws."""
    counted = Counted(generator.denoiser)
    drawing = Generator(counted, generator.config, generator.sampler, generator.batch_size)
    list(drawing.draw(range(-n, 0), seed=0))
    return counted.evaluations / n


def speeds(
    generators: Mapping[Subject, Generator], samples: int, processes: Processes, turns: int = TURNS
) -> dict[Subject, Speed]:
    """The speed of every subject, in turns of one batch each: smaller ones where only few `samples` are measured."""
    most = min(samples, max(_SMALLEST, samples // _SHARE))
    sizes = {subject: min(generator.batch_size, most) for subject, generator in generators.items()}
    # what is drawn to count evaluations also pays for allocation
    counts = {subject: evaluations_of(generator, sizes[subject]) for subject, generator in generators.items()}
    rates: dict[Subject, list[float]] = {subject: [] for subject in generators}
    with progress_bar(f"{'speed':17}", turns * sum(sizes.values())) as advance:
        for _ in range(turns):
            for subject, generator in generators.items():
                n = sizes[subject]
                rates[subject].append(processes.count * n / processes.largest(_seconds(generator, range(-n, 0))))
                advance(done=n)
    return {subject: Speed(counts[subject], tuple(rates[subject])) for subject in generators}


def _seconds(generator: Generator, indices: Sequence[int]) -> float:
    started = time.perf_counter()
    for _ in generator.draw(indices, seed=0):
        pass
    return time.perf_counter() - started
