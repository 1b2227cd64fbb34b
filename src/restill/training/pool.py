"""A pool of noise-free observations, from which a denoiser learns the levels below the noise of the measurements.

Measurements teach `D` at noise levels above their own. Below it, posterior samples of the measurements, drawn with the
denoiser itself, take their place: an expectation-maximisation, whose rounds sharpen pool and denoiser in turn
(Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.settings import Section, setting
from ..corruption import Operator
from ..objectives import Draw
from ..store import Batch, Store
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


@dataclass(frozen=True)
class Below:
    """The noise levels below that of the measurements, where noise-free observations take the place of measurements.

    Attributes:
        at: noise level of the measurements.
        levels: how levels below it are drawn.
        share: of a batch that is noise-free.
    """

    at: float
    levels: LowLevels
    share: float = 0.5

    def count(self, n: int) -> int:
        """How many of `n` samples are noise-free: some, but not all. They are the last ones."""
        return min(max(round(self.share * n), 1), n - 1)

    def noiseless(self, operator: Operator) -> Operator:
        """The operators with no noise in the last ones."""
        parameters = operator.parameters()
        sigma_n = parameters["sigma_n"].clone()
        sigma_n[len(operator) - self.count(len(operator)) :] = 0
        return operator.with_parameters(parameters | {"sigma_n": sigma_n})

    def cleared(self, y: Tensor, noise_free: Tensor) -> Tensor:
        """Measurements of which the last ones are noise-free."""
        kept = len(y) - self.count(len(y))
        return torch.cat([y[:kept], noise_free[kept:]])

    def lowered(self, draw: Draw, generator: torch.Generator) -> Draw:
        """The randomness of an objective with low levels for the last samples."""
        noiseless = self.count(len(draw.sigma))
        low = self.levels.drawn(noiseless, self.at, generator, draw.sigma.device).to(draw.sigma)
        return Draw(torch.cat([draw.sigma[: len(draw.sigma) - noiseless], low]), draw.noise)


class Pool:
    """Noise-free observations that take the place of the last samples of every batch.

    Args:
        store: its operators have `sigma_n` 0.
        batch_size: of the training.
        below: how many of these are noise-free, and at which levels they are learned.
    """

    def __init__(
        self, store: Store, batch_size: int, below: Below, seed: int, device: torch.device = torch.device("cpu")
    ) -> None:
        self.below = below
        self.batches = Batches(store, below.count(batch_size), seed, device)

    def joined(self, batch: Batch, step: int) -> Batch:
        """The batch with its last samples replaced by those of the pool."""
        noiseless = self.batches.at(step)
        kept = selected(batch, torch.arange(len(batch) - len(noiseless), device=batch.y.device))
        labels = None
        if kept.labels is not None and noiseless.labels is not None:
            labels = torch.cat([kept.labels, noiseless.labels])
        operator = Operator.concatenate([kept.operator, noiseless.operator])
        return Batch(torch.cat([kept.y, noiseless.y]), operator, labels)
