"""A sampler of the teacher from outside the package: Euler's method."""

from itertools import pairwise

import torch
from torch import Tensor

from restill.core.settings import setting
from restill.corruption import Operator
from restill.diffusion import Denoiser
from restill.sampling import Sampler
from restill.sampling.settings import SamplingSettings


class Euler(Sampler, kind="euler"):
    steps: int = 10
    stop_at: float = 0.0

    def __call__(
        self, denoiser: Denoiser, latents: Tensor, operator: Operator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        levels = torch.linspace(80, self.stop_at, self.steps + 1, dtype=latents.dtype)
        x = latents * 80
        for high, low in pairwise(levels):
            denoised = denoiser(x, float(high), operator, labels)
            x = denoised + low / high * (x - denoised)
        return x


class EulerSampling(SamplingSettings, kind="euler"):
    """Evenly spaced levels."""

    steps: int = setting(10, "steps of Euler's method", ge=1)

    def of_teacher(self, stop_at: float) -> Sampler:
        return Euler(steps=self.steps, stop_at=stop_at)
