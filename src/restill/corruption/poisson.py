r"""Photon noise: Poisson counts with a gain and Gaussian read noise, through a variance-stabilising transform.

A detector gives :math:`m = zero + g\,P + \sigma_r \epsilon` with :math:`P \sim Poisson(\lambda)` photons,
:math:`\lambda = (x - zero)/g`. The generalised Anscombe transform
:math:`f(m) = 2 \sqrt{\max(m/g + 3/8 + \sigma_r^2/g^2, 0)}`, with `m` counted from zero, has a variance of about 1
whatever the light (Anscombe 1948; Starck, Murtagh and Bijaoui 1998): within 8% from 3 photons on, 2% from 10 on. In the
dark it is larger with read noise (by up to 20%, at 2 photons of it), and falls to 0 without it (0.72 at 1 photon, 0.12
at a tenth). A store keeps stabilised values, and the teacher learns them: additive white noise,
`y = A(x) + sigma_n eps`, with the pointwise map :math:`A(x) = E[f(m) | x]`, which is tabulated exactly rather than
approximated. The generator draws `x` itself, in units of light.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.settings import setting, wrong
from .bases import AsMeasured, Complete, Differentiable, OnImageGrid, WhiteInDomain
from .corruption import Corruption, Loss
from .operator import Operator
from .traits import WithoutGaps

_POINTS = 4097
_EXACT = 200.0  # photons up to which the sum over all counts is taken; an expansion beyond is better than 1e-7
_COUNTS = 400
_TAIL = 9.0  # standard deviations of read noise that are looked at
_DENSE = 3.0  # stabilised values up to which the table is densest


def stabilised(photons: Tensor, read: float) -> Tensor:
    """The generalised Anscombe transform of counts with read noise of `read` photons, less its value at a count of 0.

    With `c = 3/8 + read^2`, `2 sqrt(max(p + c, 0)) - 2 sqrt(c)`, written so that nothing cancels where `c` is large.
    """
    c = 0.375 + read**2
    p = photons.clamp_min(-c)
    return 2 * p / ((p + c).clamp_min(0).sqrt() + c**0.5)


@functools.lru_cache(maxsize=16)
def _given_counts(read: float) -> Tensor:
    """Mean of `stabilised` over the read noise, given 0, 1, ... photons, float64.

    By the trapezium rule, which converges exponentially for analytic functions that vanish at both ends. Where no read
    noise reaches the root's zero the variable is the noise; elsewhere it is the root, in which the integrand is even.
    """
    counts = torch.arange(_COUNTS, dtype=torch.float64)
    if read == 0:
        return stabilised(counts, 0)
    noise = torch.linspace(-_TAIL, _TAIL, 289, dtype=torch.float64)
    weights = torch.exp(-(noise**2) / 2)
    far = (stabilised(counts[:, None] + read * noise, read) * weights).sum(1) / weights.sum()
    c = 0.375 + read**2
    a = counts + c
    top = (a + _TAIL * read).sqrt()[:, None]
    root = torch.linspace(0, 1, 513, dtype=torch.float64) * top
    density = torch.exp(-(((root**2 - a[:, None]) / read) ** 2) / 2) / (read * (2 * math.pi) ** 0.5)
    near = (4 * root**2 * density).sum(1) * top[:, 0] / 512 - 2 * c**0.5
    return torch.where(a > _TAIL * read, far, near)


def expected(light: Tensor, read: float) -> Tensor:
    """Mean of `stabilised` for expected counts `light`, float64: exact sums where it is dark, moments where bright."""
    dark = light.clamp_max(_EXACT)
    counts = torch.arange(_COUNTS, dtype=torch.float64)
    logs = torch.special.xlogy(counts, dark[..., None]) - dark[..., None] - torch.lgamma(counts + 1)
    exact = (logs.exp() * _given_counts(read)).sum(-1)
    k = light.clamp_min(_EXACT)  # all cumulants of the counts, and of counts with read noise from the third on
    m, v = k + 0.375 + read**2, k + read**2
    series = stabilised(k, read) - v / (4 * m**1.5) + k / (8 * m**2.5) - 5 * (3 * v**2 + k) / (64 * m**3.5)
    series += 7 * (10 * v * k + k) / (128 * m**4.5)
    series -= 21 * (15 * v**3 + 10 * k**2 + 15 * v * k + k) / (512 * m**5.5)
    return torch.where(light <= _EXACT, exact, series)


def _curve(light: Tensor, c: float) -> Tensor:
    """`stabilised` of light itself, along which `expected` is nearly straight; its tangent below zero."""
    above = light.clamp_min(0)
    return torch.where(light < 0, light / c**0.5, 2 * above / ((above + c).sqrt() + c**0.5))


def _light(curve: Tensor, c: float) -> Tensor:
    """Inverse of `_curve`."""
    return curve * c**0.5 + curve.clamp_min(0) ** 2 / 4


class _Table(NamedTuple):
    """Means of stabilised values along `_curve`, both in stabilised units and from no light on, float64.

    The noise of stabilised values is 1 in these units and `sigma_n = 1 / scale` in normalised ones.
    """

    curve: Tensor
    value: Tensor
    c: float
    low: float
    scale: float


@functools.lru_cache(maxsize=16)
def _table(gain: float, read_noise: float, zero: float) -> _Table:
    """Stabilised values are scaled so that no light is -1 and white, 1, stays 1.

    Points are dense where it is dark and ever wider apart, as the bend of the mean allows: straight lines between them
    are better than 1e-6 for any number of photons.

    Raises:
        UserError: white is no light at all.
        ValueError: the noise hides it beyond what numbers resolve.
    """
    if zero >= 1:
        raise UserError(f"corruption.zero, the value of no light, must lie below white, which is 1, not {zero:g}")
    read, white = read_noise / gain, (1 - zero) / gain
    c = 0.375 + read**2
    low, high = expected(torch.tensor([0.0, white], dtype=torch.float64), read).tolist()
    if high - low < 1e-9:
        raise ValueError(
            f"{read_noise:g} and gain {gain:g} hide white, which is {white:g} photons; state both in the units of the "
            "measurements"
        )
    end = 1 - float(1 + _curve(torch.tensor(4 * white + 50, dtype=torch.float64), c) / _DENSE) ** -0.5
    curve = _DENSE * ((1 - torch.linspace(0, end, _POINTS, dtype=torch.float64)) ** -2 - 1)
    value = torch.cat([expected(part, read) for part in _light(curve, c).split(512)]) - low
    return _Table(curve, value, c, low, (high - low) / 2)


def _interpolated(x: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear function through `(points, values)`, continued straight on beyond the ends; differentiable."""
    slopes = (values.diff() / points.diff()).to(x)
    points, values = points.to(x), values.to(x)
    i = torch.searchsorted(points[1:-1], x.detach().contiguous(), right=True)
    return values[i] + slopes[i] * (x - points[i])


