"""Measuring what a run has trained; the stage that opens clean images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, progress_bar, silent
from ..core.shards import Shards, joined
from ..corruption import Corruption
from ..metrics import (
    KEPT,
    Check,
    Estimate,
    Features,
    FeatureSet,
    Measure,
    Measured,
    Result,
    Subject,
    as_seen,
    mean_std,
    measure,
    open_features,
    recorrupted,
    save_results,
)
from ..report import Verdict, judge
from ..store import Store, open_store
from .audit import AUDITED, Audit
from .baselines import how_reconstructed
from .fits import fits
from .folder import Run, amended, working_on
from .recipe import Evaluation
from .restored_pairs import restoration
from .subjects import Source, subjects_of, trained
from .yardsticks import (
    Yardstick,
    clean_images,
    stored,
    write_reference,
    yardstick_of_file,
    yardsticks_of,
)


def evaluate(
    run: Run,
    reference: Path | None = None,
    spaces: Sequence[Features] = (),
    shards: Shards = Shards(),
    held_out: Path | None = None,
) -> Measured:
    """Measure everything that the run has trained, and write `metrics.json`.

    Images are streamed: of a set stay its moments and its first features (`FeatureSet`).

    Args:
        reference: store of clean images, or an `.npz` of reference statistics; by default the run's own store, if it
            has one. Without it only proximal metrics.
        spaces: feature spaces beside pixels, the classifier and those that the recipe names; of complex images they
            are given the magnitudes, `[n, k, H, W]`.
        shards: this process among those that share the work; the first one has all results and writes them.
        held_out: store of measurements that nothing was trained on, for the checks of memorisation and likelihood.

    Raises:
        UserError: nothing is trained yet, or a reference or feature space that does not fit the measurements.
    """
    sources = [trained(run, subject) for subject in subjects_of(run)]
    if not sources:
        raise UserError(f"{run.path}: has no trained network to evaluate yet; run `restill pretrain` first")
    own = next((source for source in sources if source.subject != "l1-edm"), sources[0])
    store, section = open_store(run.store), run.recipe.evaluation
    named = [open_features(spec, store.seen_shape) for spec in section.features]
    spaces = [as_seen(space, store.is_complex) for space in (*named, *spaces)]
    unseen = None if held_out is None else open_store(held_out)
    if unseen is not None:
        store.check_alike(unseen)
    audit = Audit(store, run.recipe.seed, unseen) if section.checks and shards.first else None
    clean = clean_images(run, store, reference)
    from_file = [yardstick_of_file(reference, spaces)] if reference is not None and clean is None else []
    yardsticks = [*from_file, *yardsticks_of(run, store, clean, spaces, shards)]
    results = _measure_stored("measurements", store, section, yardsticks, shards)
    if run.reconstructions.exists():
        results += _measure_stored(
            "l1-wavelet", open_store(run.reconstructions), section, yardsticks, shards, how_reconstructed(run)
        )
    if clean is not None and shards.first:
        results += restoration(run, store, clean, own)
    checks: list[Check] = [] if audit is None else audit.of_data(own, yardsticks, section.samples)
    checks += [] if audit is None else fits(run, store, own)
    for source in sources:
        measured, shown = _measure(run, source, yardsticks, shards, store.corruption)
        results += measured
        checks += [] if audit is None or source.subject == "l1-edm" else audit.of_subject(source, shown)
    if shards.first:
        save_results(run.metrics, results, checks, section.model_dump(mode="json"))
    shards.wait()
    return Measured(results, checks)


def evaluation_of(
    path: Path,
    reference: Path | None,
    overrides: Sequence[str] = (),
    features: Sequence[str] = (),
    statistics: Path | None = None,
    held_out: Path | None = None,
) -> tuple[list[Result], Verdict, list[Check]] | None:
    """`evaluate` for the run at `path`, in this process or in all that `torchrun` has started.

    Args:
        reference: as in `evaluate`.
        overrides: `key.path=value`, of the run's recipe.
        features: feature spaces beside those of the recipe, e.g. `inception:FILE`.
        statistics: an `.npz` to which the statistics of the clean images are written, instead of measuring anything.
        held_out: as in `evaluate`.

    Returns:
        Results, verdict and checks; None where there is nothing to say, in all processes but the first.
    """
    recipe = amended(path, overrides)
    with joined() as shards, working_on(path, recipe) if shards.first else nullcontext(Run(path, recipe)) as run:
        store = open_store(run.store)
        if statistics is not None:
            if shards.first:
                named = [open_features(spec, store.seen_shape) for spec in (*recipe.evaluation.features, *features)]
                spaces = [as_seen(space, store.is_complex) for space in named]
                write_reference(statistics, clean_images(run, store, reference), spaces)
            return None
        spaces = [open_features(spec, store.seen_shape) for spec in features]
        results, checks = evaluate(run, reference, spaces, shards, held_out)
        if not shards.first:
            return None
        return results, judge(results, len(store), store.corruption.describe()), checks


def _measure_stored(
    subject: Subject,
    store: Store,
    section: Evaluation,
    yardsticks: Sequence[Yardstick],
    shards: Shards,
    how: str | None = None,
) -> list[Result]:
    """Images of a store against the clean ones: the measurements themselves, or reconstructions of them."""
    clean = [y for y in yardsticks if y.reference == "clean"]
    if not clean:
        return []
    sets = stored(store, [y.features for y in clean], shards, f"{subject:17}", section.samples)
    results = []
    for yardstick, ours in zip(clean, sets, strict=True):
        for name, found in measure(ours, yardstick.known, yardstick.features, section.metrics).items():
            results.append(_result(yardstick, name, [found], ours.n, subject=subject, sampler=how))
    return results


def _measure(
    run: Run, source: Source, yardsticks: Sequence[Yardstick], shards: Shards, law: Corruption
) -> tuple[list[Result], Tensor]:
    """All metrics of one subject over all sampling seeds, and the first images of the first seed."""
    section = run.recipe.evaluation
    found: list[list[dict[str, Measure]]] = [[] for _ in yardsticks]
    seconds, shown = [], torch.empty(0)
    bar = progress_bar(f"{source.subject:17}", section.samples // shards.count * len(section.seeds))
    with bar as advance:
        list(source.draw(range(-source.batch_size, 0), seed=0))  # the first batch also pays for allocation
        for number, seed in enumerate(section.seeds):
            stream = _Stream(source, section.samples, seed, shards, advance, AUDITED if number == 0 else 0)
            sets = stream.sets(yardsticks, law)
            seconds.append(shards.largest(stream.seconds))
            shown = torch.cat(shards.gathered(stream.shown))[:AUDITED] if number == 0 else shown
            for measures, yardstick, ours in zip(found, yardsticks, sets, strict=True):
                measures.append(measure(ours, yardstick.known, yardstick.features, section.metrics, seed))
    mean_seconds = sum(seconds) / len(seconds)
    clock = {"seconds": mean_seconds, "images_per_second": section.samples / mean_seconds}
    drawn = {"subject": source.subject, "sampler": repr(source.sampler), "seeds": tuple(section.seeds), **clock}
    results = []
    for yardstick, measures in zip(yardsticks, found, strict=True):
        for name in measures[0]:
            results.append(_result(yardstick, name, [m[name] for m in measures], section.samples, **drawn))
    return results, shown


class _Stream:
    """One seed's images of one subject, on their way through all feature spaces."""

    def __init__(
        self, source: Source, samples: int, seed: int, shards: Shards, advance: Advance = silent, show: int = 0
    ) -> None:
        self.source, self.seed, self.shards, self.advance, self.show = source, seed, shards, advance, show
        self.mine = shards.mine(samples, 256)
        self.seconds = 0.0
        self.shown = torch.empty(0, *source.config.grid)

    def sets(self, yardsticks: Sequence[Yardstick], law: Corruption) -> list[FeatureSet]:
        """The images in every space: as they are where the reference is clean, corrupted anew where it is not."""
        sets = [FeatureSet(y.features.dim, KEPT) for y in yardsticks]
        clean, measured = ([i for i, y in enumerate(yardsticks) if (y.reference == "clean") == is_clean]
                           for is_clean in (True, False))  # fmt: skip

        def passing() -> Iterator[Tensor]:
            for images in self._drawn():
                for i in clean:
                    sets[i].update(yardsticks[i].features(images))
                yield images

        for images in recorrupted(passing(), law, self.seed, first=self.mine.start):
            for i in measured:
                sets[i].update(yardsticks[i].features(images))
        return [ours.of_all(self.shards) for ours in sets]

    def _drawn(self) -> Iterator[Tensor]:
        """Batches of images; only their drawing counts as time."""
        batches = self.source.draw(self.mine, self.seed)
        while True:
            started = time.perf_counter()
            images = next(batches, None)
            self.seconds += time.perf_counter() - started
            if images is None:
                return
            if len(self.shown) < self.show:
                self.shown = torch.cat([self.shown, images])[: self.show]
            yield images
            self.advance(done=len(images))


def _result(yardstick: Yardstick, metric: str, measures: Sequence[Measure], n: int, **more: object) -> Result:
    """One row of `metrics.json` from the measures of all seeds."""
    value, spread = mean_std([m.estimate.value for m in measures])
    one: Estimate = measures[0].estimate
    std, uncertainty = (one.std, one.uncertainty) if spread is None else (spread, "seeds")
    return Result(
        metric=metric,
        features=yardstick.features.name,
        value=value,
        std=std,
        uncertainty=uncertainty,
        n=n,
        reference=yardstick.reference,
        features_fingerprint=yardstick.features.fingerprint,
        reference_fingerprint=yardstick.fingerprint,
        resize=yardstick.features.resize,
        settings=measures[0].settings,
        **more,
    )
