"""Numbers that stand for missing values, such as -99999 or 65535: a few identical values far from all others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError

_MOST = 3  # such numbers at each end
_FEWEST = 16  # distinct values; of fewer, as in masks or drawings, nothing can be said


def check_sentinels(values: NDArray[Any], name: str, remedy: str) -> None:
    """That no extreme value is repeated and further from all others than these are from each other.

    Noise and saturation do not look like this: values next to the extreme one are taken, too.

    Args:
        values: of many images, `[n]`, finite; sorted in place, which needs no more memory.
        name: of the file or folder, for messages.
        remedy: what would be right.

    Raises:
        UserError: there is one; says which, and how many values it has.
    """
    values.sort()
    if len(_steps(values, _FEWEST)) <= _FEWEST:
        return
    lowest, highest = _steps(values, _MOST + 1), _steps(-values[::-1], _MOST + 1)
    main = values[lowest[_MOST] : len(values) - highest[_MOST]]
    spread = float(main[-1]) - float(main[0])
    for ends, ordered in ((lowest, values), (highest, values[::-1])):
        found = np.array([float(ordered[start]) for start in ends[:-1]])
        apart = np.flatnonzero(np.abs(np.diff(found)) > spread)
        if len(apart) and min(np.diff(ends[: apart[-1] + 2])) > 1:
            marks, count = found[: apart[-1] + 1], ends[apart[-1] + 1]
            others = np.sort(ordered[[count, -1]])
            share = f"{count / len(values):.1%}" if count / len(values) > 5e-4 else f"{count / len(values):.2g}"
            raise UserError(
                f"{name}: {share} of the values are exactly {' or '.join(f'{mark:.10g}' for mark in marks)}, far from "
                f"all others ({others[0]:.6g} to {others[-1]:.6g}): missing? {remedy}"
            )


def _steps(ordered: NDArray[Any], most: int) -> list[int]:
    """Where the first `most` distinct values of a sorted array begin, and where the next one would."""
    starts = [0]
    while len(starts) <= most and starts[-1] < len(ordered):
        starts.append(int(np.searchsorted(ordered, ordered[starts[-1]], "right")))
    return starts
