"""Phase I: the teacher, a denoiser trained on measurements alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.processes import ALONE, Processes
from ..core.tensors import mix_seed, seeded
from ..corruption import Corruption, Operator
from ..diffusion import Denoiser
from ..objectives import AmbientTweedie, Draw, Objective
from ..objectives.consistency import Step
from ..store import Batch
from .augment import Moves
from .batches import Batches
from .ema import EMA
from .pool import Pool
from .settings import TeacherSettings
from .state import Training
from .update import Update


class Presented(NamedTuple):
    """Measurements and all randomness of a step except dropout, drawn for the whole batch at once. Splitting the batch
    therefore changes only memory.
    """

    y: Tensor
    operator: Operator
    further: Operator
    draw: Draw
    consistency: Step | None
    labels: Tensor | None
    augment: Tensor | None

    def part(self, index: Tensor) -> Presented:
        """Some samples of the batch."""
        step = self.consistency
        return Presented(
            self.y[index],
            self.operator.select(index),
            self.further.select(index),
            Draw(self.draw.sigma[index], self.draw.noise[index]),
            None if step is None else Step(step.sigma[index], step.noise[:, :, index]),
            None if self.labels is None else self.labels[index],
            None if self.augment is None else self.augment[index],
        )


class TeacherTraining(Training):
    """Trains `denoiser` on the measurements of a store.

    The randomness of step `k` is a function of `seed` and `k`, so a continued run repeats an uninterrupted one bit by
    bit. Dropout has no generator of its own in torch: each step seeds the global one.

    Args:
        denoiser: network with fresh weights.
        batches: the data.
        corruption: that of the store's measurements, for further corruption.
        objective: the denoising objective.
        processes: each has a share of a batch (not there yet: `Update`).
        pool: noise-free observations, from which a part of each batch is taken.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        batches: Batches,
        corruption: Corruption,
        settings: TeacherSettings,
        objective: Objective = AmbientTweedie(),
        seed: int = 0,
        processes: Processes = ALONE,
        *,
        pool: Pool | None = None,
    ) -> None:
        super().__init__(settings.images, settings.batch_size, batches.device)
        self.denoiser, self.batches, self.corruption = denoiser, batches, corruption
        self.settings, self.objective, self.seed, self.pool = settings, objective, seed, pool
        self.white = corruption.shapes(batches.image_shape).white
        self.ema = EMA(denoiser, settings.ema)
        averages, module = {"ema": self.ema}, denoiser.train()
        self.update = Update(
            module, settings.adam, self.images, self.guard, processes, averages=averages, name="denoiser"
        )

    @property
    def updates(self) -> Sequence[Update[Denoiser]]:
        return (self.update,)

    def advance(self) -> dict[str, Tensor]:
        """One optimiser step; returns 0-dimensional tensors to log."""
        generator = seeded("teacher", self.seed, self.step, device=self.device)
        batch = self.batches.at(self.step)
        presented = self._present(batch if self.pool is None else self.pool.joined(batch, self.step), generator)
        torch.manual_seed(mix_seed("dropout", self.seed, self.step))
        total = torch.zeros((), device=self.device)
        for part in torch.arange(self.batch_size, device=self.device).chunk(self.settings.accumulate):
            loss = self._loss(presented.part(part)).sum() / self.batch_size
            loss.backward()
            total += loss.detach()
        self.guard.watch(total, self.step)
        norm = self.update.measure(self.step)
        self.update.apply(self.images_seen, self.batch_size)
        self.step += 1
        return {"loss": total, "grad_norm": norm}

    def _present(self, batch: Batch, generator: torch.Generator) -> Presented:
        settings, y, operator, augment_labels = self.settings, batch.y, batch.operator, None
        if settings.augment:
            moves = Moves.draw(len(y), y.shape[-2:], settings.augment, generator)
            y, operator, augment_labels = moves(y), operator.moved(moves), moves.labels
        further = self.corruption.further(operator, generator)
        draw = self.objective.draw(operator, self.white, generator)
        draw = draw if self.pool is None else self.pool.below.lowered(draw, generator)
        step = settings.consistency.draw(draw.noise, draw.sigma, generator) if settings.consistency.weight else None
        labels = batch.labels if self.denoiser.num_classes else None
        return Presented(y, operator, further, draw, step, labels, augment_labels)

    def _loss(self, batch: Presented) -> Tensor:
        objective, consistency = self.objective, self.settings.consistency
        y, operator, further, draw, step, labels, augment_labels = batch
        loss = objective(self.denoiser, y, operator, further, draw, labels, augment_labels)
        if step is not None:
            x_t = objective.noised(y, operator, further, draw).x_t
            loss = loss + consistency.weight * consistency(self.denoiser, x_t, draw.sigma, step, further, labels)
        return loss
