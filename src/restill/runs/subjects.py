"""The trained networks of a run, each with the way it draws images."""

from __future__ import annotations

from ..checkpoint import NetworkConfig, load_network, load_network_config
from ..core.errors import UserError
from ..generator import Generator
from ..metrics import Subject
from ..sampling import OneStep, Sampler
from ..sampling.settings import SamplingSettings
from .folder import Run
from .provenance import check

GENERATED: tuple[Subject, ...] = ("l1-edm", "teacher-full", "teacher-truncated", "student")


def subjects_of(run: Run) -> list[Subject]:
    """Everything that the run has trained. Without noise there is nothing to truncate a sampler for."""
    found: list[Subject] = [subject for subject in GENERATED if run.trained(stage_of(subject))]
    if "teacher-truncated" in found and load_network_config(run.stage("teacher")).build_corruption().sigma_max == 0:
        found.remove("teacher-truncated")
    return found


def stage_of(subject: Subject) -> str:
    """Whose network draws the images of a subject."""
    return {"student": "student", "l1-edm": "baseline"}.get(subject, "teacher")


def trained(run: Run, subject: Subject) -> Generator:
    """The network of a subject with the way it draws, on the run's device. Raises UserError if there is none."""
    stage = stage_of(subject)
    if not run.trained(stage):
        raise UserError(
            f"{run.path}: has no {stage} yet; run `restill {'distill' if stage == 'student' else 'pretrain'}`"
        )
    check(run, stage)
    denoiser, config = load_network(run.stage(stage))
    denoiser = run.recipe.execution.prepared(denoiser)
    run.recipe.execution.compiled(denoiser)
    section = run.recipe.sampling
    return Generator(denoiser, config, sampler_of(subject, section, config), section.batch_size)


def sampler_of(subject: str, section: SamplingSettings, config: NetworkConfig) -> Sampler:
    """The sampler of `student`, `teacher-full` or `teacher-truncated`."""
    if subject == "student":
        if config.init_sigma is None:
            raise UserError("the student's config.json lacks init_sigma")
        return OneStep(init_sigma=config.init_sigma)
    return section.of_teacher(config.build_corruption().sigma_max if subject == "teacher-truncated" else 0.0)
