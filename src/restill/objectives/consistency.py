r"""Consistency of a denoiser with itself along the reverse diffusion, which extends it below the noise of the data.

With :math:`x_{s'}` drawn from the reverse process started at :math:`(x_s, s)`, the optimal denoiser is a martingale:
:math:`D(x_s; s) = E[D(x_{s'}; s') | x_s]` (Consistent Diffusion Models, 2302.09057; Ambient Tweedie, section 4.3).

The reverse process must be the stochastic one. Along the deterministic sampler :math:`D(x_{s'}; s')` is not
:math:`D(x_s; s)` even in the mean: for Gaussian data of variance `v` it is smaller or larger by the factor
:math:`\sqrt{(s^2 + v)/(s'^2 + v)}`. One ancestral step is exact in the mean for Gaussian data for any `s' < s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..corruption import Operator
from ..tensors import right_broadcast


class Step(NamedTuple):
    """The randomness of one evaluation."""

    sigma: Tensor
    """end levels `s' < s`, `[n]`"""
    noise: Tensor
    """standard normal `[ends, steps, n, C, H, W]`"""


@dataclass(frozen=True)
class Consistency:
    """The penalty `mean |D(x_s; s) - mean over ends of D(x_s'; s')|^2`, added to an objective with `weight`.

    Attributes:
        weight: factor on the penalty; 0 switches it off.
        ends: number of independent ends `x_s'` averaged.
        steps: ancestral steps from s to s'.
        sigma_min: smallest end level.
    """

    weight: float = 0.0
    ends: int = 2
    steps: int = 2
    sigma_min: float = 0.002

    def draw(self, x_t: Tensor, sigma: Tensor, generator: torch.Generator) -> Step:
        """Ends log-uniform between `sigma_min` and `s`."""
        uniform = torch.rand(sigma.shape, generator=generator, device=sigma.device, dtype=sigma.dtype)
        low = sigma.new_tensor(self.sigma_min)
        end = low * (sigma / low).clamp_min(1) ** uniform
        shape = (self.ends, self.steps, *x_t.shape)
        return Step(end, torch.randn(shape, generator=generator, device=x_t.device, dtype=x_t.dtype))

    def __call__(
        self,
        denoiser: nn.Module,
        x_t: Tensor,
        sigma: Tensor,
        step: Step,
        operator: Operator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Penalty of each sample `[n]`. Gradients reach both denoised images, not the path between them."""
        here = denoiser(x_t, sigma, operator, labels)
        ends = [
            denoiser(self._end(denoiser, x_t, sigma, step, i, operator, labels), step.sigma, operator, labels)
            for i in range(self.ends)
        ]
        return (here - torch.stack(ends).mean(0)).square().flatten(1).mean(1)

    @torch.no_grad()
    def _end(
        self,
        denoiser: nn.Module,
        x: Tensor,
        sigma: Tensor,
        step: Step,
        i: int,
        operator: Operator,
        labels: Tensor | None,
    ) -> Tensor:
        for j in range(self.steps):
            following = sigma * (step.sigma / sigma) ** (1 / (self.steps - j))
            ratio = right_broadcast((following / sigma) ** 2, x)
            spread = right_broadcast((following**2 * (1 - (following / sigma) ** 2)).clamp_min(0).sqrt(), x)
            denoised = denoiser(operator.seen(x), sigma, operator, labels)
            x = denoised + ratio * (x - denoised) + spread * step.noise[i, j]
            sigma = following
        return operator.seen(x)