@dataclass(frozen=True)
class PoissonOperator(Differentiable, AsMeasured, WhiteInDomain, OnImageGrid, Complete):
    """`A(x) = E[f(m) | x]`: the mean of the stabilised measurement, pixel by pixel; not linear."""

    gain: float
    read_noise: float
    zero: float

    def apply(self, x: Tensor) -> Tensor:
        table = _table(self.gain, self.read_noise, self.zero)
        curve = _curve((x - self.zero) / self.gain, table.c)
        return _interpolated(curve, table.curve, table.value) / table.scale - 1

    def from_domain(self, d: Tensor) -> Tensor:
        """The light whose mean stabilised value `d` is: the exact unbiased inverse (Makitalo and Foi 2011)."""
        table = _table(self.gain, self.read_noise, self.zero)
        curve = _interpolated((d + 1) * table.scale, table.value, table.curve)
        return self.zero + self.gain * _light(curve, table.c)


class Poisson(WithoutGaps, kind="poisson"):
    """Poisson or Poisson-Gaussian noise of photon-limited images; all in normalised units.

    For images that span [-1, 1], with `n` photons at white, the gain is `2 / n`. In the units of files, where `zero`
    may be 1 or more, call `in_units` before drawing.
    """

    lost = frozenset({Loss.PHOTONS})
    gain: float = setting(0.02, "of one photon", ge=1e-9, unit="of [-1, 1]")
    read_noise: float = setting(0.0, "standard deviation of the detector's Gaussian noise", ge=0, unit="of [-1, 1]")
    zero: float = setting(-1.0, "the value of no light", ge=-1e9, unit="of [-1, 1]")

    @model_validator(mode="after")
    def _check_light(self) -> Self:
        if self.zero < 1:  # otherwise it is in units of files yet, and everything is checked by `in_units`
            try:
                _table(self.gain, self.read_noise, self.zero)
            except ValueError as error:
                raise wrong("read_noise", str(error)) from error
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise of stabilised values."""
        return (1 / _table(self.gain, self.read_noise, self.zero).scale,)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> PoissonOperator:
        sigma_n = torch.full((n,), self.sigma_max, device=generator.device)
        return PoissonOperator(sigma_n, self.gain, self.read_noise, self.zero)

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        """Counts of light `x`, with read noise, stabilised; light below zero counts as none."""
        photons = torch.poisson(((x - self.zero) / self.gain).clamp_min(0), generator=generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return self._kept(photons + self.read_noise / self.gain * noise)

    def operator_in_words(self) -> str:
        read = f", read noise of {self.read_noise / self.gain:.3g}" if self.read_noise else ""
        return f"photon noise ({(1 - self.zero) / self.gain:,.4g} photons at white{read})"

    def stabilise(self, m: Tensor) -> Tensor:
        """Measured values in normalised units as the store keeps them: noise of one level, no light at -1.

        Raises:
            UserError: values below zero although there is no read noise.
        """
        if self.read_noise == 0 and float(m.min()) < self.zero - 1e-6 * max(1.0, abs(self.zero)):
            raise UserError(
                f"corruption.kind poisson: a measurement lies below the value of no light ({float(m.min()):g} < "
                f"{self.zero:g}); state corruption.zero, or read_noise"
            )
        return self._kept((m - self.zero) / self.gain)

    def _kept(self, photons: Tensor) -> Tensor:
        """Counts, stabilised and in normalised units."""
        table = _table(self.gain, self.read_noise, self.zero)
        return (stabilised(photons, self.read_noise / self.gain) - table.low) / table.scale - 1

    def in_units(self, offset: float, scale: float) -> Poisson:
        """This corruption, from the units of files to normalised units: `normalised = (physical - offset) / scale`.

        Raises:
            UserError: no light is as bright as what becomes white.
        """
        gain, read_noise, zero = self.gain / scale, self.read_noise / scale, (self.zero - offset) / scale
        if zero >= 1:
            raise UserError(
                f"corruption.zero {self.zero:g}, the value of no light, must lie below what becomes white, "
                f"{offset + scale:g}, in the units of the files"
            )
        return Poisson(gain=gain, read_noise=read_noise, zero=zero)


def photons_of(corruption: Corruption) -> Poisson | None:
    """The photon noise in a corruption, if it has any."""
    return next((part for part in corruption.parts if isinstance(part, Poisson)), None)
