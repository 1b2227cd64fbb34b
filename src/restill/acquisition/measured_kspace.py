"""`import_kspace`: multi-coil k-space to a store, with masks, virtual coils, sensitivity maps, and a scale each."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..corruption import Corruption, corruption_from
from ..io import (
    KspaceReader,
    KspaceSlice,
    KspaceSource,
    check_order,
    check_pairs,
    open_kspace,
    open_maps,
    open_mask,
    shortened,
)
from ..io.kspace_shift import shifted_mask
from ..io.names import stem
from ..store.samples import Store
from ..store.writer import SHARD_BYTES
from .calibrated import CALIBRATION_MOST, Slices, binary_unit, calibrated, in_unit, joined
from .cropping import StatedMask, cropped, cropped_maps, mask_of
from .kspace_survey import MapBank, Statement, Survey, corruption_of, survey_of
from .pipeline import Acquisition, Plan, Samples, write
from .settings import DataSettings
from .stated_noise import SigmaN, per_image

_BLOCK_BYTES = 32 << 20
_NO_REFERENCE = (
    "a reference needs fully sampled k-space that this import undersamples; state corruption.acceleration, or leave "
    "the reference out"
)

Told = Callable[[str, float], None]
"""Called with the place of each slice, and the share of its calibration data that its maps cannot explain."""


class MeasuredKspace(Acquisition):
    """Multi-coil k-space: measured samples, masks and coil sensitivities of every slice.

    Only measured samples are used: the rest is set to 0 first. Maps come from the calibration
    lines of the slice alone (ESPIRiT), unless they are given. Each slice is divided by a scale of its own,
    `Store.scale`, so that the largest magnitude of the image of its calibration lines is 0.7; no other lines matter.

    Args:
        data: `crop` (of the field of view along an axis that is sampled without gaps, else of the resolution,
            `cropped`), `coils` (at most 8 by default), `masks` (by default the files' own, or what is
            not 0, which is also `nonzero`), `shift` (`io.kspace_shift`), and `maps` (of each slice or one for all,
            `open_maps`).
        corruption: `{"kind": "mri"}` with an acceleration if lines of fully sampled k-space are to be dropped, with
            the masks that `corrupt_images` would draw, and with `acs`, `pattern`, `coils`, `sigma_n`.
        sigma_n: standard deviation of the noise of the real and of the imaginary part, in the units of the files, one
            or one per slice; 0 by default. What is stored is that over the scale.
        mask: what was measured, `[W]` or `[H, W]`, in place of `data.masks`.
        seed: of the masks that are drawn.
        told: of every slice's consistency (`estimation.calibration_residual`).

    Raises:
        UserError: a slice cannot be used (its name is said), an acceleration of k-space that is undersampled already,
            noise beyond all that was measured.
    """

    unit = "slices"

    def __init__(
        self,
        source: KspaceSource,
        data: DataSettings | None = None,
        corruption: Mapping[str, Any] | None = None,
        sigma_n: SigmaN | None = None,
        mask: NDArray[Any] | None = None,
        seed: int = 0,
        told: Told | None = None,
    ) -> None:
        data = data or DataSettings()
        source = source if data.shift is None else dataclasses.replace(source, shift=data.shift)
        self.source, self.data, self._mask, self._seed, self.told = source, data, mask, seed, told
        self.statement, self.size = Statement(corruption, sigma_n, data.coils, source), _size(source, data.crop)
        self.name, self.image_shape, self.total = source.name, (2, *self.size), 2 * len(source)
        self.in_words = f"k-space, {len(source):,} slices of {self.size[0]} x {self.size[1]}"
        self.seed, self.no_reference = (seed, None) if self.statement.drops else (None, _NO_REFERENCE)

    def survey(self, advance: Advance) -> Plan:
        levels = per_image(self.statement.sigma_n, len(self.source), self.source.named, self.data.pairing)
        maps = None if self.data.maps is None else _opened_maps(self.data, self.source)
        mask = self._stated_mask()
        found = survey_of(self.source, self.statement, self.size, mask, maps is not None, self._seed, advance)
        samples = _Measured(self, mask, maps, found, levels)
        return Plan(samples, samples.corruption)

    def _stated_mask(self) -> StatedMask:
        if self._mask is None and self.data.masks == "nonzero":
            return "nonzero"
        mask = open_mask(self.data.masks) if self._mask is None and self.data.masks is not None else self._mask
        return None if mask is None else shifted_mask(np.atleast_2d(mask != 0), self.source.shift)


def import_kspace(
    source: KspaceSource | str | Path,
    out: str | Path,
    data: DataSettings | None = None,
    reference: str | Path | None = None,
    advance: Advance = silent,
    shard_bytes: int = SHARD_BYTES,
    **stated: Any,
) -> Store:
    """Write `MeasuredKspace` of these arguments to the store `out` (`write`).

    Args:
        reference: where to write the fully sampled images, combined with the maps of the measurements and in their
            scale, for `evaluate`. Only where the corruption states an acceleration.
    """
    data = data or DataSettings()
    source = source if isinstance(source, KspaceSource) else open_kspace(source, data.axes, data.limit)
    return write(MeasuredKspace(source, data, **stated), out, reference, advance, shard_bytes)


def _size(source: KspaceSource, crop: tuple[int, int] | None) -> tuple[int, int]:
    """`(H, W)` in the store. Raises UserError for files of different sizes, or a crop larger than one."""
    if crop is None:
        source.check_alike()
        return source.sizes
    for file in source.files:
        if file.size[0] < crop[0] or file.size[1] < crop[1]:
            raise UserError(
                f"crop {crop[0]},{crop[1]}: k-space of {file.path} is {file.size[0]}x{file.size[1]}; state at most "
                "that size"
            )
    return crop


def _opened_maps(data: DataSettings, source: KspaceSource) -> KspaceSource:
    path = str(data.maps)
    maps = open_maps(path, data.axes, data.limit)
    if len(maps) not in (1, len(source)):
        raise UserError(
            f"{path}: holds maps of {len(maps):,} slices, but {source.name} has {len(source):,}; give one for each, in "
            "files of the same names, or one for all"
        )
    if len(maps) > 1 and data.pairing == "name":
        _check_partners(source, maps)
    return maps


def _check_partners(source: KspaceSource, maps: KspaceSource) -> None:
    """That maps belong to the slices at their places, by the names of files. Raises UserError if some do not."""
    ours, theirs = source.named, maps.named
    if ours is None or theirs is None:
        names = [name for name, _ in ours or theirs or ()]
        check_order(names, maps.name, "maps", "keep maps and k-space in files of the same names")
        return
    known = KspaceReader.known_suffixes()
    first, second = ([stem(name, known) for name, _ in some] for some in (ours, theirs))
    check_pairs(first, second, maps.name, "maps")
    for (name, count), (other, found) in zip(ours, theirs, strict=True):
        if count != found:
            raise UserError(
                f"{maps.name}: {shortened(other)} holds maps of {found:,} slices, but {shortened(name)} has {count:,}; "
                "give one for each"
            )


class _Measured:
    """All samples, in one pass, and then the corruption that describes them.

    Args:
        mask: what was measured of every slice; None where the files say it.
        maps: given maps, of each slice or one for all; None where the files have them, or they are to be found.
        levels: noise of every slice, in the units of the files.
    """

    def __init__(
        self,
        kspace: MeasuredKspace,
        mask: StatedMask,
        maps: KspaceSource | None,
        found: Survey,
        levels: NDArray[np.float64],
    ) -> None:
        self._kspace, self._mask, self._maps, self._found, self._levels = kspace, mask, maps, found, levels
        self._bank = MapBank(len(found.mask), kspace.statement.coils, found.size)
        self._scaled: list[Tensor] = []  # levels in the units of the store

    def __iter__(self) -> Iterator[Samples]:
        """Raises UserError, at the end, if the noise exceeds all that was measured."""
        count, energy, noise, told = len(self._levels), 0.0, 0.0, self._kspace.told
        for block in self._blocks():
            done = calibrated(block, self._kspace.statement.coils)
            y, scale = torch.where(block.mask, done.kspace, 0.0), done.scale  # not even the sign of what is not kept
            yield Samples(y, done.operator.parameters(), partial(done.operator.extract, done.kspace), scale=scale)
            self._bank.add(done.operator.maps)
            self._scaled.append(block.sigma / scale)
            share = done.operator.mask.double().flatten(1).mean(1)
            energy += float((y.double().square().flatten(1).mean(1) / share * scale.double() ** 2).sum())
            noise += float(block.sigma.square().sum())
            if told is not None:
                for where, residual in zip(block.where, done.residual.tolist(), strict=True):
                    told(where, residual)
        if 0 < energy <= noise:
            raise UserError(
                f"sigma_n: the stated noise, {(noise / count) ** 0.5:.4g}, exceeds the root mean square of the "
                f"measurements, {(energy / count) ** 0.5:.4g} in the units of the files; state a smaller one"
            )

    def corruption(self) -> Corruption:
        """The corruption of the samples once they were read; before that, one of their shape."""
        statement = self._kspace.statement
        if not self._scaled:
            return corruption_from({"kind": "mri", "coils": statement.coils, "acs": 1, "acceleration": 1.0})
        return corruption_of(statement, self._found, self._bank, torch.cat(self._scaled).double().numpy())

    def _blocks(self) -> Iterator[Slices]:
        """All slices in order, cropped; a block is of one number of coils and one calibration block."""
        maps: Iterator[KspaceSlice | None] = itertools.repeat(None)
        if self._maps is not None:
            maps = itertools.repeat(next(iter(self._maps))) if len(self._maps) == 1 else iter(self._maps)
        pending: list[Slices] = []
        for i, (item, given) in enumerate(zip(self._kspace.source, maps, strict=False)):
            new = self._block(i, item, item.maps if given is None else given.kspace)
            if pending and (not pending[0].alike(new) or new.kspace.nbytes * len(pending) >= _BLOCK_BYTES):
                yield joined(pending)
                pending = []
            pending.append(new)
        if pending:
            yield joined(pending)

    def _block(self, i: int, item: KspaceSlice, maps: NDArray[np.complex64] | None) -> Slices:
        """Slice `i` as a block: measured samples alone, cropped."""
        raw, found = mask_of(item, self._mask), self._found
        if maps is not None and maps.shape != item.kspace.shape:
            raise UserError(
                f"{item.where}: maps are {list(maps.shape)}, but k-space is {list(item.kspace.shape)}; give maps of "
                "the same coils and size"
            )
        if maps is not None and not (np.isfinite(maps).all() and maps.any()):
            raise UserError(f"{item.where}: its maps hold NaN or infinity, or only 0; leave the slice out")
        measured = np.where(raw, item.kspace, np.complex64(0))
        unit, (height, width) = binary_unit(measured), found.calibration[i]
        if maps is not None:
            maps = in_unit(maps, binary_unit(maps))  # they are normalised later, and may be of any size
        return Slices(
            cropped(torch.from_numpy(in_unit(measured, unit)), raw, found.size)[None],
            torch.from_numpy(found.mask_of(i).copy())[None, None],
            None if maps is None else cropped_maps(torch.from_numpy(maps), raw, found.size)[None],
            (min(height, CALIBRATION_MOST), min(width, CALIBRATION_MOST)),
            torch.tensor([self._levels[i]], dtype=torch.float64),
            torch.tensor([unit], dtype=torch.float64),
            (item.where,),
        )
