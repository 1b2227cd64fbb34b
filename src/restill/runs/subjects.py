"""The trained networks of a run, each with the way it draws images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoint import NetworkConfig, load_network, load_network_config
from ..core.errors import UserError
from ..core.tensors import seeded
from ..diffusion import Denoiser
from ..metrics import Subject
from ..sampling import Sampler, generate
from .folder import Run
from .objects import compiled, device_of, prepared, sampler_of

GENERATED: tuple[Subject, ...] = ("l1-edm", "teacher-full", "teacher-truncated", "student")


@dataclass(frozen=True)
class Source:
    """A trained network with the way it draws: one of `GENERATED`."""

    subject: Subject
    denoiser: Denoiser
    config: NetworkConfig
    sampler: Sampler
    batch_size: int

    def draw(self, indices: Sequence[int], seed: int) -> Iterator[Tensor]:
        """Batches of images `[n, C, H, W]` on the image grid in normalised units, float32 on the CPU."""
        batches = generate(
            self.denoiser,
            self.sampler,
            indices,
            self.config.shape,
            seed,
            corruption=self.config.law(),
            num_classes=self.config.num_classes,
            batch_size=self.batch_size,
            image_shape=self.config.grid,
        )
        for batch in batches:
            yield self._as_images(batch.float().cpu())

    def _as_images(self, drawn: Tensor) -> Tensor:
        """What a teacher draws lies in the domain of the measurements, what a student draws on the image grid."""
        if self.config.role == "student":
            return drawn
        operator = self.config.law().draw(1, self.config.grid, seeded("domain"))  # the same for all samples
        return operator.select(torch.zeros(len(drawn), dtype=torch.int64)).from_domain(drawn)


def subjects_of(run: Run) -> list[Subject]:
    """Everything that the run has trained. Without noise there is nothing to truncate a sampler for."""
    found: list[Subject] = [subject for subject in GENERATED if run.trained(stage_of(subject))]
    if "teacher-truncated" in found and load_network_config(run.stage("teacher")).law().sigma_max == 0:
        found.remove("teacher-truncated")
    return found


def stage_of(subject: Subject) -> str:
    """Whose network draws the images of a subject."""
    return {"student": "student", "l1-edm": "baseline"}.get(subject, "teacher")


def trained(run: Run, subject: Subject) -> Source:
    """The network of a subject, on the run's device. Raises UserError if it is not trained yet."""
    stage = stage_of(subject)
    if not run.trained(stage):
        raise UserError(
            f"{run.path}: has no {stage} yet; run `restill {'distill' if stage == 'student' else 'pretrain'}`"
        )
    denoiser, config = load_network(run.stage(stage))
    denoiser = prepared(denoiser, run.recipe, device_of(run.recipe.execution.device))
    compiled(denoiser, run.recipe)
    section = run.recipe.sampling
    return Source(subject, denoiser, config, sampler_of(subject, section.num_steps, config), section.batch_size)
