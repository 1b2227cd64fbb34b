"""Reports: what one run holds, or several, as a page that people read."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
import yaml
from torch import Tensor

from ..errors import UserError
from ..files import sha256
from ..metrics import (
    ClassifierFeatures,
    DinoFeatures,
    InceptionFeatures,
    Measured,
    PixelFeatures,
    load_results,
)
from ..metrics.neighbours import nearest
from ..progress import progress_bar
from ..report import (
    ComparisonData,
    Measurements,
    Nearest,
    ReportData,
    RunData,
    Verdict,
    check_replaceable,
    judge,
    write_comparison,
    write_report,
)
from ..store import Batch, Store, open_store
from ..version import VERSION
from .folder import Run, open_run
from .images import save_grid, save_overview
from .subjects import stage_of, subjects_of, trained

_ENLARGED, _NEIGHBOURS = 6, 2  # images beside their nearest measurements, and how many of these
_COMPARED = 36  # images of each run on a page that compares runs
_NUMBERS = 1 << 24  # in a batch of measurements that is looked through
_PAIRS = (
    "Each measurement, and what the teacher restores from it in one evaluation, against its own clean image: these say "
    "nothing about images that were drawn from nothing."
)


def report(run: Run) -> Verdict:
    """Write `report.html` and the sample grids from what the run holds; returns the verdict.

    Raises:
        UserError: the run has not been evaluated.
    """
    measured, store, recipe = _measured(run), open_store(run.store), run.recipe
    images, hashes = _images(run, store)
    for name, drawn in images.items():
        save_grid(run.path / "samples" / f"{name}.png", drawn)
    save_overview(run.path / "samples" / "overview.png", images)
    facts, near = look_through(store, images["student"][:_ENLARGED] if "student" in images else None)
    data = ReportData(
        title=recipe.name,
        results=measured.results,
        n_measurements=len(store),
        corruption=store.corruption.describe(),
        images=images,
        log=run.read_log(),
        recipe=yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False),
        versions=versions(),
        seeds={"run": recipe.seed, **{f"sampling {i + 1}": seed for i, seed in enumerate(recipe.evaluation.seeds)}},
        hashes=hashes,
        checks=measured.checks,
        measurements=facts,
        nearest=near,
        shown=_shown(store),
        command=f"restill run {run.path / 'recipe.yaml'} --out {run.path}-again",
    )
    write_report(run.report, data)
    return judge(measured.results, len(store), store.corruption.describe())


def compare_runs(paths: Sequence[Path], out: Path) -> None:
    """Write one page that compares several evaluated runs, which are only read.

    Raises:
        UserError: the same run twice, a path that is no run or was not evaluated, or another file at `out`.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run is compared with itself: name each run once")
    check_replaceable(out)
    runs = [open_run(path) for path in paths]
    seed = runs[0].recipe.evaluation.seeds[0]
    data = ComparisonData(
        [_run_data(run, label, seed) for run, label in zip(runs, _labels(paths), strict=True)],
        _differences(runs),
        _shown(open_store(runs[0].store, verify=False)),
        versions(),
        command=f"restill report {' '.join(map(str, paths))} --out {out}",
    )
    write_comparison(out, data)


def look_through(store: Store, images: Tensor | None) -> tuple[Measurements, Nearest | None]:
    """What the measurements of a store are like, and those nearest to each of some images, in one pass.

    Args:
        images: `[m, C, H, W]` in normalised units; without them none are looked for.

    Returns:
        Facts for the report, and for each image its two nearest measurements on the image grid by Euclidean distance
        of the pixels, found among all.
    """
    low, high, best = float("inf"), float("-inf"), _Best()
    with progress_bar(f"{'report':17}", len(store), unit="measurements") as advance:
        for batch in store.iterate(max(1, min(1024, _NUMBERS // math.prod(store.shape)))):
            low, high = min(low, float(batch.y.min())), max(high, float(batch.y.max()))
            if images is not None:
                best.look(images, on_image_grid(batch))
            advance(done=len(batch))
    manifest = store.manifest
    estimate = manifest.sigma_n.estimate
    facts = Measurements(
        store.shape,
        (low, high),
        manifest.value_range,
        store.sigma_n.tolist(),
        manifest.normalisation.scale,
        manifest.sigma_n.estimated,
        manifest.provenance.source,
        estimate.interval if estimate else None,
        estimate.method if estimate else "",
    )
    if images is None:
        return facts, None
    return facts, Nearest(images, best.measurements, best.distances / images[0].numel() ** 0.5)


class _Best:
    """The nearest measurements so far, of batches that are not kept."""

    distances: Tensor
    measurements: Tensor

    def __init__(self) -> None:
        self._empty = True

    def look(self, images: Tensor, batch: Tensor) -> None:
        found, rows = nearest(images.flatten(1), batch.flatten(1), min(_NEIGHBOURS, len(batch)))
        candidates = batch[rows]
        if not self._empty:
            found = torch.cat([self.distances, found], dim=1)
            candidates = torch.cat([self.measurements, candidates], dim=1)
        order = found.argsort(dim=1, stable=True)[:, :_NEIGHBOURS]
        self.distances = found.gather(1, order)
        self.measurements = candidates[torch.arange(len(images))[:, None], order]
        self._empty = False


def on_image_grid(batch: Batch) -> Tensor:
    """The measurements of a batch as images `[n, C, H, W]`."""
    return batch.y if batch.operator is None else batch.operator.to_image(batch.y)


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
    return load_results(run.metrics)


def _shown(store: Store) -> dict[str, str]:
    """What a number in each of restill's own feature spaces can show; `metrics.json` has only their names."""
    spaces = (PixelFeatures(store.image_shape), ClassifierFeatures, InceptionFeatures, DinoFeatures)
    return {space.name: space.shows for space in spaces} | {"pairs": _PAIRS}


def _images(run: Run, store: Store) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The first images of every subject, and hashes of what made them."""
    show = run.recipe.sampling.show
    images = {"measurements": on_image_grid(store.batch(torch.arange(min(show, len(store)))))}
    hashes = {"measurements": store.fingerprint}
    for subject in subjects_of(run):
        source, stage = trained(run, subject), stage_of(subject)
        images[subject] = torch.cat(list(source.draw(range(show), run.recipe.evaluation.seeds[0])))
        hashes[stage] = sha256(run.stage(stage) / "model.safetensors")
    return images, hashes


def _run_data(run: Run, label: str, seed: int) -> RunData:
    measured, store = _measured(run), open_store(run.store, verify=False)
    images = None
    if run.trained("student"):
        images = torch.cat(list(trained(run, "student").draw(range(_COMPARED), seed)))
    return RunData(
        label,
        measured.results,
        len(store),
        store.corruption.describe(),
        checks=measured.checks,
        images=images,
        log=run.read_log(),
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """Names of the directories; where two are alike, the paths as they were given."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Keys in which any two recipes differ, with the value of each."""
    recipes = [run.recipe for run in runs]
    keys = dict.fromkeys(key for a, b in combinations(recipes, 2) for key in a.differences(b))
    return [(key, [json.dumps(recipe.value(key), ensure_ascii=False) for recipe in recipes]) for key in keys]
