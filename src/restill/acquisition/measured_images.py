"""`import_measurements`: real images to a store, with a corruption that is stated and noise that may be estimated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..corruption import Corruption, Loss, photons_of
from ..estimation import estimate_sigma_of
from ..io import ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .gaps import Masks, masks_of, with_gaps
from .pipeline import Acquisition, Plan, Samples, images_in_words, write
from .settings import DataSettings
from .stated import Measured, keeps_constants, mask_key, parameters_of, stated, the_mask
from .stated_noise import SigmaN, empirical, estimated, is_auto, per_image, record
from .value_range import Block, batches, blocks, percentiles


def from_measured_images(
    source: ImageSource,
    sigma_n: SigmaN | None,
    corruption: Mapping[str, Any] | None,
    data: DataSettings,
    masks: Masks | None,
) -> Acquisition:
    """Measurements in files, whose corruption is known up to the level of their noise (`import_measurements`)."""
    description, sigma_n = stated(corruption, sigma_n)
    normalised = data.sigma_unit == "normalised"
    measured = Measured(description, normalised, source.shape, masks is not None, data.image_size)
    known, image_shape = measured.check(sigma_n)
    if masks is None and known.loses(Loss.PIXELS):  # one that is known without files
        masks, measured = the_mask(known, image_shape), dataclasses.replace(measured, masked=True)

    def survey(advance: Advance) -> Plan:
        images = source if masks is None else with_gaps(source, masks)
        bank = None if masks is None else masks_of(images, advance)
        found = None
        if is_auto(sigma_n):
            found = estimate_sigma_of(lambda: batches(images), len(images), images.shape, images.name, advance=advance)
        level = sigma_n if found is None else estimated(found, sigma_n == "auto-per-sample", images.name)
        levels = None if photons_of(known) is not None else per_image(level, len(images))
        value_range = _range(images, data.range, keeps_constants(known, image_shape), advance)
        units = Normalisation.of_range(*value_range)
        if levels is not None and (found is not None or not normalised):
            levels = levels / units.scale
        final = measured.corruption({} if levels is None else empirical(levels), bank, units)
        if levels is None:  # photon noise: that of stabilised values
            levels = np.full(len(images), final.sigma_max)
        samples = _samples(images, final, image_shape, units, levels)
        estimate = None if found is None else record(found, units.scale, sigma_n == "auto-per-sample")
        return Plan(image_shape, value_range, samples, lambda: final, estimate=estimate, classes=images.classes)

    looks = (masks is not None) + 2 * is_auto(sigma_n) + (data.range is None and source.value_range is None)
    return Acquisition(
        source.name,
        images_in_words(len(source), source.shape, image_shape),
        image_shape,
        len(source) * (1 + looks),
        survey,
        num_classes=source.num_classes,
        no_reference="a reference is of clean images, which measurements have not; leave the reference out",
    )


def import_measurements(
    source: ImageSource,
    out: str | Path,
    sigma_n: SigmaN | None,
    data: DataSettings | None = None,
    *,
    corruption: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Write real measurements, whose corruption is known up to the level of their noise, to the store `out`.

    What becomes [-1, 1] is `data.range` if given, else the nominal range of 8-bit files, else the 0.1 and 99.9
    percentiles of the observed values (of 4 million values at most, the same ones every time). Nothing is clipped.
    Where the corruption does not keep constants (a user's projector, a blur that darkens the border), 0 becomes 0 and
    the larger end of the range 1, since a shift of the images would be none of the measurements.

    Args:
        sigma_n: standard deviation of the noise of the images that `source` gives, one number, or one per image (also
            a .npy or text file of them). "auto" estimates one level for all, "auto-per-sample" one for each
            (`estimation.estimate_sigma`). None where `corruption` says it, or for photon noise. The manifest's
            corruption has the empirical law of the levels, in 256 quantiles if there are more.
        data: `range`, `sigma_unit` and `image_size`; what else it says of files is not looked at.
        corruption: what happened to the images, as in a recipe; additive noise by default. The operator must be the
            same for all measurements, masks apart.
        masks: which pixels are missing: one mask for each image or one for all, 0 where missing, or "nan" where these
            are NaN. They are kept with the samples, and phase II draws from them unless `corruption` states a pattern.
        advance, shard_bytes: see `write`.

    Raises:
        UserError: as `write`; levels that cannot be, are missing, or exceed all variation of the measurements; "auto"
            finds no noise, or levels that differ; an operator that is not known, or masks that do not fit.
    """
    acquisition = from_measured_images(source, sigma_n, corruption, data or DataSettings(), masks)
    return write(acquisition, out, advance=advance, shard_bytes=shard_bytes)


def _samples(
    source: ImageSource,
    law: Corruption,
    image_shape: tuple[int, int, int],
    units: Normalisation,
    levels: NDArray[np.float64],
) -> Iterator[Samples]:
    """All measurements. Raises UserError, at the end, if their noise exceeds all that varies in them."""
    count, total, squares = 0, 0.0, 0.0
    for block in blocks(source, units):
        observed = ~block.x.isnan()
        y = _stored(block, observed, law, units, source.name)
        parameters = parameters_of(law, image_shape, len(y))
        parameters["sigma_n"] = torch.from_numpy(levels[block.start : block.start + len(y)]).to(torch.float32)
        if source.gaps:
            parameters[mask_key(law)] = observed
        yield Samples(y, parameters, labels=block.labels)
        count, total = count + int(observed.sum()), total + float(y.double().sum())
        squares += float(y.double().square().sum())
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


def _range(
    source: ImageSource, stated: tuple[float, float] | None, keeps_constants: bool, advance: Advance
) -> tuple[float, float]:
    """What becomes [-1, 1] in the units of the files. Raises UserError for a range that would move a law's zero."""
    low, high = stated or percentiles(source, advance)
    if keeps_constants:
        return low, high
    if stated is not None and low != -high:
        raise UserError(
            f"range {low:g},{high:g}: the operator does not keep constants, so that 0 must stay 0: state a range "
            f"-HIGH,HIGH, e.g. {-abs(high):g},{abs(high):g}"
        )
    return -max(abs(low), abs(high)), max(abs(low), abs(high))
