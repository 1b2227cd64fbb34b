"""Progress with rate and remaining time: a live bar in a terminal, a line every few seconds in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from . import interruption
from .terminal import console as new_console
from .terminal import visible

console = new_console(stderr=True)
Advance = Callable[..., None]


def silent(done: int = 0, note: str = "") -> None:
    """An `Advance` that shows nothing."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "")


@contextmanager
def progress_bar(
    description: str, total: int, unit: str = "images", every_s: float = 10.0, done: int = 0, explain: str = ""
) -> Iterator[Advance]:
    """Show progress; yields `advance(done=n, note="...")`, which the caller calls as the work proceeds.

    A terminal shows a live bar. A log file gets one line every `every_s` seconds, so that it stays short.

    Args:
        done: units that an interrupted process had finished before; they do not count towards the rate.
        explain: a sentence on what the notes mean, printed once above the bar or before the first line.
    """
    interruption.work_begins()  # a bar hides the cursor, which must come back
    if console.is_terminal:
        _say(explain)
        with _bar() as bar:
            task = bar.add_task(description, total=total, completed=done, unit=unit, note="")

            def advance(done: int = 0, note: str | None = None) -> None:
                bar.advance(task, done)
                if note is not None:
                    bar.update(task, note=note)

            yield advance
        return
    lines = _Lines(description, total, unit, every_s, done, explain)
    yield lines


def _say(text: str) -> None:
    if text:
        console.print(visible(text), soft_wrap=True, markup=False, highlight=False)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console)


class _Lines:
    """Progress for a log file."""

    def __init__(self, description: str, total: int, unit: str, every_s: float, done: int, explain: str) -> None:
        self.description, self.total, self.unit, self.every_s = description, total, unit, every_s
        self.done, self.before, self.note, self.explain = done, done, "", explain
        self.start = self.shown = time.monotonic()

    def __call__(self, done: int = 0, note: str | None = None) -> None:
        self.done += done
        self.note = self.note if note is None else note
        now = time.monotonic()
        if now - self.shown >= self.every_s:
            self.shown = now
            rate = (self.done - self.before) / (now - self.start)
            left = f"{(self.total - self.done) / rate:,.0f} s left" if rate else ""
            text = f"{self.description}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f}/s, {left}  {self.note}"
            _say(self.explain)
            self.explain = ""
            _say(text)
