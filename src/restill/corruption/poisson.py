r"""Photon noise: Poisson counts with a gain and Gaussian read noise, through a variance-stabilising transform.

A detector gives :math:`m = zero + g\,P + \sigma_r \epsilon` with :math:`P \sim Poisson(\lambda)` photons,
:math:`\lambda = (x - zero)/g`. The generalised Anscombe transform
:math:`f(m) = 2 \sqrt{\max(m/g + 3/8 + \sigma_r^2/g^2, 0)}`, with `m` counted from zero, has a variance of about 1
whatever the light (Anscombe 1948; Starck, Murtagh and Bijaoui 1998). Stabilised values are what a store keeps and the
teacher learns: additive white noise, `y = A(x) + sigma_n eps`, with the pointwise map :math:`A(x) = E[f(m) | x]`, which
is tabulated exactly rather than approximated. The generator draws `x` itself, in units of light.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .corruption import Corruption, number
from .operator import Identity, Operator

_POINTS = 4097
_EXACT = 200.0  # photons up to which the sum over all counts is taken; an expansion beyond is better than 1e-7
_COUNTS = 400


def stabilised(photons: Tensor, read: float) -> Tensor:
    """The generalised Anscombe transform of counts in photons with read noise of `read` photons."""
    return 2 * (photons + 0.375 + read**2).clamp_min(0).sqrt()


def expected(light: Tensor, read: float) -> Tensor:
    """`E f` for expected counts `light` in photons, float64: exact sums where it is dark, moments where bright."""
    dark = light.clamp_max(_EXACT)
    counts = torch.arange(_COUNTS, dtype=torch.float64)
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(100))
    given_counts = (stabilised(counts[:, None] + read * nodes, read) * weights).sum(1) / weights.sum()
    logs = torch.special.xlogy(counts, dark[..., None]) - dark[..., None] - torch.lgamma(counts + 1)
    exact = (logs.exp() * given_counts).sum(-1)
    bright = light.clamp_min(_EXACT)
    m, variance = bright + 0.375 + read**2, bright + read**2
    fourth = 3 * variance**2 + bright
    series = 2 * m**0.5 - variance / (4 * m**1.5) + bright / (8 * m**2.5) - 5 * fourth / (64 * m**3.5)
    return torch.where(light <= _EXACT, exact, series)


class _Table(NamedTuple):
    """`A` at increasing light, both in normalised units, and the noise of stabilised values."""

    light: Tensor
    value: Tensor
    sigma_n: float
    low: float
    scale: float


@functools.lru_cache(maxsize=16)
def _table(gain: float, read_noise: float, zero: float) -> _Table:
    """Stabilised values are scaled so that no light is -1 and white, 1, stays 1."""
    read, white = read_noise / gain, (1 - zero) / gain
    low, high = expected(torch.tensor([0.0, white], dtype=torch.float64), read).tolist()
    photons = torch.linspace(0, (4 * white + 50) ** 0.5, _POINTS, dtype=torch.float64) ** 2
    scale = (high - low) / 2
    value = torch.cat([expected(part, read) for part in photons.split(512)])
    return _Table(zero + gain * photons, (value - low) / scale - 1, 1 / scale, low, scale)


def _interpolated(x: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear function through `(points, values)`, continued straight on beyond the ends; differentiable."""
    points, values = points.to(x), values.to(x)
    i = torch.searchsorted(points, x.detach().contiguous()).clamp(1, len(points) - 1)
    slope = (values[i] - values[i - 1]) / (points[i] - points[i - 1])
    return values[i - 1] + slope * (x - points[i - 1])


@dataclass(frozen=True)
class PoissonOperator(Operator):
    """`A(x) = E[f(m) | x]`: the mean of the stabilised measurement, pixel by pixel; not linear."""

    gain: float
    read_noise: float
    zero: float

    def apply(self, x: Tensor) -> Tensor:
        table = _table(self.gain, self.read_noise, self.zero)
        return _interpolated(x, table.light, table.value)

    def from_domain(self, d: Tensor) -> Tensor:
        """The light whose mean stabilised value `d` is: the exact unbiased inverse (Makitalo and Foi 2011)."""
        table = _table(self.gain, self.read_noise, self.zero)
        return _interpolated(d, table.value, table.light)

    def linear_part(self) -> Identity:
        return Identity(self.sigma_n)


@dataclass(frozen=True, kw_only=True)
class Poisson(Corruption, kind="poisson"):
    """Poisson or Poisson-Gaussian noise of photon-limited images; all in normalised units.

    Attributes:
        gain: of one photon. Where images span [-1, 1] and white is `n` photons, it is `2 / n`.
        read_noise: standard deviation of the detector's Gaussian noise.
        zero: the value of no light.
    """

    allows_clean: ClassVar[bool] = False
    gain: float = 0.02
    read_noise: float = 0.0
    zero: float = -1.0

    def __post_init__(self) -> None:
        number("gain", self.gain, 1e-9)
        number("read_noise", self.read_noise, 0)
        number("zero", self.zero, -1e9, 1, below=True)
        if self.sigma_n != 0:
            raise UserError("corruption.sigma_n goes without saying for kind 'poisson'; state gain and read_noise")
        super().__post_init__()

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise of stabilised values."""
        return (_table(self.gain, self.read_noise, self.zero).sigma_n,)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> PoissonOperator:
        return self.rebuild({"sigma_n": self.draw_sigma_n(n, generator)}, shape)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> PoissonOperator:
        return PoissonOperator(parameters["sigma_n"], self.gain, self.read_noise, self.zero)

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        """Counts of light `x`, with read noise, stabilised; light below zero counts as none."""
        photons = torch.poisson(((x - self.zero) / self.gain).clamp_min(0), generator=generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return self.stabilise(self.zero + self.gain * photons + self.read_noise * noise)

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
        table = _table(self.gain, self.read_noise, self.zero)
        f = stabilised((m - self.zero) / self.gain, self.read_noise / self.gain)
        return (f - table.low) / table.scale - 1

    def in_units(self, offset: float, scale: float) -> Poisson:
        """The law in normalised units, of this one in units of files: `normalised = (physical - offset) / scale`."""
        return Poisson(gain=self.gain / scale, read_noise=self.read_noise / scale, zero=(self.zero - offset) / scale)

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in super().describe().items() if name != "sigma_n"}
