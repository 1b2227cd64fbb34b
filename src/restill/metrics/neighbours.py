r"""Nearest neighbours between two sets of vectors, exact for duplicates and within bounded memory.

Distances come from one matrix product per block of rows, :math:`|a - b|^2 = |a|^2 - 2 a \cdot b + |b|^2`. That form
loses digits where vectors are close compared with their length, so the mean is taken away first, and the product only
proposes a few more candidates than were asked for: the distances that are returned, and their order, come from
differences in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import wide_dtype

_SPARE = 4  # candidates beyond k, for neighbours whose order the matrix product cannot tell
_BLOCK = 1 << 23  # numbers in the largest intermediate tensor


def nearest(a: Tensor, b: Tensor, k: int, exclude_self: bool = False) -> tuple[Tensor, Tensor]:
    """The `k` nearest rows of `b` for every row of `a`, by Euclidean distance.

    The search runs in the dtype of the inputs (at least float32). In float32, neighbours nearer than about 1e-3 of the
    spread of the vectors can be taken for each other where more than `k + 4` are that near; use float64 to tell them.

    Args:
        a: vectors `[n, d]`, real.
        b: vectors `[m, d]`, on the same device.
        k: number of neighbours, 1 to m (m - 1 with `exclude_self`).
        exclude_self: `a` and `b` are one set, and no row is a neighbour of itself; its duplicates are, at distance 0.

    Returns:
        Distances float64 `[n, k]` in ascending order (float32 on mps), and the rows of `b`, int64 `[n, k]`; among equal
        distances the lower row comes first.

    Raises:
        UserError: shapes that do not match, fewer than `k` candidates, or values that are not finite.
    """
    _check(a, b, k, exclude_self)
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    mean = b.mean(dim=0, dtype=wide_dtype(b.device))
    centred = (b - mean).to(dtype)
    rows = max(1, _BLOCK // max(len(b), (k + _SPARE) * b.shape[1]))
    squares = centred.square().sum(dim=1)
    distances: list[Tensor] = []
    indices: list[Tensor] = []
    for start in range(0, len(a), rows):
        chunk = a[start : start + rows]
        squared = torch.addmm(squares, (chunk - mean).to(dtype), centred.T, alpha=-2)  # less |a|^2, alike in a row
        if exclude_self:
            own = torch.arange(len(chunk), device=a.device)
            squared[own, start + own] = torch.inf
        found = squared.topk(min(k + _SPARE, len(b) - exclude_self), largest=False, sorted=False).indices
        for values, kept in zip((distances, indices), _ordered(chunk, b, found, k), strict=True):
            values.append(kept)
    return torch.cat(distances), torch.cat(indices)


def _ordered(a: Tensor, b: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` nearest of the candidates `[n, c]` for every row of `a`, from differences."""
    candidates = candidates.sort(dim=1).values
    wide = wide_dtype(a.device)
    exact = (a.to(wide)[:, None] - b[candidates].to(wide)).square().sum(dim=2).sqrt()
    distances, order = exact.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order[:, :k])


def _check(a: Tensor, b: Tensor, k: int, exclude_self: bool) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not (a.is_floating_point() and b.is_floating_point()):
        raise UserError(
            f"neighbours need two sets of vectors [n, d] with the same d, not {list(a.shape)} and {list(b.shape)}"
        )
    if exclude_self and len(a) != len(b):
        raise UserError(f"neighbours within one set need that set twice, not {len(a)} and {len(b)} vectors")
    if not 1 <= k <= len(b) - exclude_self:
        raise UserError(f"the number of neighbours must be 1 to {len(b) - exclude_self} in a set of {len(b)}, not {k}")
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise UserError("neighbours cannot be found among vectors with NaN or infinite values")
