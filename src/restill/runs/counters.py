"""How far a training is, as the header of its state says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint import load_state_data
from ..core.reading import understood


class Counters(NamedTuple):
    """What `state.safetensors` says beside its tensors.

    Attributes:
        step: optimiser steps done.
        steps: of the whole training.
        best: of a student that has been measured, `step` and `proximal_frechet` of the best; else empty.
    """

    step: int
    steps: int
    best: dict[str, Any]


def load_counters(path: Path) -> Counters:
    """The counters of a training state. Raises UserError, which names the file, where it has none."""
    data = load_state_data(path)
    with understood(path, "a state of a training"):
        best = data.get("best") or {}
        if best:
            _check("best.step", best["step"], int)
            _check("best.proximal_frechet", best["proximal_frechet"], (int, float))
        for key in ("step", "steps"):
            _check(key, data[key], int)
        return Counters(data["step"], data["steps"], best)


def _check(key: str, value: object, kind: type | tuple[type, ...]) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{key} is {type(value).__name__}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{key} is below 0")
