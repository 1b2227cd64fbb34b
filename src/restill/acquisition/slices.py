"""`import_kspace`: multi-coil k-space to a store, with masks, virtual coils, sensitivity maps, and a scale each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..corruption import Mri
from ..io import KspaceSlice, KspaceSource, open_kspace, open_maps, open_mask
from ..store.manifest import Contents, Normalisation
from ..store.samples import Store, open_store
from ..store.writer import SHARD_BYTES, StoreWriter
from ..store.writing import check_free
from .calibrated import CALIBRATION_MOST, Block, alike, calibrated, joined
from .cropping import Mask, cropped, cropped_maps, mask_of
from .slices_law import MapBank, Statement, Survey, law_of, survey
from .stated_noise import SigmaN, per_image

_BLOCK_BYTES = 32 << 20

Told = Callable[[str, float], None]
"""Is told where each slice lies, and the share of its calibration data that its maps cannot explain."""


def import_kspace(
    source: KspaceSource | str | Path,
    out: str | Path,
    *,
    reference: str | Path | None = None,
    crop: tuple[int, int] | None = None,
    coils: int | None = None,
    mask: NDArray[Any] | str | Path | None = None,
    maps: str | Path | None = None,
    law: Mapping[str, Any] | None = None,
    sigma_n: SigmaN | None = None,
    seed: int = 0,
    advance: Advance = silent,
    told: Told | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Write k-space to the store `out`: measured samples, masks and coil sensitivities of every slice.

    Nothing but measured samples is used: the rest is 0 before anything else happens. Maps come from the calibration
    lines of the slice alone (ESPIRiT), unless they are given. Each slice is divided by a scale of its own,
    `Store.scale`, so that the largest magnitude of the image of its calibration lines is 0.7; no other lines matter.

    Args:
        source: what `open_kspace` gives, or a path for it.
        reference: where to write the fully sampled images, combined with the maps of the measurements and in their
            scale, for `evaluate`. Only where `law` states an acceleration.
        crop: (H, W). Along an axis that is sampled without gaps the field of view is cropped, along any other the
            resolution (`sampling.cropped`).
        coils: number of virtual coils; by default as many as the file of the fewest coils has, at most 8.
        mask: what was measured, `[W]` or `[H, W]`, or a file with it, for all slices; by default the files' own, or
            what is not 0.
        maps: coil sensitivities, of each slice or one for all, complex `[slices, coils, H, W]` (`open_maps`).
        law: `{"kind": "mri"}` with an acceleration if lines of fully sampled k-space are to be dropped, with the masks
            that `corrupt_images` would draw, and with `acs`, `pattern`, `coils`, `sigma_n`.
        sigma_n: standard deviation of the noise of the real and of the imaginary part, in the units of the files, one
            or one per slice; 0 by default. What is stored is that over the scale.
        seed: of the masks that are drawn.
        advance: told of slices that are done; each comes twice.
        told: of every slice's consistency (`estimation.calibration_residual`).
        shard_bytes: approximate size of a shard.

    Raises:
        UserError: a path exists, files differ or are damaged, a slice cannot be used (its name is said), an
            acceleration of k-space that is undersampled already, noise beyond all that was measured.
    """
    source = source if isinstance(source, KspaceSource) else open_kspace(source)
    out, reference = Path(out), None if reference is None else Path(reference)
    statement = Statement.of(law, sigma_n, coils, source)
    _check_paths(out, reference, statement)
    size = _size(source, crop)
    if statement.undersampling is not None:
        statement.undersampling.observation_shape((2, *size))
    levels = per_image(statement.sigma_n, len(source))
    given = None if maps is None else _opened_maps(maps, source)
    stated = None if mask is None else open_mask(mask) if isinstance(mask, (str, Path)) else np.atleast_2d(mask != 0)
    found = survey(source, statement, size, mask=stated, has_maps=given is not None, seed=seed, advance=advance)
    used_seed = None if statement.undersampling is None else seed
    contents = _contents(size, Mri(coils=statement.coils, acs=1, acceleration=1.0))
    with ExitStack() as stack:  # left in reverse: the reference appears first, the measurements once all is written
        writer = StoreWriter(out, contents, source=source.name, seed=used_seed, shard_bytes=shard_bytes)
        stack.enter_context(writer)
        clean = None
        if reference is not None:
            clean = StoreWriter(
                reference, _contents(size, None), source=source.name, seed=seed, shard_bytes=shard_bytes
            )
            stack.enter_context(clean)
        blocks = _blocks(source, stated, given, found, levels)
        final = _write(blocks, writer, clean, statement, found, advance, told)
        writer.contents = _contents(size, final)
        writer.seal()
    return open_store(out, verify=False)


def _check_paths(out: Path, reference: Path | None, statement: Statement) -> None:
    check_free(out)
    if reference is None:
        return
    check_free(reference)
    if reference.resolve() == out.resolve():
        raise UserError(f"{out}: measurements and their reference must be two stores; choose another reference path")
    if statement.undersampling is None:
        raise UserError(
            f"{reference}: a reference is of fully sampled k-space that is undersampled here; state "
            "corruption.acceleration, or leave the reference out"
        )


