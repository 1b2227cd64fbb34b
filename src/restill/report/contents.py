"""What a page shows of runs. None of it is trusted: every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..checks.nearest import Nearest
from ..metrics import Measured
from ..store import Store


class Triples(NamedTuple):
    """Measurements, their restorations, and the clean images behind them, each `[m, C, H, W]` as people see it."""

    measured: Tensor
    restored: Tensor | None
    """None where the teacher denoises no images"""
    clean: Tensor
    missing: Tensor | None
    """where nothing was measured, bool"""


class Examples(NamedTuple):
    """Clean images to look at."""

    clean: Tensor
    """the first of the reference, `[n, C, H, W]`"""
    triples: Triples | None
    """None where measurements and clean images are not of the same objects"""


@dataclass(frozen=True)
class RunData:
    """A run on a page, alone or beside others.

    Attributes:
        label: title of its page, or a name that differs from those of the other runs.
        measured: all of `metrics.json`, with at least one result.
        store: the measurements that the run was trained on.
        images: `[n, C, H, W]` in normalised units, by subject; as many of each are shown as fit. Of complex images
            these are the magnitudes (`views.magnitude`). A comparison shows those of the student.
        log: rows of `log.jsonl` (see `log_curves`).
    """

    label: str
    measured: Measured
    store: Store
    images: Mapping[str, Tensor]
    log: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ReportData(RunData):
    """All that the report of one run shows.

    Attributes:
        found: smallest and largest value of the measurements, normalised.
        recipe: the resolved recipe as YAML text.
        versions: of software, by name.
        seeds: by purpose.
        hashes: of data and weights, by name.
        nearest: some of the student's images, each with the measurements nearest to it.
        shown: what numbers in a feature space can show and what not, a sentence by name of the features.
        command: that makes a run of the recipe.
        missing: where nothing was measured, for the images of the measurements; None where everything was.
        phases: of complex images, in colours (`views.phase_colours`), by subject.
        examples: of clean images, where the run was evaluated against some.
    """

    found: tuple[float, float] = (-1.0, 1.0)
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    nearest: Nearest | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    missing: Tensor | None = None
    phases: Mapping[str, Tensor] = field(default_factory=dict)
    examples: Examples | None = None
