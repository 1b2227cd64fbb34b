"""One measured number with all that is needed to compare it, one check, and `metrics.json`, the lists of both."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeFloat, PositiveInt, ValidationError

from ..core.errors import UserError
from ..core.files import write_json
from ..core.reading import read_json

Subject = Literal[
    "real", "measurements", "l1-wavelet", "l1-edm", "teacher-full", "teacher-truncated", "teacher-refined", "student"
]
Against = Literal["clean", "measurements", "clean-half", "measurements-half"]
Uncertainty = Literal["seeds", "jackknife", "subsets", "splits"]
Status = Literal["ok", "warning", "info"]
SUBJECTS: tuple[Subject, ...] = (
    "measurements", "l1-wavelet", "l1-edm", "teacher-full", "teacher-truncated", "teacher-refined", "student"
)  # fmt: skip


class Result(BaseModel):
    """One metric of one subject. Numbers compare where all that `protocol` returns is equal.

    Attributes:
        subject: whose images were measured; `real` is one half of the reference.
        metric: e.g. `frechet`, the squared distance; `kid`, `inception-score`, `precision`, `recall`, `density`,
            `coverage`, `psnr`, `ssim`, `lpips`.
        features: name of the features, e.g. `pixels`.
        value: mean over the seeds.
        seeds: of sampling; empty for measurements, which are not drawn.
        std: standard deviation of the value, as `uncertainty` says; null where it is not known.
        uncertainty: `seeds`, the sample standard deviation over several sampling seeds (it holds no spread of
            training); `jackknife`, the standard error of one set of images, from the influence of each; `subsets` and
            `splits`, the standard deviation over random parts of one set, as KID and IS are published.
        n: images per seed.
        reference: `clean` images, or `measurements` (the subject is corrupted anew: the proximal distance);
            `clean-half` and `measurements-half` are one half of them, with which as many images are compared, those of
            the other half among them (`real`).
        features_fingerprint: hash of the features' weights.
        reference_fingerprint: hash of the store of reference images.
        resize: how images were resized for the features, in words; `none` where they were not.
        clipping: the range to which images were clipped before they were measured, in the units of the files, e.g.
            `0 to 255`; `none` where they were not, as in older files.
        settings: of the metric itself, e.g. `{"k": 3}`.
        sampler: how the images were drawn, in words, e.g. `heun, 18 steps`.
        evaluations: of the network for each image, exact; null where nothing was drawn.
        images_per_second: median over several turns, in which all subjects draw one after the other; in older files the
            speed during the evaluation itself.
        images_per_second_std: standard deviation over the turns.
        seconds: for n images at that speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Subject
    metric: str
    features: str
    value: FiniteFloat
    seeds: tuple[int, ...] = ()
    std: NonNegativeFloat | None = None
    uncertainty: Uncertainty | None = None
    n: PositiveInt
    reference: Against
    features_fingerprint: str
    reference_fingerprint: str
    resize: str = "none"
    clipping: str = "none"
    settings: dict[str, int | float | str] = Field(default_factory=dict)
    sampler: str | None = None
    seconds: NonNegativeFloat | None = None
    images_per_second: NonNegativeFloat | None = None
    images_per_second_std: NonNegativeFloat | None = None
    evaluations: NonNegativeFloat | None = None

    @property
    def of_half(self) -> bool:
        """Whether the reference is one half of it."""
        return self.reference.endswith("-half")

    @property
    def protocol(self) -> tuple[object, ...]:
        """What must be equal for two values to compare; the names are those of the fields."""
        settings = tuple(sorted(self.settings.items()))
        hashes = (self.features_fingerprint, self.reference_fingerprint)
        return (self.metric, self.features, self.reference, *hashes, self.n, self.resize, self.clipping, settings)


class Check(BaseModel):
    """One answer to "can I trust it?": a statistic with a sentence that says what it means.

    Attributes:
        name: e.g. `hidden-share`, `memorisation`, `residuals`, `likelihood`.
        subject: whose images were checked; null for a statement on the data.
        value: the statistic, in the units that the sentence names.
        std: its standard error; null where it is not known.
        status: `warning` where a reader should doubt the results, `ok` where the check passed, `info` where there is
            nothing to pass.
        sentence: what was found and what it means, complete by itself, without markup.
        settings: what the statistic depends on, e.g. the number of images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    subject: Subject | None = None
    value: FiniteFloat
    std: NonNegativeFloat | None = None
    status: Status
    sentence: str
    settings: dict[str, int | float | str] = Field(default_factory=dict)


class Measured(NamedTuple):
    """What `metrics.json` says."""

    results: list[Result]
    checks: list[Check]


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divisor n - 1; None for one value) of a metric over seeds."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


class _File(BaseModel):
    """The whole of `metrics.json`; `asked` says, as plain data, which evaluation it is.

    `halves` are the results against one half of a reference, which do not compare with the others.
    """

    results: list[Result]
    halves: list[Result] = []
    checks: list[Check] = []
    asked: dict[str, Any] = {}
    made_from: dict[str, str] = {}


def save_results(
    path: Path,
    results: Iterable[Result],
    checks: Iterable[Check] = (),
    asked: Mapping[str, Any] | None = None,
    made_from: Mapping[str, str] | None = None,
) -> None:
    """Write `metrics.json`, `{"results": [...], "halves": [...], "checks": [...], "asked": {...}, ...}`, atomically.

    `asked` says, as plain data, which evaluation this is, so that it is not done again, and `made_from` has
    fingerprints of what was measured.
    """
    whole: list[Result] = []
    halves: list[Result] = []
    for result in results:
        (halves if result.of_half else whole).append(result)
    more = {"asked": dict(asked or {}), "made_from": dict(made_from or {})}
    file = _File(results=whole, halves=halves, checks=[*checks], **more)
    write_json(path, file.model_dump(mode="json"))


def load_results(path: Path) -> Measured:
    """Read `metrics.json`. Raises UserError, which names the file and the entry, where it cannot be used."""
    file = _file(path)
    return Measured([*file.results, *file.halves], file.checks)


def made_from(path: Path) -> dict[str, str]:
    """Fingerprints of what was measured, by name; empty where an older restill wrote it. Raises as `load_results`."""
    return _file(path).made_from


def _file(path: Path) -> _File:
    try:
        return _File.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else 'must be {"results": [...]}, as `restill evaluate` writes it'
        raise UserError(f"{path}: {reason}") from error


def was_asked(path: Path, asked: Mapping[str, Any]) -> bool:
    """Whether `metrics.json` is of this evaluation; not where it was written before that was kept."""
    data = read_json(path)
    return isinstance(data, dict) and bool(data.get("asked") == dict(asked))
