"""The trained networks of a run, each with the way it draws images."""

from __future__ import annotations

from ..checkpoint import NetworkConfig, load_network, load_network_config
from ..core.errors import UserError
from ..diffusion import Denoiser, HandedOver, NetworkDenoiser
from ..generator import Generator
from ..metrics import Subject
from ..sampling import OneStep, Sampler
from .folder import Run
from .provenance import check
from .recipe import Recipe

GENERATED: tuple[Subject, ...] = ("l1-edm", "teacher-full", "teacher-truncated", "teacher-refined", "student")

_COMMANDS = {"student": "distill", "refined": "refine"}


def subjects_of(run: Run) -> list[Subject]:
    """Everything that the run has trained. Without noise there is nothing to truncate a sampler for."""
    found: list[Subject] = [subject for subject in GENERATED if run.trained(stage_of(subject))]
    if "teacher-truncated" in found and load_network_config(run.stage("teacher")).build_corruption().sigma_max == 0:
        found.remove("teacher-truncated")
    return found


def stage_of(subject: Subject) -> str:
    """Whose network draws the images of a subject."""
    return {"student": "student", "l1-edm": "baseline", "teacher-refined": "refined"}.get(subject, "teacher")


def trained(run: Run, subject: Subject) -> Generator:
    """The network of a subject with the way it draws, on the run's device. Raises UserError if there is none."""
    stage = stage_of(subject)
    if not run.trained(stage):
        raise UserError(f"{run.path}: has no {stage} yet; run `restill {_COMMANDS.get(stage, 'pretrain')}`")
    check(run, stage)
    config, section = load_network_config(run.stage(stage)), run.recipe.sampling
    denoiser = refined_teacher(run) if subject == "teacher-refined" else loaded(run, stage)
    return Generator(denoiser, config, sampler_of(subject, run.recipe, config), section.batch_size)


def loaded(run: Run, stage: str) -> NetworkDenoiser:
    """The network of a stage, on the run's device."""
    denoiser = run.recipe.execution.prepared(load_network(run.stage(stage))[0])
    run.recipe.execution.compiled(denoiser)
    return denoiser


def refined_teacher(run: Run) -> Denoiser:
    """The teacher of two networks: that of phase I above the noise of the measurements, the refined one below."""
    return handed_over(run, loaded(run, "teacher"), loaded(run, "refined"))


def handed_over(run: Run, teacher: Denoiser, low: Denoiser) -> Denoiser:
    """Both as one; the hand-over is at the noise level of the measurements."""
    at = load_network_config(run.stage("teacher")).build_corruption().sigma_max
    return HandedOver(teacher, low, at, run.recipe.refine.levels.band).eval()


def sampler_of(subject: Subject, recipe: Recipe, config: NetworkConfig) -> Sampler:
    """How a subject draws. A teacher's sampler ends at the noise level of the measurements, below it, or at 0."""
    if subject == "student":
        if config.init_sigma is None:
            raise UserError("the student's config.json lacks init_sigma")
        return OneStep(init_sigma=config.init_sigma)
    ends = {"teacher-truncated": 1.0, "teacher-refined": recipe.refine.stop_at}.get(subject, 0.0)
    return recipe.sampling.of_teacher(ends * config.build_corruption().sigma_max if ends else 0.0)
