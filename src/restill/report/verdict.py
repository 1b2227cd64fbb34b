"""The verdict that opens every output; it depends only on the results.

It begins with a tally of all metrics, losses first. Who wins is decided by the Fréchet distance in pixels to clean
images, or, without a clean reference, by the proximal one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..corruption import Corruption
from ..metrics import Result
from .comparison import (
    EVALUATIONS,
    RATE,
    SPEED_UP,
    Column,
    Comparison,
    compare,
    number,
    uncertainties,
)
from .protocol import separate
from .real import real_sentences
from .tally import RIVALS, TEACHERS, tally_of
from .words import subject_names, teacher_draws, went_in, what_is_compared

_FEW_LOSSES = 3


@dataclass(frozen=True)
class Verdict:
    """The conclusion from the results.

    Attributes:
        wins: whether the student beats every other generator in the deciding column; None where that was not measured.
        answer: in which metrics the student loses and in how many it is ahead, and then who wins that column.
        headline: what was done, how fast, and how good, in two or three sentences; ends with the answer.
        not_won: the metrics in which another generator is as good as the student or better, in words.
        notes: what a reader must know to compare the numbers, in sentences.
        groups: the same metrics by their short names, a phrase for each reference and feature space.
        names: what subjects are called, where that is not their name in the results.
    """

    wins: bool | None
    answer: str
    headline: str
    not_won: tuple[str, ...]
    notes: tuple[str, ...]
    groups: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def listed(self) -> tuple[str, ...]:
        """Where the student does not win: with numbers where these are few, else by groups of short names."""
        return self.not_won if len(self.not_won) <= _FEW_LOSSES else self.groups

    @property
    def where_not(self) -> str:
        """One sentence that lists where the student does not win; empty where nothing was compared."""
        if self.not_won:
            return f"Where the student does not win: {'; '.join(self.listed)}."
        return "" if self.wins is None else "No other generator is as good as the student in any measured metric."


def judge(results: Sequence[Result], n_measurements: int, corruption: Corruption) -> Verdict:
    """The verdict on a run.

    Args:
        results: all of `metrics.json`.
        n_measurements: number of measurements that the run was trained on.
        corruption: theirs.

    Raises:
        UserError: no results, or two of one subject.
    """
    kept, left_out = separate(results)
    comparison = compare(kept)
    deciding = _deciding(comparison)
    wins, answer = _answer(deciding)
    tally = tally_of(comparison)
    answer = f"{tally.sentence} {answer}".lstrip()
    names = subject_names(corruption)
    sentences = [f"From {went_in(n_measurements, corruption)}, {_draws(comparison)}."]
    if deciding is not None:
        order = ("student", *RIVALS, "l1-wavelet", "measurements")
        listed = ", ".join(f"{names.get(s, s)} {deciding.cell(s)}" for s in order if s in deciding.values)
        sentences.append(
            f"{deciding.words.title} ({'lower' if deciding.words.lower else 'higher'} is better): {listed}."
        )
    draws = [teacher_draws(corruption)] if any(teacher in comparison.subjects for teacher in TEACHERS) else []
    draws += [what_is_compared(corruption)]
    headline, notes = (
        " ".join([*sentences, answer]),
        (
            *left_out,
            *filter(None, draws),
            *real_sentences(comparison, names),
            *_notes(comparison),
        ),
    )
    return Verdict(wins, answer, headline, tally.not_won, notes, tally.groups, names)


_PROXIMAL = (
    "A proximal distance compares re-corrupted images with the measurements. It needs no clean image, but cannot "
    "detect errors in anything that all operators of the corruption hide."
)


def _deciding(comparison: Comparison) -> Column | None:
    """The Fréchet distance in pixels, to clean images if there are any: `compare` puts these first."""
    pixels = (c for c in comparison.quality if c.key.metric == "frechet" and c.key.features.startswith("pixels"))
    return next(pixels, None)


def _answer(column: Column | None) -> tuple[bool | None, str]:
    if column is None or "student" not in column.values:
        return None, "The student's pixel-space Fréchet distance was not measured, so there is no verdict."
    measured = [rival for rival in RIVALS if rival in column.values]
    if not any(teacher in measured for teacher in TEACHERS):
        return None, "No teacher was measured, so there is no verdict."
    what = column.words.title[0].lower() + column.words.title[1:]
    ahead = [rival for rival in measured if not column.beats("student", rival)]
    if ahead:
        better = " and ".join(ahead)
        return False, f"The student does not beat {better} in {what}{_close(column, ahead)}."
    teachers = [teacher for teacher in measured if teacher in TEACHERS]
    whom = "both teachers" if len(teachers) == 2 else f"{teachers[0]}, the only teacher measured"
    whom += ", and l1-edm" if "l1-edm" in measured else ""
    blind = "" if column.key.reference == "clean" else " (judged by measurements alone: no clean reference was given)"
    return True, f"The student beats {whom} in {what}{blind}{_close(column, measured)}."


def _close(column: Column, others: list[str]) -> str:
    close = [other for other in others if not column.clear("student", other)]
    if not close:
        return ""
    kinds = {column.kinds.get(subject, "") for subject in ("student", *close) if subject in column.stds}
    what = "spread over sampling seeds" if kinds == {"seeds"} else "uncertainty of the two"
    return f" (the difference from {' and '.join(close)} is within twice the {what})"


def _draws(comparison: Comparison) -> str:
    rate, speed_up = comparison.clock(RATE), comparison.clock(SPEED_UP)
    if rate is None or "student" not in rate.values:
        return "the student draws images in one network evaluation each"
    text = f"the student draws {number(rate.values['student'])} images per second, one network evaluation each"
    if speed_up is None or comparison.busy:
        return text
    needed, base = comparison.clock(EVALUATIONS), comparison.base
    takes = f", which takes {needed.cell(base)} evaluations" if needed and base in needed.values else ""
    return f"{text}, {number(speed_up.values['student'])} times as many as {base}{takes}"


def _notes(comparison: Comparison) -> list[str]:
    proximal = any(column.key.reference == "measurements" for column in comparison.quality)
    sentences = [comparison.busy, _PROXIMAL if proximal else "", *uncertainties(comparison.quality)]
    return [sentence for sentence in sentences if sentence]
