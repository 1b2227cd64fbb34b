"""The comparison as a rich table for terminals and as Markdown, each with its opening sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..metrics import Result
from .comparison import SPEED_UP, Column, Comparison, compare, group_name
from .protocol import separate
from .verdict import Verdict

BEST = "★"
_LABEL = 26  # columns of the terminal for the names of metrics; with four subjects this stays within 80


def rich_table(results: Iterable[Result], names: Mapping[str, str] | None = None) -> Table:
    """The results as a table that fits 80 columns: subjects side by side, values without their spread.

    Metrics stand below each other, grouped by what they compare with and in which features. Results that do not
    compare are left out, as `judge` says in its notes.

    Args:
        names: what subjects are called, where that is not their name in the results (`Verdict.names`).

    Raises:
        UserError: no results, or two of one subject.
    """
    comparison = compare(separate(list(results))[0])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption=_legend(comparison), caption_justify="left")
    table.add_column("", max_width=_LABEL, overflow="fold")
    for subject in comparison.subjects:
        title = Text(_called(subject, names).replace("-", "-\n"))
        table.add_column(title, justify="right", vertical="bottom", no_wrap=True)
    for block in comparison.blocks:
        for name, columns in block.spaces:
            table.add_section()
            table.add_row(Text(group_name(block, name), style="italic"))
            for column in columns:
                bare = dataclasses.replace(column, stds={})
                cells = (Text(*_starred(bare, subject)) for subject in comparison.subjects)
                table.add_row(Text(f"  {heading(bare)}"), *cells)
    return table


def summary(results: Sequence[Result], verdict: Verdict) -> RenderableType:
    """Headline, table, and where the student does not win, for `rich.console.Console.print`."""
    after = [Text(text) for text in (verdict.where_not, *verdict.notes) if text]
    return Group(Text(verdict.headline, style="bold"), Text(), rich_table(results, verdict.names), *after)


def markdown_table(results: Iterable[Result], names: Mapping[str, str] | None = None) -> str:
    """The results as a Markdown table, a row for each metric, the best of each in bold with a star.

    Arguments and UserError as for `rich_table`.
    """
    comparison = compare(separate(list(results))[0])
    titles = [_called(subject, names) for subject in comparison.subjects]
    rows = [["", *titles], ["---", *("---:" for _ in titles)]]
    for block in comparison.blocks:
        for name, columns in block.spaces:
            for column in columns:
                cells = (_starred(column, subject) for subject in comparison.subjects)
                label = f"{heading(column)} ({group_name(block, name)})" if name else heading(column)
                rows.append([label, *(f"**{text}**" if style else text for text, style in cells)])
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows) + "\n"


def markdown_summary(results: Sequence[Result], verdict: Verdict) -> str:
    """Headline, table, and where the student does not win, as Markdown."""
    after = [text for text in (legend(results), verdict.where_not, *verdict.notes) if text]
    table = markdown_table(results, verdict.names)
    return "\n".join([_escape(verdict.headline), "", table, "\n\n".join(_escape(text) for text in after), ""])


def heading(column: Column) -> str:
    """The short title of a column with an arrow to the better side."""
    return f"{column.short} {column.arrow}".rstrip()


def legend(results: Iterable[Result]) -> str:
    """What the marks and short titles of the table mean. Raises UserError as `rich_table`."""
    return _legend(compare(separate(list(results))[0]))


def _called(subject: str, names: Mapping[str, str] | None) -> str:
    return (names or {}).get(subject, subject)


def _legend(comparison: Comparison) -> str:
    parts = [f"{BEST} best, however small the lead; ↓ lower is better, ↑ higher is better."]
    if any(column.metric == "frechet" for column in comparison.quality):
        parts.append("Fréchet: squared distance in the named features.")
    parts += [f"{column.title}." for column in comparison.speed if column.short in ("Seconds", SPEED_UP)]
    return " ".join(parts)


def _starred(column: Column, subject: str) -> tuple[str, str]:
    """Text of a cell and its style: the best of a column is bold and has a star."""
    best = subject in column.best
    return (f"{column.cell(subject)} {BEST}", "bold") if best else (column.cell(subject), "")


def _escape(text: str) -> str:
    """Names of features come from outside: they must not end a cell or a row, or start a tag."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
