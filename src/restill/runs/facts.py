"""Names and values as a table without lines, as `restill info` shows them."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text


def facts_table(title: str, facts: Mapping[str, str]) -> Table:
    """A table of a title and one line for each fact."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table
