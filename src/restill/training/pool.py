"""A pool of noise-free observations, from which a denoiser learns the levels below the noise of the measurements.

Measurements teach `D` at noise levels above their own. Below it, posterior samples of the measurements, drawn with the
denoiser itself, take their place: an expectation-maximisation, whose rounds sharpen pool and denoiser in turn
(Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization").
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.settings import Section, setting
from ..corruption import Operator
from ..objectives import Draw
from ..store import Batch
from .batches import Batches, selected


class LowLevels(Section):
    r"""Levels below a level `at`: :math:`s = low (high/low)^{\sqrt U}`, `low = lowest at`, `high = band at`.

    The square root favours the higher ones, where images take their shape.
    """

    section = "refine.levels"
    lowest: float = setting(0.02, "the lowest level, as a share of the noise level of the measurements", gt=0, lt=1)
    band: float = setting(
        1.15, "factor on that level, up to which and from which on the two networks of a refined teacher blend", ge=1
    )

    def drawn(self, n: int, at: float, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """`[n]`, float32, on the generator's device."""
        low, high = self.lowest * at, self.band * at
        uniform = torch.rand(n, generator=generator, device=device)
        return low * (high / low) ** uniform.sqrt()


class Pool:
    """Noise-free observations that take the place of the last samples of every batch.

    Args:
        batches: of a store whose operators have `sigma_n` 0, in batches of as many samples as are replaced.
        at: noise level of the measurements, below which the pool is learned.
        levels: how the levels are drawn.
    """

    def __init__(self, batches: Batches, at: float, levels: LowLevels) -> None:
        self.batches, self.at, self.levels = batches, at, levels

    def joined(self, batch: Batch, step: int) -> Batch:
        """The batch with its last samples replaced by those of the pool."""
        noiseless = self.batches.at(step)
        kept = selected(batch, torch.arange(len(batch) - len(noiseless), device=batch.y.device))
        labels = None
        if kept.labels is not None and noiseless.labels is not None:
            labels = torch.cat([kept.labels, noiseless.labels])
        operator = Operator.concatenate([kept.operator, noiseless.operator])
        return Batch(torch.cat([kept.y, noiseless.y]), operator, labels)

    def lowered(self, draw: Draw, generator: torch.Generator) -> Draw:
        """The randomness of a joined batch with low levels for the pool's samples."""
        n = self.batches.batch_size
        low = self.levels.drawn(n, self.at, generator, draw.sigma.device).to(draw.sigma)
        return Draw(torch.cat([draw.sigma[:-n], low]), draw.noise)
