"""Slices of k-space whose images, or whose frequencies, lie half a size off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.kspace_layout import Shift
from .reader import KspaceSlice


def shifted(item: KspaceSlice, shift: Sequence[Shift]) -> KspaceSlice:
    """A slice that lies in the middle, where its file has what `shift` says at the corner instead.

    Frequencies, and with them the mask, are moved from the corner to the middle (`numpy.fft.fftshift`). Images are
    moved as `numpy.fft.ifftshift` moves them, by the phase that this is in k-space: `(-1)^(x + y)` for even sizes. Maps
    stay as they are.
    """
    kspace, mask = item.kspace, item.mask
    axes = [axis for axis, name in ((-2, "height"), (-1, "width")) if {"kspace", f"kspace-{name}"} & set(shift)]
    if axes:
        kspace = np.fft.fftshift(kspace, axes)
        mask = None if mask is None else shifted_mask(mask, shift)
    for axis, name in ((-2, "height"), (-1, "width")):
        if {"image", f"image-{name}"} & set(shift):
            kspace = kspace * _phase(kspace.shape[axis]).reshape((-1, 1) if axis == -2 else (-1,))
    return item._replace(kspace=kspace, mask=mask)


def shifted_mask(mask: NDArray[np.bool_], shift: Sequence[Shift]) -> NDArray[np.bool_]:
    """A mask `[1, W]` or `[H, W]` of k-space that `shifted` moves."""
    axes = [axis for axis, name in ((-2, "height"), (-1, "width")) if {"kspace", f"kspace-{name}"} & set(shift)]
    return np.fft.fftshift(mask, axes) if axes else mask


def _phase(size: int) -> NDArray[np.complex64]:
    """`exp(2 pi i f (N // 2) / N)` of the centred frequencies, exact for even sizes."""
    frequency, half = np.arange(size) - size // 2, size // 2
    turns = (frequency * half % size) / size
    return np.asarray(np.exp(2j * np.pi * turns).round(12).astype(np.complex64))
