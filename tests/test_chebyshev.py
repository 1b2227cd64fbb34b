"""Linear equations with the operators of a corruption, by polynomials."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from restill.corruption import Identity, MaskOperator, Mri, Operator
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


RATIOS = torch.tensor([0.001, 0.2, 40.0], dtype=F64).view(3, 1, 1, 1)


def drawn(coils: int, shape: tuple[int, int] = (6, 10)) -> tuple[Operator, Tensor]:
    """Three operators and images."""
    generator = torch.Generator().manual_seed(1)
    operator = Mri(acceleration=2, acs=2, coils=coils).draw(3, (2, *shape), generator)
    return operator, torch.randn(3, 2, *shape, generator=generator, dtype=F64)


def eigenvalues_of(operator: Operator, function: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> Tensor:
    """Of `seen`, and of `function` on the same eigenvectors, `[2, d]`; of the first operator."""
    dim = 2 * math.prod(shape)
    unit = torch.eye(dim, dtype=F64).view(dim, 2, *shape)
    one = operator.select(torch.zeros(dim, dtype=torch.int64))
    values, vectors = torch.linalg.eigh(one.seen(unit).flatten(1))
    image = function(vectors.T.reshape(dim, 2, *shape)).flatten(1)
    assert torch.allclose((image @ vectors) - torch.diag((image * vectors.T).sum(1)), torch.zeros(1, dtype=F64))
    return torch.stack([values, (image * vectors.T).sum(1)])


@pytest.mark.parametrize("name", ["wiener", "spread", "whiten"])
@pytest.mark.parametrize("coils", [1, 4])
def test_polynomials_are_linear_and_self_adjoint(coils: int, name: str) -> None:
    operator, a = drawn(coils)
    b, apply = a.flip(0), getattr(operator, name)
    torch.testing.assert_close((apply(a, RATIOS) * b).sum(), (a * apply(b, RATIOS)).sum())
    torch.testing.assert_close(apply(2 * a + b, RATIOS), 2 * apply(a, RATIOS) + apply(b, RATIOS))


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 2.0, 50.0])
def test_posterior_of_white_images_in_closed_form(coils: int, ratio: float) -> None:
    """On every eigenvalue e of `A^H A`: mean 1/(e + r); spread like the posterior's deviation, sqrt(r/(e + r)).

    The spread is exact at e = 0 and 1, and within a third between; the polynomials within the Chebyshev bound.
    """
    shape = (4, 8)
    operator, _ = drawn(coils, shape)
    r = torch.tensor(ratio, dtype=F64)
    one = operator.select(torch.zeros(2 * math.prod(shape), dtype=torch.int64))
    e, mean = eigenvalues_of(operator, lambda d: one.wiener(d, r), shape)
    assert e.min() > -1e-6 and e.max() < 1 + 1e-6 and (coils == 1 or ((e > 0.1) & (e < 0.9)).sum() > 10)
    bound = 1 / torch.special.chebyshev_polynomial_t(1 + 2 * r, 6)
    assert ((mean * (e + r) - 1).abs() <= bound + 1e-5).all()
    _, spread = eigenvalues_of(operator, lambda d: one.spread(d, r), shape)
    exact = (r / (e.clamp_min(0) + r)).sqrt()
    assert ((spread / exact - 1).abs() < 0.34 + bound).all()
    ends = (e < 1e-6) | (e > 1 - 1e-6)
    assert ((spread / exact - 1).abs()[ends] <= bound + 1e-5).all()


def test_ratios_below_the_smallest_count_as_that() -> None:
    operator, x = drawn(4)
    small, smallest = (torch.full((3, 1, 1, 1), value, dtype=F64) for value in (1e-6, 0.05))
    for name in ("wiener", "spread", "whiten"):
        apply = getattr(operator, name)
        torch.testing.assert_close(apply(x, small), apply(x, smallest), rtol=0, atol=0)


@pytest.mark.parametrize("coils", [1, 2, 8])
def test_whiten_inverts_spread_for_mri(coils: int) -> None:
    operator, x = drawn(coils, (9, 16))
    found = operator.whiten(operator.spread(x, RATIOS), RATIOS)
    errors = (found - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert errors[0] < 0.3 and errors[1] < 0.02 and errors[2] < 1e-6


def test_whiten_inverts_spread_of_projections_exactly() -> None:
    x = torch.randn(3, 1, 3, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    mask = torch.rand(3, 1, 3, 4, generator=torch.Generator().manual_seed(3)) < 0.5
    for operator in (Identity(torch.zeros(3)), MaskOperator(torch.zeros(3), mask)):
        torch.testing.assert_close(operator.whiten(operator.spread(x, RATIOS), RATIOS), x)


def test_one_coil_is_a_projection() -> None:
    """The polynomials agree with the closed form of projections, within their accuracy."""
    operator, x = drawn(1)
    ratio = torch.full((3, 1, 1, 1), 0.4, dtype=F64)
    for name in ("wiener", "spread", "whiten"):
        d = operator.seen(x) if name == "wiener" else x
        torch.testing.assert_close(
            getattr(operator, name)(d, ratio), getattr(Operator, name)(operator, d, ratio), rtol=0, atol=0.02
        )
