"""The content of a report as plain data. None of it is trusted: every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..checks.nearest import Nearest
from ..metrics import Check, Result


@dataclass(frozen=True)
class Measurements:
    """The measurements that a run was trained on.

    Attributes:
        shape: of one observation.
        found: smallest and largest value among them, normalised.
        value_range: in the units of the files, stored as -1 and 1.
        sigma_n: noise level of every measurement, normalised.
        scale: units of the files per normalised unit.
        estimated: whether the noise level was estimated rather than stated.
        source: base name of the files.
        interval: 95% interval of an estimated level of the whole set, normalised.
        method: of the estimate.
        image_shape: of an image, where one observation has another shape.
        stabilised: whether values are stabilised photon counts, which have no unit of the files.
    """

    shape: tuple[int, ...]
    found: tuple[float, float]
    value_range: tuple[float, float]
    sigma_n: Sequence[float]
    scale: float
    estimated: bool = False
    source: str = ""
    interval: tuple[float, float] | None = None
    method: str = ""
    image_shape: tuple[int, ...] | None = None
    stabilised: bool = False


@dataclass(frozen=True)
class ReportData:
    """All that a report of one run shows.

    Attributes:
        title: of the page, e.g. the name of the recipe.
        results: all of `metrics.json`, at least one.
        n_measurements: that the run was trained on.
        corruption: `Corruption.describe()`.
        images: `[n, C, H, W]` in normalised units, by subject; as many of each are shown as fit. Of complex images
            these, and those of `nearest`, are the magnitudes (`views.magnitude`).
        log: rows of `log.jsonl` (see `log_curves`).
        recipe: the resolved recipe as YAML text.
        versions: of software, by name.
        seeds: by purpose.
        hashes: of data and weights, by name.
        display_range: values shown as black and white.
        notes: sentences on this run, shown under the table.
        checks: those of `metrics.json`.
        measurements: more on what went in, where it is known.
        nearest: some of the student's images, each with the measurements nearest to it.
        shown: what numbers in a feature space can show and what not, a sentence by name of the features.
        command: that makes a run of the recipe.
        missing: where nothing was measured, for the images of the measurements; None where everything was.
        phases: of complex images, in colours (`views.phase_colours`), by subject.
    """

    title: str
    results: Sequence[Result]
    n_measurements: int
    corruption: Mapping[str, Any]
    images: Mapping[str, Tensor]
    log: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    display_range: tuple[float, float] = (-1.0, 1.0)
    notes: Sequence[str] = ()
    checks: Sequence[Check] = ()
    measurements: Measurements | None = None
    nearest: Nearest | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    missing: Tensor | None = None
    phases: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RunData:
    """One of several runs that are compared.

    Attributes:
        label: short and different from those of the others, e.g. the name of the directory.
        results: all of its `metrics.json`.
        n_measurements: that it was trained on.
        corruption: `Corruption.describe()`.
        checks: those of `metrics.json`.
        images: the student's, `[n, C, H, W]` in normalised units, of complex ones the magnitudes; None where there is
            no student.
        log: rows of its `log.jsonl`.
    """

    label: str
    results: Sequence[Result]
    n_measurements: int
    corruption: Mapping[str, Any]
    checks: Sequence[Check] = ()
    images: Tensor | None = None
    log: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ComparisonData:
    """All that a page comparing several runs shows.

    Attributes:
        runs: at least two.
        differences: keys in which the recipes differ, each with its value in every run, as text.
        shown: as in `ReportData`.
        versions: of the software that wrote the page, by name.
        command: that writes the page.
    """

    runs: Sequence[RunData]
    differences: Sequence[tuple[str, Sequence[str]]] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
