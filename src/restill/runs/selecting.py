"""`restill select`: after a distillation, the best of all its checkpoints and lengths of average."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..checkpoint import load_state_data, save_network
from ..core.errors import UserError
from ..core.files import replacing, write_json
from ..metrics import Proximal, feature_moments, pixels_of
from ..report.selection_report import selection_png
from ..selection import Choice, choose
from ..selection.measuring import Checkpoint, CleanMoments, Measurer, candidate_of, checkpoints_of, measured_rows
from ..selection.snapshots import OWN, snapshots_in
from ..store import open_store
from ..store.reference import open_reference
from .folder import Run
from .phases import finished
from .provenance import check
from .subjects import trained

LENGTHS = (0.03, 0.05, 0.10, 0.15, 0.20)


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
    check(run, "student")
    if keep and not finished(run, "student"):
        raise UserError(f"{run.path}: distillation is not finished; continue with `restill distill {run.path}`")
    kept = run.snapshots / OWN  # the student that the run itself kept, once another one has taken its place
    own = kept if kept.exists() else run.stage("student") / "model.safetensors"
    checkpoints, left_out = checkpoints_of(snapshots_in(run.snapshots), sigma_rels, own)
    measurer = _measurer(run, reference)
    file = run.stage("student") / "selection.json"
    rows, others = measured_rows(file, measurer, checkpoints)
    choice = choose([candidate_of(row, reference is not None) for row in rows], left_out)
    best = rows[choice.candidates.index(choice.best)]
    write_json(file, {"best": best, "sentences": choice.sentences, "rows": rows, "others": others})
    with replacing(file.with_suffix(".png")) as temporary:
        temporary.write_bytes(selection_png(choice))
    if keep:
        _keep(run, measurer, checkpoints[choice.candidates.index(choice.best)])
    return choice


def _measurer(run: Run, reference: Path | None) -> Measurer:
    recipe, store, student = run.recipe, open_store(run.store), trained(run, "student")
    features = pixels_of(student.config.grid, student.config.complex_values)
    clean = None
    if reference is not None:
        images = open_reference(reference, store)
        moments = feature_moments(images.image_blocks(), features)
        clean = CleanMoments(moments, images.fingerprint)
    settings = {"clipping": store.clipping} if store.bounds else {}
    settings |= {
        "precision": recipe.execution.precision,
        "features": features.fingerprint,
        "measurements": store.fingerprint,
    }
    samples = recipe.student.select_samples
    return Measurer(
        student, Proximal(store, features, store.bounds), clean, samples=samples, seed=recipe.seed, settings=settings
    )


def _keep(run: Run, measurer: Measurer, checkpoint: Checkpoint) -> None:
    """Make a checkpoint the run's student; the run's own one is put aside the first time."""
    config, folder = measurer.student.config, run.stage("student")
    now = load_state_data(folder / "model.safetensors")  # config.json is written first, so a kill may leave it ahead
    length = now.get("ema_sigma_rel")
    if (now["images_seen"], length) == (checkpoint.images, checkpoint.sigma_rel):
        return
    if length is None:
        with replacing(run.snapshots / OWN) as temporary:
            shutil.copyfile(folder / "model.safetensors", temporary)
    measurer.load(checkpoint)
    config = config.model_copy(update={"images_seen": checkpoint.images, "ema_sigma_rel": checkpoint.sigma_rel})
    save_network(folder, measurer.student.denoiser, config)
