"""Sampling, measuring and reporting: the only stage that opens clean images."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from ..checkpoint import NetworkConfig, load_network
from ..diffusion import Denoiser
from ..errors import UserError
from ..files import sha256
from ..metrics import (
    Features,
    Moments,
    PixelFeatures,
    Reference,
    Result,
    Subject,
    feature_moments,
    frechet_distance,
    load_results,
    mean_std,
    proximal_moments,
    save_results,
    train_classifier,
)
from ..progress import progress_bar
from ..report import ReportData, Verdict, judge, write_report
from ..sampling import Sampler, generate
from ..store import Store, open_store
from ..version import VERSION
from .folder import Run
from .images import save_grid, save_overview
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


@dataclass(frozen=True)
class Yardstick:
    """Features with the moments of what images are compared with."""

    features: Features
    reference: Reference
    moments: Moments
    fingerprint: str


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


def evaluate(run: Run, reference: Path | None = None) -> list[Result]:
    """Measure everything that the run has trained, and write `metrics.json`.

    Args:
        reference: store of clean images; by default the run's own, if it has one. Without it only proximal distances.
    """
    sources = [trained(run, subject) for subject in GENERATED if run.trained(stage_of(subject))]
    if not sources:
        raise UserError(f"{run.path}: has no trained network to evaluate yet; run `restill pretrain` first")
    store = open_store(run.store)
    path = reference or run.reference
    yardsticks = _yardsticks(run, store, open_store(path) if reference or path.exists() else None)
    results = _measure_measurements(store, yardsticks)
    for source in sources:
        results += _measure(run, source, yardsticks)
    save_results(run.metrics, results)
    return results


def _yardsticks(run: Run, store: Store, clean: Store | None) -> list[Yardstick]:
    pixels = PixelFeatures(store.manifest.image_shape)
    yardsticks = []
    if clean is not None:
        _check_reference(store, clean)
        yardsticks.append(Yardstick(pixels, "clean", feature_moments(_images(clean), pixels), clean.fingerprint))
        if run.recipe.evaluation.classifier and clean.labels is not None and min(clean.image_shape[1:]) >= 8:
            images = clean.batch(torch.arange(len(clean)))
            with progress_bar("features", 400, unit="steps") as advance:
                classifier = train_classifier(images.y, clean.labels, advance=advance)
            moments = feature_moments(_images(clean), classifier)
            yardsticks.append(Yardstick(classifier, "clean", moments, clean.fingerprint))
    moments = feature_moments(_images(store), pixels)
    return [*yardsticks, Yardstick(pixels, "measurements", moments, store.fingerprint)]


def _check_reference(store: Store, clean: Store) -> None:
    ours, theirs = store.manifest, clean.manifest
    if ours.image_shape != theirs.image_shape:
        raise UserError(
            f"{clean.path}: holds images {list(theirs.image_shape)}, the measurements are of {list(ours.image_shape)}"
        )
    if ours.normalisation != theirs.normalisation:
        raise UserError(f"{clean.path}: has another range of values than {store.path}; make both with one command")


def _images(store: Store) -> Iterator[Tensor]:
    for batch in store.iterate(1024):
        yield batch.y if batch.operator is None else batch.operator.to_image(batch.y)


def _measure_measurements(store: Store, yardsticks: Sequence[Yardstick]) -> list[Result]:
    """The measurements themselves against the clean images: what there was to begin with."""
    return [
        Result(
            subject="measurements",
            metric="frechet",
            features=y.features.name,
            value=frechet_distance(feature_moments(_images(store), y.features), y.moments),
            n=len(store),
            reference=y.reference,
            features_fingerprint=y.features.fingerprint,
            reference_fingerprint=y.fingerprint,
        )
        for y in yardsticks
        if y.reference == "clean"
    ]


def _measure(run: Run, source: Source, yardsticks: Sequence[Yardstick]) -> list[Result]:
    """All metrics of one subject, over all sampling seeds."""
    section = run.recipe.evaluation
    values: list[list[float]] = [[] for _ in yardsticks]
    seconds = []
    with progress_bar(f"{source.subject:17}", section.samples * len(section.seeds)) as advance:
        list(source.draw(range(-source.batch_size, 0), seed=0))  # the first batch also pays for allocation
        for seed in section.seeds:
            images, started = [], time.perf_counter()
            for batch in source.draw(range(section.samples), seed):
                images.append(batch)
                advance(done=len(batch))
            seconds.append(time.perf_counter() - started)
            drawn = torch.cat(images)
            for value, yardstick in zip(values, yardsticks, strict=True):
                value.append(_distance(drawn, source.config, yardstick, seed))
    mean_seconds = sum(seconds) / len(seconds)
    return [
        _result(run, source, yardstick, value, mean_seconds)
        for value, yardstick in zip(values, yardsticks, strict=True)
    ]


def _distance(drawn: Tensor, config: NetworkConfig, yardstick: Yardstick, seed: int) -> float:
    if yardstick.reference == "clean":
        moments = feature_moments(drawn.split(1024), yardstick.features)
    else:
        moments = proximal_moments(drawn, config.law(), yardstick.features, seed)
    return frechet_distance(moments, yardstick.moments)


def _result(run: Run, source: Source, yardstick: Yardstick, values: list[float], seconds: float) -> Result:
    section = run.recipe.evaluation
    mean, std = mean_std(values)
    return Result(
        subject=source.subject,
        metric="frechet",
        features=yardstick.features.name,
        value=mean,
        seeds=tuple(section.seeds),
        std=std,
        n=section.samples,
        reference=yardstick.reference,
        features_fingerprint=yardstick.features.fingerprint,
        reference_fingerprint=yardstick.fingerprint,
        sampler=repr(source.sampler),
        seconds=seconds,
        images_per_second=section.samples / seconds,
    )


def report(run: Run) -> Verdict:
    """Write `report.html` and the sample grids from what the run holds; returns the verdict."""
    if not run.metrics.exists():
        raise UserError(f"{run.metrics}: no such file; run `restill evaluate {run.path}` first")
    measured, store = load_results(run.metrics), open_store(run.store)
    results = measured.results
    show = run.recipe.sampling.show
    first = store.batch(torch.arange(min(show, len(store))))
    images: dict[str, Tensor] = {
        "measurements": first.y if first.operator is None else first.operator.to_image(first.y)
    }
    hashes = {"measurements": store.fingerprint}
    for subject in GENERATED:
        stage = stage_of(subject)
        if run.trained(stage):
            source = trained(run, subject)
            images[subject] = torch.cat(list(source.draw(range(show), run.recipe.evaluation.seeds[0])))
            hashes[stage] = sha256(run.stage(stage) / "model.safetensors")
    for name, drawn in images.items():
        save_grid(run.path / "samples" / f"{name}.png", drawn)
    save_overview(run.path / "samples" / "overview.png", images)
    recipe = run.recipe
    data = ReportData(
        title=recipe.name,
        results=results,
        n_measurements=len(store),
        corruption=store.corruption.describe(),
        images=images,
        log=run.read_log(),
        recipe=yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False),
        versions=versions(),
        seeds={"run": recipe.seed, **{f"sampling {i + 1}": seed for i, seed in enumerate(recipe.evaluation.seeds)}},
        hashes=hashes,
    )
    write_report(run.report, data)
    return judge(results, len(store), store.corruption.describe())


def versions() -> dict[str, str]:
    """Versions of the software that a result depends on."""
    return {
        "restill": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
