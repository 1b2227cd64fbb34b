"""`import_measurements`: real measurements to a store, with a law that is stated and noise that may be estimated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..corruption import Corruption
from ..estimation import NoiseEstimate, estimate_sigma_of
from ..io import ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store, open_store
from ..store.writer import SHARD_BYTES, StoreWriter
from ..store.writing import check_free
from .benchmark import Block, blocks, contents_of
from .gaps import Masks, masks_of, with_gaps
from .stated import (
    Measured,
    is_masked,
    keeps_constants,
    mask_key,
    parameters_of,
    photons_of,
    stated,
    the_mask,
)
from .stated_noise import SigmaN, empirical, estimated, is_auto, per_image, record

_SAMPLED_VALUES = 1 << 22
_BATCH_VALUES = 1 << 20
_PERCENTILES = (0.1, 99.9)


def import_measurements(
    source: ImageSource,
    out: str | Path,
    sigma_n: SigmaN | None,
    sigma_unit: Literal["data", "normalised"] = "data",
    value_range: tuple[float, float] | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
    *,
    corruption: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
    image_size: tuple[int, int] | None = None,
) -> Store:
    """Write real measurements, whose law is known up to the level of their noise, to the store `out`.

    What becomes [-1, 1] is `value_range` if given, else the nominal range of 8-bit files, else the 0.1 and 99.9
    percentiles of the observed values (of 4 million values at most, the same ones every time). Nothing is clipped.
    Where the law does not keep constants (a user's projector, a blur that darkens the border), 0 becomes 0 and the
    larger end of the range 1, since a shift of the images would be none of the measurements.

    Args:
        sigma_n: standard deviation of the noise, one number, or one per image (also a .npy or text file of them);
            of the images as `source` gives them, that is after any resizing, which averages noise and correlates it.
            "auto" estimates one level for all, "auto-per-sample" one for each (`estimation.estimate_sigma`).
            The manifest's corruption has the empirical law of these, in 256 quantiles if there are more levels. None
            where `corruption` says it, or for photon noise.
        sigma_unit: "data", the units of the files, or "normalised", the units of the store; of stated levels and of
            photon noise.
        value_range: (low, high) in the units of the files.
        advance: told of every block of images that is done; each image comes twice more where the level is estimated,
            and once more where there are masks.
        shard_bytes: approximate size of a shard.
        corruption: what happened to the images, as in a recipe, `{"kind": "blur", "kernel": "psf.npy"}`; additive noise
            by default. The operator must be the same for all measurements, masks apart.
        masks: which pixels are missing: one mask for each image or one for all, 0 where missing, or "nan" where these
            are NaN. They are kept with the samples, and are the law of masks, unless `corruption` states another.
        image_size: (H, W) of what was measured, where a user's operator (kind function) does not keep it.

    Raises:
        UserError: `out` exists; sigma_n is missing, negative, NaN, of the wrong number or larger than all variation of
            the measurements; an image cannot be read; "auto" finds no noise, or levels that differ, or has masks or
            photon noise before it; an operator that is not known, or masks that do not fit.
    """
    out = Path(out)
    check_free(out)
    if sigma_unit not in ("data", "normalised"):
        raise UserError(f"sigma_unit must be 'data' or 'normalised', not {sigma_unit!r}")
    description, sigma_n = stated(corruption, sigma_n)
    measured = Measured(description, sigma_unit == "normalised", source.shape, masks is not None, image_size)
    law, image_shape = measured.check(sigma_n)
    if masks is None and is_masked(law):  # one that is known without files
        masks, measured = the_mask(law, image_shape), dataclasses.replace(measured, masked=True)
    bank = None
    if masks is not None:
        source = with_gaps(source, masks)
        bank = masks_of(source, advance)
    found = estimate_noise(source, advance) if is_auto(sigma_n) else None
    levels = _levels(sigma_n, found, source, law)
    value_range = _range(source, value_range, keeps_constants(law, image_shape))
    units = Normalisation.of_range(*value_range)
    if levels is not None and (sigma_unit == "data" or found is not None):
        levels = levels / units.scale
    law = measured.law({} if levels is None else empirical(levels), bank, units)
    contents = contents_of(source, value_range, law, image_shape)
    estimate = None if found is None else record(found, units.scale, sigma_n == "auto-per-sample")
    with StoreWriter(
        out, contents, source=source.name, seed=None, estimate=estimate, shard_bytes=shard_bytes
    ) as writer:
        if levels is None:  # photon noise: that of stabilised values
            levels = np.full(len(source), law.sigma_max)
        _write(writer, source, law, levels, advance)
    return open_store(out, verify=False)


def _levels(
    sigma_n: SigmaN | None, found: NoiseEstimate | None, source: ImageSource, law: Corruption
) -> NDArray[np.float64] | None:
    """The noise level of every image as it was stated or estimated; None for photon noise, which says it itself."""
    if photons_of(law) is not None:
        return None
    if found is not None:
        sigma_n = estimated(found, sigma_n == "auto-per-sample", source.name)
    return per_image(sigma_n, len(source))


def _write(
    writer: StoreWriter, source: ImageSource, law: Corruption, levels: NDArray[np.float64], advance: Advance
) -> None:
    """Append all measurements. Raises UserError if their noise exceeds all that varies in them."""
    units, image_shape, masked = writer.contents.normalisation, writer.contents.image_shape, source.gaps
    count, total, squares = 0, 0.0, 0.0
    for block in blocks(source, units):
        observed = ~block.x.isnan()
        y = _stored(block, observed, law, units, source.name)
        parameters = parameters_of(law, image_shape, len(y))
        parameters["sigma_n"] = torch.from_numpy(levels[block.start : block.start + len(y)]).to(torch.float32)
        if masked:
            parameters[mask_key(law)] = observed
        writer.append(y, parameters, block.labels)
        count, total = count + int(observed.sum()), total + float(y.double().sum())
        squares += float(y.double().square().sum())
        advance(done=len(y))
    spread, noise = math.sqrt(max(0.0, squares / count - (total / count) ** 2)), math.sqrt(float((levels**2).mean()))
    if noise >= spread:
        if photons_of(law) is not None:
            raise UserError(
                f"{source.name}: photon noise exceeds all that varies in the measurements; state a smaller "
                "corruption.gain or read_noise, in the units of the files"
            )
        raise UserError(
            f"sigma_n {noise * units.scale:.4g} exceeds the standard deviation of the measurements, "
            f"{spread * units.scale:.4g} in the units of the files: state a smaller one, or another unit"
        )


def _stored(block: Block, observed: Tensor, law: Corruption, units: Normalisation, name: str) -> Tensor:
    """What a store keeps of measurements: photons stabilised, 0 where nothing was observed."""
    y, photons = block.x, photons_of(law)
    if photons is not None:
        y = torch.where(observed, y, photons.zero)
        dark = (y < photons.zero - 1e-6 * max(1.0, abs(photons.zero))).flatten(1).any(1)
        if photons.read_noise == 0 and bool(dark.any()):
            first = int(dark.nonzero()[0])
            low, zero = units.to_physical(torch.stack([y[first].min(), torch.tensor(photons.zero)])).tolist()
            raise UserError(
                f"{name}: image {block.start + first} holds {low:g}, which is less than no light, {zero:g}; state "
                "corruption.zero, or read_noise, in the units of the files"
            )
        y = photons.stabilise(y)
    return torch.where(observed, y, 0.0)


def _range(source: ImageSource, stated: tuple[float, float] | None, keeps_constants: bool) -> tuple[float, float]:
    """What becomes [-1, 1] in the units of the files. Raises UserError for a range that would move a law's zero."""
    low, high = stated or nominal_range(source)
    if keeps_constants:
        return low, high
    if stated is not None and low != -high:
        raise UserError(
            f"range {low:g},{high:g}: the operator does not keep constants, so that 0 must stay 0: state a range "
            f"-HIGH,HIGH, e.g. {-abs(high):g},{abs(high):g}"
        )
    return -max(abs(low), abs(high)), max(abs(low), abs(high))


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


def _percentiles(source: ImageSource) -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles of the values, from equally many values of each image, drawn from a fixed seed."""
    size = math.prod(source.shape)
    share = max(1, min(size, _SAMPLED_VALUES // len(source)))
    values = np.empty((len(source), share), dtype=np.float32)
    for i, image in enumerate(source):
        flat = image.reshape(-1)
        values[i] = flat if share == size else flat[np.random.default_rng(i).integers(size, size=share)]
    observed = values[~np.isnan(values)]
    low, high = (float(value) for value in np.percentile(observed, _PERCENTILES)) if len(observed) else (0.0, 0.0)
    if low == high:
        raise UserError(
            f"{source.name}: 99.8% of the values are {low:g}, which leaves the range open; "
            "state value_range=(low, high) in the files' units"
        )
    return low, high
