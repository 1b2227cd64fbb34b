"""`import_measurements`: real images to a store, with a corruption that is stated and noise that may be estimated."""

from __future__ import annotations

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
from ..corruption import Corruption, Embedded, Loss, corruption_from, in_units, photons_of
from ..estimation import estimate_sigma
from ..io import ImageSource
from ..store.manifest import Normalisation
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .gaps import Masks, masks_of, with_gaps
from .pipeline import Acquisition, Plan, Samples, write
from .settings import DataSettings
from .stated import check_known, keeps_constants, mask_key, measured_shape, operators, stated, the_mask, with_masks
from .stated_noise import SigmaN, empirical, estimated, is_auto, per_image, record
from .value_range import Block, blocks, image_set, percentiles


class MeasuredImages(Acquisition):
    """Real measurements with a known corruption; only the noise level may be unknown.

    What becomes [-1, 1] is `data.range` if given, else the nominal range of 8-bit files, else the 0.1 and 99.9
    percentiles of the observed values (of 4 million values at most, the same ones every time). Nothing is clipped.
    Where the corruption does not keep constants (a user's projector, a blur that darkens the border), 0 becomes 0 and
    the larger end of the range 1, since measurements of shifted images would not be shifted measurements.

    Args:
        sigma_n: standard deviation of the noise of the images that `source` gives, one number, or one per image (also
            a .npy or text file of them). "auto" estimates one level for all, "auto-per-sample" one for each
            (`estimation.estimate_sigma`). None where `corruption` says it, or for photon noise. The manifest's
            corruption has the empirical distribution of the levels, in 256 quantiles if there are more.
        data: `range`, `sigma_unit` and `image_size`; other keys are ignored.
        corruption: what happened to the images, as in a recipe; additive noise by default. The operator must be the
            same for all measurements, masks apart.
        masks: which pixels are missing: one mask for each image or one for all, 0 where missing, or "nan" where these
            are NaN. They are kept with the samples, and phase II draws from them unless `corruption` states a pattern.

    Attributes:
        known: the corruption, as far as it is known before files are read.
        auto: whether noise levels are to be estimated.

    Raises:
        UserError: levels that cannot be, are missing, or exceed all variation of the measurements; "auto" finds no
            noise, or levels that differ; an operator that is not known, or masks that do not fit.
    """

    no_reference = "a reference needs clean images, and measurements have none; leave the reference out"

    def __init__(
        self,
        source: ImageSource,
        sigma_n: SigmaN | None,
        data: DataSettings | None = None,
        corruption: Mapping[str, Any] | None = None,
        masks: Masks | None = None,
    ) -> None:
        self.source, self.data, self.masks = source, data or DataSettings(), masks
        self.description, self.sigma_n = stated(corruption, sigma_n)
        self.auto = is_auto(self.sigma_n)
        self.known = known = self._corruption({}, None)
        self.image_shape = measured_shape(known, source.shape, self.data.image_size)
        check_known(known, self.image_shape, masks is not None)
        if known.loses(Loss.PHOTONS) and self.sigma_n is not None:
            raise UserError(
                f"sigma_n: kind {known.kind} derives it from corruption.gain and read_noise; remove sigma_n"
            )
        if known.loses(Loss.PIXELS):
            if self.auto:
                raise UserError(
                    "sigma_n auto needs complete images, but pixels are missing; state the noise level, e.g. one "
                    "estimated from complete images of the same detector"
                )
            self.masks = masks or the_mask(known, self.image_shape)
        looks = (self.masks is not None) + 2 * self.auto + (self.data.range is None and source.value_range is None)
        self.of_images(source, self.image_shape, looks)

    def _corruption(
        self, levels: Mapping[str, Any], bank: NDArray[np.bool_] | None, units: Normalisation | None = None
    ) -> Corruption:
        """The corruption in normalised units.

        Args:
            levels: `sigma_n` and perhaps `weights`; empty for photon noise.
            bank: masks of the measurements, `[k, C, H, W]`; None, as long as they are not read, for nothing missing.
            units: of the files; None as long as they are not known.
        """
        description = self.description
        if self.masks is not None:
            bank = np.ones((1, 1, *self.source.shape[1:]), dtype=bool) if bank is None else bank
            description = with_masks(description, Embedded(bank).describe())
        if self.data.sigma_unit == "data":
            description = in_units(description, *(() if units is None else (units.offset, units.scale)))
        return corruption_from({**description, **levels})

    def survey(self, advance: Advance) -> Plan:
        images = self.source if self.masks is None else with_gaps(self.source, self.masks, self.data.pairing)
        bank = None if self.masks is None else masks_of(images, advance)
        per_sample, found, level = self.sigma_n == "auto-per-sample", None, self.sigma_n
        photons = self.known.loses(Loss.PHOTONS)
        levels = None if photons or self.auto else per_image(level, len(images), images.files, self.data.pairing)
        value_range = self._range(images, advance)
        if self.auto:
            found = estimate_sigma(image_set(images, centred=True), advance=advance)
            levels = per_image(estimated(found, per_sample, images.name), len(images))
        units = Normalisation.of_range(*value_range)
        if levels is None:  # photon noise has the level of stabilised values
            corruption = self._corruption({}, bank, units)
            levels = np.full(len(images), corruption.sigma_max)
        else:
            levels = levels / (units.scale if self.auto or self.data.sigma_unit == "data" else 1.0)
            corruption = self._corruption(empirical(levels), bank, units)
        samples = _samples(images, corruption, self.image_shape, units, levels)
        estimate = None if found is None else record(found, units.scale, per_sample)
        same_units = keeps_constants(self.known, self.image_shape)  # else the files say nothing of an image's range
        return Plan(samples, lambda: corruption, value_range, estimate, images.value_range if same_units else None)

    def _range(self, images: ImageSource, advance: Advance) -> tuple[float, float]:
        """The range that becomes [-1, 1], in the units of the files. Raises UserError for a range that moves zero."""
        low, high = self.data.range or percentiles(images, advance)
        if keeps_constants(self.known, self.image_shape):
            return low, high
        if self.data.range is not None and low != -high:
            raise UserError(
                f"range {low:g},{high:g}: the operator does not preserve constants, so 0 must stay 0; state a range "
                f"-HIGH,HIGH, e.g. {-abs(high):g},{abs(high):g}"
            )
        return -max(abs(low), abs(high)), max(abs(low), abs(high))


