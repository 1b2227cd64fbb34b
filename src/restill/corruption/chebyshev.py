"""Linear equations by a polynomial of fixed degree: linear and self-adjoint itself, so that gradients go through it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def chebyshev(apply: Callable[[Tensor], Tensor], b: Tensor, kappa: Tensor, steps: int) -> Tensor:
    r"""About :math:`(1 - \kappa G)^{-1} b`, for a self-adjoint `G` with eigenvalues in [0, 1].

    The error of each eigenvector is at most :math:`1 / T_n((2 - \kappa) / |\kappa|)` of it, with `n` the steps and
    `T_n` the Chebyshev polynomial: less than all of it, so that the polynomial is positive.

    Args:
        apply: `G`.
        b: `[n, ...]`.
        kappa: below 1, `[n, 1, ...]`.
        steps: degree of the polynomial, plus one.

    Source: Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd edition, algorithm 12.1.
    """
    middle = 1 - kappa / 2
    half = (kappa.abs() / 2).clamp_min(1e-6)
    ratio = middle / half
    rho = 1 / ratio
    step = b / middle
    x = step
    residual = b - (step - kappa * apply(step))
    for k in range(steps - 1):
        following = 1 / (2 * ratio - rho)
        step = following * rho * step + 2 * following / half * residual
        x = x + step
        if k < steps - 2:
            residual = residual - (step - kappa * apply(step))
        rho = following
    return x
