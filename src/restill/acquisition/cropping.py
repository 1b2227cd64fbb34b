"""Which samples of k-space were measured, and how k-space is cropped without filling in unmeasured samples."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..estimation import calibration_of
from ..io import KspaceSlice, check_mask

Mask = NDArray[np.bool_]
"""`[1, W]` for lines, or `[H, W]`."""

StatedMask = Mask | Literal["nonzero"] | None
"""One mask for all slices; that of each file (None), or what is not 0 in it whatever the file says ("nonzero")."""

_LEAST = 1e-34  # smaller values have no digits left in float32 for what is a thousandth of them
_HOLES = 0.01  # up to this share, zeros in all coils of measured lines are chance and not a sampling pattern


def mask_of(item: KspaceSlice, stated: StatedMask) -> Mask:
    """The measured samples of a slice: as stated, as its file says, or where its k-space is not exactly 0 ("nonzero").

    Lines that are 0 in all coils and rows were not measured. Where single points of the others are 0 in all coils, more
    than 1 in 100, points were measured and not lines.

    Raises:
        UserError: a mask of another size, measured values that are not finite, or that are all 0.
    """
    size = item.kspace.shape[1:]
    mask = item.mask if stated is None else stated
    if mask is None or isinstance(mask, str):
        mask = detected(item.kspace)
    elif mask.shape[1] != size[1] or mask.shape[0] not in (1, size[0]):
        raise UserError(
            f"{item.where}: the mask is {list(mask.shape)}, but k-space is {list(size)}; give a mask [{size[1]}] or "
            f"{list(size)}"
        )
    measured = item.kspace[:, np.broadcast_to(mask, size)]
    if not np.isfinite(measured).all():
        raise UserError(
            f"{item.where}: holds NaN or infinity (or values beyond 1e38) where k-space was measured; leave the slice "
            "out"
        )
    if not measured.any():
        raise UserError(f"{item.where}: all measured values are 0 (or below 1e-45); leave the slice out")
    if (largest := float(np.abs(measured).max())) < _LEAST:
        raise UserError(f"{item.where}: the largest measured value is {largest:.2g}; multiply k-space by a factor")
    check_mask(mask, item.where)
    return mask


def detected(kspace: NDArray[np.complex64]) -> Mask:
    """The mask of what is not exactly 0."""
    points = (kspace != 0).any(0)
    lines = points.any(0, keepdims=True)
    measured = lines.sum() * points.shape[0]
    return lines if points.sum() >= (1 - _HOLES) * measured else points


def whole_axes(mask: Mask) -> tuple[bool, bool]:
    """Whether k-space is sampled without gaps along height and width, so that the field of view may be cropped.

    The mask must be a product of both axes. Along the axis it must be one run of lines with the centre and at least
    half of all lines: zeros that scanners fill in at the edges lower the resolution and are not gaps.
    """
    rows, columns = _projections(mask)
    if (mask != rows[:, None] & columns).any():
        return False, False
    return _is_run(rows), _is_run(columns)


def _projections(mask: Mask) -> tuple[Mask, Mask]:
    """Rows and columns in which anything was measured."""
    rows: Mask = np.asarray(mask.any(1))
    columns: Mask = np.asarray(mask.any(0))
    return rows, columns


def _is_run(line: Mask) -> bool:
    found = np.flatnonzero(line)
    without_gaps = len(found) == found[-1] - found[0] + 1
    return bool(without_gaps and 2 * len(found) >= len(line) and line[len(line) // 2])


def is_whole(mask: Mask) -> bool:
    """Whether k-space is sampled without gaps along both axes."""
    return all(whole_axes(mask))


def cropped_mask(mask: Mask, size: tuple[int, int], crop: tuple[int, int]) -> Mask:
    """What is measured of k-space of `size` that `cropped` brings to `crop`."""
    for axis, whole in enumerate(whole_axes(mask)):
        if mask.shape[axis] == 1 < size[axis] or size[axis] == crop[axis]:
            continue
        if whole:  # another spacing: line j lies where line j * size / crop lay
            place = (np.arange(crop[axis]) - crop[axis] // 2) * (size[axis] / crop[axis]) + size[axis] // 2
            found = np.flatnonzero(mask.any(1 - axis))
            inside = (place >= found[0]) & (place <= found[-1]) | (len(found) == size[axis])
            across = mask.any(axis, keepdims=True)
            mask = across & np.expand_dims(inside, 1 - axis)
        else:
            mask = np.take(mask, np.arange(crop[axis]) + size[axis] // 2 - crop[axis] // 2, axis)
    return mask


def cropped(kspace: Tensor, mask: Mask, crop: tuple[int, int]) -> Tensor:
    """K-space `[..., H, W]`, centred and 0 where not measured, of size `crop`.

    Along an axis without gaps the image is cropped, that is the field of view (and the oversampling of the readout);
    along any other k-space is, that is the resolution, which keeps the measured lines as they are. Both keep the origin
    and the level of white noise.
    """
    for axis, whole in zip((-2, -1), whole_axes(mask), strict=True):
        if kspace.shape[axis] != crop[axis]:
            kspace = _through_image(kspace, axis, crop[axis]) if whole else _middle(kspace, axis, crop[axis])
    return kspace


def cropped_maps(maps: Tensor, mask: Mask, crop: tuple[int, int]) -> Tensor:
    """Maps `[..., H, W]` of the images of k-space that `cropped` crops: less field, or linearly on a coarser grid."""
    for axis, whole in zip((-2, -1), whole_axes(mask), strict=True):
        if maps.shape[axis] != crop[axis]:
            maps = _middle(maps, axis, crop[axis]) if whole else _coarser(maps, axis, crop[axis])
    return maps


def _middle(x: Tensor, axis: int, size: int) -> Tensor:
    return x.narrow(axis, x.shape[axis] // 2 - size // 2, size)


def _through_image(kspace: Tensor, axis: int, size: int) -> Tensor:
    image = torch.fft.ifft(torch.fft.ifftshift(kspace, axis), dim=axis, norm="ortho")
    image = _middle(torch.fft.fftshift(image, axis), axis, size)
    return torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(image, axis), dim=axis, norm="ortho"), axis)


def _coarser(maps: Tensor, axis: int, size: int) -> Tensor:
    length = maps.shape[axis]
    place = (torch.arange(size) - size // 2) * (length / size) + length // 2
    low = place.floor().long().clamp(0, length - 1)
    part = (place - low).reshape(-1, *(1,) * (-1 - axis)).to(maps.real.dtype)
    after = (low + 1).clamp(max=length - 1)
    return maps.index_select(axis, low) * (1 - part) + maps.index_select(axis, after) * part


def calibration_block(mask: Mask, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the largest fully sampled centre block; a square if the mask is not a product of lines."""
    full = np.broadcast_to(mask, size)
    rows, columns = _projections(full)
    if (full == rows[:, None] & columns).all():
        return _width(rows), _width(columns)
    sides = range(min(size), 0, -1)
    height, width = size[0] // 2, size[1] // 2
    side = next(
        k for k in sides if full[height - k // 2 :, width - k // 2 :][:k, :k].all()
    )  # at least 1, because the centre is measured
    return side, side


def _width(line: Mask) -> int:
    return int(calibration_of(torch.from_numpy(line.copy())))
