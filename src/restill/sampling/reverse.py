r"""Posterior samples of measurements: the reverse process, started at the measurement itself.

A measurement with noise of level `sigma_n` is a diffused image at that level. So the reverse stochastic process from
there to zero draws what was observed without its noise, :math:`A x \sim p(A x \mid y)`, and needs no other network than
the denoiser. The deterministic flow is no posterior sampler: its only randomness is the measurement's.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..core.settings import Section, setting
from ..core.tensors import right_broadcast
from ..corruption import Operator
from ..diffusion import Denoiser


class Reverse(Section):
    r"""The second-order stochastic solver of the reverse process (DPM-Solver++ 2M, the SDE; Lu et al. 2022, eq. 18).

    From level `s` to `t`, with `r = t^2/s^2`, :math:`h = \ln(s/t)` and the estimate `D` of this level, `D_before` of
    the one before, whose step was `h_before`:

        x_t = r x_s + (1 - r) (D + (D - D_before) h / (2 h_before)) + t sqrt(1 - r) n

    On Gaussian images the first-order solver draws 30 to 50% too little variance with 16 steps, this one is right to
    8% in every direction (`tests/test_closed_form_refinement.py`).
    """

    section = "reverse"
    num_steps: int = setting(16, "network calls for each posterior sample", ge=2)
    smallest: float = setting(0.01, "the last level, as a share of sigma_n", gt=0, lt=1)
    rho: float = setting(5.0, "exponent of the grid of levels, as of EDM's", gt=0)

    def shares(self) -> list[float]:
        """The levels as shares of `sigma_n`, from 1 down to `smallest`."""
        last = self.smallest ** (1 / self.rho)
        return [(1 + (last - 1) * k / (self.num_steps - 1)) ** self.rho for k in range(self.num_steps)]

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        operator: Operator,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Noise-free observations in the white space, `[n, ...]`, one posterior sample for each measurement.

        Where nothing is missing, `operator.from_domain(operator.extract(...))` are images. A measurement whose
        `sigma_n` is 0 stays as it is.

        Args:
            denoiser: is called at levels up to each measurement's `sigma_n`.
            y: measurements `[n, ...]`.
            operator: of the measurements, with their noise levels.
            generator: on the measurements' device.
        """
        x = operator.observed(y)
        floor = operator.sigma_n.to(x)
        before: Tensor | None = None
        h_before = 1.0
        for share, following in itertools.pairwise([*self.shares(), 0.0]):
            sigma = share * floor
            denoised = denoiser(operator.extract(operator.restrict(x)), sigma.clamp_min(1e-8), operator, labels)
            estimate = target = operator.predicted(denoised)
            if not following:
                x = estimate
                break
            h = math.log(share / following)
            if before is not None:
                target = estimate + (estimate - before) * (h / (2 * h_before))
            ratio = (following / share) ** 2
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            spread = right_broadcast(following * math.sqrt(1 - ratio) * floor, x)
            x = ratio * x + (1 - ratio) * target + spread * operator.measured(noise)
            before, h_before = estimate, h
        noisy = right_broadcast(floor, x) > 0
        return torch.where(noisy, x, operator.observed(y))
