"""What a distillation keeps of itself: the best averaged student so far, and snapshots for a later choice.

Neither sees a clean image. Snapshots are two averages of different length at each of some times; `averaged` makes those
of other lengths from them (`training/posthoc.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import NetworkConfig, load_state, load_state_data, save_network, save_state
from ..core.errors import UserError
from ..core.modules import module_state
from ..core.tensors import mix_seed
from ..corruption import Corruption
from ..metrics import (
    Estimate,
    Features,
    FeatureSet,
    Moments,
    feature_moments,
    pixels_of,
    recorrupted,
)
from ..metrics.frechet import frechet_estimate
from ..sampling import OneStep, generate
from ..store import Store
from ..training import Distillation, Progress
from ..training.posthoc import Profile, combine, profile_error
from .folder import Run

OWN = "own.safetensors"  # among the snapshots: the run's own student, once another one has taken its place
MAX_PROFILE_ERROR = 0.2  # of an average that is made from snapshots, before it may be called by its length


def measured_moments(store: Store, features: Features) -> Moments:
    """Moments of the features of the measurements, on the image grid."""
    return feature_moments((batch.operator.to_image(batch.y) for batch in store.iterate(store.block)), features)


def proximal_estimate(images: Tensor, law: Corruption, features: Features, measured: Moments, seed: int) -> Estimate:
    """Proximal Frechet distance of images `[n, C, H, W]`, with its standard error from the finite n."""
    corrupted = FeatureSet(features.dim)
    for batch in recorrupted([images], law, seed):
        corrupted.update(features(batch))
    return frechet_estimate(corrupted.moments, measured, corrupted.kept)


class Selection:
    """Keeps the averaged student of the smallest proximal Frechet distance; sees no clean image (RSD, section 5)."""

    def __init__(self, run: Run, training: Distillation, store: Store, teacher: NetworkConfig) -> None:
        self.run, self.training, self.store = run, training, store
        self.config = teacher.model_copy(update={"role": "student", "init_sigma": run.recipe.student.init_sigma})
        section = run.recipe.student
        self.every = max(1, section.select_every // section.batch_size)
        self.features = pixels_of(teacher.grid, teacher.complex_values)
        self.measured = measured_moments(store, self.features)

    def proximal(self) -> Estimate:
        """Proximal Frechet distance of the averaged student, from the same latents each time."""
        recipe, seed = self.run.recipe, mix_seed("selection", self.run.recipe.seed)
        indices = range(recipe.student.select_samples)
        sampler = OneStep(recipe.student.init_sigma)
        batches = generate(
            self.training.ema.module,
            sampler,
            indices,
            self.config.shape,
            seed,
            image_shape=self.config.grid,
            corruption=self.training.corruption,
            num_classes=self.config.num_classes,
            batch_size=recipe.sampling.batch_size,
        )
        images = torch.cat([batch.float().cpu() for batch in batches])
        return proximal_estimate(images, self.training.corruption, self.features, self.measured, seed)

    def __call__(self, progress: Progress, best: dict[str, Any]) -> dict[str, Any]:
        """After a step: perhaps look, perhaps keep. Returns the best so far."""
        if progress.step % self.every and progress.step != self.training.steps:
            return best
        self.training.guard.check()  # a NaN is to be reported as such, not as features that are not finite
        value, std, _ = self.proximal()
        row = {"stage": "student", "step": progress.step, "images": progress.images, "proximal_frechet": value}
        self.run.append_log(row | {"proximal_frechet_std": std})
        if best and value >= best["proximal_frechet"]:
            return best
        config = self.config.model_copy(update={"images_seen": progress.images})
        save_network(self.run.stage("student"), self.training.ema.module, config)
        return {"step": progress.step, "proximal_frechet": value}


def snapshot_steps(steps: int, number: int) -> frozenset[int]:
    """Up to `number` different steps from 1 to `steps`, evenly spaced, the last one among them."""
    return frozenset(max(1, round(k * steps / number)) for k in range(1, number + 1))


class Snapshots:
    """Writes the power averages of the student at evenly spaced times."""

    def __init__(self, run: Run, training: Distillation) -> None:
        self.run, self.training = run, training
        self.steps = snapshot_steps(training.steps, run.recipe.student.snapshots)

    def __call__(self, progress: Progress) -> None:
        """After a step: perhaps write one file for each average."""
        if progress.step not in self.steps or not self.training.powers:
            return
        self.training.guard.check()  # no snapshot holds a NaN
        for power in self.training.powers:
            tensors = {name.removeprefix("net."): value for name, value in module_state(power.module).items()}
            data = {"images": progress.images, "sigma_rel": power.sigma_rel}
            save_state(self.run.snapshots / f"{progress.images:08d}-{power.sigma_rel:g}.safetensors", tensors, data)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A file with averaged weights of the student.

    Attributes:
        path: the file.
        images: how long the student had been distilled.
        sigma_rel: relative length of the average.
    """

    path: Path
    images: int
    sigma_rel: float

    @property
    def profile(self) -> Profile:
        return float(self.images), self.sigma_rel


def snapshots_of(run: Run) -> list[Snapshot]:
    """The snapshots of a run, by images and length. Raises UserError where there are none, or a file is damaged."""
    found = []
    for path in run.snapshots.glob("*.safetensors"):
        if path.name != OWN:
            data = load_state_data(path)
            try:
                found.append(Snapshot(path, int(data["images"]), float(data["sigma_rel"])))
            except (KeyError, TypeError, ValueError):
                raise UserError(f"{path}: is no snapshot of a student; remove it") from None
    if not found:
        raise UserError(
            f"{run.snapshots}: holds no snapshots of the student; distil it with student.snapshots of at least 1"
        )
    return sorted(found, key=lambda snapshot: snapshot.profile)


def parts_of(snapshots: Sequence[Snapshot], images: int, sigma_rel: float) -> tuple[tuple[Path, float], ...] | None:
    """The snapshots that make up an average, with their weights; None where they do not come near enough to it."""
    target = (float(images), sigma_rel)
    for snapshot in snapshots:
        if snapshot.profile == target:
            return ((snapshot.path, 1.0),)
    profiles = [snapshot.profile for snapshot in snapshots]
    weights = combine(profiles, target)
    if profile_error(profiles, weights, target) > MAX_PROFILE_ERROR:
        return None
    return tuple((s.path, w) for s, w in zip(snapshots, weights.tolist(), strict=True) if w)


def averaged(parts: Sequence[tuple[Path, float]]) -> dict[str, Tensor]:
    """Weighted sum of files of weights, float32 (the sum in float64), by name of the tensor."""
    total: dict[str, Tensor] = {}
    for path, weight in parts:
        tensors, _ = load_state(path)
        for name, value in tensors.items():
            part = value.double() * weight
            total[name] = total[name].add_(part) if name in total else part
    return {name: value.float() for name, value in total.items()}
