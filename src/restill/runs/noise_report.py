"""`restill estimate-noise`: the noise of a store, or of files before they are imported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from ..acquisition.value_range import image_set, percentiles
from ..core.errors import UserError
from ..core.files import replacing, write_json
from ..core.progress import progress_bar
from ..estimation import NoiseEstimate, estimate_poisson_gaussian, estimate_sigma
from ..io import ImageSource, Layout, open_images
from ..report.noise_estimate import histogram, noise_in_words, photon_noise_in_words
from ..store import Normalisation
from ..store.reference import open_samples

MODELS = ("gaussian", "poisson-gaussian")
LAYOUTS = get_args(Layout)
_BATCH = 256


def estimate(
    path: Path, model: str = "gaussian", out: Path | None = None, layout: str = "auto", zero: float | None = None
) -> RenderableType:
    """The noise of what lies at `path`, in words; numbers also to `out`.

    Args:
        path: a store, or a folder, archive or array file as `open_images` takes it.
        model: one of `MODELS`.
        out: `.json` for everything, `.npy` for the level of each image in the units of the files, as `import` reads it.
        layout: as in `open_images`.
        zero: value of no light in the units of the files, for photon noise; None for 0.

    Raises:
        UserError: nothing there, an unknown model, a file name of another kind, or images that allow no estimate.
    """
    _check(model, out, layout, zero)
    if (path / "manifest.json").exists():
        source, stated = _of_store(path)
    else:
        images = open_images(path, layout=layout)  # type: ignore[arg-type]
        source, stated = dataclasses.replace(images, name=str(path)), []
    passes = 2 if model == "gaussian" else 1
    with progress_bar("estimate", passes * len(source)) as advance:
        if model == "gaussian":
            found = estimate_sigma(image_set(source, centred=True), advance=advance)
            scale = _scale(source)
            lines, numbers = [*noise_in_words(found, scale), *stated], _numbers(found, scale)
            parts: list[RenderableType] = [Text("\nlevels of single images"), histogram(found.per_sample)]
        else:
            counted = estimate_poisson_gaussian(image_set(source), zero or 0.0, advance)
            lines, numbers, parts = photon_noise_in_words(counted, _scale(source)), counted._asdict(), []
    if out is not None:
        _write(out, {"model": model, "images": len(source), **numbers})
        parts.append(Text(f"\n{out}"))
    heading = f"{source.name}: {len(source):,} images of shape {list(source.shape)}"
    return Group(Text("\n".join([heading, *lines])), *parts)


def _check(model: str, out: Path | None, layout: str, zero: float | None) -> None:
    if model not in MODELS:
        raise UserError(f"--model must be {' or '.join(MODELS)}, not {model!r}")
    if zero is not None and model == "gaussian":
        raise UserError(
            "--zero is the value of no light, for photon noise; add --model poisson-gaussian, or leave it out"
        )
    if zero is not None and not math.isfinite(zero):
        raise UserError(f"--zero must be a finite number, not {zero:g}")
    if layout not in LAYOUTS:
        raise UserError(f"--layout must be auto, NHW, NHWC or NCHW, not {layout!r}")
    kinds = (".json", ".npy") if model == "gaussian" else (".json",)
    if out is not None and out.suffix.lower() not in kinds:
        raise UserError(f"--out {out}: must end in {' or '.join(kinds)} for the {model} model")


def _of_store(path: Path) -> tuple[ImageSource, list[str]]:
    """The measurements of a store in the units of the files, and what it says of their noise."""
    store = open_samples(path)
    if store.is_complex:
        raise UserError(f"{path}: holds k-space of complex images; estimate-noise needs images")

    def passes() -> Iterator[tuple[str, NDArray[Any]]]:
        for rows in torch.arange(len(store)).split(_BATCH):
            for image in store.to_physical(store.stored(rows)).numpy():
                yield str(path), image

    summary, scale = store.manifest.sigma_n, store.manifest.normalisation.scale
    stated = f"The store says {summary.mean * scale:.4g} ({'estimated' if summary.estimated else 'stated'})."
    source = ImageSource(str(path), store.shape, len(store), store.manifest.value_range, None, None, passes)  # type: ignore[arg-type]
    return source, [stated]


def _scale(source: ImageSource) -> float:
    """One unit of a store in the units of the files."""
    return Normalisation.of_range(*percentiles(source)).scale


def _numbers(found: NoiseEstimate, scale: float) -> dict[str, Any]:
    interval = (found.low, found.high)
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
