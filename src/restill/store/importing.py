"""`import_measurements`: real measurements to a store, with a noise level that is stated or estimated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..corruption import AdditiveNoise
from ..data import ImageSource
from ..errors import UserError
from ..estimation import NoiseEstimate, estimate_sigma_of
from ..progress import Advance, silent
from .build import blocks, contents_of
from .manifest import Normalisation, SigmaEstimate
from .reader import Store, open_store
from .writer import SHARD_BYTES, StoreWriter
from .writing import check_free

SigmaN = float | Sequence[float] | NDArray[Any] | Path | Literal["auto", "auto-per-sample"]
AUTO = ("auto", "auto-per-sample")
MAX_LEVELS = 256
_SAMPLED_VALUES = 1 << 22
_BATCH_VALUES = 1 << 20
_PERCENTILES = (0.1, 99.9)


def import_measurements(
    source: ImageSource,
    out: str | Path,
    sigma_n: SigmaN,
    sigma_unit: Literal["data", "normalised"] = "data",
    value_range: tuple[float, float] | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Write real measurements, which lie on the image grid and carry white Gaussian noise, to the store `out`.

    What becomes [-1, 1] is `value_range` if given, else the nominal range of 8-bit files, else the 0.1 and 99.9
    percentiles of the data (of 4 million values at most, the same ones every time). Nothing is clipped.

    Args:
        sigma_n: standard deviation of the noise, one number, or one per image (also a .npy or text file of them);
            of the images as `source` gives them, that is after any resizing, which averages noise and correlates it.
            "auto" estimates one level for all, "auto-per-sample" one for each (`estimation.estimate_sigma`).
            The manifest's corruption is the empirical law of these, in 256 quantiles if there are more levels.
        sigma_unit: "data", the units of the files, or "normalised", the units of the store; of stated levels.
        value_range: (low, high) in the units of the files.
        advance: told of every block of images that is done; each image comes three times where the level is estimated.
        shard_bytes: approximate size of a shard.

    Raises:
        UserError: `out` exists, sigma_n is missing, negative, NaN, of the wrong number or larger than all variation of
            the measurements, an image cannot be read; "auto" finds no noise, or levels that differ.
    """
    out = Path(out)
    check_free(out)
    if sigma_unit not in ("data", "normalised"):
        raise UserError(f"sigma_unit must be 'data' or 'normalised', not {sigma_unit!r}")
    found = estimate_noise(source, advance) if isinstance(sigma_n, str) and sigma_n in AUTO else None
    levels = _per_image(sigma_n if found is None else _estimated(found, sigma_n, source.name), len(source))
    value_range = value_range or nominal_range(source)
    scale = Normalisation.of_range(*value_range).scale
    if sigma_unit == "data" or found is not None:
        levels = levels / scale
    estimate = None if found is None else _record(found, scale, sigma_n == "auto-per-sample")
    contents = contents_of(source, value_range, _empirical_law(levels))
    levels_N = torch.from_numpy(levels).to(torch.float32)
    means, squares = [], []
    with StoreWriter(
        out, contents, source=source.name, seed=None, estimate=estimate, shard_bytes=shard_bytes
    ) as writer:
        for block in blocks(source, contents.normalisation):
            sigma_n_n = levels_N[block.start : block.start + len(block.x)]
            writer.append(block.x, {"sigma_n": sigma_n_n}, block.labels)
            means.append(block.x.double().flatten(1).mean(1))
            squares.append(block.x.double().square().flatten(1).mean(1))
            advance(done=len(block.x))
        _check_noise(levels, torch.cat(means), torch.cat(squares), contents.normalisation.scale)
    return open_store(out, verify=False)


def nominal_range(source: ImageSource) -> tuple[float, float]:
    """What becomes [-1, 1] unless somebody says otherwise, in the units of the files."""
    return source.value_range or _percentiles(source)


def estimate_noise(source: ImageSource, advance: Advance = silent) -> NoiseEstimate:
    """The noise level of the images of `source` in the units of the files; each image is read twice.

    Raises:
        UserError: as `estimation.estimate_sigma`.
    """
    return estimate_sigma_of(lambda: batches(source), len(source), source.shape, source.name, advance=advance)


