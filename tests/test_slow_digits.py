"""The demonstration's claim, on three seeds: the student beats both teachers in pixel-space Frechet distance."""

from __future__ import annotations

from pathlib import Path

import pytest

from restill import run


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_student_beats_both_teachers(tmp_path: Path, seed: int) -> None:
    results, verdict = run("digits-noise", tmp_path / "run", [f"seed={seed}"])
    pixels = {r.subject: r.value for r in results if r.reference == "clean" and r.features == "pixels"}
    assert pixels["student"] < pixels["teacher-truncated"] < pixels["measurements"]
    assert pixels["student"] < pixels["teacher-full"] < pixels["measurements"]
    assert verdict.wins
    assert (tmp_path / "run" / "report.html").is_file()
