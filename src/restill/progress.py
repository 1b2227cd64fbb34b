"""Progress bars with rate and remaining time: live in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True)
Advance = Callable[..., None]


def silent(done: int = 0, note: str = "") -> None:
    """The `Advance` of a caller who wants no progress shown."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "")


@contextmanager
def progress_bar(description: str, total: int, unit: str = "images", every_s: float = 10.0) -> Iterator[Advance]:
    """Show progress; yields `advance(done=n, note="...")`, to be called as work is done.

    In a terminal a bar with rate and remaining time; elsewhere one line every `every_s` seconds: logs stay short.
    """
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(
            *columns, _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console
        ) as bar:
            task = bar.add_task(description, total=total, unit=unit, note="")

            def advance(done: int = 0, note: str | None = None) -> None:
                bar.update(task, advance=done, **({} if note is None else {"note": note}))

            yield advance
        return
    state = {"done": 0, "note": "", "shown": time.monotonic(), "start": time.monotonic()}

    def advance_line(done: int = 0, note: str | None = None) -> None:
        state["done"] += done
        state["note"] = state["note"] if note is None else note
        if time.monotonic() - state["shown"] >= every_s:
            state["shown"] = time.monotonic()
            rate = state["done"] / (state["shown"] - state["start"])
            left = (total - state["done"]) / rate if rate else float("nan")
            console.print(
                f"{description}: {state['done']:,}/{total:,} {unit}, {rate:,.0f}/s, "
                f"{left:,.0f} s left  {state['note']}",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )

    yield advance_line
