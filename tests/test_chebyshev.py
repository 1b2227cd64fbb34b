"""Inverse and inverse root by polynomials, and what operators make of them for Gaussian images."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from custom_corruptions import RandomLines
from restill.corruption import Identity, MaskOperator, Mri, MriOperator
from restill.diffusion import Prior
from restill.diffusion.preconditioning import posterior, whiten
from restill.diffusion.preconditioning.chebyshev import inverse, inverse_root
from restill.diffusion.preconditioning.posterior import general

F64 = torch.float64


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
@pytest.mark.parametrize("low", [0.02, 0.5])
def test_error_of_the_inverse_is_that_of_the_polynomial(steps: int, low: float) -> None:
    """On every eigenvalue of [low, 1]: the bound holds, and is reached but for its factor 1 - t; below, less than 1."""
    t = torch.linspace(0, 1, 2001, dtype=F64)[None]
    error = (inverse(lambda x: t * x, torch.full_like(t, 2.0), low, steps) * t / 2 - 1).abs()
    order = torch.tensor((1 + low) / (1 - low), dtype=F64)
    bound = (1 - t) / torch.special.chebyshev_polynomial_t(order, steps)
    inside = t >= low
    assert (error[inside] <= bound[inside] + 1e-12).all()
    assert float((error / bound)[inside & (t < 0.999)].max()) == pytest.approx(1, rel=1e-3)
    assert error[0, -1] < 1e-12 and (error[~inside] <= 1 + 1e-12).all()


@pytest.mark.parametrize("low", [0.02, 0.5])
def test_inverse_root_is_accurate_and_positive(low: float) -> None:
    """Of eight steps: within a tenth down to `low`; below, it grows further, and never beyond the root."""
    t = torch.linspace(0, 1, 2001, dtype=F64)[None]
    root = inverse_root(lambda x: t * x, torch.full_like(t, 3.0), low, 8) / 3
    assert ((root * t.sqrt() - 1).abs()[t >= low] < 0.1).all()
    assert (root[t < low] > 0.9 * low**-0.5).all() and (root * t.sqrt()).max() < 1.1
    finer = inverse_root(lambda x: t * x, torch.ones_like(t), low, 24)
    assert ((finer * t.sqrt() - 1).abs()[t >= low] < 0.002).all()


def drawn(coils: int, shape: tuple[int, int] = (6, 10), n: int = 3) -> tuple[MriOperator, Tensor]:
    """Operators and images."""
    generator = torch.Generator().manual_seed(1)
    operator = Mri(acceleration=2, acs=2, coils=coils).draw(n, (2, *shape), generator)
    return operator, torch.randn(n, 2, *shape, generator=generator, dtype=F64)


LEVELS = torch.tensor([0.05, 0.4, 6.0], dtype=F64)


def priors(shape: tuple[int, int] = (6, 10)) -> list[Prior]:
    """A white one and one that is not."""
    return [Prior.white(0.7), Prior.stationary((3.0, 0.5, 0.2, 0.1), *shape)]


@pytest.mark.parametrize("name", ["inverse", "inverse_root"])
@pytest.mark.parametrize("coils", [1, 4])
def test_operators_polynomials_are_linear_and_self_adjoint(coils: int, name: str) -> None:
    operator, a = drawn(coils)
    for prior in priors():
        b, apply = a.flip(0), getattr(posterior(operator, prior.at(LEVELS), a, a), name)
        torch.testing.assert_close((apply(a) * b).sum(), (a * apply(b)).sum())
        torch.testing.assert_close(apply(2 * a + b), 2 * apply(a) + apply(b))


def as_matrix(function: object, shape: tuple[int, int]) -> Tensor:
    dim = 2 * math.prod(shape)
    unit = torch.eye(dim, dtype=F64).view(dim, 2, *shape)
    return function(unit).flatten(1).T  # type: ignore[operator]


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("sigma", [0.25, 0.7, 5.0])
@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("lines", [True, False])
def test_posterior_of_gaussian_images_in_closed_form(lines: bool, white: bool, sigma: float, coils: int) -> None:
    """Mean and covariance of x ~ N(0, C) given A^H y against the exact solution; masks of lines and of points."""
    shape = (4, 8)
    operator, _ = drawn(coils, shape)
    if not lines:
        points = torch.rand(3, 1, *shape, generator=torch.Generator().manual_seed(4)) < 0.5
        operator = dataclasses.replace(operator, mask=points)
    prior = Prior.white(0.7) if white else Prior.stationary((1.5, 0.8, 0.3, 0.2), *shape)
    dim = 2 * math.prod(shape)
    one = operator.select(torch.zeros(dim, dtype=torch.int64))
    given = prior.at(torch.full((dim,), sigma, dtype=F64))
    G = as_matrix(one.seen, shape)
    half = as_matrix(given.half, shape)
    covariance = sigma**2 * half @ half @ torch.linalg.inv(torch.eye(dim, dtype=F64) - half @ half)
    if white:
        torch.testing.assert_close(covariance, 0.49 * torch.eye(dim, dtype=F64))
    spread = torch.linalg.inv(G / sigma**2 + torch.linalg.inv(covariance))
    known = posterior(one, given, torch.zeros(dim, 2, *shape, dtype=F64), torch.zeros(dim, 2, *shape, dtype=F64))
    mean = half @ as_matrix(known.inverse, shape) @ half
    exact = spread / sigma**2
    assert (mean - exact).abs().max() < 0.1 * exact.abs().max()
    root = sigma * half @ as_matrix(known.inverse_root, shape)
    # relative to the posterior in every direction: whitened by it
    inner = torch.linalg.cholesky(torch.linalg.inv(spread))
    shares = torch.linalg.eigvalsh(inner.T @ root @ root.T @ inner)
    assert shares.min() > 0.8 and shares.max() < 1.25


def test_projections_in_closed_form() -> None:
    """Identity and masks: T is 1 where something is seen, 1 - P elsewhere; the polynomials of one coil agree."""
    x = torch.randn(3, 1, 3, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    mask = torch.rand(3, 1, 3, 4, generator=torch.Generator().manual_seed(3)) < 0.5
    given = Prior.white(0.7).at(LEVELS)
    share = (1 / (1 + given.ratio)).expand_as(x)
    for operator in (Identity(torch.zeros(3)), MaskOperator(torch.zeros(3), mask)):
        seen, known = operator.seen(x), posterior(operator, given, x, x)
        torch.testing.assert_close(known.inverse(seen), seen)
        torch.testing.assert_close(known.visible(x), seen)
        root = known.inverse_root(x)
        torch.testing.assert_close(root, torch.where(operator.seen(torch.ones_like(x)) > 0, x, x * (1 - share).rsqrt()))
    one, image = drawn(1)
    given = Prior.white(0.7).at(torch.full((3,), 0.5, dtype=F64))
    seen, known = one.seen(image), posterior(one, given, image, image)
    got, exact = known.inverse_root(image), seen + (1 + 1 / given.ratio).sqrt() * (image - seen)
    assert (got - exact).norm() < 0.02 * exact.norm()
    torch.testing.assert_close(known.inverse(seen), seen, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("coils", [1, 4])
def test_the_shortcut_of_mri_is_the_general_solver(coils: int, lines: bool) -> None:
    """In float64, for white and other priors, odd sides too: the same polynomials in other coordinates."""
    for shape in ((6, 10), (5, 7)):
        operator, x = drawn(coils, shape)
        if not lines:
            points = torch.rand(3, 1, *shape, generator=torch.Generator().manual_seed(4)) < 0.5
            operator = dataclasses.replace(operator, mask=points)
        for prior in priors(shape):
            given = prior.at(LEVELS)
            fast, slow = posterior(operator, given, x, x), general(operator, given)
            assert fast.apply is not slow.apply  # type: ignore[attr-defined]
            for name in ("inverse", "inverse_root"):
                got, expected = getattr(fast, name)(x), getattr(slow, name)(x)
                torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
                assert (expected - x).norm() > 0.1 * x.norm()


def test_any_other_operator_has_the_general_solver() -> None:
    """A mask of images with a spectrum, lines of a user's own: near the exact inverse and root of `T`."""
    shape, dim = (4, 4), 32
    lines = RandomLines().draw(1, (2, *shape), torch.Generator().manual_seed(0))
    mask = MaskOperator(torch.zeros(1), torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(3)) < 0.5)
    for operator, prior in ((lines, priors(shape)[0]), (lines, priors(shape)[1]), (mask, priors(shape)[1])):
        one = operator.select(torch.zeros(dim, dtype=torch.int64))
        given, zero = prior.at(torch.full((dim,), 0.3, dtype=F64)), torch.zeros(dim, 2, *shape, dtype=F64)
        half, unit = as_matrix(given.half, shape), torch.eye(dim, dtype=F64)
        t = unit - half @ (unit - as_matrix(one.seen, shape)) @ half
        known = posterior(one, given, zero, zero)
        exact = torch.linalg.inv(t)
        root, gain = as_matrix(known.inverse_root, shape), (exact - unit).abs().max()
        assert gain > 0.3  # of T^-1 over no correction at all
        assert (as_matrix(known.inverse, shape) - exact).abs().max() < 0.25 * gain
        assert (root @ root - exact).abs().max() < 0.25 * gain


