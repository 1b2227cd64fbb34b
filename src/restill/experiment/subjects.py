"""The trained networks of a run, each with the way it draws images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..checkpoint import NetworkConfig, load_network
from ..diffusion import Denoiser
from ..errors import UserError
from ..metrics import Subject
from ..sampling import Sampler, generate
from .folder import Run
from .objects import compiled, device_of, prepared, sampler_of

GENERATED: tuple[Subject, ...] = ("teacher-full", "teacher-truncated", "student")


@dataclass(frozen=True)
class Source:
    """A trained network with the way it draws: `teacher-full`, `teacher-truncated` or `student`."""

    subject: Subject
    denoiser: Denoiser
    config: NetworkConfig
    sampler: Sampler
    batch_size: int

    def draw(self, indices: Sequence[int], seed: int) -> Iterator[Tensor]:
        """Batches of images `[n, C, H, W]` in normalised units, float32 on the CPU."""
        batches = generate(
            self.denoiser,
            self.sampler,
            indices,
            self.config.shape,
            seed,
            corruption=self.config.law(),
            num_classes=self.config.num_classes,
            batch_size=self.batch_size,
        )
        for batch in batches:
            yield batch.float().cpu()


def stage_of(subject: Subject) -> str:
    """Whose network draws the images of a subject."""
    return "student" if subject == "student" else "teacher"


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
