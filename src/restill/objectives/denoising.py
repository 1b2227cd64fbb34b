r"""Corruption-aware denoising objectives: what makes `D = E[x | x_t]` learnable although `x` is never seen.

All of them are one formula over the operator's methods, see `docs/architecture.md`. With `A` the operator of the
measurement `y`, `A~` the further one, :math:`e = \sqrt{s^2 - \sigma_n^2}\, n`, :math:`c = 1 - \sigma_n^2/s^2`:

    D = denoiser(to_domain~(restrict~(y)) + noise~(e), s, A~)
    r = c predicted(D) + (1 - c) measured~(e) - c observed(y)

which for pure noise is :math:`c D(x_t) + (1-c) x_t - y` with :math:`x_t = y + e` (Ambient Tweedie, eq. 7), for masks
:math:`M (D - y)` (Ambient Diffusion, eq. 3.1), and without noise ordinary denoising of the observations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ..core.kinds import Described, OfKind
from ..core.settings import setting
from ..core.tensors import right_broadcast
from ..corruption import Operator
from ..diffusion import Denoiser, Prior
from ..diffusion.preconditioning import whiten
from .noise_levels import LogNormalLevels


class Draw(NamedTuple):
    """The randomness of one evaluation of an objective."""

    sigma: Tensor
    """noise levels `[n]`"""
    noise: Tensor
    """standard normal, in the white space `[n, ...]`"""


class Noised(NamedTuple):
    """Measurements as a network is shown them, and the noise that was added."""

    x_t: Tensor
    """network input `[n, C, h, w]`"""
    e: Tensor
    """`level * n`, in the white space `[n, ...]`"""


def noised(y: Tensor, further: Operator, level: Tensor, noise: Tensor) -> Noised:
    """What a network is shown of measurements, in the domain, in both phases.

    Args:
        y: measurements `[n, ...]`.
        further: more corrupted operators, those that the network is shown.
        level: standard deviation of the noise to be added, `[n]`.
        noise: standard normal, in the white space `[n, ...]`.
    """
    e = right_broadcast(level, noise) * noise
    return Noised(further.to_domain(further.restrict(y)) + further.noise(e), e)


class Objective(Described, LogNormalLevels, ABC, family="objective"):
    """A denoising objective: a pure function of tensors; the same object trains the teacher and the fake score.

    Attributes:
        c_min: the weight is `lambda(s) / max(c, c_min)`; 1 gives the papers' `lambda(s)`.
    """

    section = "objective"
    c_min: float = setting(0.05, "limit in the weight lambda(s) / max(c, c_min); 1 is as published", gt=0, le=1)

    @abstractmethod
    def noise_floor(self, operator: Operator) -> Tensor:
        """The noise level, `[n]`, that the objective knows to be in each measurement."""

    def draw(self, operator: Operator, white: Sequence[int], generator: torch.Generator) -> Draw:
        """Draw noise levels and noise.

        Args:
            operator: the `n` operators of the measurements.
            white: shape of the space where their noise is white, `Corruption.shapes(...).white`.
        """
        sigma = self.draw_levels(self.noise_floor(operator), generator)
        shape = (len(operator), *white)
        return Draw(sigma, torch.randn(shape, generator=generator, device=sigma.device, dtype=sigma.dtype))

    def noised(self, y: Tensor, operator: Operator, further: Operator, draw: Draw) -> Noised:
        """The network's input for measurements `y` at the drawn levels: their own noise is a part of it."""
        floor = self.noise_floor(operator).to(draw.sigma)
        return noised(y, further, (draw.sigma**2 - floor**2).clamp_min(0).sqrt(), draw.noise)

    def whitened(self, residual: Tensor, further: Operator, sigma: Tensor, c: Tensor, prior: Prior) -> Tensor:
        """The residual as it is squared: over the scale of the network's output, and `max(c, c_min)^.5`.

        What the network is shown has EDM's weight `1/sigma_data^2 + 1/s^2`. What it is not shown has the limit of
        infinite noise, `1/sigma_data^2`.
        """
        share = right_broadcast(c.clamp_min(self.c_min).sqrt(), residual)
        return whiten(further, residual, prior.at(sigma)) / share

    def __call__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        operator: Operator,
        further: Operator,
        draw: Draw,
        labels: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Loss of each sample, `[n]`: the weighted sum of squares, divided by the number of entries of the domain.

        The residuals of all coils of MRI together thus weigh as much as those of one image.

        Args:
            denoiser: its prior also weighs the residuals.
            y: measurements `[n, ...]`.
            operator: the operators of the measurements, with their noise levels.
            further: more corrupted operators, those that the network is shown; `operator` itself without gaps.
            draw: the noise, from `draw()`.
        """
        x_t, e = self.noised(y, operator, further, draw)
        denoised = denoiser(x_t, draw.sigma, further, labels, augment)
        predicted = operator.predicted(denoised)
        share = 1 - (self.noise_floor(operator).to(draw.sigma) / draw.sigma) ** 2
        c = right_broadcast(share, predicted)
        residual = c * predicted + (1 - c) * further.measured(e) - c * operator.observed(y)
        squares = self.whitened(residual, further, draw.sigma, share, denoiser.prior).square()
        return squares.flatten(1).sum(1) / denoised[0].numel()


class Standard(Objective, kind="standard"):
    """Ordinary denoising score matching on the measurements: learns their distribution, noise included (L_SD)."""

    def noise_floor(self, operator: Operator) -> Tensor:
        return torch.zeros_like(operator.sigma_n)


class AmbientTweedie(Objective, kind="ambient-tweedie"):
    r"""Learns :math:`E[x|x_t]` at all :math:`s > \sigma_n` from noisy measurements (L_N; Ambient Tweedie, DSD, RSD).

    Noise levels are per sample; where `sigma_n = 0` it is `Standard`, so noise-free samples and noise-free operators
    (masks, blur) need no other objective.
    """

    def noise_floor(self, operator: Operator) -> Tensor:
        return operator.sigma_n


AnyObjective = Annotated[Objective, OfKind(Objective, otherwise=AmbientTweedie.kind)]
"""For a section's field: an objective, by its kind and its settings."""
