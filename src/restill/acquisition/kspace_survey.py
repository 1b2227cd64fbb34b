"""The corruption of imported k-space: its stated part, and the part that a first pass over the files finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance
from ..core.tensors import seeded
from ..corruption import Corruption, Embedded, corruption_from
from ..corruption.mask import chosen_masks
from ..corruption.mri.maps import BANK, coarse
from ..io import KspaceSlice, KspaceSource, check_mask
from .calibrated import CALIBRATION
from .cropping import Mask, StatedMask, calibration_block, cropped_mask, is_whole, mask_of
from .kspace_oddities import Oddities
from .stated import stated
from .stated_noise import SigmaN, empirical

_MOST_COILS = 8  # virtual ones, unless more are asked for
_CENTRE = 12  # at most one in so many lines is never taken away, as in fastMRI at acceleration 4
_KEYS = ("kind", "acceleration", "acs", "delta", "pattern", "coils")


class Statement:
    """The stated settings of k-space.

    Attributes:
        corruption: what is stated, with the number of virtual coils.
        drops: whether lines are to be dropped by that corruption; otherwise they are as measured.
        acs: centre lines that are never taken away; None where the files say it.
        coils: number of virtual coils.
        sigma_n: noise levels in the units of the files.

    Raises:
        UserError: another kind, keys that the files answer, or coils that are not there.
    """

    def __init__(
        self, corruption: Mapping[str, Any] | None, sigma_n: SigmaN | None, coils: int | None, source: KspaceSource
    ) -> None:
        description, sigma_n = stated(corruption or {"kind": "mri"}, sigma_n)
        if description.get("kind") != "mri":
            raise UserError(f"{source.name}: holds k-space, which needs kind mri, not {description.get('kind')!r}")
        if wrong := sorted(description.keys() - set(_KEYS)):
            raise UserError(
                f"corruption.{wrong[0]}: is read from the k-space files, --masks or --maps; remove it, or state only "
                f"{', '.join(_KEYS[1:])} or sigma_n"
            )
        if isinstance(sigma_n, str):
            raise UserError(
                "sigma_n auto works on images, not on k-space; state the level in the units of the files, or 0"
            )
        asked = coils if coils is not None else description.pop("coils", None)
        count = min(source.coils, _MOST_COILS) if asked is None else asked
        if not 1 <= count <= source.coils:
            raise UserError(
                f"coils: {count} virtual coils cannot be made of {source.coils} coils; state 1 to {source.coils}"
            )
        self.description = {**description, "coils": count}
        self.corruption = corruption_from(self.description)
        self.drops, self.acs, self.coils = "acceleration" in description, description.get("acs"), count
        if "pattern" in description and not self.drops:
            raise UserError(
                "corruption.pattern needs corruption.acceleration, which drops lines of fully sampled k-space"
            )
        self.sigma_n: SigmaN = 0.0 if sigma_n is None else sigma_n


@dataclass(frozen=True)
class Survey:
    """Findings of a first pass over every slice.

    Attributes:
        size: `(H, W)` after cropping.
        masks: the distinct masks after cropping and dropping, all `[1, W]` or all `[H, W]`.
        mask: number of each slice's mask.
        calibration: (height, width) of each slice's fully sampled centre.
        padded: whether some lines of fully sampled k-space were filled with zeros, so that the stated corruption cannot
            have drawn them.
    """

    size: tuple[int, int]
    masks: tuple[Mask, ...]
    mask: tuple[int, ...]
    calibration: tuple[tuple[int, int], ...]
    padded: bool

    def mask_of(self, i: int) -> Mask:
        """Mask of slice `i`."""
        return self.masks[self.mask[i]]


def survey_of(
    source: KspaceSource,
    statement: Statement,
    size: tuple[int, int],
    mask: StatedMask,
    has_maps: bool,
    seed: int,
    advance: Advance,
) -> Survey:
    """Look at every slice once, and warn of what is odd (`Oddities`).

    Raises:
        UserError: a slice that cannot be used (`mask_of`); undersampled k-space that is to be undersampled; a centre
            that is too small to find maps.
    """
    if statement.drops:
        statement.corruption.template((2, *size))  # raises where too few lines are left
    masks: dict[tuple[tuple[int, ...], bytes], Mask] = {}
    keys, blocks, padded, oddities = [], [], False, Oddities(source.name)
    for i, item in enumerate(source):
        raw = mask_of(item, mask)
        oddities.add(item, raw, stated=isinstance(mask, np.ndarray) or (mask is None and item.mask is not None))
        found = cropped_mask(raw, item.kspace.shape[1:], size)
        if statement.drops:
            _check_whole(item, raw)
            padded = padded or not found.all()
            drawn = statement.corruption.draw(1, (2, *size), seeded("corrupt", seed, i))  # as in `corrupt_images`
            found = found & drawn.parameters()["mask"][0, 0].numpy()
        check_mask(found, item.where)
        blocks.append(_calibration(item, found, size, has_maps))
        keys.append((found.shape, found.tobytes()))
        masks.setdefault(keys[-1], found)
        advance(done=1)
    oddities.warn()
    number = {key: k for k, key in enumerate(masks)}
    points = any(len(each) > 1 for each in masks.values())
    alike = tuple(np.broadcast_to(each, size) if points else each for each in masks.values())
    return Survey(size, alike, tuple(number[key] for key in keys), tuple(blocks), padded)


def _check_whole(item: KspaceSlice, mask: Mask) -> None:
    if not is_whole(mask):
        raise UserError(
            f"{item.where}: is already undersampled {mask.size / mask.sum():.2g}-fold; remove corruption.acceleration "
            "and any reference"
        )


def _calibration(item: KspaceSlice, mask: Mask, size: tuple[int, int], has_maps: bool) -> tuple[int, int]:
    """(height, width) of the fully sampled centre. Raises UserError if maps are to be found in it and cannot be."""
    block = calibration_block(mask, size)
    if min(block) < CALIBRATION and not has_maps and item.maps is None:
        raise UserError(
            f"{item.where}: its fully sampled centre, {block[0]}x{block[1]}, is too small to estimate maps; it needs "
            f"at least {CALIBRATION} lines; else give maps (--maps, data.maps in a recipe)"
        )
    return block


class MapBank:
    """Coarse maps for a corruption, of `count` slices: of all, or of evenly spread ones if it cannot hold all."""

    def __init__(self, count: int, coils: int, size: tuple[int, int]) -> None:
        each = coarse(torch.zeros(1, coils, *size, 2)).numel()
        kept = min(count, max(1, BANK // each))
        self._chosen = set(np.linspace(0, count - 1, kept).round().astype(int).tolist())
        self._maps: list[Tensor] = []
        self._seen = 0

    def add(self, maps: Tensor) -> None:
        """The maps `[n, coils, H, W, 2]` of the next slices."""
        chosen = [k for k in range(len(maps)) if self._seen + k in self._chosen]
        self._seen += len(maps)
        if chosen:
            self._maps.append(coarse(maps[chosen]))

    def embedded(self) -> Embedded:
        """What was kept."""
        return Embedded(torch.cat(self._maps).numpy())


def corruption_of(statement: Statement, found: Survey, bank: MapBank, levels: NDArray[np.float64]) -> Corruption:
    """The corruption of the measurements, from which others can be drawn.

    Args:
        levels: noise of every slice in the units of the store.
    """
    description = statement.description | {"maps": bank.embedded(), **empirical(levels)}
    if not statement.drops or found.padded:
        kept = chosen_masks(len(found.masks), (1, *found.masks[0].shape))
        share = np.array([mask.mean() for mask in found.masks])[list(found.mask)]
        description |= {
            "acceleration": float(max(1.0, round(float((1 / share).mean()), 4))),
            "acs": _acs(statement, found),
            "pattern": "files",
            "masks": Embedded(np.stack([found.masks[k] for k in kept])[:, None]),
        }
    return corruption_from(description)


def _acs(statement: Statement, found: Survey) -> int:
    """Centre lines that all slices have. Raises UserError if more are stated."""
    lines = len(found.masks[0]) == 1
    smallest = min(width if lines else min(height, width) for height, width in found.calibration)
    if statement.acs is None:
        return min(smallest, max(CALIBRATION, found.size[1] // _CENTRE))
    if statement.acs > smallest:
        raise UserError(
            f"corruption.acs {statement.acs}: a slice has {smallest} centre lines; state at most as many, or remove acs"
        )
    return statement.acs
