"""Snapshots of a student during its distillation, for a later choice; they need no clean image.

At each of several times two averages of different length are written; `averaged` makes averages of other lengths from
them (`training/posthoc.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..checkpoint import load_state, load_state_data, save_state
from ..core.errors import UserError
from ..core.modules import module_state
from ..training import Distillation, Progress
from ..training.posthoc import Profile, combine, profile_error

OWN = "own.safetensors"  # among the snapshots: the run's own student, once another one has taken its place
MAX_PROFILE_ERROR = 0.2  # of an average that is made from snapshots, before it may be called by its length


def snapshot_steps(steps: int, number: int) -> frozenset[int]:
    """Up to `number` different steps from 1 to `steps`, evenly spaced, the last one among them."""
    return frozenset(max(1, round(k * steps / number)) for k in range(1, number + 1))


class Snapshots:
    """Writes the power averages of the student into a folder, at evenly spaced times."""

    def __init__(self, folder: Path, training: Distillation) -> None:
        self.folder, self.training = folder, training
        self.steps = snapshot_steps(training.steps, training.settings.snapshots)

    def __call__(self, progress: Progress) -> None:
        """After a step: writes one file for each average when that is due."""
        if progress.step not in self.steps or not self.training.generator.powers:
            return
        self.training.guard.check()  # no snapshot holds a NaN
        for power in self.training.generator.powers:
            tensors = {name.removeprefix("net."): value for name, value in module_state(power.module).items()}
            data = {"images": progress.images, "sigma_rel": power.sigma_rel}
            save_state(self.folder / f"{progress.images:08d}-{power.sigma_rel:g}.safetensors", tensors, data)


@dataclass(frozen=True)
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


def snapshots_in(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, by images and length. Raises UserError where there are none, or a file is damaged."""
    found = []
    for path in folder.glob("*.safetensors"):
        if path.name != OWN:
            data = load_state_data(path)
            try:
                found.append(Snapshot(path, int(data["images"]), float(data["sigma_rel"])))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise UserError(f"{path}: is not a snapshot of a student; remove it") from None
    if not found:
        raise UserError(f"{folder}: holds no snapshots of the student; distil it with student.snapshots of at least 1")
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
