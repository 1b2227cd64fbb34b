"""The report: one HTML file that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import torch.nn.functional as F
from markupsafe import Markup
from torch import Tensor

from ..errors import UserError
from ..files import write_text
from ..metrics import SUBJECTS, Result
from .comparison import compare
from .curves import log_curves
from .figures import data_uri, grid, png_bytes
from .table import BEST, heading, legend
from .verdict import corruption_in_words, judge

MAX_BYTES = 5_000_000
_GRID_BYTES = 500_000  # of raw pixels per grid: four grids of noise, which PNG cannot compress, stay below MAX_BYTES
_CAPTIONS = {
    "measurements": "What was measured: corrupted, and all that training saw.",
    "teacher-full": "The teacher, sampled down to noise level 0.",
    "teacher-truncated": "The teacher, stopped at the noise level of the measurements and denoised once.",
    "student": "The student: one network evaluation per image.",
}


@dataclass(frozen=True)
class ReportData:
    """All that a report shows, as plain data. Nothing in it is trusted: every text is escaped.

    Attributes:
        title: of the page, e.g. the name of the recipe.
        results: all of `metrics.json`, at least one.
        n_measurements: that the run was trained on.
        corruption: `Corruption.describe()`.
        images: `[n, C, H, W]` in normalised units, by subject; as many of each are shown as fit.
        log: rows of `log.jsonl` (see `log_curves`).
        recipe: the resolved recipe as YAML text.
        versions: of software, by name.
        seeds: by purpose.
        hashes: of data and weights, by name.
        display_range: values shown as black and white.
        notes: sentences on this run, shown under the table.
    """

    title: str
    results: Sequence[Result]
    n_measurements: int
    corruption: Mapping[str, Any]
    images: Mapping[str, Tensor]
    log: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    display_range: tuple[float, float] = (-1.0, 1.0)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Grid:
    subject: str
    uri: str
    alt: str
    caption: str
    width: int
    height: int


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to one HTML file, atomically.

    Raises:
        UserError: results that do not compare, images that cannot be shown, or a page of more than 5 MB.
    """
    html = render(data)
    size = len(html.encode())
    if size > MAX_BYTES:
        raise UserError(f"{path}: a report of {size / 1e6:.1f} MB is too large to send: give it fewer log rows")
    write_text(path, html)


def render(data: ReportData) -> str:
    """The report as HTML text. Raises UserError as `write_report`."""
    verdict = judge(data.results, data.n_measurements, data.corruption)
    folder = resources.files(__package__ or "")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(folder.joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        data=data,
        style=Markup(folder.joinpath("report.css").read_text(encoding="utf-8")),
        verdict=verdict,
        table=compare(data.results),
        notes=[*verdict.notes, *data.notes],
        heading=heading,
        star=BEST,
        legend=legend(data.results),
        corruption=corruption_in_words(data.corruption),
        samplers={result.subject: result.sampler for result in data.results if result.sampler},
        details=_details(data.corruption),
        grids=_grids(data.images, data.display_range),
        curves=[(curve, Markup(curve.svg)) for curve in log_curves(data.log)],
    )


def _details(corruption: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The corruption's description, key by key."""
    return [(str(key), str(value)) for key, value in corruption.items()]


def _grids(images: Mapping[str, Tensor], display_range: tuple[float, float]) -> list[_Grid]:
    """One grid for each subject, in the order of the method; all show equally many images."""
    unknown = set(images) - set(SUBJECTS)
    if unknown:
        raise UserError(f"images of {', '.join(sorted(unknown))} have no place in a report: use {', '.join(SUBJECTS)}")
    count = min((len(batch) for batch in images.values()), default=0)
    return [_grid(subject, images[subject], count, display_range) for subject in SUBJECTS if subject in images]


def _grid(subject: str, images: Tensor, count: int, display_range: tuple[float, float]) -> _Grid:
    images, reduced = _reduced(images[: max(count, 1)])
    columns, rows = _layout(count, images[0].numel())
    picture = grid(images[: columns * rows], columns, display_range)
    size = "" if reduced == 1 else f" Shown at 1/{reduced} of their size."
    alt = f"{columns * rows} images in {rows} rows of {columns}: {subject}"
    return _Grid(subject, data_uri(png_bytes(picture)), alt, f"{_CAPTIONS[subject]}{size}", *picture.size)


def _reduced(images: Tensor) -> tuple[Tensor, int]:
    """Average-pooled by a power of two until two of them fit a grid."""
    factor = 1
    while 2 * images[0].numel() > _GRID_BYTES:
        images, factor = F.avg_pool2d(images, 2, ceil_mode=True), factor * 2
    return images, factor


def _layout(count: int, numel: int) -> tuple[int, int]:
    """Columns and rows of a full rectangle: at most 8 by 8, at most `count` images, within the budget."""
    fit = max(1, min(64, count, _GRID_BYTES // numel))
    columns = min(8, max(1, int(fit**0.5)))
    if columns == 1 and fit > 1:
        columns = 2
    return columns, fit // columns
