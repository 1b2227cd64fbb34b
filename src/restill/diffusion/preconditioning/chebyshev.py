"""Inverse and inverse root of a self-adjoint map by polynomials of fixed degree.

So both are linear and self-adjoint themselves: closed forms hold, and gradients go through them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from torch import Tensor

Map = Callable[[Tensor], Tensor]
Polynomial = Callable[[Map, Tensor, float, int], Tensor]


def inverse(apply: Map, b: Tensor, low: float, steps: int) -> Tensor:
    r"""About :math:`T^{-1} b` for `T` with eigenvalues in (0, 1]; exact where they are 1.

    Where an eigenvalue is `t` at least `low`, the error is at most :math:`(1 - t) / T_{steps}((1 + low)/(1 - low))`
    of the result, with the Chebyshev polynomial; below `low`, less than all of it.

    Args:
        apply: `T`.
        b: `[n, ...]`.
        low: between 0 and 1.
        steps: how often `T` is applied, at least 1.

    Source: Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd edition, algorithm 12.1, after one step of
    Richardson's iteration.
    """
    middle, half = (1 + low) / 2, (1 - low) / 2
    ratio = middle / half
    rho = 1 / ratio
    residual = b - apply(b)
    step = residual / middle
    x = b + step
    for _ in range(steps - 1):
        residual = residual - apply(step)
        following = 1 / (2 * ratio - rho)
        step = following * rho * step + 2 * following / half * residual
        rho = following
        x = x + step
    return x


def inverse_root(apply: Map, b: Tensor, low: float, steps: int) -> Tensor:
    r"""About :math:`T^{-1/2} b`, as `inverse`: :math:`t^{-1/2}` interpolated at the Chebyshev nodes of `[low, 1]`."""
    coefficients = _interpolation(low, steps)

    def scaled(x: Tensor) -> Tensor:
        return (2 * apply(x) - (1 + low) * x) / (1 - low)

    before, last = b, scaled(b)
    total = coefficients[0] * before + coefficients[1] * last
    for coefficient in coefficients[2:]:
        before, last = last, 2 * scaled(last) - before
        total = total + coefficient * last
    return total


@functools.lru_cache
def _interpolation(low: float, steps: int) -> tuple[float, ...]:
    nodes = np.polynomial.chebyshev.chebpts1(steps + 1)
    found = np.polynomial.chebyshev.chebfit(nodes, ((1 + low) / 2 + (1 - low) / 2 * nodes) ** -0.5, steps)
    return tuple(float(value) for value in found)
