"""Linear equations with the operators of a corruption, by polynomials."""

from __future__ import annotations

import pytest
import torch

from restill.corruption import Identity, MaskOperator, Mri
from restill.corruption.chebyshev import chebyshev

F64 = torch.float64


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
@pytest.mark.parametrize("kappa", [-3.0, 0.0, 0.5, 0.99])
def test_error_is_that_of_the_polynomial(steps: int, kappa: float) -> None:
    """On every eigenvalue of [0, 1]: the bound holds, and is reached."""
    e = torch.linspace(0, 1, 1001, dtype=F64)[None]
    b = torch.full_like(e, 2.0)
    x = chebyshev(lambda d: e * d, b, torch.tensor([[kappa]], dtype=F64), steps)
    error = (x * (1 - kappa * e) - b).abs().max() / 2
    bound = 0.0 if kappa == 0 else torch.special.chebyshev_polynomial_t(torch.tensor((2 - kappa) / abs(kappa)), steps)
    expected = 0.0 if kappa == 0 else float(1 / bound)
    assert float(error) == pytest.approx(expected, rel=2e-3, abs=1e-5)
    assert float(error) < 1


def test_the_polynomial_is_linear_and_self_adjoint() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 2, 8, 12, generator=generator, dtype=F64) for _ in range(2))
    operator = Mri(acceleration=2, acs=2, coils=3).draw(2, (2, 8, 12), generator)
    shown, missing = torch.tensor([0.01, 0.2], dtype=F64).view(2, 1, 1, 1), torch.ones(2, 1, 1, 1, dtype=F64)
    forward, backward = (operator.unscale(x, shown, missing) for x in (a, b))
    torch.testing.assert_close((forward * b).sum(), (a * backward).sum())
    torch.testing.assert_close(operator.unscale(2 * a + b, shown, missing), 2 * forward + backward)


@pytest.mark.parametrize(("coils", "ratio", "bound"), [(1, 20, 0.06), (4, 20, 0.06), (4, 100, 0.4), (8, 1, 1e-5)])
def test_unscale_inverts_scale_for_mri(coils: int, ratio: float, bound: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 2, 9, 16, generator=generator, dtype=F64)
    operator = Mri(acceleration=3, acs=2, coils=coils).draw(3, (2, 9, 16), generator)
    missing = torch.tensor([0.3, 1.0, 2.0], dtype=F64).view(3, 1, 1, 1)
    found = operator.unscale(operator.scale(x, missing / ratio, missing), missing / ratio, missing)
    assert (found - x).norm() / x.norm() < bound


def test_unscale_inverts_scale_of_projections_exactly() -> None:
    x = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    shown, missing = torch.tensor([0.01, 0.2], dtype=F64).view(2, 1, 1, 1), torch.ones(2, 1, 1, 1, dtype=F64)
    mask = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(3)) < 0.5
    for operator in (Identity(torch.zeros(2)), MaskOperator(torch.zeros(2), mask)):
        torch.testing.assert_close(operator.unscale(operator.scale(x, shown, missing), shown, missing), x)
