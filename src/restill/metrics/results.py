"""One measured number with all that is needed to compare it, and `metrics.json`, the list of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeFloat, PositiveInt, ValidationError

from ..errors import UserError
from ..files import read_json, write_json

Subject = Literal["measurements", "teacher-full", "teacher-truncated", "student"]
Reference = Literal["clean", "measurements"]
SUBJECTS: tuple[Subject, ...] = ("measurements", "teacher-full", "teacher-truncated", "student")


class Result(BaseModel):
    """One metric of one subject. Numbers compare where metric, both fingerprints, reference and n are equal.

    Attributes:
        subject: whose images were measured.
        metric: e.g. `frechet`, the squared distance.
        features: name of the features, e.g. `pixels`.
        value: mean over the seeds.
        seeds: of sampling; empty for measurements, which are not drawn.
        std: sample standard deviation over the seeds; null for fewer than two.
        n: images per seed.
        reference: `clean` images, or `measurements` (the subject is corrupted anew: the proximal distance).
        features_fingerprint: hash of the features' weights.
        reference_fingerprint: hash of the store of reference images.
        sampler: how the images were drawn, in words, e.g. `heun, 18 steps`.
        seconds: wall clock for drawing the n images of one seed, mean over seeds; null where nothing was drawn.
        images_per_second: n / seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Subject
    metric: str
    features: str
    value: FiniteFloat
    seeds: tuple[int, ...] = ()
    std: NonNegativeFloat | None = None
    n: PositiveInt
    reference: Reference
    features_fingerprint: str
    reference_fingerprint: str
    sampler: str | None = None
    seconds: NonNegativeFloat | None = None
    images_per_second: NonNegativeFloat | None = None


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divisor n - 1; None for one value) of a metric over seeds."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def save_results(path: Path, results: Iterable[Result]) -> None:
    """Write `metrics.json`, `{"results": [...]}`, atomically."""
    write_json(path, {"results": [result.model_dump(mode="json") for result in results]})


def load_results(path: Path) -> list[Result]:
    """Read `metrics.json`. Raises UserError, which names the file and the entry, where it cannot be used."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise UserError(f'{path}: must be {{"results": [...]}}, as `restill evaluate` writes it')
    results = []
    for number, entry in enumerate(data["results"]):
        try:
            results.append(Result.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in ("results", number, *first["loc"]))
            raise UserError(f"{path}: {key}: {first['msg']}") from error
    return results
