"""`restill estimate-noise`: the noise of a store, or of files before they are imported."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor

from ..acquisition.value_range import batches, percentiles
from ..core.errors import UserError
from ..core.files import replacing, write_json
from ..core.progress import progress_bar
from ..estimation import (
    NoiseEstimate,
    PoissonGaussianEstimate,
    estimate_poisson_gaussian_of,
    estimate_sigma_of,
)
from ..io import open_images
from ..store import Normalisation
from ..store.reference import open_samples
from .describe import histogram

MODELS = ("gaussian", "poisson-gaussian")
LAYOUTS = ("auto", "NHW", "NHWC", "NCHW")
_BATCH = 256


@dataclass(frozen=True)
class _Measurements:
    """What to look at, in the units of the files; `scale()` of those are one unit of a store."""

    name: str
    count: int
    shape: tuple[int, ...]
    scale: Callable[[], float]
    batches: Callable[[], Iterator[Tensor]]
    stated: str


def estimate(path: Path, model: str = "gaussian", out: Path | None = None, layout: str = "auto") -> RenderableType:
    """The noise of what lies at `path`, in words; numbers also to `out`.

    Args:
        path: a store, or a folder, archive or array file as `open_images` takes it.
        model: one of `MODELS`.
        out: `.json` for everything, `.npy` for the level of each image in the units of the files, as `import` reads it.
        layout: as in `open_images`.

    Raises:
        UserError: nothing there, an unknown model, a file name of another kind, or images that allow no estimate.
    """
    _check(model, out, layout)
    measured = _open(path, layout)
    passes = 2 if model == "gaussian" else 1
    with progress_bar("estimate", passes * measured.count) as advance:
        arguments = measured.batches, measured.count, measured.shape, measured.name
        if model == "gaussian":
            found = estimate_sigma_of(*arguments, advance=advance)
            parts, numbers = _gaussian(measured, found), _gaussian_numbers(measured, found)
        else:
            counted = estimate_poisson_gaussian_of(*arguments, advance=advance)
            parts, numbers = _counted(measured, counted), counted._asdict()
    if out is not None:
        _write(out, {"model": model, "images": measured.count, **numbers})
        parts.append(Text(f"\n{out}"))
    return Group(*parts)


def _check(model: str, out: Path | None, layout: str) -> None:
    if model not in MODELS:
        raise UserError(f"--model must be {' or '.join(MODELS)}, not {model!r}")
    if layout not in LAYOUTS:
        raise UserError(f"--layout must be auto, NHW, NHWC or NCHW, not {layout!r}")
    kinds = (".json", ".npy") if model == "gaussian" else (".json",)
    if out is not None and out.suffix.lower() not in kinds:
        raise UserError(f"--out {out}: must end in {' or '.join(kinds)} for the {model} model")


def _open(path: Path, layout: str) -> _Measurements:
    if (path / "manifest.json").exists():
        store = open_samples(path)
        if store.is_complex:
            raise UserError(f"{path}: holds k-space of complex images; estimate-noise looks at images")
        summary, scale = store.manifest.sigma_n, store.manifest.normalisation.scale
        how = "estimated" if summary.estimated else "stated"
        level = f"The store says {summary.mean * scale:.4g} ({how})."

        def of_store() -> Iterator[Tensor]:
            return (store.to_physical(store.stored(rows)) for rows in torch.arange(len(store)).split(_BATCH))

        return _Measurements(str(path), len(store), store.shape, lambda: scale, of_store, level)
    source = open_images(path, layout=layout)  # type: ignore[arg-type]

    def of_source() -> float:
        return Normalisation.of_range(*percentiles(source)).scale

    return _Measurements(str(path), len(source), source.shape, functools.cache(of_source), lambda: batches(source), "")


def _gaussian(measured: _Measurements, found: NoiseEstimate) -> list[RenderableType]:
    low, high = found.spread
    lines = [
        f"{measured.name}: {measured.count:,} images of shape {list(measured.shape)}",
        f"sigma_n {_interval(found.sigma, (found.low, found.high))} in the units of the files",
        f"        {_interval(found.sigma, (found.low, found.high), measured.scale())} where images span [-1, 1]",
    ]
    if found.mixed:
        lines.append(
            f"Levels differ: 5% of the images lie below {low:.4g}, 5% above {high:.4g}. One number does not describe "
            "them; import with --sigma-n auto-per-sample."
        )
    elif found.low <= 0:
        lines.append("The interval includes 0: noise this weak cannot be told from none.")
    else:
        lines.append(f"One level describes all images; each alone, known to {found.error:.1%}, shows no other.")
    lines += [measured.stated] if measured.stated else []
    return [Text("\n".join(lines)), Text("\nlevels of single images"), histogram(found.per_sample)]


def _counted(measured: _Measurements, found: PoissonGaussianEstimate) -> list[RenderableType]:
    lines = [
        f"{measured.name}: {measured.count:,} images of shape {list(measured.shape)}",
        f"gain       {_interval(found.gain, found.gain_interval)} units of the files per count",
        f"read noise {_interval(found.read, found.read_interval)} in the units of the files",
        f"           {_interval(found.read, found.read_interval, measured.scale())} where images span [-1, 1]",
        "The variance is gain * signal + read noise^2, if 0 in the files is no light.",
    ]
    return [Text("\n".join(lines))]


def _interval(value: float, interval: tuple[float, float], scale: float = 1.0) -> str:
    low, high = interval
    return f"{value / scale:.4g} (95% interval {low / scale:.4g} to {high / scale:.4g})"


def _gaussian_numbers(measured: _Measurements, found: NoiseEstimate) -> dict[str, Any]:
    interval, scale = (found.low, found.high), measured.scale()
    return {
        "sigma_n": found.sigma,
        "interval": interval,
        "normalised": {"sigma_n": found.sigma / scale, "interval": [end / scale for end in interval]},
        "mixed": found.mixed,
        "spread": found.spread,
        "relative_error_of_one_image": found.error,
        "method": found.method,
        "per_sample": found.per_sample.tolist(),
    }


def _write(out: Path, numbers: dict[str, Any]) -> None:
    if out.suffix.lower() == ".json":
        write_json(out, numbers)
        return
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(numbers["per_sample"]), allow_pickle=False)
