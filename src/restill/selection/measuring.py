"""Measuring the checkpoints of a student, each of them once.

Every candidate draws the same latents and is corrupted with the same operators and noise, so that differences between
candidates are those of their weights. Only the proximal distance chooses; clean images are for show.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from ..checkpoint import load_state_data
from ..core.errors import UserError
from ..core.files import write_json
from ..core.modules import restore_module
from ..core.progress import Advance, progress_bar
from ..core.reading import read_json, sha256, understood
from ..core.tensors import mix_seed
from ..core.views import clipped
from ..generator import Generator
from ..metrics import Moments, Proximal, feature_moments, frechet_distance
from .choice import Candidate
from .snapshots import Snapshot, averaged, parts_of

_REPEATS = 3  # sets of latents and of corruptions on which each candidate is measured


@dataclass(frozen=True)
class Checkpoint:
    """Weights to be measured: a weighted sum of files.

    Attributes:
        images: length of the distillation so far, in generated images.
        sigma_rel: relative length of the average; None for the run's own one.
        parts: the files with their weights.
    """

    images: int
    sigma_rel: float | None
    parts: tuple[tuple[Path, float], ...]


class CleanMoments(NamedTuple):
    """Clean images to show distances to: moments in the features of the choice, and the fingerprint of their store."""

    moments: Moments
    fingerprint: str


def checkpoints_of(snapshots: Sequence[Snapshot], lengths: Sequence[float], own: Path) -> tuple[list[Checkpoint], int]:
    """What to measure, the student `own` last, and the number of averages that the snapshots do not determine."""
    found, left_out = [], 0
    for images in sorted({snapshot.images for snapshot in snapshots}):
        for sigma_rel in sorted(set(lengths)):
            parts = parts_of(snapshots, images, sigma_rel)
            if parts is None:
                left_out += 1
            else:
                found.append(Checkpoint(images, sigma_rel, parts))
    with understood(own, "a student of restill"):
        seen = int(load_state_data(own)["images_seen"])
    return [*found, Checkpoint(seen, None, ((own, 1.0),))], left_out


class Measurer:
    """Measures weights of a student, always with the same latents, operators and noise.

    Args:
        student: its weights are replaced by those to be measured.
        proximal: the distance that chooses.
        clean: clean images to show the distance to.
        samples: images in each set of draws.
        seed: of the run.
        settings: what else the values depend on, as plain data.
    """

    def __init__(
        self,
        student: Generator,
        proximal: Proximal,
        clean: CleanMoments | None,
        *,
        samples: int,
        seed: int,
        settings: dict[str, Any],
    ) -> None:
        self.student, self.proximal, self.clean = student, proximal, clean
        self.samples, self.seed = samples, seed
        self.images_of_each = _REPEATS * samples
        self.settings = {"seed": seed, "samples": samples, "repeats": _REPEATS, **settings}

    def key(self, checkpoint: Checkpoint, hashes: dict[Path, str]) -> str:
        """Equal for equal weights that are measured in the same way."""
        parts = [[hashes[path], f"{weight:.9g}"] for path, weight in checkpoint.parts]
        return hashlib.sha256(json.dumps([parts, self.settings]).encode()).hexdigest()

    def load(self, checkpoint: Checkpoint) -> None:
        """Put weights into the network."""
        try:
            weights = averaged(checkpoint.parts)
            restore_module(self.student.denoiser, {f"net.{name}": value for name, value in weights.items()})
        except UserError as error:
            raise UserError(f"{checkpoint.parts[0][0]}: {error}") from error

    def measure(self, checkpoint: Checkpoint, advance: Advance) -> dict[str, Any]:
        """A row of `selection.json`, but for its key."""
        self.load(checkpoint)
        values, errors, clean = [], [], []
        for repeat in range(_REPEATS):
            seed = mix_seed("select", self.seed, repeat)
            drawn = []
            for batch in self.student.draw(range(self.samples), seed):
                drawn.append(batch)
                advance(done=len(batch))
            images = clipped(torch.cat(drawn), self.proximal.bounds)
            value, std, _ = self.proximal(images, seed)
            values.append(value)
            errors.append(std or 0.0)
            if self.clean is not None:
                ours = feature_moments(images.split(1024), self.proximal.features)
                clean.append(frechet_distance(ours, self.clean.moments))
        row: dict[str, Any] = {"images": checkpoint.images, "sigma_rel": checkpoint.sigma_rel}
        row |= {"proximal_frechet": fmean(values), "error": math.hypot(*errors) / _REPEATS, "values": values}
        if self.clean is not None:
            row |= {"clean_frechet": fmean(clean), "reference": self.clean.fingerprint}
        return row

    def lacks(self, row: dict[str, Any] | None) -> bool:
        """Whether there is no such row yet, or it has no distance to these clean images."""
        return row is None or (self.clean is not None and row.get("reference") != self.clean.fingerprint)


def candidate_of(row: dict[str, Any], with_clean: bool = True) -> Candidate:
    """A row of `selection.json` as a candidate. Raises KeyError or TypeError where it is none."""
    clean = row.get("clean_frechet") if with_clean else None
    return Candidate(row["images"], row["sigma_rel"], tuple(row["values"]), row["error"], clean)


def measured_rows(
    file: Path, measurer: Measurer, checkpoints: Sequence[Checkpoint]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each checkpoint, and the other rows of `file`. Only new ones are measured, and written at once."""
    hashes = {path: sha256(path) for path in sorted({path for c in checkpoints for path, _ in c.parts})}
    keys = [measurer.key(checkpoint, hashes) for checkpoint in checkpoints]
    known = _known_rows(file)
    missing = {key for key in keys if measurer.lacks(known.get(key))}
    with progress_bar("select  ", len(missing) * measurer.images_of_each) as advance:
        for key, checkpoint in zip(keys, checkpoints, strict=True):
            if key in missing:
                known[key] = {**measurer.measure(checkpoint, advance), "key": key}
                write_json(file, {"rows": list(known.values())})
    return [known[key] for key in keys], [row for key, row in known.items() if key not in keys]


def _known_rows(file: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier selection, by key."""
    if not file.exists():
        return {}
    data = read_json(file)
    try:
        rows = {row["key"]: row for row in [*data["rows"], *data.get("others", [])]}
        for row in rows.values():
            _check_numbers(candidate_of(row))
        return rows
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise UserError(f"{file}: was not written by `restill select`; remove it") from None


def _check_numbers(candidate: Candidate) -> None:
    """Raises ValueError or TypeError unless a candidate of a file holds finite numbers."""
    numbers = [candidate.images, candidate.error, *candidate.values]
    numbers += [number for number in (candidate.sigma_rel, candidate.clean) if number is not None]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("a row holds no finite numbers")
