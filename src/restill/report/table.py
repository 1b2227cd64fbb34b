"""The comparison as a rich table for terminals and as Markdown, each with the sentence that it opens with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..metrics import Result
from .comparison import Column, compare
from .verdict import Verdict

BEST = "★"


def rich_table(results: Iterable[Result]) -> Table:
    """The results as a table that fits 80 columns: subjects side by side, values without their spread.

    Raises UserError as `compare`.
    """
    results = list(results)
    comparison = compare(results)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption=legend(results), caption_justify="left")
    table.add_column("")
    for subject in comparison.subjects:
        table.add_column(Text(subject.replace("-", "-\n")), justify="right", vertical="bottom", no_wrap=True)
    for column in comparison.columns:
        bare = dataclasses.replace(column, stds={})
        table.add_row(Text(heading(bare)), *(Text(*_marked(bare, subject)) for subject in comparison.subjects))
    return table


def summary(results: Sequence[Result], verdict: Verdict) -> RenderableType:
    """Headline, table, and where the student does not win, for `rich.console.Console.print`."""
    after = [Text(text) for text in (verdict.where_not, *verdict.notes) if text]
    return Group(Text(verdict.headline, style="bold"), Text(), rich_table(results), *after)


def markdown_table(results: Iterable[Result]) -> str:
    """The results as a Markdown table, the best of each column in bold with a star. Raises UserError as `compare`."""
    comparison = compare(results)
    rows = [["", *(heading(column) for column in comparison.columns)], ["---", *("---:" for _ in comparison.columns)]]
    for subject in comparison.subjects:
        cells = (_marked(column, subject) for column in comparison.columns)
        rows.append([subject, *(f"**{text}**" if style else text for text, style in cells)])
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows) + "\n"


def markdown_summary(results: Sequence[Result], verdict: Verdict) -> str:
    """Headline, table, and where the student does not win, as Markdown."""
    after = [text for text in (legend(results), verdict.where_not, *verdict.notes) if text]
    return "\n".join(
        [_escape(verdict.headline), "", markdown_table(results), "\n\n".join(_escape(text) for text in after), ""]
    )


def heading(column: Column) -> str:
    """The short title of a column with an arrow to the better side."""
    return f"{column.short} {'↓' if column.lower else '↑'}"


def legend(results: Iterable[Result]) -> str:
    """What the marks and short titles of the table mean."""
    comparison = compare(results)
    parts = [f"{BEST} best; ↓ lower is better, ↑ higher is better."]
    if any(column.metric == "frechet" for column in comparison.quality):
        parts.append("Fréchet: squared distance to the clean images in the named features.")
    parts += [f"{column.title}." for column in comparison.speed if column.short in ("Seconds", "Speed-up")]
    return " ".join(parts)


def _marked(column: Column, subject: str) -> tuple[str, str]:
    """Text of a cell and its style: the best of a column is bold and has a star."""
    best = subject in column.best
    return (f"{column.cell(subject)} {BEST}", "bold") if best else (column.cell(subject), "")


def _escape(text: str) -> str:
    """Names of features come from outside: they must not end a cell or a row, or start a tag."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
