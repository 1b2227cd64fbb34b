"""The comparison as a table for terminals, with the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..metrics import Result
from .comparison import RATE, Column, Comparison, compare, group_name
from .protocol import separate
from .real import real_table
from .verdict import Verdict

BEST = "★"
_LABEL = 26  # columns of the terminal for the names of metrics; with four subjects this stays within 80


def rich_table(results: Sequence[Result], names: Mapping[str, str]) -> Table:
    """The results as a table that fits 80 columns: subjects side by side, values without their spread.

    Metrics stand below each other, grouped by what they compare with and in which features. Results that do not
    compare are left out, as `judge` says in its notes.

    Args:
        names: what subjects are called, where that is not their name in the results (`Verdict.names`).

    Raises:
        UserError: no results, or two of one subject.
    """
    comparison = compare(separate(results)[0])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption=legend(comparison), caption_justify="left")
    table.add_column("", max_width=_LABEL, overflow="fold")
    for subject in comparison.subjects:
        title = Text(names.get(subject, subject).replace("-", "-\n"))
        table.add_column(title, justify="right", vertical="bottom", no_wrap=True)
    for block in comparison.blocks:
        for name, columns in block.spaces:
            table.add_section()
            table.add_row(Text(group_name(block, name), style="italic"))
            for column in columns:
                cells = (_cell(column, subject) for subject in comparison.subjects)
                table.add_row(Text(f"  {column.heading}"), *cells)
    return table


def _cell(column: Column, subject: str) -> Text:
    """A value without its spread; the best of a column is bold and has a star."""
    text = column.cell(subject, spread=False)
    return Text(f"{text} {BEST}", style="bold") if subject in column.best else Text(text)


def summary(results: Sequence[Result], verdict: Verdict) -> RenderableType:
    """Headline, table, and where the student does not win, for `rich.console.Console.print`."""
    after = [Text(text) for text in (verdict.where_not, *verdict.notes) if text]
    halves = real_table(compare(separate(results)[0]), verdict.names, _LABEL)
    tables = [rich_table(results, verdict.names), *([] if halves is None else [halves])]
    return Group(Text(verdict.headline, style="bold"), Text(), *tables, *after)


def legend(comparison: Comparison) -> str:
    """What the marks and short titles of the table mean."""
    parts = [f"{BEST} best, however small the lead; ↓ lower is better, ↑ higher is better."]
    if any(column.key.metric == "frechet" for column in comparison.quality):
        parts.append("Fréchet: squared distance in the named features.")
    parts += [f"{column.words.title}." for column in comparison.speed if column.words.short != RATE or column.stds]
    return " ".join(parts)
