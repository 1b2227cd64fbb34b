"""Measures stored and generated images against all yardsticks. Images are streamed and not kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..core.processes import Processes
from ..core.progress import Advance, progress_bar, silent
from ..core.views import clipped
from ..generator import Generator
from ..store import Samples, Store
from .feature_set import FeatureSet, Parts
from .measure import Measure, measure
from .proximal import recorrupted
from .results import Result, Subject
from .settings import EvaluationSettings
from .speed import Speed
from .yardstick import Yardstick, feature_sets


class Evaluator:
    """Measures sets of images, each by all wanted metrics.

    Args:
        yardsticks: what images are compared with.
        settings: which metrics, how many images in each set, and the seeds of what is generated.
        processes: this process among those that share the work.
        store: the measurements that generators were trained on: their corruption is that of proximal metrics, and
            every image that is measured is clipped to the range of their files (`Samples.bounds`).
    """

    def __init__(
        self, yardsticks: Sequence[Yardstick], settings: EvaluationSettings, processes: Processes, store: Store
    ) -> None:
        self.yardsticks, self.processes, self.store = yardsticks, processes, store
        self.metrics, self.samples, self.seeds = settings.metrics, settings.samples, settings.seeds

    def of_stored(self, subject: Subject, samples: Samples, how: str | None = None) -> list[Result]:
        """Images of a store against the clean ones: the measurements themselves, or reconstructions of them."""
        clean = [y for y in self.yardsticks if y.reference == "clean"]
        if not clean:
            return []
        spaces, places = [y.features for y in clean], [y.places for y in clean]
        sets = feature_sets(samples, spaces, self.processes, subject, self.samples, self.store.bounds, places)
        return [
            part.result(name, [found], ours.n, subject=subject, sampler=how, clipping=self.store.clipping)
            for yardstick, each in zip(clean, sets, strict=True)
            for part, ours in zip(yardstick.parts, each, strict=True)
            for name, found in measure(ours, part.known, part.features, self.metrics).items()
        ]

    def of_real(self) -> list[Result]:
        """One half of each reference against the other: what a perfect generator would score."""
        return [
            part.result(name, [found], yardstick.halves[0].n, subject="real", clipping=self.store.clipping)
            for yardstick in self.yardsticks
            if yardstick.halves is not None
            for part in yardstick.parts[1:]
            for name, found in measure(yardstick.halves[0], part.known, part.features, self.metrics).items()
        ]

    def of_generated(
        self, subject: Subject, generator: Generator, speed: Speed, show: int = 0
    ) -> tuple[list[Result], Tensor]:
        """All metrics over all seeds, and the first `show` images of the first seed as they were measured."""
        parts = [part for yardstick in self.yardsticks for part in yardstick.parts]
        found: list[list[dict[str, Measure]]] = [[] for _ in parts]
        shown = torch.empty(0)
        bar = progress_bar(f"{subject:17}", self.samples // self.processes.count * len(self.seeds))
        with bar as advance:
            for number, seed in enumerate(self.seeds):
                stream = _Stream(generator, self.samples, seed, self.processes, advance, 0 if number else show)
                sets = stream.sets(self.yardsticks, self.store)
                shown = shown if number else torch.cat(self.processes.gathered(stream.shown))[:show]
                for measures, part, ours in zip(found, parts, sets, strict=True):
                    measures.append(measure(ours, part.known, part.features, self.metrics, seed))
        drawn: dict[str, object] = {"subject": subject, "sampler": generator.in_words, "seeds": self.seeds}
        drawn |= {"clipping": self.store.clipping, **speed.fields(self.samples)}
        results = [
            part.result(name, [m[name] for m in measures], ours.n, **drawn)
            for part, measures, ours in zip(parts, found, sets, strict=True)
            for name in measures[0]
        ]
        return results, shown


class _Stream:
    """The images of one subject and one seed, streamed through all feature spaces."""

    def __init__(
        self,
        generator: Generator,
        samples: int,
        seed: int,
        processes: Processes,
        advance: Advance = silent,
        show: int = 0,
    ) -> None:
        self.generator, self.seed, self.processes, self.advance, self.show = generator, seed, processes, advance, show
        self.mine = processes.share(samples, 256)
        self.shown = torch.empty(0, *generator.config.grid)

    def sets(self, yardsticks: Sequence[Yardstick], store: Store) -> list[FeatureSet]:
        """The images of every part of every yardstick: as they are seen where that is clean, else corrupted anew."""
        sets = [Parts(y.features.dim, y.places, self.mine.start) for y in yardsticks]
        clean, measured = ([i for i, y in enumerate(yardsticks) if (y.reference == "clean") == is_clean]
                           for is_clean in (True, False))  # fmt: skip

        def passing() -> Iterator[Tensor]:
            for images in self._drawn(store.bounds):
                for i in clean:
                    sets[i].update(yardsticks[i].features(images))
                yield images

        for images in recorrupted(passing(), store.corruption, self.seed, first=self.mine.start):
            for i in measured:
                sets[i].update(yardsticks[i].features(images))
        return [ours for each in sets for ours in each.of_all(self.processes)]

    def _drawn(self, bounds: tuple[float, float] | None) -> Iterator[Tensor]:
        """Batches of images as they are seen."""
        for drawn in self.generator.draw(self.mine, self.seed):
            images = clipped(drawn, bounds)
            if len(self.shown) < self.show:
                self.shown = torch.cat([self.shown, images])[: self.show]
            yield images
            self.advance(done=len(images))
