r"""How much of image space is hidden by each measurement, and by all of them together?

What one operator hides, another may show, so the generator can still learn it. What every operator hides (the null
space of :math:`E[A^H A]`) is never learned: the generator makes it up, and no comparison with measurements can detect
it.

A direction with eigenvalue :math:`t` of :math:`A^H A` counts as seen by its Wiener gain, relative to that of the
direction that is passed best, :math:`g(t) = \frac{t}{t + \lambda} / \frac{t_1}{t_1 + \lambda}` with
:math:`\lambda = \sigma_n^2 / \sigma_{data}^2`: 1 for what is passed as well as possible, 0 for what is lost or drowned
in noise. So noise alone hides nothing, a mask hides its share of missing pixels whatever the noise, and a blur hides
more under more noise. For all operators together :math:`\lambda` is a small floor: many measurements average noise out.

The share is :math:`1 - \mathrm{tr}\, g(A^H A)/d`. The trace is estimated with random signs (Hutchinson, 1989), and each
:math:`v^T (A^H A + \lambda)^{-1} v` by conjugate gradients in the form of Lanczos, which bounds it from both sides: by
the Gauss and the Gauss-Radau rule (Golub and Meurant, Matrices, Moments and Quadrature, 1994, theorems 3.2 and 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import seeded, wide_dtype
from ..corruption import Operator
from ..metrics.results import Check
from .fit import alike

FLOOR = 1e-4  # of lambda, relative to t_1: what is passed with less than 1% of the amplitude counts as lost
LIMIT = 0.01  # share hidden by all operators from which on there is a warning
OPERATORS = 256  # enough for corruptions that show every pixel or frequency in a few percent of the measurements
_FEWEST, _APPLIED = 16, 1 << 26  # operators, and numbers that all of them measure, beyond which fewer are looked at
_STEPS = 400  # of Lanczos at most
_GAP = 2e-3  # between the bounds of the share, where Lanczos may stop
_NUMBERS = 1 << 21  # in one application of operators
_Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hidden:
    """Shares of image space, 0 to 1.

    Attributes:
        by_each: hidden by one operator, mean over operators.
        by_each_std: its standard error, over operators and probes, with what Lanczos left open.
        by_all: hidden by every operator that was looked at.
        by_all_std: its standard error, over probes, with what Lanczos left open.
        operators: number of operators.
        noise: root mean square of their noise levels, relative to `sigma_data`.
    """

    by_each: float
    by_each_std: float
    by_all: float
    by_all_std: float
    operators: int
    noise: float


def operators_for(numbers: int) -> int:
    """How many operators to look at, where one measurement has so many numbers."""
    return min(OPERATORS, max(_FEWEST, _APPLIED // numbers))


def hidden_share(operator: Operator, shape: tuple[int, ...], sigma_data: float, seed: int) -> Hidden:
    """What operators hide of images of `shape`, each and all together.

    Give as many operators as possible (`OPERATORS`, drawn from the corruption or read from a store): `by_all` is an
    upper bound that falls with their number, since one more operator may show what the others hide.

    Args:
        operator: `n` operators, n at least 1. `A` of one that is not linear is its derivative at 0, mean brightness.
        shape: of one image, `(C, H, W)`.
        sigma_data: standard deviation of the clean data in normalised units.
        seed: of the probes.

    Raises:
        UserError: no operator, or a `sigma_data` that is not positive.
    """
    if not len(operator) or not 0 < sigma_data < math.inf:
        raise UserError(
            f"hidden share: needs at least 1 operator and sigma_data above 0, not {len(operator)} and {sigma_data}"
        )
    device = operator.sigma_n.device
    generator = seeded("hidden", seed, device=device)
    probes = min(max((1 << 14) // math.prod(shape), 2), 64)
    repeated = operator.select(torch.arange(max(len(operator), probes), device=device) % len(operator))
    noise = repeated.sigma_n.to(wide_dtype(device)).square() / sigma_data**2
    each = _each(repeated, _signs(len(repeated), shape, generator), noise)
    together = _seen(_mean_gram(operator, shape), _signs(probes, shape, generator), noise[:1] * 0, shared=True)
    (by_each, by_each_std), (by_all, by_all_std) = (_hidden(bounds) for bounds in (each, together))
    level = float(operator.sigma_n.to(noise).square().mean().sqrt()) / sigma_data
    return Hidden(by_each, by_each_std, min(by_all, by_each), by_all_std, len(operator), level)


def _hidden(bounds: Tensor) -> tuple[float, float]:
    """Hidden share, and its standard error with half the distance of the bounds, from bounds of the seen `[2, p]`."""
    middle = bounds.mean(dim=0)
    error = float(middle.std()) / math.sqrt(len(middle))
    return 1 - float(middle.mean()), math.hypot(error, float(bounds.diff(dim=0).mean()) / 2)


def _signs(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Probes of independent signs, `[n, *shape]`."""
    bits = torch.randint(2, (n, *shape), generator=generator, device=generator.device)
    return (2 * bits - 1).to(wide_dtype(generator.device))


