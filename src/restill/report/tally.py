"""In how many metrics the student is ahead of every other generator, and in which it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparison import Column, Comparison, group_name

TEACHERS = ("teacher-full", "teacher-truncated")
RIVALS = (*TEACHERS, "teacher-refined", "l1-edm")


@dataclass(frozen=True)
class Tally:
    """The student against the best of the other generators, metric by metric.

    Attributes:
        ahead: columns in which the student is strictly better than every other generator.
        close: those of them in which it is ahead of one by at most twice the uncertainty.
        tied: columns in which another is as good, and none is better.
        lost: columns in which another is better.
        groups: columns that are tied or lost by their short names, a phrase for each reference and feature space.
    """

    ahead: tuple[Column, ...]
    close: tuple[Column, ...]
    tied: tuple[Column, ...]
    lost: tuple[Column, ...]
    groups: tuple[str, ...]

    @property
    def not_won(self) -> tuple[str, ...]:
        """Columns that are tied or lost, with the numbers of the student and of who is as good or better."""
        return tuple(_with_numbers(column) for column in (*self.lost, *self.tied))

    @property
    def sentence(self) -> str:
        """The losses by name, and how many of all metrics the student leads; empty for fewer than two metrics."""
        lost, tied, ahead = len(self.lost), len(self.tied), len(self.ahead)
        total = lost + tied + ahead
        if total < 2:
            return ""
        near = f", in {len(self.close)} of them by at most twice the uncertainty" if self.close else ""
        if ahead == total:
            return f"The student is ahead in all {total} metrics{near}."
        parts = [f"loses in {lost}"] if lost else []
        parts += [f"ties in {tied}"] if tied else []
        named = f"The student {' and '.join(parts)} of {total} metrics: {'; '.join(self.groups)}."
        return f"{named} It is ahead in {ahead}{near}." if ahead else f"{named} It is ahead in none."


def tally_of(comparison: Comparison) -> Tally:
    """The tally of all columns that have the student, a rival, and a better side."""
    judged = [c for c in comparison.quality if "student" in c.values and _rivals(c) and c.words.lower is not None]
    lost = tuple(c for c in judged if any(c.beats(rival, "student") for rival in _rivals(c)))
    tied = tuple(c for c in judged if c not in lost and not all(c.beats("student", rival) for rival in _rivals(c)))
    ahead = tuple(c for c in judged if c not in lost and c not in tied)
    close = tuple(c for c in ahead if not all(c.clear("student", rival) for rival in _rivals(c)))
    phrases = (
        f"{group_name(block, features)} ({', '.join(column.words.short for column in named)})"
        for block in comparison.blocks
        for features, columns in block.spaces
        if (named := [column for column in columns if column in lost or column in tied])
    )
    return Tally(ahead, close, tied, lost, tuple(phrases))


def _rivals(column: Column) -> list[str]:
    return [rival for rival in RIVALS if rival in column.values]


def _with_numbers(column: Column) -> str:
    """The column in words with the student and every generator that is as good or better."""
    cells: Sequence[str] = [
        f"{name} {column.cell(name)}"
        for name in ("student", *_rivals(column))
        if name == "student" or not column.beats("student", name)
    ]
    return f"{column.words.title} ({', '.join(cells)})"
