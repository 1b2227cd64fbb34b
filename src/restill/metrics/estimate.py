"""A measured number and how far it can be trusted: what every metric of sets and of pairs returns."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import wide_dtype


class Estimate(NamedTuple):
    """A value with its uncertainty.

    Attributes:
        value: of the metric.
        std: standard deviation of the value, as `uncertainty` says; None where it is not known.
        uncertainty: `jackknife`, the standard error of one set of images, from the influence of each; `subsets` and
            `splits`, from the spread over random parts of one set, as KID and the Inception score are published.
    """

    value: float
    std: float | None
    uncertainty: Literal["jackknife", "subsets", "splits"] | None


def mean_estimate(scores: Tensor) -> Estimate:
    """The mean of scores `[n]`, one for each image, with its standard error `sd/sqrt(n)` (None for one image).

    For a mean this is the jackknife's standard error (Efron and Stein 1981).

    Raises:
        UserError: no score, or scores that are not finite.
    """
    check_finite(scores, "scores")
    if not len(scores):
        raise UserError("a mean over images needs at least 1 image, not 0")
    values = scores.to(wide_dtype(scores.device))
    if len(values) < 2:
        return Estimate(float(values.mean()), None, None)
    return Estimate(float(values.mean()), float(values.std()) / len(values) ** 0.5, "jackknife")


def check_finite(values: Tensor, what: str) -> None:
    """Raise UserError, which begins with `what`, where a value is NaN or infinite."""
    bad = ~values.isfinite()
    if bool(bad.any()):
        raise UserError(f"{what}: {int(bad.sum())} values are NaN or infinite; every image must be finite")
