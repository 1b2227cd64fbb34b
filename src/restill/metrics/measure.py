"""All metrics of one set of images against another, by the names under which `metrics.json` has them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from ..core.errors import UserError
from .estimate import Estimate
from .feature_set import FeatureSet
from .features import Features
from .frechet import frechet_estimate, frechet_infinity, needs
from .sets import (
    density_coverage,
    inception_score,
    inception_settings,
    kernel_distance,
    kid_settings,
    precision_recall,
)

SET_METRICS = (
    "frechet", "kid", "precision", "recall", "density", "coverage", "inception-score", "frechet-infinity"
)  # fmt: skip
PAIR_METRICS = ("psnr", "ssim", "lpips")
OPTIONAL = ("frechet-infinity", "lpips")  # slow, or not to be had everywhere: only where asked for
INFINITY_POINTS = 15
PRECISION_K, DENSITY_K = 3, 5  # as published (arXiv 1904.06991, section 3.2; arXiv 2002.09797, section 4)


class Measure(NamedTuple):
    """A value with its uncertainty and what the metric itself depends on."""

    estimate: Estimate
    settings: dict[str, int | float | str]


def measure(
    ours: FeatureSet, theirs: FeatureSet, features: Features, wanted: Collection[str], seed: int = 0
) -> dict[str, Measure]:
    """Every wanted metric of `SET_METRICS` that these two sets allow.

    Metrics that compare single features need them of both sets; the Inception score needs a feature space with
    classes; and KID is left out in pixels, where its kernel averages white noise away and ranks noisy images first.

    Args:
        ours: the images to be judged.
        theirs: the reference.
        seed: of the random parts that KID and the Inception score are computed on.

    Raises:
        UserError: too few images, or features that are not finite.
    """
    measures: dict[str, Measure] = {}
    if "frechet" in wanted:
        measures["frechet"] = Measure(frechet_estimate(ours.moments, theirs.moments, ours.kept), {})
    if "inception-score" in wanted and features.logits_of is not None:
        used: dict[str, int | float | str] = {**inception_settings(len(ours.kept)), "images": len(ours.kept)}
        measures["inception-score"] = Measure(inception_score(features.logits_of(ours.kept), seed=seed), used)
    if "frechet-infinity" in wanted and len(ours.kept) >= 2 * max(needs(ours.dim), INFINITY_POINTS):
        settings: dict[str, int | float | str] = {"points": INFINITY_POINTS, "images": len(ours.kept)}
        estimate = frechet_infinity(ours.kept, theirs.moments, points=INFINITY_POINTS, seed=seed)
        measures["frechet-infinity"] = Measure(estimate, settings)
    if len(theirs.kept):
        blind = {"kid"} if features.name.startswith("pixels") else set()
        measures |= _single_features(ours, theirs, set(wanted) - blind, seed)
    return measures


def _single_features(ours: FeatureSet, theirs: FeatureSet, wanted: Collection[str], seed: int) -> dict[str, Measure]:
    """What compares images one by one."""
    images = {"images": len(ours.kept), "reference_images": len(theirs.kept)}
    measures = {}
    if "kid" in wanted:
        used = kid_settings(len(ours.kept), len(theirs.kept))
        measures["kid"] = Measure(kernel_distance(ours.kept, theirs.kept, seed=seed), {**images, **used})
    pairs: tuple[tuple[tuple[str, str], Callable[..., tuple[Estimate, Estimate]], int], ...] = (
        (("precision", "recall"), precision_recall, PRECISION_K),
        (("density", "coverage"), density_coverage, DENSITY_K),
    )
    for names, function, k in pairs:
        if set(names) & set(wanted):
            for name, estimate in zip(names, function(theirs.kept, ours.kept, k=k), strict=True):
                if name in wanted:
                    measures[name] = Measure(estimate, {"k": k, **images})
    return measures


def check_metrics(wanted: Collection[str]) -> None:
    """Raises UserError, naming the known ones, for a metric that does not exist."""
    for name in wanted:
        if name not in (*SET_METRICS, *PAIR_METRICS):
            raise UserError(f"metric {name!r} is not known: use {', '.join((*SET_METRICS, *PAIR_METRICS))}")
