"""What is shown while work is done."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from restill.core import progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=stream, width=200))
    return stream


def test_a_log_file_gets_a_line_now_and_then(shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress_bar("teacher", 1000, every_s=10, done=400) as advance:
        for _ in range(25):
            clock[0] += 1
            advance(done=20, note="[loss] 1")
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2  # after 10 and after 20 of 25 seconds
    # what was done before the interruption counts as done, but not into the rate
    assert re.fullmatch(r"teacher: 600/1,000 images, 20/s, 20 s left +\[loss\] 1", lines[0])
    assert lines[1].startswith("teacher: 800/1,000 images, 20/s, 10 s left")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=stream, force_terminal=True, width=100))
    with progress.progress_bar("student", 200, done=100) as advance:
        advance(done=50, note="score gap 2")
    assert "student" in stream.getvalue() and "75%" in stream.getvalue() and "score gap 2" in stream.getvalue()


def test_nothing_is_shown_of_quick_work(shown: io.StringIO) -> None:
    with progress.progress_bar("store", 10) as advance:
        advance(done=10)
    progress.silent(done=3, note="x")
    assert shown.getvalue() == ""
