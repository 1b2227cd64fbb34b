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
        values: of many images, `[n]`, finite.
        name: of the file or folder, for messages.
        remedy: what would be right.

    Raises:
        UserError: there is one; says which, and how many values it has.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < _FEWEST:
        return
    spread = float(distinct[-1 - _MOST]) - float(distinct[_MOST])
    for end, many in ((distinct[: _MOST + 1], counts), (distinct[::-1][: _MOST + 1], counts[::-1])):
        gaps = np.abs(np.diff(end.astype(np.float64)))
        apart = np.flatnonzero((gaps > spread) & (gaps > 0))
        if len(apart) and bool((many[: apart[-1] + 1] > 1).all()):
            far = end[: apart[-1] + 1]
            share = float(many[: len(far)].sum()) / len(values)
            rest = distinct[(distinct != far[:, None]).all(0)]
            part = f"{share:.1%}" if share > 5e-4 else f"{share:.2g}"
            raise UserError(
                f"{name}: {part} of the values are exactly {' or '.join(f'{value:.10g}' for value in far)}, far from "
                f"all others ({rest[0]:.6g} to {rest[-1]:.6g}): missing? {remedy}"
            )