def import_measurements(
    source: ImageSource,
    out: str | Path,
    sigma_n: SigmaN | None,
    data: DataSettings | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
    **stated: Any,
) -> Store:
    """Write `MeasuredImages` of these arguments to the store `out` (`write`)."""
    return write(MeasuredImages(source, sigma_n, data, **stated), out, advance=advance, shard_bytes=shard_bytes)


def _samples(
    source: ImageSource,
    corruption: Corruption,
    image_shape: tuple[int, int, int],
    units: Normalisation,
    levels: NDArray[np.float64],
) -> Iterator[Samples]:
    """All measurements. Raises UserError, at the end, if their noise exceeds their variation."""
    count, total, squares = 0, 0.0, 0.0
    for block in blocks(source, units):
        observed = ~block.x.isnan()
        y = _stored(block, observed, corruption, units, source.name)
        parameters = operators(corruption, image_shape, len(y)).parameters()
        parameters["sigma_n"] = torch.from_numpy(levels[block.start : block.start + len(y)]).to(torch.float32)
        if source.gaps:
            parameters[mask_key(corruption)] = observed
        yield Samples(y, parameters, labels=block.labels)
        count, total = count + int(observed.sum()), total + float(y.double().sum())
        squares += float(y.double().square().sum())
    spread, noise = math.sqrt(max(0.0, squares / count - (total / count) ** 2)), math.sqrt(float((levels**2).mean()))
    if noise >= spread:
        if photons_of(corruption) is not None:
            raise UserError(
                f"{source.name}: photon noise exceeds the variation of the measurements; state a smaller "
                "corruption.gain or read_noise, in the units of the files"
            )
        raise UserError(
            f"sigma_n {noise * units.scale:.4g} exceeds the standard deviation of the measurements, "
            f"{spread * units.scale:.4g} in the units of the files: state a smaller one, or another unit"
        )


def _stored(block: Block, observed: Tensor, corruption: Corruption, units: Normalisation, name: str) -> Tensor:
    """Measurements as a store keeps them: photon counts stabilised, 0 where nothing was observed."""
    y, photons = block.x, photons_of(corruption)
    if photons is not None:
        y = torch.where(observed, y, photons.zero)
        dark = (y < photons.zero - 1e-6 * max(1.0, abs(photons.zero))).flatten(1).any(1)
        if photons.read_noise == 0 and bool(dark.any()):
            first = int(dark.nonzero()[0])
            low, zero = units.to_physical(torch.stack([y[first].min(), torch.tensor(photons.zero)])).tolist()
            raise UserError(
                f"{name}: image {block.start + first} holds {low:g}, below the value of no light, {zero:g}; state "
                "corruption.zero, or read_noise, in the units of the files"
            )
        y = photons.stabilise(y)
    return torch.where(observed, y, 0.0)
