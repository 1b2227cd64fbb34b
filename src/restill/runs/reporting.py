"""Reports: what one run holds, or several, as a page that people read."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from ..checks.nearest import look_through, missing_pixels
from ..core.errors import UserError
from ..core.plugins import from_files
from ..core.reading import sha256
from ..core.version import VERSION
from ..core.views import clipped, displayed, phase_colours
from ..metrics import (
    OF_MAGNITUDES,
    ClassifierFeatures,
    Measured,
    PixelFeatures,
    load_results,
    named_features,
)
from ..report import (
    Examples,
    ReportData,
    RunData,
    Verdict,
    check_replaceable,
    judge,
    shortened,
    write_comparison,
    write_report,
)
from ..store import Store, open_store
from .examples import load_examples
from .folder import Run, open_run
from .provenance import check_metrics
from .saved_images import save_grids, save_overview
from .subjects import stage_of, subjects_of, trained

_ENLARGED = 6  # images beside their nearest measurements
_COMPARED = 36  # images of each run on a page that compares runs
_PAIRS = (
    "Each measurement, and its restoration by the teacher in one evaluation, against its own clean image. These "
    "numbers do not judge generated images."
)


class Pictures(NamedTuple):
    """The first images of every subject, where the measurements have gaps, hashes of what made them; clean images."""

    images: dict[str, Tensor]
    missing: Tensor | None
    hashes: dict[str, str]
    examples: Examples | None


def report(run: Run) -> Verdict:
    """Write `report.html` and the sample grids from what the run holds; returns the verdict.

    Raises:
        UserError: the run has not been evaluated.
    """
    measured, store = _measured(run), open_store(run.store)
    pictures = _pictures(run, store, measured)
    verdict = judge(measured.results, len(store), store.corruption)
    _save(pictures, run.path / "samples", verdict.names, store.is_complex)
    write_report(run.report, _data(run, store, measured, pictures))
    return verdict


def _save(pictures: Pictures, folder: Path, names: Mapping[str, str], is_complex: bool) -> None:
    """A grid of each subject, of complex images one of phases too, and all of them side by side."""
    images, missing = pictures.images, pictures.missing
    for name, drawn in images.items():
        save_grids(folder / f"{name}.png", drawn, is_complex, missing if name == "measurements" else None)
    called = {names.get(name, name): displayed(drawn, is_complex) for name, drawn in images.items()}
    if pictures.examples is not None:
        called["clean"] = pictures.examples.clean
    save_overview(folder / "overview.png", called, {} if missing is None else {"measurements": missing})


def _data(run: Run, store: Store, measured: Measured, pictures: Pictures) -> ReportData:
    recipe, images = run.recipe, pictures.images
    found, near = look_through(store, images["student"][:_ENLARGED] if "student" in images else None)
    files = [f" --operator {name}.py" for name in dict.fromkeys(store.corruption.functions)]
    files += [f" --plugin {name}.py" for name in from_files(recipe.plugins)]
    return ReportData(
        recipe.name,
        measured,
        store,
        images={name: displayed(drawn, store.is_complex) for name, drawn in images.items()},
        log=run.read_log(),
        found=found,
        recipe=yaml.safe_dump(shortened(recipe.model_dump(mode="json")), sort_keys=False),
        versions=versions(),
        seeds={"run": recipe.seed, **{f"sampling {i + 1}": seed for i, seed in enumerate(recipe.evaluation.seeds)}},
        hashes=pictures.hashes,
        nearest=near,
        shown=_shown(store),
        command=f"restill run {run.path / 'recipe.yaml'} --out {run.path}-again{''.join(files)}",
        missing=pictures.missing,
        examples=pictures.examples,
        phases={name: phase_colours(drawn) for name, drawn in images.items()} if store.is_complex else {},
    )


def compare_runs(paths: Sequence[Path], out: Path) -> None:
    """Write one page that compares several evaluated runs, which are only read.

    Raises:
        UserError: the same run twice, a path that is no run or was not evaluated, or another file at `out`.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run cannot be compared with itself: name each run once")
    check_replaceable(out)
    runs = [open_run(path) for path in paths]
    seed = runs[0].recipe.evaluation.seeds[0]
    write_comparison(
        out,
        [_run_data(run, label, seed) for run, label in zip(runs, _labels(paths), strict=True)],
        _differences(runs),
        _shown(open_store(runs[0].store, verify=False)),
        versions(),
        command=f"restill report {' '.join(map(str, paths))} --out {out}",
    )


def versions() -> dict[str, str]:
    """Versions of the software that a result depends on."""
    return {
        "restill": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _measured(run: Run) -> Measured:
    if not run.metrics.exists():
        raise UserError(f"{run.metrics}: no such file; run `restill evaluate {run.path}` first")
    check_metrics(run)
    return load_results(run.metrics)


def _shown(store: Store) -> dict[str, str]:
    """What a number in each feature space can show; `metrics.json` has only their names."""
    shows = {space.kind: space.shows for space in named_features()}
    shows |= {space.name: space.shows for space in (PixelFeatures(store.displayed_shape), ClassifierFeatures)}
    more = f" {OF_MAGNITUDES}" if store.is_complex else ""
    return {name: f"{words}{more}" for name, words in shows.items()} | {"pairs": _PAIRS}


def _pictures(run: Run, store: Store, measured: Measured) -> Pictures:
    show = run.recipe.sampling.show
    batch = store.batch(torch.arange(min(show, len(store))))
    images = {"measurements": batch.operator.to_image(batch.y)}
    hashes = {"measurements": store.fingerprint}
    if run.reconstructions.exists():
        reconstructed = open_store(run.reconstructions)
        images["l1-wavelet"] = reconstructed.batch(torch.arange(len(batch))).y
        hashes["l1-wavelet"] = reconstructed.fingerprint
    for subject in subjects_of(run):
        source, stage = trained(run, subject), stage_of(subject)
        drawn = torch.cat(list(source.draw(range(show), run.recipe.evaluation.seeds[0])))
        images[subject] = clipped(drawn, store.bounds)
        hashes[stage] = sha256(run.stage(stage) / "model.safetensors")
    missing = missing_pixels(batch, store.corruption, store.image_shape)
    return Pictures(images, missing, hashes, load_examples(run, store, measured.results))


def _run_data(run: Run, label: str, seed: int) -> RunData:
    measured, store, images = _measured(run), open_store(run.store, verify=False), {}
    if run.trained("student"):
        drawn = torch.cat(list(trained(run, "student").draw(range(_COMPARED), seed)))
        images["student"] = displayed(drawn, store.is_complex)
    return RunData(label, measured, store, images, run.read_log())


def _labels(paths: Sequence[Path]) -> list[str]:
    """Names of the directories; where two are alike, the paths as they were given."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Keys in which any two recipes differ, with the value of each."""
    recipes = [run.recipe for run in runs]
    keys = dict.fromkeys(key for a, b in combinations(recipes, 2) for key in a.differences(b))
    return [(key, [json.dumps(shortened(recipe.value(key)), ensure_ascii=False) for recipe in recipes]) for key in keys]
