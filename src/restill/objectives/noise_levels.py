"""How noise levels are drawn: for denoising objectives, and for the generator update."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..core.settings import Section, setting
from ..core.tensors import wide_dtype

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # of the grid of the generator's update


class LogNormalLevels(Section):
    r"""Draws :math:`\ln s \sim N(P_{mean}, P_{std}^2)` (EDM, table 1), kept at or above each sample's :math:`\sigma_n`.

    Attributes:
        floor: `"truncate"` draws from the log-normal conditioned on :math:`s > \sigma_n` by its inverse distribution
            function. `"clamp"` is the papers' :math:`\max(s, \sigma_n)`, which puts a share of the draws (18%, 37%,
            59% at 0.1, 0.2, 0.4) exactly at :math:`s = \sigma_n`, where Ambient Tweedie has no gradient.
    """

    p_mean: float = setting(-1.2, "mean of ln s over the noise levels s")
    p_std: float = setting(1.2, "standard deviation of ln s over the noise levels s", gt=0)
    floor: Literal["truncate", "clamp"] = setting("truncate", "how levels are kept at or above sigma_n")

    def draw_levels(self, minimum_N: Tensor, generator: torch.Generator) -> Tensor:
        """Levels `[n]` with `s >= minimum`, in the dtype of `minimum_N`, on the generator's device."""
        minimum = minimum_N.to(wide_dtype(minimum_N.device))
        if self.floor == "clamp":
            normal = torch.randn(minimum.shape, generator=generator, device=minimum.device, dtype=minimum.dtype)
            return (self.p_mean + self.p_std * normal).exp().maximum(minimum).to(minimum_N.dtype)
        uniform = torch.rand(minimum.shape, generator=generator, device=minimum.device, dtype=minimum.dtype)
        # survival functions keep precision where sigma_n lies far in the upper tail
        above = torch.special.ndtr(-(minimum.log() - self.p_mean) / self.p_std)
        quantile = -torch.special.ndtri((above * (1 - uniform)).clamp_min(torch.finfo(minimum.dtype).tiny))
        return (self.p_mean + self.p_std * quantile).exp().maximum(minimum).to(minimum_N.dtype)


def generator_levels(n: int, tmax: int, generator: torch.Generator) -> Tensor:
    r"""Levels of the generator's update: the Karras grid (EDM, eq. 5) at :math:`t \sim U(0, t_{max}/1000)`.

    `s = (80^(1/7) + (1 - t)(0.002^(1/7) - 80^(1/7)))^7`. Levels below sigma_n are kept: without them the generator
    never learns to remove the noise (RSD).

    Args:
        tmax: upper end of t, in thousandths, in (0, 1000]; 800, as published (SiD), reaches s of about 24.

    Returns:
        `[n]`, float32, on the generator's device.
    """
    uniform = torch.rand(n, generator=generator, device=generator.device, dtype=wide_dtype(generator.device))
    t = uniform * (tmax / 1000)
    high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return ((high + (1 - t) * (low - high)) ** RHO).float()