def _each(operator: Operator, probes: Tensor, noise: Tensor) -> Tensor:
    """Bounds of the seen share of every operator, `[2, n]`, each with its own probe and noise."""
    parts = []
    for rows in torch.arange(len(operator), device=probes.device).split(max(1, _NUMBERS // probes[0].numel())):
        part = operator.select(rows)
        parts.append(_seen(_gram(part), probes[rows], noise[rows], shared=False))
    return torch.cat(parts, dim=1)


def _gram(operator: Operator, weight: Tensor | None = None) -> _Map:
    """`A^H A`, or `A^H diag(weight) A`."""

    def apply(x: Tensor) -> Tensor:
        grey = torch.zeros_like(x)
        measured = operator.jvp(grey, x)
        return operator.vjp(grey, measured if weight is None else weight * measured)

    return apply


def _mean_gram(operator: Operator, shape: tuple[int, ...]) -> _Map:
    """The mean of `A^H A` over the operators, for probes `[p, *shape]`."""
    whole, device = operator.whole(), operator.sigma_n.device
    shared: Tensor | None = None
    if alike(whole):  # what is shown on average lies between one operator and its adjoint
        first = whole.select(slice(0, 1)).apply(torch.zeros(1, *shape, dtype=wide_dtype(device), device=device))
        shared = operator.restrict(torch.ones_like(first).expand(len(operator), *first.shape[1:])).mean(dim=0)

    def apply(x: Tensor) -> Tensor:
        if shared is not None:
            return _gram(whole.select(torch.zeros(len(x), dtype=torch.int64, device=device)), shared)(x)
        total = torch.zeros_like(x)
        for rows in torch.arange(len(operator), device=device).split(max(1, _NUMBERS // x.numel())):
            seen = _gram(operator.select(rows.repeat_interleave(len(x))))(x.repeat(len(rows), *(1,) * (x.ndim - 1)))
            total += seen.unflatten(0, (len(rows), len(x))).sum(0)
        return total / len(operator)

    return apply


def _seen(gram: _Map, probes: Tensor, noise: Tensor, shared: bool) -> Tensor:
    """Lower and upper bound of `v^T g(A^H A) v / v^T v` for every probe, `[2, p]`.

    Args:
        gram: applies `A^H A`, symmetric and not negative, to `[p, C, H, W]`.
        probes: `v`, `[p, C, H, W]`.
        noise: `lambda` of each probe, `[p]` or `[1]`.
        shared: all probes see one matrix, so `t_1` is the largest that any of them found.
    """
    norm = probes.flatten(1).norm(dim=1)
    q, before = _scaled(probes, 1 / norm), torch.zeros_like(probes)
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    for step in range(1, _STEPS + 1):
        image = gram(q)
        alphas.append((q * image).flatten(1).sum(1))
        rest = image - _scaled(q, alphas[-1]) - (_scaled(before, betas[-1]) if betas else 0)
        beta = rest.flatten(1).norm(dim=1)
        invariant = beta <= 1e-10 * torch.stack(alphas).amax(0)  # nothing is left to be found
        betas.append(torch.where(invariant, 0.0, beta))
        if step % 4 == 0 or step == _STEPS or bool(invariant.all()):
            bounds = _bounds(alphas, betas, noise, shared)
            if float((bounds[1] - bounds[0]).mean()) < _GAP:
                break
        before, q = q, _scaled(rest, torch.where(invariant, 0.0, 1 / beta))
    return bounds


def _scaled(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor.reshape(-1, *(1,) * (x.ndim - 1))


def _bounds(alphas: list[Tensor], betas: list[Tensor], noise: Tensor, shared: bool) -> Tensor:
    """The bounds of `_seen` from the tridiagonal matrix of Lanczos: diagonal `[p]` each, and beside it `[p]` each."""
    first = min(len(alphas), 32)  # largest eigenvalues are found early
    matrix = torch.diag_embed(torch.stack(alphas[:first], 1))
    if first > 1:
        beside = torch.stack(betas[: first - 1], 1)
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    largest = torch.linalg.eigvalsh(matrix)[:, -1].clamp(min=0)
    largest = largest.max().expand(len(largest)) if shared else largest
    level = torch.maximum(noise.expand(len(largest)), FLOOR * largest)
    tiny = torch.finfo(level.dtype).tiny
    pivot = alphas[0]
    for alpha, beta in zip(alphas[1:], betas, strict=False):
        pivot = alpha - beta.square() / pivot.clamp(min=tiny)
    zero = torch.where(betas[-1] > 0, betas[-1].square() / pivot.clamp(min=tiny), 0.0)  # makes 0 an eigenvalue
    upper, lower = (1 - level * _corner(diagonal, betas, level) for diagonal in (alphas, [*alphas, zero]))
    gain = torch.stack([lower, upper]) * (largest + level) / largest
    return torch.where(largest > 0, gain, 0.0)


def _corner(alphas: list[Tensor], betas: list[Tensor], level: Tensor) -> Tensor:
    """First element of the inverse of a tridiagonal matrix plus `level`, as a continued fraction from the end."""
    value = alphas[-1] + level
    for alpha, beta in zip(alphas[-2::-1], betas[: len(alphas) - 1][::-1], strict=True):
        value = alpha + level - beta.square() / value
    return 1 / value


def hidden_check(found: Hidden) -> Check:
    """The result of `hidden_share` in words. Its value is the share that all operators hide."""
    noisy = f", at noise of {found.noise:.2g} of the data's standard deviation" if found.noise > 0 else ""
    each = f"One measurement hides {found.by_each:.1%} of image space (what it loses, or attenuates into noise{noisy})"
    if found.by_all > LIMIT:
        words = (
            f"{each}, and all {found.operators} operators hide the same {found.by_all:.1%} (lost, or passed with "
            f"less than {math.sqrt(FLOOR):.0%} of the amplitude): the network invents what generated images show "
            "there, and no comparison with measurements can judge it."
        )
    elif found.by_each > LIMIT:
        words = (
            f"{each}, but each direction is seen by some of the {found.operators} operators ({found.by_all:.1%} is "
            "hidden by all): comparisons with measurements can judge every direction."
        )
    else:
        words = "The operators hide nothing: apart from the noise, each measurement shows its whole image."
    return Check(
        name="hidden-share",
        value=found.by_all,
        std=found.by_all_std,
        status="warning" if found.by_all > LIMIT else "ok",
        sentence=words,
        settings={
            "by_each": found.by_each, "by_each_std": found.by_each_std, "operators": found.operators,
            "noise": found.noise, "floor": FLOOR, "limit": LIMIT,
        },
    )  # fmt: skip