def batches(source: ImageSource) -> Iterator[Tensor]:
    """All images in order, in the units of the files, `[n, C, H, W]`, a few megabytes at a time."""
    size = max(1, min(256, _BATCH_VALUES // math.prod(source.shape)))
    images = iter(source)
    while some := list(islice(images, size)):
        yield torch.from_numpy(np.stack(some))


def _estimated(found: NoiseEstimate, wanted: SigmaN, name: str) -> SigmaN:
    """Levels to be used. Raises UserError if one level is wanted, and they differ or may as well be 0."""
    if wanted == "auto-per-sample":
        return found.per_sample.numpy()
    if found.mixed:
        low, high = found.spread
        raise UserError(
            f"{name}: noise levels differ, from {low:.4g} (5% of the images) to {high:.4g} (95%) in the units of the "
            "files; use sigma_n auto-per-sample, or state one"
        )
    if found.low <= 0:
        raise UserError(
            f"{name}: sigma_n is estimated as {found.sigma:.4g} in the units of the files, with an interval that "
            "includes 0; state it, as 0 if the images are clean"
        )
    return found.sigma


def _record(found: NoiseEstimate, scale: float, per_sample: bool) -> SigmaEstimate:
    interval = (found.low / scale, found.high / scale)
    return SigmaEstimate(sigma=found.sigma / scale, interval=interval, per_sample=per_sample, method=found.method)


def _check_noise(levels: NDArray[np.float64], means: Tensor, squares: Tensor, scale: float) -> None:
    """Raises UserError if the stated noise exceeds all variation of the measurements."""
    spread = math.sqrt(float(squares.mean() - means.mean() ** 2))
    stated = math.sqrt(float((levels**2).mean()))
    if stated >= spread:
        raise UserError(
            f"sigma_n {stated * scale:.4g} exceeds the standard deviation of the measurements, {spread * scale:.4g} in "
            "the units of the files: state a smaller one, or another unit"
        )


def _per_image(sigma_n: SigmaN | None, count: int) -> NDArray[np.float64]:
    """sigma_n of every image, `[count]`, checked."""
    if sigma_n is None:
        raise UserError("sigma_n is missing: state the standard deviation of the noise, one number or one per image")
    named = f"sigma_n ({sigma_n})" if isinstance(sigma_n, Path) else "sigma_n"
    try:
        values = np.asarray(_read(sigma_n) if isinstance(sigma_n, Path) else sigma_n, dtype=np.float64)
    except (TypeError, ValueError, EOFError) as error:
        raise UserError(f"{named} must be numbers ({error})") from error
    except OSError as error:
        raise UserError(f"{named} cannot be read ({error.strerror or error})") from error
    if values.ndim > 1 or values.size not in (1, count):
        raise UserError(f"{named} has {values.size} values for {count} images; give one number or one per image")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise UserError(f"{named} must be finite and at least 0, but value {first} is {values.flat[first]}")
    return np.broadcast_to(values, (count,)).copy()


def _read(path: Path) -> Any:
    """Numbers of a .npy file, or of a text file with one or more to a line, apart by spaces or commas."""
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    return [float(word) for word in path.read_text(encoding="utf-8").replace(",", " ").split()]


def _empirical_law(levels: NDArray[np.float64]) -> AdditiveNoise:
    """The law of which these levels are a sample; quantiles include the smallest and the largest."""
    distinct, counts = np.unique(levels, return_counts=True)
    if len(distinct) == 1:
        return AdditiveNoise(sigma_n=float(distinct[0]))
    weights = counts / counts.sum()
    if len(distinct) > MAX_LEVELS:
        distinct = np.quantile(levels, np.linspace(0, 1, MAX_LEVELS))
        weights = np.full(MAX_LEVELS, 1 / (MAX_LEVELS - 1))
        weights[[0, -1]] /= 2  # each quantile stands for the levels around it, the ends for one side only
    return AdditiveNoise(sigma_n=tuple(distinct.tolist()), weights=tuple(weights.tolist()))


def _percentiles(source: ImageSource) -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles of the values, from equally many values of each image, drawn from a fixed seed."""
    size = math.prod(source.shape)
    share = max(1, min(size, _SAMPLED_VALUES // len(source)))
    values = np.empty((len(source), share), dtype=np.float32)
    for i, image in enumerate(source):
        flat = image.reshape(-1)
        values[i] = flat if share == size else flat[np.random.default_rng(i).integers(size, size=share)]
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    if low == high:
        raise UserError(
            f"{source.name}: 99.8% of the values are {low:g}, which leaves the range open; "
            "state value_range=(low, high) in the files' units"
        )
    return low, high
