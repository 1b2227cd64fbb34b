"""Results arranged for comparison: subjects are rows, measured quantities are columns, and the best is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..metrics import SUBJECTS, Result

_HIGHER_IS_BETTER = frozenset({"precision", "recall", "inception-score"})
_METRIC_WORDS = {"frechet": "Fréchet distance"}


@dataclass(frozen=True)
class Column:
    """One measured quantity of all subjects that have it.

    Attributes:
        title: in words, with the reference and the features.
        short: for the head of a table.
        metric: its name in `metrics.json`; empty for a column of the clock.
        reference: `clean` or `measurements`; empty for a column of the clock.
        features: name of the features; empty for a column of the clock.
        values: by subject; a subject that was not measured is absent.
        stds: standard deviation over sampling seeds, by subject, where there were several.
        lower: whether lower is better.
        counts: images per seed, by subject.
        suffix: unit that follows each value.
    """

    title: str
    short: str
    metric: str
    reference: str
    features: str
    values: Mapping[str, float]
    stds: Mapping[str, float]
    lower: bool
    counts: Mapping[str, int]
    suffix: str = ""

    @property
    def best(self) -> frozenset[str]:
        """The subjects with the best value; empty where there is nothing to compare."""
        if len(self.values) < 2:
            return frozenset()
        best = (min if self.lower else max)(self.values.values())
        return frozenset(subject for subject, value in self.values.items() if value == best)

    def beats(self, subject: str, other: str) -> bool:
        """Whether `subject` is strictly better than `other`."""
        difference = self.values[other] - self.values[subject]
        return difference > 0 if self.lower else difference < 0

    def clear(self, subject: str, other: str) -> bool:
        """Whether the two differ by more than twice the standard deviation of the difference, as far as it is known."""
        spread = math.hypot(self.stds.get(subject, 0.0), self.stds.get(other, 0.0))
        return abs(self.values[subject] - self.values[other]) > 2 * spread

    def cell(self, subject: str) -> str:
        """The value as text, with its standard deviation; a dash where it was not measured."""
        if subject not in self.values:
            return "–"
        text, std = number(self.values[subject]), self.stds.get(subject)
        if std is not None:  # with as many decimals as the value, more where it would round to 0
            decimals = max(len(text.partition(".")[2]), math.ceil(-math.log10(std)) if std else 0)
            text += f" ± {std:.{decimals}f}"
        return text + self.suffix


@dataclass(frozen=True)
class Comparison:
    """The table: subjects are rows.

    Attributes:
        subjects: in the order of the method, those that have results.
        quality: columns that come from metrics; distances to clean images first, those in pixels first of all.
        speed: columns that come from the clock.
        rates: images per second, by subject.
        speed_up: rate in units of teacher-truncated's, by subject; empty where that was not timed.
    """

    subjects: tuple[str, ...]
    quality: tuple[Column, ...]
    speed: tuple[Column, ...]
    rates: Mapping[str, float]
    speed_up: Mapping[str, float]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in order."""
        return self.quality + self.speed


def number(value: float) -> str:
    """Three significant digits, no exponent for everyday sizes."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def compare(results: Iterable[Result]) -> Comparison:
    """Arrange results: one quality column for each metric, features and reference; then the clock.

    Raises:
        UserError: no results, two results for one cell, or numbers of one column in different feature spaces or against
            different references, which do not compare.
    """
    results = list(results)
    if not results:
        raise UserError("there are no results to compare: run `restill evaluate` first")
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.reference, result.metric, result.features), []).append(result)
    order = sorted(groups, key=lambda key: (key[0] != "clean", key[1] != "frechet", not key[2].startswith("pixels")))
    present = {result.subject for result in results}
    timed: dict[str, Result] = {r.subject: r for r in reversed(results) if r.seconds and r.images_per_second}
    rates: dict[str, float] = {
        subject: r.images_per_second for subject, r in timed.items() if r.images_per_second is not None
    }
    base = rates.get("teacher-truncated")
    speed_up = {subject: rate / base for subject, rate in rates.items()} if base else {}
    return Comparison(
        tuple(subject for subject in SUBJECTS if subject in present),
        tuple(_quality_column(groups[key]) for key in order),
        _speed_columns(timed, rates, speed_up),
        rates,
        speed_up,
    )


def _quality_column(results: Sequence[Result]) -> Column:
    first = results[0]
    for result in results[1:]:
        if result.features_fingerprint != first.features_fingerprint:
            raise UserError(f"results in features {first.features!r} come from different features: evaluate all anew")
        if result.reference_fingerprint != first.reference_fingerprint:
            raise UserError(f"results against {first.reference!r} come from different references: evaluate all anew")
    by_subject = {result.subject: result for result in results}
    if len(by_subject) < len(results):
        raise UserError(f"two results of one subject for {first.metric}, {first.features}, {first.reference}: keep one")
    metric, proximal = _METRIC_WORDS.get(first.metric, first.metric), first.reference == "measurements"
    space = ("pixel-space ", "") if first.features == "pixels" else ("", f" in {first.features} features")
    title = f"{'proximal ' if proximal else ''}{space[0]}{metric}{'' if proximal else ' to clean images'}{space[1]}"
    short = f"{'Proximal ' if proximal else ''}{metric.split()[0]}, {first.features}"
    return Column(
        title[0].upper() + title[1:],
        short,
        first.metric,
        first.reference,
        first.features,
        {subject: result.value for subject, result in by_subject.items()},
        {subject: result.std for subject, result in by_subject.items() if result.std is not None},
        first.metric not in _HIGHER_IS_BETTER,
        {subject: result.n for subject, result in by_subject.items()},
    )


def _speed_columns(
    timed: Mapping[str, Result], rates: Mapping[str, float], speed_up: Mapping[str, float]
) -> tuple[Column, ...]:
    counts = {subject: result.n for subject, result in timed.items()}
    seconds = {subject: result.seconds for subject, result in timed.items() if result.seconds is not None}
    same = len(set(counts.values())) == 1
    title = f"Seconds for {next(iter(counts.values())):,} images" if same else "Seconds, for different numbers"
    columns = [
        Column(title, "Seconds", "", "", "", seconds, {}, True, counts),
        Column("Images per second", "Images/s", "", "", "", rates, {}, False, counts),
        Column("Speed-up over teacher-truncated", "Speed-up", "", "", "", speed_up, {}, False, counts, suffix="×"),
    ]
    return tuple(column for column in columns if len(column.values) > (1 if column.suffix else 0))
