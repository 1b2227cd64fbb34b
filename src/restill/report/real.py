"""Real images against real images: what a perfect generator would score, and how far each subject is from that."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from .comparison import Column, Comparison, blocks_of, group_name, number

REAL, BEYOND = "real", "▲"
_NO_MERIT = (
    "smooth or typical images score that in precision, density and coverage, noisy ones in recall, copies in all"
)
LEGEND = (
    "Real: one half of the reference against the other. Of the others the difference from that, measured against the "
    f"same half with as many images; {BEYOND} better than real images by more than twice the uncertainty, which is no "
    f"merit: {_NO_MERIT}."
)


def distance(column: Column, subject: str) -> str:
    """How far a subject is from real images, with its sign; a dash where that was not measured."""
    if subject not in column.values or REAL not in column.values:
        return "–"
    difference = column.values[subject] - column.values[REAL]
    mark = f" {BEYOND}" if beyond(column, subject) else ""
    return f"{'−' if difference < 0 else '+'}{number(abs(difference))}{mark}"


def beyond(column: Column, subject: str) -> bool:
    """Whether a subject is clearly better than real images, which no generator of real images would be."""
    known = subject in column.values and REAL in column.values
    return known and column.beats(subject, REAL) and column.clear(subject, REAL)


def nearest(column: Column) -> frozenset[str]:
    """The subjects that are nearest to real images."""
    if REAL not in column.values:
        return frozenset()
    gaps = {name: abs(value - column.values[REAL]) for name, value in column.values.items() if name != REAL}
    return frozenset(name for name, gap in gaps.items() if len(gaps) > 1 and gap == min(gaps.values()))


def real_sentences(comparison: Comparison, names: Mapping[str, str]) -> tuple[str, ...]:
    """What real images score in the column that decides, how far each subject is from it, and what goes beyond it."""
    found = []
    for block in blocks_of(comparison.real):
        columns = [column for _, same in block.spaces for column in same if REAL in column.values]
        subjects = [name for name in block.subjects if name != REAL]
        for column in columns:
            if column.key.metric == "frechet" and column.key.features.startswith("pixels"):
                far = ", ".join(f"{names.get(s, s)} {distance(column, s)}" for s in subjects if s in column.values)
                found.append(f"{column.words.title}: real images are at {column.cell(REAL)}; from there {far}.")
        better = {s: [_short(c) for c in columns if beyond(c, s)] for s in subjects}
        listed = "; ".join(f"{names.get(s, s)} in {', '.join(metrics)}" for s, metrics in better.items() if metrics)
        if listed:
            where = group_name(block, "")
            found.append(f"Better than real images, {where}: {listed}. That is no merit: {_NO_MERIT}.")
    return tuple(found)


def _short(column: Column) -> str:
    """A metric with its feature space in a few words."""
    return f"{column.words.short} ({column.key.features})"


def real_table(comparison: Comparison, names: Mapping[str, str], label: int) -> Table | None:
    """The distances as a table that fits 80 columns; None where nothing was measured.

    Args:
        label: columns of the terminal for the names of metrics.
    """
    blocks = blocks_of(comparison.real)
    if not blocks:
        return None
    subjects = [name for name in comparison.subjects if any(name in column.values for column in comparison.real)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption=LEGEND, caption_justify="left")
    table.add_column("from real images", max_width=label, overflow="fold")
    table.add_column(REAL, justify="right", vertical="bottom", no_wrap=True)
    for subject in subjects:
        title = Text(names.get(subject, subject).replace("-", "-\n"))
        table.add_column(title, justify="right", vertical="bottom", no_wrap=True)
    for block in blocks:
        for features, columns in block.spaces:
            table.add_section()
            table.add_row(Text(group_name(block, features), style="italic"))
            for column in columns:
                cells = (Text(distance(column, s), style="bold" if s in nearest(column) else "") for s in subjects)
                table.add_row(Text(f"  {column.heading}"), column.cell(REAL, spread=False), *cells)
    return table
