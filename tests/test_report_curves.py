"""Curves, bands, points and histograms show the numbers that they were given; times come from the clock of the log."""

from __future__ import annotations

import math
import re

import pytest

from restill.report import line_svg
from restill.report.curves import duration, log_curves, overlay, stage_times
from restill.report.figures import histogram_svg, scatter_svg

ROWS = [
    *({"stage": "teacher", "step": k, "images": 64 * k, "loss": 100 / k, "grad_norm": 1.0} for k in range(1, 40)),
    *({"stage": "student", "step": k, "images": 64 * k, "loss": math.nan if k == 3 else -1.0 * k} for k in range(30)),
    *({"stage": "student", "images": 64 * k, "images_per_second": 5.0 + k} for k in range(3)),
    {"stage": "student", "step": 0, "images": 0, "proximal_frechet": 2.0, "proximal_frechet_std": 0.5},
    {"stage": "student", "step": 9, "images": 576, "proximal_frechet": 1.0, "proximal_frechet_std": 0.1},
    {"event": "resumed"},
]


def test_curves_of_a_log() -> None:
    curves = {curve.title: curve for curve in log_curves(ROWS)}
    assert list(curves) == [
        "teacher: loss",
        "student: loss",
        "student: proximal Fréchet distance",
        "student: images per second",
    ]
    proximal = curves["student: proximal Fréchet distance"]
    assert "from 1 to 2; the last is 1; the band" in proximal.description and "The band is ±" in proximal.sentence
    assert "negative when distillation works" in curves["student: loss"].sentence
    assert "negative" not in curves["teacher: loss"].sentence
    assert "step" in log_curves([{"step": k, "loss": k} for k in range(3)])[0].svg
    assert log_curves([]) == log_curves([{"event": "start"}]) == ()
    long = log_curves([{"step": k, "loss": k} for k in range(100_000)])[0].svg
    assert len(long) < 40_000


def test_a_band_reaches_as_far_as_the_spread() -> None:
    svg = line_svg({"a": [(0.0, 1.0), (1.0, 3.0)]}, "x", "y", "n", spreads={"a": [0.0, 1.0]})
    band = re.search(r'FillBetween.*? d="([^"]*)"', svg, re.DOTALL)
    line = re.search(r'd="M ([\d.]+) ([\d.]+) \s*L ([\d.]+) ([\d.]+) \s*"[^>]*stroke: #4c8dd6', svg)
    assert band is not None and line is not None
    corners = [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", band[1])]
    heights = [[y for x, y in corners if x == float(side)] for side in (line[1], line[3])]
    unit = (float(line[2]) - float(line[4])) / 2  # two units of y lie between the points; SVG counts downwards
    assert unit > 10
    assert [max(ys) - min(ys) for ys in heights] == pytest.approx([0.0, 2 * unit], abs=1e-3)
    assert "fill-opacity" not in line_svg({"a": [(0.0, 1.0), (1.0, 3.0)]}, "x", "y", "n")


def test_points_and_bars() -> None:
    svg = scatter_svg({"one": (1.0, 2.0), "two": (3.0, 1.0)}, {"one": (0.5, 0.0)}, "proximal", "clean", "s")
    assert all(f">{name}</text>" in svg for name in ("one", "two", "proximal", "clean"))
    bars = [svg.count("#4c8dd6") for svg in (histogram_svg(v, "x", "h") for v in ([1.0, 1.0, 2.0], [1.0, 2.0, 5.0]))]
    assert bars == [2, 3]
    many = histogram_svg([k / 100 for k in range(1000)], "x", "h")
    assert many.count("#4c8dd6") == 20


def test_curves_of_several_runs_in_one_plot() -> None:
    logs = {"a": ROWS, "b & c": ROWS, "none": [{"event": "resumed"}]}
    curve = overlay(logs, "student", "proximal_frechet")
    assert curve is not None
    assert ">a</text>" in curve.svg and ">b &amp; c</text>" in curve.svg and ">none</text>" not in curve.svg
    assert "a ends at 1; b & c ends at 1" in curve.description
    assert overlay(logs, "student", "score_gap") is None


def test_times_of_stages() -> None:
    def row(stage: str, clock: str, images: int = 0) -> dict[str, object]:
        return {"stage": stage, "images": images, "time": f"2026-01-0{clock}+00:00"}

    rows = [row("teacher", f"1T00:0{k}:00", 100 * k) for k in range(5)]
    rows += [row("student", "1T01:00:00"), row("student", "1T01:00:30"), row("student", "1T01:01:00")]
    rows += [row("student", "2T01:01:00"), row("student", "2T01:01:30", 2000), {"event": "x", "time": "now"}]
    rows += [{"stage": "other", "time": "never"}, row("once", "1T00:00:00")]
    times = stage_times(rows)
    assert times == {
        "teacher": "4 min 00 s for 400 images",
        "student": "1 d 0 h for 2,000 images, including 1 d 0 h of gaps in the log, e.g. from an interruption",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.4, "59 min 59 s"), (7500, "2 h 05 min"), (1e5, "1 d 3 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
