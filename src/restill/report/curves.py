"""The course of training: a curve for each stage and quantity of a log, and the duration of each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from markupsafe import Markup

from .figures import Plot, line_svg

_AXES = ("images", "step")
_NOT_CURVES = frozenset({*_AXES, "epoch", "seconds", "time", "seed", "grad_norm", "fake_grad_norm", "lr"})
_SPREAD = "_std"  # a quantity of this name is the half-width of a band around another one
_WORDS = {
    "loss": "loss",
    "score_gap": "score gap",
    "proximal_frechet": "proximal Fréchet distance",
    "fake_loss": "loss of the fake score",
    "images_per_second": "images per second",
}
_SENTENCES = {  # of a quantity, or of a quantity of one stage
    "teacher loss": "Should fall, then level off. The noise cannot be predicted, so the loss stays above zero.",
    "student loss": "The SiD loss is negative when distillation works. Only its gradient is meaningful: look at "
    "the score gap.",
    "score_gap": "Distance between the denoised images of the teacher and the fake score. Should fall, then level off.",
    "proximal_frechet": "Distance between the re-corrupted images of the student and the measurements. Lower is "
    "better; the student with the smallest value is kept.",
    "fake_loss": "The denoising loss of the fake score on re-corrupted generated images.",
    "images_per_second": "The speed of training, not of sampling, on this machine.",
}
_PAUSE_SECONDS = 60.0


@dataclass
class _Series:
    points: list[tuple[float, float]]
    spreads: list[float]


def log_curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Plot, ...]:
    """Curves over images seen (over steps where images were not logged), stage by stage, in the order of the log.

    Args:
        rows: of `log.jsonl`: numbers by name, `stage` (a word; optional), `images` or `step`. Every numeric quantity
            becomes a curve, except those that describe the optimiser; `NAME_std` becomes a band around `NAME`. A
            quantity may be absent from some rows, and NaN.
    """
    found = _series(rows)
    stages, names = list(dict.fromkeys(key[0] for key in found)), list(_WORDS)

    def place(key: tuple[str, str, str]) -> tuple[int, int]:
        return stages.index(key[0]), names.index(key[1]) if key[1] in names else len(names)

    drawn = (_curve(number, key, found[key]) for number, key in enumerate(sorted(found, key=place)))
    return tuple(curve for curve in drawn if curve is not None)


def overlay(logs: Mapping[str, Sequence[Mapping[str, Any]]], stage: str, name: str) -> Plot | None:
    """One quantity of one stage of several runs in one plot, by label; None where no run has two points of it."""
    found = {label: _series(rows).get((stage, name, "images")) for label, rows in logs.items()}
    kept = {label: line for label, line in found.items() if line is not None and _finite(line.points)}
    if not any(len(line.points) > 1 for line in kept.values()):
        return None
    svg = _svg(kept, "images seen", _words(name), f"overlay-{stage}-{name}")
    title = f"{stage}: {_words(name)}"
    ends = "; ".join(f"{label} ends at {line.points[-1][1]:.3g}" for label, line in kept.items())
    return Plot(title, svg, f"{title}. {ends}", _sentence(stage, name))


def stage_times(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How long each stage took, from its first row to its last (`time`, ISO 8601), and what it did meanwhile, in words.

    Pauses of more than a minute, in which a run was interrupted, are reported but not subtracted.
    """
    moments: dict[str, list[datetime]] = {}
    images: dict[str, float] = {}
    for row in rows:
        stage, moment = str(row.get("stage", "")), _moment(row.get("time"))
        if stage and moment is not None:
            moments.setdefault(stage, []).append(moment)
            images[stage] = max(images.get(stage, 0.0), row["images"] if _is_number(row.get("images")) else 0.0)
    return {stage: _took(times, images[stage]) for stage, times in moments.items() if len(times) > 1}


def duration(seconds: float) -> str:
    """`45 s`, `2 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _took(times: Sequence[datetime], images: float) -> str:
    ordered = sorted(times)
    total = (ordered[-1] - ordered[0]).total_seconds()
    gaps = [(b - a).total_seconds() for a, b in pairwise(ordered)]
    usual = median(gaps)
    pauses = [gap for gap in gaps if gap > max(_PAUSE_SECONDS, 10 * usual)]
    seen = f" for {images:,.0f} images" if images else ""
    paused = f", including {duration(sum(pauses))} of gaps in the log, e.g. from an interruption" if pauses else ""
    return f"{duration(total)}{seen}{paused}"


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], _Series]:
    """Points by stage, name and axis."""
    found: dict[tuple[str, str, str], _Series] = {}
    for row in rows:
        axis = next((name for name in _AXES if _is_number(row.get(name))), None)
        if axis is None:
            continue  # a row that is no step of training, e.g. versions
        for name, value in row.items():
            if name in _NOT_CURVES or not _is_number(value):
                continue
            if name.endswith(_SPREAD) and name.removesuffix(_SPREAD) in row:
                continue
            series = found.setdefault((str(row.get("stage", "")), name, axis), _Series([], []))
            series.points.append((float(row[axis]), float(value)))
            spread = row.get(name + _SPREAD)
            series.spreads.append(float(spread) if spread is not None and _is_number(spread) else 0.0)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _finite(points: Sequence[tuple[float, float]]) -> list[float]:
    return [y for _, y in points if math.isfinite(y)]


def _svg(lines: Mapping[str, _Series], x_label: str, y_label: str, name: str) -> Markup:
    """Lines by label, with bands where they have spreads; logarithmic where that shows the values better."""
    points = {label: line.points for label, line in lines.items()}
    spreads = {label: line.spreads for label, line in lines.items() if any(line.spreads)}
    values = [y for line in lines.values() for y in _finite(line.points)]
    wide = min(values) > 0 and max(values) > 30 * min(values)
    return line_svg(points, x_label, y_label, name, wide, spreads)


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _sentence(stage: str, name: str) -> str:
    return _SENTENCES.get(f"{stage} {name}", _SENTENCES.get(name, ""))


def _curve(number: int, key: tuple[str, str, str], series: _Series) -> Plot | None:
    stage, name, axis = key
    finite = _finite(series.points)
    if len(series.points) < 2 or not finite:
        return None
    words = _words(name)
    title = f"{stage}: {words}" if stage else words
    svg = _svg({words: series}, "images seen" if axis == "images" else axis, words, f"curve-{number}")
    bounds = f"from {min(finite):.3g} to {max(finite):.3g}; the last is {series.points[-1][1]:.3g}"
    band, more = ("; the band is ± its uncertainty", " The band is ± the uncertainty of each value.")
    if not any(series.spreads):
        band = more = ""
    description = f"{title}, {len(series.points):,} logged values {bounds}{band}"
    return Plot(title, svg, description, _sentence(stage, name) + more)
