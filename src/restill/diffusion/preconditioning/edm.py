"""The four functions of the noise level by which networks are preconditioned where everything is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Coefficients(NamedTuple):
    """The four functions of the noise level (Karras et al. 2022, table 1), of the shape of the noise level."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def edm(sigma: Tensor, sigma_data: float) -> Coefficients:
    """Column "Ours" of the table: mean and deviation of white images of deviation `sigma_data`."""
    variance = sigma**2 + sigma_data**2
    return Coefficients(
        c_skip=sigma_data**2 / variance,
        c_out=sigma * sigma_data / variance.sqrt(),
        c_in=1 / variance.sqrt(),
        c_noise=sigma.log() / 4,
    )


@dataclass(frozen=True)
class VariancePreserving:
    r"""Column "VP" of the table: :math:`\sigma(t)^2 = e^{\beta_d t^2 / 2 + \beta_{min} t} - 1`.

    Attributes:
        beta_d: slope of the noise schedule.
        beta_min: its start.
        steps: number of discrete times that the network was trained with.
    """

    beta_d: float
    beta_min: float
    steps: int

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """At noise levels of any shape."""
        return Coefficients(
            c_skip=torch.ones_like(sigma),
            c_out=-sigma,
            c_in=1 / (sigma**2 + 1).sqrt(),
            c_noise=(self.steps - 1) * self.time(sigma),
        )

    def level(self, t: Tensor | float) -> Tensor:
        """Noise level at time `t`, any shape; float64 for numbers."""
        t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64, device="cpu")
        return torch.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t).sqrt()

    def time(self, sigma: Tensor | float) -> Tensor:
        """The time at which the noise level is `sigma`, any shape; float64 for numbers."""
        sigma = sigma if isinstance(sigma, Tensor) else torch.tensor(sigma, dtype=torch.float64, device="cpu")
        # log(1 + s^2), not log1p: published networks were trained with its rounding in float32, which c_noise shows.
        exponent = (1 + sigma**2).log()
        return ((self.beta_min**2 + 2 * self.beta_d * exponent).sqrt() - self.beta_min) / self.beta_d
