"""Noise levels of real measurements: stated, in files, or estimated; and their distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..estimation import NoiseEstimate
from ..io import Files, Pairing
from ..store.manifest import SigmaEstimate
from .level_files import read_levels

SigmaN = float | Sequence[float] | NDArray[Any] | Path | Literal["auto", "auto-per-sample"]
MAX_LEVELS = 256


def is_auto(sigma_n: SigmaN | None) -> bool:
    """Whether the level is to be estimated."""
    return isinstance(sigma_n, str) and sigma_n in ("auto", "auto-per-sample")


def estimated(found: NoiseEstimate, per_sample: bool, name: str) -> SigmaN:
    """The levels to use. Raises UserError if one level is wanted, but levels differ or cannot be told from 0."""
    if per_sample:
        return found.per_sample.numpy()
    if found.mixed:
        low, high = found.spread
        raise UserError(
            f"{name}: noise levels differ, from {low:.4g} (5% of the images) to {high:.4g} (95%) in the units of the "
            "files; use sigma_n auto-per-sample, or state one level"
        )
    if found.low <= 0:
        raise UserError(
            f"{name}: sigma_n is estimated as {found.sigma:.4g} in the units of the files, but its interval includes "
            "0; state sigma_n, 0 if the images are clean"
        )
    if found.vague:
        raise UserError(
            f"{name}: sigma_n is only known to lie between {found.low:.4g} and {found.high:.4g}, in the units of the "
            "files, since details are as strong as the noise; state it, or give more images"
        )
    return found.sigma


def record(found: NoiseEstimate, scale: float, per_sample: bool) -> SigmaEstimate:
    """An estimate in the units of the files as the manifest keeps it; `scale` of them make one normalised unit."""
    interval = (found.low / scale, found.high / scale)
    return SigmaEstimate(sigma=found.sigma / scale, interval=interval, per_sample=per_sample, method=found.method)


def per_image(
    sigma_n: SigmaN | None, count: int, files: Files | None = None, pairing: Pairing = "name"
) -> NDArray[np.float64]:
    """sigma_n of every image, `[count]`, checked.

    Args:
        files: that hold the images, where these have names.
        pairing: how levels in a file find their images, where they have no names (`read_levels`).

    Raises:
        UserError: no number, not as many as images, or levels in a file that do not pair with the images.
    """
    if sigma_n is None:
        raise UserError("sigma_n is missing: state the standard deviation of the noise, one number or one per image")
    named = f"sigma_n ({sigma_n})" if isinstance(sigma_n, Path) else "sigma_n"
    try:
        found = read_levels(sigma_n, count, files, pairing) if isinstance(sigma_n, Path) else sigma_n
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{named} must be numbers ({error})") from error
    if values.ndim > 1 or values.size not in (1, count):
        raise UserError(f"{named} has {values.size} values for {count} images; give one number or one per image")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise UserError(f"{named} must be finite and at least 0, but value {first} is {values.flat[first]}")
    return np.broadcast_to(values, (count,)).copy()


def empirical(levels: NDArray[np.float64]) -> dict[str, Any]:
    """`sigma_n` and `weights` of a corruption that draws such levels, or quantiles of them with both ends."""
    distinct, counts = np.unique(levels, return_counts=True)
    if len(distinct) == 1:
        return {"sigma_n": float(distinct[0])}
    weights = counts / counts.sum()
    if len(distinct) > MAX_LEVELS:
        distinct = np.quantile(levels, np.linspace(0, 1, MAX_LEVELS))
        weights = np.full(MAX_LEVELS, 1 / (MAX_LEVELS - 1))
        weights[[0, -1]] /= 2  # each quantile stands for the levels around it, the ends for one side only
    return {"sigma_n": tuple(distinct.tolist()), "weights": tuple(weights.tolist())}
