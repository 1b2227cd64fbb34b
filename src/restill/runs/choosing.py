"""`restill select`: after a distillation, the best of all its checkpoints and lengths of average.

Every candidate draws the same latents and is corrupted with the same operators and noise, so that differences between
candidates are those of their weights. Only the proximal distance chooses; a reference of clean images is for show.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ..checkpoint import load_state_data, save_network
from ..core.errors import UserError
from ..core.files import read_json, replacing, sha256, write_json
from ..core.modules import restore_module
from ..core.progress import Advance, progress_bar
from ..core.tensors import mix_seed
from ..metrics import Moments, feature_moments, frechet_distance, pixels_of
from ..report.selection_report import Candidate, Choice, choose, selection_png
from ..store import Store, open_store
from ..store.reference import open_reference
from .candidates import OWN, averaged, measured_moments, parts_of, proximal_estimate, snapshots_of
from .folder import Run
from .phases import finished
from .subjects import trained

LENGTHS = (0.03, 0.05, 0.10, 0.15, 0.20)
_REPEATS = 3  # sets of latents and of corruptions on which each candidate is measured


@dataclasses.dataclass(frozen=True)
class _Checkpoint:
    """Weights to be measured: a weighted sum of files."""

    images: int
    sigma_rel: float | None
    parts: tuple[tuple[Path, float], ...]


def select(
    run: Run, reference: Path | None = None, sigma_rels: Sequence[float] = LENGTHS, keep: bool = False
) -> Choice:
    """Measure all snapshots at several lengths of average, and write `student/selection.json` and `selection.png`.

    What was measured before, of the same files with the same settings, is not measured again.

    Args:
        reference: store of clean images, to show what the choice is worth; it is never used for choosing.
        sigma_rels: relative lengths of the averages, each in (0, 0.2886].
        keep: make the best the run's student, `student/model.safetensors`.

    Raises:
        UserError: no student or snapshots yet; an impossible length; a reference that does not fit the measurements;
            `keep` while the distillation is not finished.
    """
    if not run.trained("student"):
        raise UserError(f"{run.path}: has no student yet; run `restill distill {run.path}`")
    if keep and not finished(run, "student"):
        raise UserError(f"{run.path}: the distillation is not finished; `restill distill {run.path}` continues it")
    checkpoints, left_out = _checkpoints(run, sigma_rels)
    measurer = _Measurer(run, reference)
    file = run.stage("student") / "selection.json"
    rows, others = _rows(file, measurer, checkpoints)
    choice = choose([_candidate(row, reference is not None) for row in rows], left_out)
    best = rows[choice.candidates.index(choice.best)]
    write_json(file, {"best": best, "sentences": choice.sentences, "rows": rows, "others": others})
    with replacing(file.with_suffix(".png")) as temporary:
        temporary.write_bytes(selection_png(choice))
    if keep:
        _keep(run, measurer, checkpoints[choice.candidates.index(choice.best)])
    return choice


def _checkpoints(run: Run, sigma_rels: Sequence[float]) -> tuple[list[_Checkpoint], int]:
    """What to measure, and the number of averages that the snapshots do not determine."""
    snapshots, found, left_out = snapshots_of(run), [], 0
    for images in sorted({snapshot.images for snapshot in snapshots}):
        for sigma_rel in sorted(set(sigma_rels)):
            parts = parts_of(snapshots, images, sigma_rel)
            if parts is None:
                left_out += 1
            else:
                found.append(_Checkpoint(images, sigma_rel, parts))
    own = _own(run)
    return [*found, _Checkpoint(int(load_state_data(own)["images_seen"]), None, ((own, 1.0),))], left_out


def _own(run: Run) -> Path:
    """The student that the run itself kept."""
    kept = run.snapshots / OWN
    return kept if kept.exists() else run.stage("student") / "model.safetensors"


class _Measurer:
    """Measures weights of the student; always with the same latents, operators and noise."""

    def __init__(self, run: Run, reference: Path | None) -> None:
        recipe, store = run.recipe, open_store(run.store)
        self.recipe, self.law = recipe, store.corruption
        self.source = trained(run, "student")
        self.features = pixels_of(self.source.config.grid, self.source.config.complex_values)
        self.measured = measured_moments(store, self.features)
        self.clean, self.reference = self._clean(store, reference)
        self.images = _REPEATS * recipe.student.select_samples
        self.settings = {
            "seed": recipe.seed,
            "samples": recipe.student.select_samples,
            "repeats": _REPEATS,
            "precision": recipe.execution.precision,
            "features": self.features.fingerprint,
            "measurements": store.fingerprint,
        }

    def _clean(self, store: Store, reference: Path | None) -> tuple[Moments | None, str | None]:
        """Moments of the clean images, and the fingerprint of their store."""
        if reference is None:
            return None, None
        clean = open_reference(reference, store)
        return feature_moments((batch.x for batch in clean.iterate(clean.block)), self.features), clean.fingerprint

    def key(self, checkpoint: _Checkpoint, hashes: dict[Path, str]) -> str:
        """Equal for equal weights that are measured in the same way."""
        parts = [[hashes[path], f"{weight:.9g}"] for path, weight in checkpoint.parts]
        return hashlib.sha256(json.dumps([parts, self.settings]).encode()).hexdigest()

    def load(self, checkpoint: _Checkpoint) -> None:
        """Put weights into the network."""
        try:
            restore_module(self.source.denoiser.net, averaged(checkpoint.parts))
        except UserError as error:
            raise UserError(f"{checkpoint.parts[0][0]}: {error}") from error

    def measure(self, checkpoint: _Checkpoint, advance: Advance) -> dict[str, Any]:
        """A row of `selection.json`, but for its key."""
        self.load(checkpoint)
        values, errors, clean = [], [], []
        for repeat in range(_REPEATS):
            seed = mix_seed("select", self.recipe.seed, repeat)
            drawn = []
            for batch in self.source.draw(range(self.recipe.student.select_samples), seed):
                drawn.append(batch)
                advance(done=len(batch))
            images = torch.cat(drawn)
            value, std, _ = proximal_estimate(images, self.law, self.features, self.measured, seed)
            values.append(value)
            errors.append(std or 0.0)
            if self.clean is not None:
                clean.append(frechet_distance(feature_moments(images.split(1024), self.features), self.clean))
        row: dict[str, Any] = {"images": checkpoint.images, "sigma_rel": checkpoint.sigma_rel}
        row |= {"proximal_frechet": fmean(values), "error": math.hypot(*errors) / _REPEATS, "values": values}
        return row | ({"clean_frechet": fmean(clean), "reference": self.reference} if clean else {})


def _rows(
    file: Path, measurer: _Measurer, checkpoints: Sequence[_Checkpoint]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each checkpoint, and the other rows of `file`. Only new ones are measured, and written at once."""
    hashes = {path: sha256(path) for path in sorted({path for c in checkpoints for path, _ in c.parts})}
    keys = [measurer.key(checkpoint, hashes) for checkpoint in checkpoints]
    known = _known_rows(file)
    missing = {key for key in keys if key not in known or measurer.reference not in (None, known[key].get("reference"))}
    with progress_bar("select  ", len(missing) * measurer.images) as advance:
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
            _candidate(row, with_clean=True)
        return rows
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{file}: is not what `restill select` writes; remove it") from None


def _candidate(row: dict[str, Any], with_clean: bool) -> Candidate:
    clean = row.get("clean_frechet") if with_clean else None
    return Candidate(row["images"], row["sigma_rel"], tuple(row["values"]), row["error"], clean)


def _keep(run: Run, measurer: _Measurer, checkpoint: _Checkpoint) -> None:
    """Make a checkpoint the run's student; the run's own one is put aside the first time."""
    config, folder = measurer.source.config, run.stage("student")
    now = load_state_data(folder / "model.safetensors")  # config.json is written first, so a kill may leave it ahead
    length = now.get("ema_sigma_rel")
    if (now["images_seen"], length) == (checkpoint.images, checkpoint.sigma_rel):
        return
    if length is None:
        with replacing(run.snapshots / OWN) as temporary:
            shutil.copyfile(folder / "model.safetensors", temporary)
    measurer.load(checkpoint)
    config = config.model_copy(update={"images_seen": checkpoint.images, "ema_sigma_rel": checkpoint.sigma_rel})
    save_network(folder, measurer.source.denoiser, config)
