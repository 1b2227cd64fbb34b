"""Results arranged for comparison: subjects are rows, measured quantities are columns, and the best is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, permutations

from ..core.errors import UserError
from ..metrics import SUBJECTS, Result
from .protocol import Key, Words, by_key, differences, key_of, words_of

_UNCERTAINTIES = {
    "seeds": "standard deviation over sampling seeds; training was not repeated",
    "jackknife": "jackknife standard error over the images of one set; neither sampling nor training was repeated",
    "subsets": "standard deviation over random subsets of one set, as usual for KID",
    "splits": "standard deviation over parts of one set, as usual for the Inception score",
    "": "standard deviation; the file does not say whether over seeds or subsets",
}
_UNITS = {"psnr": " dB"}
RATE, SPEED_UP, EVALUATIONS = "Images/s", "Speed-up", "Evaluations"
CLOCK = Key("", "", "")
ARROWS = {True: "↓", False: "↑", None: ""}  # towards the better side, by whether that is the lower one


@dataclass(frozen=True)
class Column:
    """One measured quantity of all subjects that have it.

    Attributes:
        key: what was measured; `CLOCK` for a column of the clock.
        words: the same in words.
        values: by subject; a subject that was not measured is absent.
        stds: uncertainty by subject, where it is known.
        kinds: what each of `stds` is, by subject: `seeds`, `jackknife`, `subsets`, `splits`, or empty.
        marks: what to print behind an uncertainty of a kind; empty where all of a table are of one kind.
        suffix: unit that follows each value.
        exact: whether values are counted, so that whole numbers are shown as such.
    """

    key: Key
    words: Words
    values: Mapping[str, float]
    stds: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    exact: bool = False

    @property
    def heading(self) -> str:
        """The short title with an arrow to the better side."""
        return f"{self.words.short} {ARROWS[self.words.lower]}".rstrip()

    @property
    def best(self) -> frozenset[str]:
        """The subjects with the best value; empty where there is nothing to compare."""
        return best_of(self.values, self.words.lower)

    def beats(self, subject: str, other: str) -> bool:
        """Whether `subject` is strictly better than `other`."""
        difference = self.values[other] - self.values[subject]
        return self.words.lower is not None and (difference > 0 if self.words.lower else difference < 0)

    def clear(self, subject: str, other: str) -> bool:
        """Whether the two differ by more than twice the uncertainty of the difference, as far as it is known."""
        spread = math.hypot(self.stds.get(subject, 0.0), self.stds.get(other, 0.0))
        return abs(self.values[subject] - self.values[other]) > 2 * spread

    def cell(self, subject: str, spread: bool = True) -> str:
        """The value as text, with its uncertainty if `spread`; a dash where it was not measured."""
        if subject not in self.values:
            return "–"
        value, std = self.values[subject], self.stds.get(subject)
        text = f"{value:,g}" if self.exact else number(value)
        if spread and std is not None:
            text += f" ± {_alike(std, text)}{self.marks.get(self.kinds.get(subject, ''), '')}"
        return text + self.suffix


@dataclass(frozen=True)
class Block:
    """All columns against one reference.

    Attributes:
        reference: `clean` or `measurements`; empty for the clock.
        title: in words.
        spaces: pairs of a name of features and the columns in them.
        subjects: measured in any of the columns.
    """

    reference: str
    title: str
    spaces: tuple[tuple[str, tuple[Column, ...]], ...]
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The table: subjects are rows.

    Attributes:
        subjects: with results, in the order of the method.
        quality: columns that come from metrics; those against clean images first, those in pixels first of all.
        speed: columns that come from the clock.
        real: columns against one half of a reference, in which `real`, the other half, is a subject too.
        base: the teacher that others are timed against: teacher-truncated, or teacher-full where nothing is truncated,
            as without noise.
    """

    subjects: tuple[str, ...]
    quality: tuple[Column, ...]
    speed: tuple[Column, ...]
    base: str
    real: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in order."""
        return self.quality + self.speed

    def clock(self, short: str) -> Column | None:
        """The column of the clock with this short title: `RATE`, `SPEED_UP` or `EVALUATIONS`."""
        return next((column for column in self.speed if column.words.short == short), None)

    @property
    def busy(self) -> str:
        """A sentence where the clock contradicts the number of network evaluations; else empty."""
        counts, rates = self.clock(EVALUATIONS), self.clock(RATE)
        if counts is None or rates is None:
            return ""
        odd = [
            f"{a} ({counts.cell(a)} evaluations for each image) came out faster than {b} ({counts.cell(b)})"
            for a, b in permutations(counts.values, 2)
            if counts.values[a] > counts.values[b] and rates.values[a] > rates.values[b]
        ]
        if not odd:
            return ""
        return f"The clock cannot be trusted: {'; '.join(odd)}. The machine was busy; compare the evaluations."

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The same, one block for each reference and one for the clock, in each the columns by their features."""
        return blocks_of(self.columns)


_SHORT = {"clean": "to clean", "measurements": "proximal", "clean-half": "to clean", "measurements-half": "proximal"}
_TITLES = {
    "clean": "Against clean images",
    "measurements": "Proximal: re-corrupted images against the measurements",
    "clean-half": "Against one half of the clean images; the other half is real",
    "measurements-half": "Proximal, against one half of the measurements; the other half is real",
}