def test_weights_of_lines() -> None:
    """Of a white prior they are those of masks, in every coil."""
    operator, x = drawn(4)
    given, e = Prior.white(0.7).at(LEVELS), operator.embed(x)
    got = whiten(operator, e, given)
    scale = torch.where(operator.mask, (1 + 1 / given.ratio).sqrt(), torch.ones(()).double()) / 0.7
    torch.testing.assert_close(got, scale * e)
    mask = MaskOperator(torch.zeros(3), operator.mask.expand(-1, 2, 6, 10))
    torch.testing.assert_close(got, torch.cat([whiten(mask, part, given) for part in e.split(2, dim=1)], dim=1))
    stationary = priors()[1]
    got = whiten(operator, e, stationary.at(LEVELS))
    hidden = (~operator.mask).expand_as(e)
    torch.testing.assert_close(got[hidden], (e / stationary.variance.sqrt())[hidden])
    level = LEVELS.clamp_min(0.1 * float(stationary.variance.mean().sqrt())).view(3, 1, 1, 1)
    deviation = level / (1 + level**2 / stationary.variance).sqrt()
    torch.testing.assert_close(got[~hidden], (e / deviation)[~hidden])


def test_the_weights_of_mri_are_those_written_out_by_lines() -> None:
    """Per number of the domain, the squares agree with a sum over all coils of (1 + 1/r) or 1 over the variance."""
    operator, x = drawn(4)
    for prior in priors():
        given, e = prior.at(LEVELS), operator.embed(x)
        scale = torch.where(operator.mask, 1 + 1 / given.ratio, torch.ones_like(given.ratio))
        written = ((scale * 4 / given.variance).sqrt() * e).square().flatten(1).mean(1)  # as a mean over four coils
        got = whiten(operator, e, given).square().flatten(1).sum(1) / x[0].numel()
        torch.testing.assert_close(got, written, rtol=1e-12, atol=0)