def _size(source: KspaceSource, crop: tuple[int, int] | None) -> tuple[int, int]:
    """`(H, W)` in the store. Raises UserError for files of different sizes, or a crop larger than one."""
    if crop is None:
        source.check_alike()
        return source.sizes
    if min(crop) < 1 or crop[0] > source.sizes[0] or crop[1] > source.sizes[1]:
        small = next(file for file in source.files if file.size[0] < crop[0] or file.size[1] < crop[1])
        raise UserError(
            f"crop {crop[0]},{crop[1]}: k-space of {small.path} is {small.size[0]}x{small.size[1]}; state no more"
        )
    return crop


def _opened_maps(path: str | Path, source: KspaceSource) -> KspaceSource:
    maps = open_maps(path)
    if len(maps) not in (1, len(source)):
        raise UserError(
            f"{path}: holds maps of {len(maps):,} slices, but {source.name} has {len(source):,}; give one for each, in "
            "the same order, or one for all"
        )
    return maps


def _contents(size: tuple[int, int], law: Mri | None) -> Contents:
    shape = (2, *size)
    return Contents(
        kind="reference" if law is None else "measurements",
        shape=shape if law is None else (2 * law.coils, *size),
        image_shape=shape,
        normalisation=Normalisation.of_range(-1.0, 1.0),
        value_range=(-1.0, 1.0),
        classes=None,
        corruption=None if law is None else law.describe(),
        values="complex",
    )


def _blocks(
    source: KspaceSource,
    stated: Mask | None,
    given: KspaceSource | None,
    found: Survey,
    levels: NDArray[np.float64],
) -> Iterator[Block]:
    """All slices in order, cropped; a block is of one number of coils and one calibration block."""
    others: Iterator[KspaceSlice | None] = itertools.repeat(None)
    if given is not None:
        others = itertools.repeat(next(iter(given))) if len(given) == 1 else iter(given)
    pending: list[Block] = []
    for i, (item, other) in enumerate(zip(source, others, strict=False)):
        new = _one(item, other, stated, found, i, float(levels[i]))
        if pending and (not alike(pending[0], new) or new.kspace.nbytes * len(pending) >= _BLOCK_BYTES):
            yield joined(pending)
            pending = []
        pending.append(new)
    if pending:
        yield joined(pending)


def _one(item: KspaceSlice, other: KspaceSlice | None, stated: Mask | None, found: Survey, i: int, s: float) -> Block:
    """A slice as a block: measured samples alone, cropped."""
    raw = mask_of(item, stated)
    maps = other.kspace if other is not None else item.maps
    if maps is not None and maps.shape != item.kspace.shape:
        raise UserError(
            f"{item.where}: maps are {list(maps.shape)}, but k-space is {list(item.kspace.shape)}; give maps of "
            "the same coils and size"
        )
    if maps is not None and not (np.isfinite(maps).all() and maps.any()):
        raise UserError(f"{item.where}: its maps hold NaN or infinity, or only 0; leave the slice out")
    measured = torch.from_numpy(np.where(raw, item.kspace, np.complex64(0)))
    height, width = found.calibration[i]
    return Block(
        cropped(measured, raw, found.size)[None],
        torch.from_numpy(found.mask_of(i).copy())[None, None],
        None if maps is None else cropped_maps(torch.from_numpy(maps.copy()), raw, found.size)[None],
        (min(height, CALIBRATION_MOST), min(width, CALIBRATION_MOST)),
        torch.tensor([s], dtype=torch.float64),
        (item.where,),
    )


def _write(
    blocks: Iterator[Block],
    writer: StoreWriter,
    clean: StoreWriter | None,
    statement: Statement,
    found: Survey,
    advance: Advance,
    told: Told | None,
) -> Mri:
    """Append everything; returns the law. Raises UserError if the noise exceeds all that was measured."""
    bank = MapBank(len(found.mask), statement.coils, found.size)
    levels: list[Tensor] = []
    energy = noise = 0.0
    for block in blocks:
        done = calibrated(block, statement.coils)
        y, scale = torch.where(block.mask, done.kspace, 0.0), done.scale  # not even the sign of what is not kept
        writer.append(y, done.operator.parameters(), scale=scale)
        if clean is not None:
            image = done.operator.extract(done.kspace)
            clean.append(image, {"sigma_n": torch.zeros(len(image))}, scale=scale)
        bank.add(done.operator.maps)
        levels.append(block.sigma / scale)
        share = done.operator.mask.double().flatten(1).mean(1)
        energy += float((y.double().square().flatten(1).mean(1) / share * scale.double() ** 2).sum())
        noise += float(block.sigma.square().sum())
        for where, residual in zip(block.where, done.residual.tolist(), strict=True):
            if told is not None:
                told(where, residual)
        advance(done=len(y))
    if 0 < energy <= noise:
        raise UserError(
            f"sigma_n: the noise stated, {(noise / len(found.mask)) ** 0.5:.4g}, exceeds all that was measured, "
            f"{(energy / len(found.mask)) ** 0.5:.4g} in the units of the files; state a smaller one"
        )
    return law_of(statement, found, bank, torch.cat(levels).double().numpy())