def blocks_of(columns: Iterable[Column]) -> tuple[Block, ...]:
    """Columns in blocks, by what they compare with."""
    blocks = []
    for reference, group in groupby(columns, key=lambda column: column.key.reference):
        same = tuple(group)
        spaces = tuple((name, tuple(alike)) for name, alike in groupby(same, key=lambda column: column.key.features))
        named = ("real", *SUBJECTS)
        subjects = tuple(name for name in named if any(name in column.values for column in same))
        blocks.append(Block(reference, _TITLES.get(reference, "Speed"), spaces, subjects))
    return tuple(blocks)


def group_name(block: Block, features: str) -> str:
    """What the metrics of one reference and one feature space have in common, in a few words."""
    reference = _SHORT.get(block.reference, block.title.lower())
    return f"{reference}, {features}" if features else reference


def best_of(values: Mapping[str, float], lower: bool | None) -> frozenset[str]:
    """Names of the best values; none if there is nothing to compare, or the better side is not known."""
    if len(values) < 2 or lower is None:
        return frozenset()
    best = (min if lower else max)(values.values())
    return frozenset(name for name, value in values.items() if value == best)


def number(value: float) -> str:
    """Three significant digits, no exponent for everyday sizes."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def _alike(std: float, value: str) -> str:
    """An uncertainty with as many decimals as its value has, more where it would round to 0."""
    if "e" in value or (std and std < 1e-4):
        return f"{std:.1e}"
    decimals = max(len(value.partition(".")[2]), math.ceil(-math.log10(std)) if std else 0)
    return f"{std:.{decimals}f}"


def compare(results: Iterable[Result]) -> Comparison:
    """Arrange results: one quality column for each metric, features and reference; then the clock.

    Raises:
        UserError: no results, two results for one cell, or numbers of one column that were measured by different
            protocols, which do not compare; `separate` tells those apart first.
    """
    whole: list[Result] = []
    halves: list[Result] = []
    for result in results:
        (halves if result.of_half else whole).append(result)
    if not whole:
        raise UserError("there are no results to compare: run `restill evaluate` first")
    present = {result.subject for result in whole}
    columns, base = _clock({r.subject: r for r in reversed(whole) if r.seconds and r.images_per_second})
    return Comparison(
        tuple(subject for subject in SUBJECTS if subject in present),
        marked([_quality_column(group) for group in by_key(whole).values()]),
        columns,
        base,
        marked([_quality_column(group) for group in by_key(halves).values()]),
    )


def uncertainties(columns: Iterable[Column]) -> tuple[str, ...]:
    """What ± means in these columns, one sentence for each kind of uncertainty."""
    found = {kind: column.marks.get(kind, "") for column in columns for kind in column.kinds.values()}
    return tuple(f"±{found[kind]} is the {words}." for kind, words in _UNCERTAINTIES.items() if kind in found)


def kind_of(result: Result) -> str:
    """What a result's `std` is; older files did not say so where it was over several seeds."""
    return result.uncertainty or ("seeds" if len(result.seeds) > 1 else "")


def marked(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns with marks that distinguish the kinds of uncertainty, if there are several."""
    kinds = {kind for column in columns for kind in column.kinds.values()}
    ordered = [kind for kind in _UNCERTAINTIES if kind in kinds]
    marks = dict(zip(ordered, "ᵃᵇᶜᵈᵉ", strict=False)) if len(kinds) > 1 else {}
    return tuple(replace(column, marks=marks) for column in columns)


def _quality_column(results: Sequence[Result]) -> Column:
    first, key = results[0], key_of(results[0])
    words = words_of(key)
    for result in results[1:]:
        if what := differences(first, result):
            pair = f"{first.subject} and {result.subject}"
            raise UserError(f"{words.title}: {pair} cannot be compared: {what}; measure both in the same way")
    by_subject: dict[str, Result] = {result.subject: result for result in results}
    if len(by_subject) < len(results):
        raise UserError(
            f"one subject has two results for {first.metric}, {first.features}, {first.reference}: keep one"
        )
    values = {subject: result.value for subject, result in by_subject.items()}
    stds = {subject: result.std for subject, result in by_subject.items() if result.std is not None}
    kinds = {subject: kind_of(by_subject[subject]) for subject in stds}
    return Column(key, words, values, stds, kinds, suffix=_UNITS.get(first.metric, ""))


def _clock(timed: Mapping[str, Result]) -> tuple[tuple[Column, ...], str]:
    """Evaluations, seconds, images per second and the speed-up, and the teacher that others are timed against."""
    seconds = {subject: r.seconds for subject, r in timed.items() if r.seconds is not None}
    rates = {subject: r.images_per_second for subject, r in timed.items() if r.images_per_second is not None}
    base = next((teacher for teacher in ("teacher-truncated", "teacher-full") if teacher in rates), "")
    speed_up = {subject: rate / rates[base] for subject, rate in rates.items()} if base else {}
    spreads = {s: r.images_per_second_std for s, r in timed.items() if r.images_per_second_std is not None}
    needed = {subject: r.evaluations for subject, r in timed.items() if r.evaluations is not None}
    counts = {result.n for result in timed.values()}
    title = (
        f"Seconds for {next(iter(counts)):,} images" if len(counts) == 1 else "Seconds, for different numbers of images"
    )
    turns = ", median over turns ± their standard deviation" if spreads else ""
    columns = (
        Column(CLOCK, Words("Network evaluations for each image", EVALUATIONS, True), needed, exact=True),
        Column(CLOCK, Words(title, "Seconds", True), seconds),
        Column(CLOCK, Words(f"Images per second{turns}", RATE, False), rates, spreads),
        Column(CLOCK, Words(f"Speed-up over {base}", SPEED_UP, False), speed_up, suffix="×"),
    )
    return tuple(column for column in columns if len(column.values) > (1 if column.suffix else 0)), base
