"""Measuring what a run has trained; the stage that opens clean images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ..checks.audit import AUDITED, Audit
from ..core.errors import UserError
from ..core.processes import ALONE, Processes, joined
from ..metrics import (
    Check,
    Evaluator,
    Features,
    Measured,
    Result,
    Yardstick,
    as_displayed,
    open_features,
    pixels_of,
    save_results,
    speeds,
    write_reference,
    yardstick_of_file,
    yardsticks_of,
)
from ..report import Verdict, judge
from ..store import Store, open_store
from ..store.manifest import FILE as MANIFEST
from ..store.manifest import read_manifest
from ..store.reference import Reference, open_reference
from .baselines import check_baselines, how_reconstructed
from .examples import save_examples
from .folder import Run, amended, working_on
from .provenance import check, measured_from
from .reference_classifier import reference_classifier
from .restored import consistency, scores
from .subjects import subjects_of, trained


def evaluate(
    run: Run,
    reference: Path | None = None,
    spaces: Sequence[Features] = (),
    processes: Processes = ALONE,
    held_out: Path | None = None,
) -> Measured:
    """Measure everything that the run has trained, and write `metrics.json`.

    Images are streamed: of a set stay its moments and its first features (`FeatureSet`).

    Args:
        reference: store of clean images, or an `.npz` of reference statistics; by default the run's own store, if it
            has one. Without it only proximal metrics.
        spaces: further feature spaces, beside pixels, the classifier and the recipe's; for complex images they see
            the magnitudes, `[n, k, H, W]`.
        processes: the group that shares the work; the first process has all results and writes them.
        held_out: store of measurements that nothing was trained on, for the checks of memorisation and likelihood.

    Raises:
        UserError: nothing is trained yet, or a reference or feature space that does not fit the measurements.
    """
    generators = {subject: trained(run, subject) for subject in subjects_of(run)}
    if not generators:
        raise UserError(f"{run.path}: has no trained network to evaluate yet; run `restill pretrain` first")
    own = next((drawn for subject, drawn in generators.items() if subject != "l1-edm"), next(iter(generators.values())))
    store, section = open_store(run.store), run.recipe.evaluation
    audit = _audit(run, store, held_out) if section.checks and processes.first else None
    spaces = [*_named(section.features, store), *(as_displayed(space, store.is_complex) for space in spaces)]
    clean = _clean_images(run, store, reference)
    from_file = [yardstick_of_file(reference, spaces)] if reference is not None and clean is None else []
    yardsticks = [*from_file, *_yardsticks(run, store, clean, spaces, processes)]
    evaluator = Evaluator(yardsticks, section, processes, store)
    results = evaluator.of_stored("measurements", store)
    results += evaluator.of_real()
    if run.reconstructions.exists():
        check(run, "baseline")
        results += evaluator.of_stored("l1-wavelet", open_store(run.reconstructions), how_reconstructed(run))
    if clean is not None and processes.first:
        results += scores(run, store, clean, own)
    checks: list[Check] = []
    if audit is not None:
        checks = [*audit.of_data(own.config.sigma_data, yardsticks, section.samples), *consistency(run, store, own)]
    speed = speeds(generators, section.samples, processes)
    for subject, generator in generators.items():
        measured, images = evaluator.of_generated(subject, generator, speed[subject], AUDITED)
        results += measured
        checks += [] if audit is None or subject == "l1-edm" else audit.of_subject(subject, generator.config, images)
    if processes.first:
        if clean is not None:
            save_examples(run, store, clean, clean.pairs_with(store), own)
        save_results(run.metrics, results, checks, section.model_dump(mode="json"), measured_from(run, reference))
    processes.wait()
    return Measured(sorted(results, key=lambda result: result.of_half), checks)  # in the order of `metrics.json`


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
    with joined() as processes, working_on(path, recipe) if processes.first else nullcontext(Run(path, recipe)) as run:
        store = open_store(run.store)
        if statistics is not None:
            if processes.first:
                spaces = _named([*recipe.evaluation.features, *features], store)
                write_reference(statistics, _clean_images(run, store, reference), spaces)
            return None
        spaces = [open_features(spec, store.displayed_shape) for spec in features]
        results, checks = evaluate(run, reference, spaces, processes, held_out)
        if not processes.first:
            return None
        return results, judge(results, len(store), store.corruption), checks


def check_evaluation(run: Run) -> None:
    """Open what `evaluate` and the baselines will need, before hours of training.

    Raises:
        UserError: a feature space that cannot be opened, a reference that is not there, or baselines of measurements
            other than k-space.
    """
    store, recipe = open_store(run.store, verify=False), run.recipe
    check_baselines(run, store)
    _named(recipe.evaluation.features, store)
    if recipe.data.reference is not None and not Path(recipe.data.reference).exists():
        raise UserError(f"data.reference: {recipe.data.reference} does not exist; name a store of clean images")
    if (run.reference / MANIFEST).exists():
        ours, theirs = store.manifest, read_manifest(run.reference)
        if any(getattr(ours, name) != getattr(theirs, name) for name in ("image_shape", "values", "normalisation")):
            raise UserError(
                f"{run.reference}: holds clean images of another size or range than those measured in {run.store}; "
                "remove it, or name the right ones with --set data.reference=PATH"
            )


def _named(specs: Sequence[str], store: Store) -> list[Features]:
    """Feature spaces by name, for what is seen of images."""
    return [as_displayed(open_features(spec, store.displayed_shape), store.is_complex) for spec in specs]


def _audit(run: Run, store: Store, held_out: Path | None) -> Audit:
    unseen = None if held_out is None else open_store(held_out)
    if unseen is not None:
        store.check_alike(unseen)
    return Audit(store, run.recipe.seed, unseen)


def _clean_images(run: Run, store: Store, reference: Path | None) -> Reference | None:
    """The clean images, if there are any. Raises UserError where they do not fit the measurements."""
    path = reference or run.reference
    if path.suffix == ".npz" or (reference is None and not path.exists()):
        return None
    return open_reference(path, store)


def _yardsticks(
    run: Run, store: Store, clean: Reference | None, spaces: Sequence[Features], processes: Processes
) -> list[Yardstick]:
    """Clean images, if there are any, in every feature space; measurements in every space that needs no labels."""
    pixels = pixels_of(store.image_shape, store.is_complex)
    others = [space for space in spaces if space.fingerprint != pixels.fingerprint]  # pixels need not be named
    yardsticks: list[Yardstick] = []
    n = run.recipe.evaluation.samples
    if clean is not None:
        classifier = reference_classifier(run, clean, processes)
        labelled = [] if classifier is None else [classifier]
        yardsticks = yardsticks_of(clean, "clean", [pixels, *labelled, *others], processes, n)
    return [*yardsticks, *yardsticks_of(store, "measurements", [pixels, *others], processes, n)]
