"""Images as figures of a page: reduced where they would make it too large, enlarged where they are small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks.nearest import Nearest
from ..core.errors import UserError
from ..metrics import SUBJECTS
from .comparison import number
from .contents import Triples
from .grids import data_uri, grid, png_bytes

_GRIDS_BYTES = 2_100_000  # of raw pixels, all grids: noise, which PNG cannot compress, leaves room for the rest
_GRID_BYTES = 420_000  # of each, at most
_PAIR_BYTES = 1_050_000  # all generated images with their neighbours, and what follows
_TRIPLE_BYTES = 300_000  # all measurements with their restorations and clean images
_ENLARGED, _MOST = 160, 8  # pixels of the longer side, and the largest factor
_GAPS = "Missing pixels are blue."
_CAPTIONS = {
    "measurements": "The first measurements. Training used only measurements.",
    "l1-wavelet": "L1-wavelet compressed sensing of the first measurements.",
    "l1-edm": "Samples of a diffusion model trained on L1-wavelet reconstructions.",
    "teacher-full": "The teacher, sampled down to noise level 0.",
    "teacher-truncated": "The teacher, stopped at the noise level of the measurements and denoised once.",
    "teacher-refined": "The teacher with a second network for the levels below the noise, which learned from posterior "
    "samples of the measurements.",
    "student": "The student: one network evaluation per image.",
}
_PHASES = "Phases of the first images."
_COLOURS = "Red is 0, green 120, cyan 180 and blue 240 degrees; brightness shows the magnitude."


@dataclass(frozen=True)
class Figure:
    """An image in a page: `data:` address, text for who does not see it, caption, size in pixels."""

    name: str
    uri: str
    alt: str
    caption: str
    width: int
    height: int


def subject_figures(
    images: Mapping[str, Tensor], missing: Tensor | None, more: Mapping[str, str], budget: int
) -> dict[str, Figure]:
    """One grid for each subject, in the order of the method; all show equally many images.

    Args:
        missing: where nothing was measured, for the images of the measurements.
        more: sentences to be added to the captions, by subject.
        budget: raw bytes of each grid.

    Raises:
        UserError: an unknown subject, or images that cannot be shown.
    """
    unknown = set(images) - set(SUBJECTS)
    if unknown:
        raise UserError(f"a report cannot show images of {', '.join(sorted(unknown))}: use {', '.join(SUBJECTS)}")
    count, figures = _shortest(images), dict[str, Figure]()
    for subject in (name for name in SUBJECTS if name in images):
        caption = " ".join(filter(None, (_CAPTIONS[subject], more.get(subject, ""))))
        gaps = missing if subject == "measurements" else None
        figures[subject] = grid_figure(subject, images[subject], count, caption, budget, gaps)
    return figures


def budget_of(grids: int) -> int:
    """Raw bytes of each of so many grids."""
    return min(_GRID_BYTES, _GRIDS_BYTES // max(1, grids))


def phase_figures(phases: Mapping[str, Tensor], budget: int) -> dict[str, Figure]:
    """One grid of phases in colours for each subject, in the order of the method. Raises UserError as `grid`."""
    count, figures = _shortest(phases), dict[str, Figure]()
    for subject in (name for name in SUBJECTS if name in phases):
        caption, name = _PHASES if figures else f"{_PHASES} {_COLOURS}", f"{subject}, phase"  # once is enough
        figures[subject] = grid_figure(name, phases[subject], count, caption, budget)
    return figures


def _shortest(images: Mapping[str, Tensor]) -> int:
    return min((len(batch) for batch in images.values()), default=0)


def grid_figure(
    name: str, images: Tensor, count: int, caption: str, budget: int, missing: Tensor | None = None
) -> Figure:
    """At most `count` images `[n, C, H, W]` as a full rectangle of at most 8 by 8, within `budget` raw bytes."""
    images, gaps, factor = _reduced(images[: max(count, 1)], budget // 2, missing)
    columns, rows = _layout(count, images[0].numel(), budget)
    shown = columns * rows
    picture = grid(images[:shown], columns, missing=None if gaps is None else gaps[:shown])
    caption += "" if gaps is None else f" {_GAPS}"
    alt = f"{shown} images in {rows} rows of {columns}: {name}. {caption}"
    return Figure(name, data_uri(png_bytes(picture)), alt, caption + _size(factor), *picture.size)


def nearest_figures(nearest: Nearest, beside_triples: bool = False) -> list[Figure]:
    """Each generated image beside the measurements nearest to it, enlarged without smoothing.

    Of large images fewer are shown rather than small ones, still fewer where `triple_figures` are on the page.

    Raises:
        UserError: images that cannot be shown.
    """
    rows, gaps = torch.cat([nearest.images[:, None].to(nearest.measurements), nearest.measurements], dim=1), None
    if nearest.missing is not None:
        gaps = torch.cat([torch.zeros_like(nearest.missing[:, :1]), nearest.missing], dim=1)
    which = "measurement" if rows.shape[1] == 2 else f"{rows.shape[1] - 1} measurements"
    words = []
    for place, distances in enumerate(nearest.distances.tolist(), start=1):
        at = " and ".join(number(distance) for distance in distances)
        alt = f"Generated image {place}; to its right the nearest {which}, root mean square difference {at}"
        words.append((alt, f"differs by {at}"))
    return _row_figures(rows, gaps, words, _PAIR_BYTES - beside_triples * _TRIPLE_BYTES)


def triple_figures(triples: Triples) -> list[Figure]:
    """Each measurement beside its restoration, if there is one, and its clean image. Raises UserError as `grid`."""
    columns = [images for images in (triples.measured, triples.restored, triples.clean) if images is not None]
    rows, gaps = torch.stack(columns, dim=1), None
    if triples.missing is not None:
        nothing = [torch.zeros_like(triples.missing)] * (len(columns) - 1)
        gaps = torch.stack([triples.missing, *nothing], dim=1)
    names = ["Measurement", *([] if triples.restored is None else ["restoration"]), "clean image"]
    off = [(images - triples.clean).double().square().flatten(1).mean(1).sqrt().tolist() for images in columns[:-1]]
    words = []
    for place, distances in enumerate(zip(*off, strict=True), start=1):
        by = ", ".join(f"{name.lower()} off by {number(d)}" for name, d in zip(names, distances, strict=False))
        words.append((f"{', '.join(names)} {place}; {by} (root mean square)", by))
    return _row_figures(rows, gaps, words, _TRIPLE_BYTES)


def _row_figures(rows: Tensor, gaps: Tensor | None, words: Sequence[tuple[str, str]], budget: int) -> list[Figure]:
    """A figure for each row of images `[m, k, C, H, W]`, within `budget` raw bytes together.

    Args:
        gaps: where nothing was measured, like `rows`.
        words: for each row what it shows, for who does not see it, and its caption.
    """
    across = rows.shape[1]
    missing = None if gaps is None else gaps.flatten(0, 1)
    images, missing, factor = _reduced(rows.flatten(0, 1), budget // (2 * across), missing)
    fit = max(1, budget // (across * images[0].numel()))
    min_size = min(_ENLARGED, _MOST * max(images.shape[2:]))
    figures = []
    for place, (row, (alt, caption)) in enumerate(zip(images.unflatten(0, (-1, across))[:fit], words, strict=False)):
        shown = None if missing is None else missing[place * across : (place + 1) * across]
        picture = grid(row, across, min_size, shown)
        caption = f"{caption}{'.' if factor > 1 else ''}{_size(factor)}"
        figures.append(Figure(str(place + 1), data_uri(png_bytes(picture)), alt, caption, *picture.size))
    return figures


def _size(factor: int) -> str:
    return "" if factor == 1 else f" Shown at 1/{factor} of their size."


def _reduced(images: Tensor, most: int, missing: Tensor | None) -> tuple[Tensor, Tensor | None, int]:
    """Average-pooled by a power of two until an image has at most `most` numbers; over what was measured."""
    factor = 1
    while images[0].numel() > most:
        if missing is None:
            images = F.avg_pool2d(images, 2, ceil_mode=True)
        else:
            shown = (~missing).expand(images.shape).to(images)
            share = F.avg_pool2d(shown, 2, ceil_mode=True)
            images, missing = F.avg_pool2d(images * shown, 2, ceil_mode=True) / share.clamp(min=0.25), share == 0
        factor *= 2
    return images, missing, factor


def _layout(count: int, numel: int, budget: int) -> tuple[int, int]:
    """Columns and rows of a full rectangle: at most 8 by 8, at most `count` images, within the budget."""
    fit = max(1, min(64, count, budget // numel))
    columns = min(8, max(1, int(fit**0.5)))
    if columns == 1 and fit > 1:
        columns = 2
    return columns, fit // columns
