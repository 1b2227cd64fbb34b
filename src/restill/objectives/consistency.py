r"""Consistency of a denoiser with itself along the reverse diffusion, which extends it below the noise of the data.

With :math:`x_{s'}` drawn from the reverse process started at :math:`(x_s, s)`, the optimal denoiser is a martingale:
:math:`D(x_s; s) = E[D(x_{s'}; s') | x_s]` (Consistent Diffusion Models, 2302.09057; Ambient Tweedie, section 4.3).

The reverse process must be the stochastic one. Along the deterministic sampler :math:`D(x_{s'}; s')` is not
:math:`D(x_s; s)` even in the mean: for Gaussian data of variance `v` it is larger by the factor
:math:`\sqrt{(s^2 + v)/(s'^2 + v)} > 1`. An ancestral step has the exact conditional mean whatever the data, so that for
Gaussian data, whose denoiser is linear, any number of steps is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..core.settings import Section, setting
from ..core.tensors import right_broadcast
from ..corruption import Operator
from ..diffusion import Denoiser

SIGMA_MIN = 0.002  # smallest end level


class Step(NamedTuple):
    """The randomness of one evaluation."""

    sigma: Tensor
    """end levels `s' < s`, `[n]`"""
    noise: Tensor
    """standard normal in the white space, `[ends, steps, n, ...]`"""


class Consistency(Section):
    """The penalty `mean |D(x_s; s) - E[D(x_s'; s') | x_s]|^2`, added to an objective with `weight`.

    Estimated without bias, as the mean over pairs of independent ends of the product of their gaps to `D(x_s; s)`. The
    square of the gap to the mean over the ends would add the variance of `D(x_s'; s')` divided by `ends`, and so pull
    `D` away from the optimum towards a constant. The price is that a single sample's penalty may be negative.
    """

    section = "teacher.consistency"
    weight: float = setting(0.0, "factor on the penalty; 0 switches it off", ge=0)
    ends: int = setting(2, "independent ends of the reverse process", ge=2)
    steps: int = setting(2, "steps of the reverse process to each end", gt=0)

    def draw(self, noise: Tensor, sigma: Tensor, generator: torch.Generator) -> Step:
        """Ends log-uniform between `SIGMA_MIN` and `s`, at `s` itself where that is smaller; noise like `noise`."""
        uniform = torch.rand(sigma.shape, generator=generator, device=sigma.device, dtype=sigma.dtype)
        low = sigma.clamp_max(SIGMA_MIN)
        end = low * (sigma / low) ** uniform
        shape = (self.ends, self.steps, *noise.shape)
        return Step(end, torch.randn(shape, generator=generator, device=noise.device, dtype=noise.dtype))

    def __call__(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        sigma: Tensor,
        step: Step,
        operator: Operator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Penalty of each sample `[n]`. Gradients reach both denoised images, not the path between them.

        `x_t` and the path lie where the denoiser's input does, in what the operator sees.
        """
        here = denoiser(x_t, sigma, operator, labels)
        ends = [
            denoiser(self._end(denoiser, x_t, sigma, step, i, operator, labels), step.sigma, operator, labels)
            for i in range(self.ends)
        ]
        gaps = here - torch.stack(ends)
        pairs = (gaps.sum(0).square() - gaps.square().sum(0)) / (self.ends * (self.ends - 1))
        return pairs.flatten(1).mean(1)

    @torch.no_grad()
    def _end(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        step: Step,
        i: int,
        operator: Operator,
        labels: Tensor | None,
    ) -> Tensor:
        """Ancestral steps: the exact posterior of x_s' given x_s and an image D, in the space of the input."""
        for j in range(self.steps):
            following = sigma * (step.sigma / sigma) ** (1 / (self.steps - j))
            ratio = right_broadcast((following / sigma) ** 2, x)
            spread = (following**2 * (1 - (following / sigma) ** 2)).clamp_min(0).sqrt()
            noise = right_broadcast(spread, step.noise[i, j]) * step.noise[i, j]
            denoised = operator.seen(denoiser(x, sigma, operator, labels))
            x = denoised + ratio * (x - denoised) + operator.noise(noise)
            sigma = following
        return x
