"""What generated images are compared with: clean images, measurements, or published statistics, in a feature space."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.processes import Processes
from ..core.progress import progress_bar
from ..core.reading import sha256
from ..core.tensors import seeded
from ..core.views import clipped
from ..store import Samples
from .feature_set import FeatureSet, Parts
from .features import Features
from .measure import Measure
from .reference_file import load_reference, save_reference
from .results import Against, Result, mean_std

SMALLEST_HALF = 20  # images; fewer say nothing of real images
_HALF_OF: dict[Against, Against] = {"clean": "clean-half", "measurements": "measurements-half"}


@dataclass(frozen=True)
class Yardstick:
    """A feature space with the set of images that others are compared with in it."""

    features: Features
    reference: Against
    known: FeatureSet
    fingerprint: str
    halves: tuple[FeatureSet, FeatureSet] | None = None
    """two sets of equally many of the images, all different, where there are enough"""

    @property
    def parts(self) -> list[Yardstick]:
        """This yardstick and, where there are halves, the second half as one of its own."""
        if self.halves is None or self.reference not in _HALF_OF:
            return [self]
        return [self, Yardstick(self.features, _HALF_OF[self.reference], self.halves[1], self.fingerprint)]

    @property
    def places(self) -> list[range]:
        """Which images of a subject are compared with each of the parts: all, and as many as there are in a half."""
        return [range(sys.maxsize), *(range(part.known.n) for part in self.parts[1:])]

    def result(self, metric: str, measures: Sequence[Measure], n: int, **more: object) -> Result:
        """One row of `metrics.json` from the measures of all seeds; `more` are its subject and other fields."""
        value, spread = mean_std([m.estimate.value for m in measures])
        one = measures[0].estimate
        std, uncertainty = (one.std, one.uncertainty) if spread is None else (spread, "seeds")
        return Result(
            metric=metric,
            features=self.features.name,
            value=value,
            std=std,
            uncertainty=uncertainty,
            n=n,
            reference=self.reference,
            features_fingerprint=self.features.fingerprint,
            reference_fingerprint=self.fingerprint,
            resize=self.features.resize,
            settings=measures[0].settings,
            **more,
        )


def yardsticks_of(
    samples: Samples, against: Against, spaces: Sequence[Features], processes: Processes, n: int = sys.maxsize
) -> list[Yardstick]:
    """Clean images or measurements, all of them, in every feature space, with halves of at most `n` images."""
    title = {"clean": "reference", "measurements": "measurements"}[against]
    half = min(len(samples) // 2, n)
    halves = [range(half), range(half, 2 * half)] if half >= SMALLEST_HALF else []
    places = [range(len(samples)), *halves]
    found = feature_sets(samples, spaces, processes, title, places=[places] * len(spaces))
    return [
        Yardstick(space, against, known, samples.fingerprint, (more[0], more[1]) if more else None)
        for space, (known, *more) in zip(spaces, found, strict=True)
    ]


def random_order(store: Samples) -> Tensor:
    """A fixed permutation of a store's samples, so that folders of classes are not read class by class."""
    return torch.randperm(len(store), generator=seeded("evaluation order"))


def feature_sets(
    samples: Samples,
    spaces: Sequence[Features],
    processes: Processes,
    title: str,
    n: int | None = None,
    bounds: tuple[float, float] | None = None,
    places: Sequence[Sequence[range]] | None = None,
) -> list[list[FeatureSet]]:
    """Sets of samples on the image grid, in every feature space.

    Args:
        title: of the progress.
        n: how many random ones; all by default.
        bounds: to which they are clipped first (`views.clipped`).
        places: for each space the places of the samples in each of its sets, in a random order; by default all in one.
    """
    order = random_order(samples)[:n]
    places = [[range(len(order))]] * len(spaces) if places is None else places
    mine = processes.share(len(order), samples.block)
    sets = [Parts(space.dim, each, mine.start) for space, each in zip(spaces, places, strict=True)]
    with progress_bar(f"{title:17}", len(mine)) as advance:
        for index in order[mine.start : mine.stop].split(samples.block):
            images = clipped(samples.images(index), bounds)
            for known, space in zip(sets, spaces, strict=True):
                known.update(space(images))
            advance(done=len(index))
    return [known.of_all(processes) for known in sets]


def yardstick_of_file(path: Path, spaces: Sequence[Features]) -> Yardstick:
    """Statistics of clean images from an `.npz` with `mu` and `sigma`. Raises UserError if they do not fit."""
    space = _only(spaces, path)
    return Yardstick(space, "clean", FeatureSet.of_moments(load_reference(path, space)), sha256(path))


def write_reference(path: Path, clean: Samples | None, spaces: Sequence[Features]) -> None:
    """Write the statistics of clean images as an `.npz` with `mu` and `sigma`, as the FID literature exchanges them."""
    space = _only(spaces, path)
    if clean is None:
        raise UserError(f"{path}: statistics need clean images; give their store with --reference")
    [[known]] = feature_sets(clean, [space], Processes(), "reference")
    save_reference(path, known.moments, space)


def _only(spaces: Sequence[Features], path: Path) -> Features:
    if len(spaces) != 1:
        raise UserError(
            f"{path}: holds statistics of one feature space; name it with --features, e.g. --features inception:FILE"
        )
    return spaces[0]
