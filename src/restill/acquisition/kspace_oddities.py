"""What is probably wrong with k-space although it can be read: each is a warning before anything is written."""

from __future__ import annotations

from statistics import median

import numpy as np
from numpy.typing import NDArray

from ..core.errors import warn_of
from ..estimation.centring import frequencies_centred, images_centred
from ..io import KspaceSlice
from .cropping import Mask, detected

_UNCENTRED = -0.1  # of `frequencies_centred`; noise of three times the signal leaves 0.08 where k-space is centred
_WRAPPED = -0.15  # of `images_centred`; single brains that touch the border of the field of view reach 0
_EMPTY = 0.01  # share of single empty samples that may be chance
_ROUNDING = 1e-5  # of the largest line: less than this, between lines of a thousand times as much, is no noise
_BETWEEN = 1e-3
_AXES = ("height", "width")


class Oddities:
    """Collects what each slice shows, and says at the end, in one line for each fault, what is wrong with most of them.

    Args:
        name: of the files.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._frequencies: list[tuple[float, float]] = []
        self._images: list[tuple[float, float]] = []
        self._empty: list[tuple[str, str]] = []
        self._hollow: list[str] = []

    def add(self, item: KspaceSlice, mask: Mask, stated: bool) -> None:
        """Look at a slice; `stated`: whether `mask` was stated, by its file or its user, or found in k-space."""
        self._frequencies.append(found := frequencies_centred(item.kspace, mask))
        off = [axis for axis, value in enumerate(found) if value < _UNCENTRED]
        middle = np.fft.fftshift(np.where(mask, item.kspace, 0), [axis + 1 for axis in off])
        sampled = np.fft.fftshift(np.broadcast_to(mask, middle.shape[1:]), off)
        self._images.append(images_centred(middle, sampled))
        if stated and (empty := _empty(item.kspace, mask)):
            self._empty.append((empty, item.where))
        if not stated and _hollow(item.kspace, mask):
            self._hollow.append(item.where)

    def warn(self) -> None:
        """Issue a `DataWarning` for each fault."""
        if words := _off(self._frequencies, _UNCENTRED):
            warn_of(
                f"{self.name}: the zero frequency seems to lie at the edge of k-space along {words[0]}, not in the "
                f"middle; add --shift {words[1].format('kspace')} (data.shift in a recipe), or apply numpy.fft.fftshift"
            )
        if words := _off(self._images, _WRAPPED):
            warn_of(
                f"{self.name}: images seem to be wrapped by half the field of view along {words[0]}, with the object "
                f"at the edges: a Fourier transform without ifftshift; add --shift {words[1].format('image')} "
                "(data.shift in a recipe)"
            )
        if self._empty:
            what, where = self._empty[0]
            warn_of(
                f"{where}: {what}{_others(len(self._empty))}, so zeros would be taken as measured; mend the mask, or "
                "add --masks nonzero (data.masks in a recipe)"
            )
        if self._hollow:
            others = _others(len(self._hollow))
            warn_of(
                f"{self._hollow[0]}: lines between others hold less than a thousandth of them{others}: rounding, no "
                "measurements? Give the mask (--masks)"
            )


def _others(count: int) -> str:
    return f" (and {count - 1:,} more slices)" if count > 1 else ""


def _off(found: list[tuple[float, float]], limit: float) -> tuple[str, str] | None:
    """In words along which axes the median slice is below `limit`, and how the remedy says it; None if along none."""
    off = [name for k, name in enumerate(_AXES) if found and median(each[k] for each in found) < limit]
    return (" and ".join(off), "{}" if len(off) == 2 else "{}-" + off[0]) if off else None


def _empty(kspace: NDArray[np.complex64], mask: Mask) -> str | None:
    """In words how much of what the mask claims is exactly 0 in all coils; None if hardly anything is."""
    claimed, measured = np.broadcast_to(mask, kspace.shape[1:]), detected(kspace) & mask
    for axis, lines in ((0, "lines"), (1, "rows")):
        said = claimed.any(axis)
        zero = int((said & ~(measured & claimed).any(axis)).sum())
        if zero:
            return f"the mask says that {int(said.sum())} {lines} were measured, but {zero} of them are 0 in all coils"
    share = 1 - float((claimed & (kspace != 0).any(0)).sum() / claimed.sum())
    return f"{share:.0%} of what the mask says was measured is 0 in all coils" if share > _EMPTY else None


def _hollow(kspace: NDArray[np.complex64], mask: Mask) -> bool:
    """Whether lines hold next to nothing although lines further from the middle, on the same side, hold much."""
    energy = np.square(np.abs(np.where(mask, kspace, 0)), dtype=np.float64).sum((0, 1)) ** 0.5
    middle = len(energy) // 2
    sides = energy[:middle], energy[:middle:-1]  # both from the edge inwards
    largest = energy.max()
    for side in sides:
        beyond = np.maximum.accumulate(side)
        if ((side > 0) & (side < _ROUNDING * largest) & (side < _BETWEEN * beyond)).any():
            return True
    return False
