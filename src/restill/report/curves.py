"""Which curves a log contains: one for each stage and quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .figures import line_svg

_AXES = ("images", "step")
_NOT_CURVES = frozenset({*_AXES, "epoch", "seconds", "time", "seed", "images_per_second", "grad_norm", "lr"})
_WORDS = {
    "loss": "loss",
    "score_gap": "score gap",
    "proximal_frechet": "proximal Fréchet distance",
}


@dataclass(frozen=True)
class Curve:
    """A plot of one quantity of one stage.

    Attributes:
        title: in words, e.g. `student: score gap`.
        svg: one `<svg>` element.
        description: range, last value and number of points, for readers who do not see the plot.
    """

    title: str
    svg: str
    description: str


def log_curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Curves over images seen (over steps where images were not logged), stage by stage, in the order of the log.

    Args:
        rows: of `log.jsonl`: numbers by name, `stage` (a word; optional), `images` or `step`. Every numeric quantity
            becomes a curve, except those that describe the machine. A quantity may be absent from some rows, and NaN.
    """
    points: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        axis = next((name for name in _AXES if _is_number(row.get(name))), None)
        if axis is None:
            continue  # a row that is no step of training, e.g. versions
        for name, value in row.items():
            if name not in _NOT_CURVES and _is_number(value):
                points.setdefault((str(row.get("stage", "")), name, axis), []).append((float(row[axis]), float(value)))
    drawn = (_curve(number, key, values) for number, (key, values) in enumerate(points.items()))
    return tuple(curve for curve in drawn if curve is not None)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _curve(number: int, key: tuple[str, str, str], points: list[tuple[float, float]]) -> Curve | None:
    stage, name, axis = key
    words = _WORDS.get(name, name.replace("_", " "))
    title = f"{stage}: {words}" if stage else words
    finite = [y for _, y in points if math.isfinite(y)]
    if len(points) < 2 or not finite:
        return None
    wide = min(finite) > 0 and max(finite) > 30 * min(finite)
    svg = line_svg({words: points}, "images seen" if axis == "images" else axis, words, f"curve-{number}", log_y=wide)
    bounds = f"from {min(finite):.3g} to {max(finite):.3g}; the last is {points[-1][1]:.3g}"
    description = f"{title}, {len(points):,} logged values {bounds}"
    return Curve(title, svg, description)
