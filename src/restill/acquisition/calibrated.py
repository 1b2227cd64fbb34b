"""Slices of k-space in the units of a store: virtual coils, sensitivity maps, scale, and how consistent they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import complex_to_channels
from ..corruption import MriOperator
from ..corruption.mri.maps import normalised
from ..estimation import calibration_residual, compress_coils, espirit
from ..estimation.coil_compression import centre_block

CALIBRATION = 4  # maps can be estimated from so many lines at least
CALIBRATION_MOST = 24  # lines that are used, as by default in sigpy and BART
_KERNEL = 6  # of ESPIRiT, and its crop; fewer lines leave room for a smaller kernel, with smaller eigenvalues
_CROP, _CROP_OF_FEW = 0.95, 0.8
_BRIGHTEST = 0.7  # of the image of the calibration lines; the whole image has details that are brighter


class Slices(NamedTuple):
    """Consecutive slices of equally many coils, cropped.

    Attributes:
        kspace: complex64 `[n, C, H, W]`, all that the files measured, over `unit`.
        mask: what is kept of it, bool `[n, 1, 1 or H, W]`.
        maps: given coil maps, complex64 `[n, C, H, W]`, or None.
        calibration: (height, width) of the fully sampled centre.
        sigma: noise in the units of the files, float64 `[n]`.
        unit: a power of two for each slice, about its largest value, float64 `[n]`. `kspace` is what the files hold
            over it, so that no sum of squares overflows or vanishes, whatever the units of the files.
        where: for messages.
    """

    kspace: Tensor
    mask: Tensor
    maps: Tensor | None
    calibration: tuple[int, int]
    sigma: Tensor
    unit: Tensor
    where: tuple[str, ...]

    def alike(self, other: Slices) -> bool:
        """Whether both can be in one block."""
        same_maps = (self.maps is None) == (other.maps is None)
        return self.kspace.shape[1:] == other.kspace.shape[1:] and self.calibration == other.calibration and same_maps


class Calibrated(NamedTuple):
    """A block in the units of the store: `physical = stored * scale`."""

    kspace: Tensor
    operator: MriOperator
    scale: Tensor
    residual: Tensor


def joined(some: list[Slices]) -> Slices:
    """One block of several that are alike."""
    kspace, mask, maps, calibration, sigma, unit, where = zip(*some, strict=True)
    every = None if maps[0] is None else torch.cat(maps)
    return Slices(
        torch.cat(kspace), torch.cat(mask), every, calibration[0], torch.cat(sigma), torch.cat(unit), sum(where, ())
    )


def binary_unit(values: NDArray[np.complex64]) -> float:
    """The power of two above the largest real or imaginary part, all finite; 1 for zeros."""
    return float(2.0 ** np.frexp(np.abs(np.ascontiguousarray(values).view(np.float32)).max(initial=0.0))[1])


def in_unit(values: NDArray[np.complex64], unit: float) -> NDArray[np.complex64]:
    """`values / unit` for a power of two, which is exact, also where `1 / unit` is no float32."""
    parts = np.ascontiguousarray(values).view(np.float32)
    return np.asarray(np.ldexp(parts, 1 - np.frexp(unit)[1]).view(np.complex64))


def calibrated(block: Slices, coils: int) -> Calibrated:
    """Virtual coils, maps and scale of a block, from what its masks keep alone.

    Raises:
        UserError: the maps see nothing of a slice, or it cannot be said how well they explain it.
    """
    kept, sigma = torch.where(block.mask, block.kspace, 0), block.sigma / block.unit
    kspace, maps, calibration = block.kspace, block.maps, block.calibration
    if kspace.shape[1] > coils:
        kept, matrix = compress_coils(kept, coils, calibration)
        kspace = (matrix @ kspace.flatten(2)).unflatten(2, kspace.shape[2:])
        maps = None if maps is None else (matrix @ maps.flatten(2)).unflatten(2, maps.shape[2:])
    if maps is None:
        kernel = min(_KERNEL, max(3, 2 * min(calibration) // 5))
        maps = espirit(kept, calibration, kernel, crop=_CROP if kernel > 3 else _CROP_OF_FEW, sigma=sigma)
    channels = normalised(torch.view_as_real(maps.resolve_conj()).contiguous()).float()
    residual = calibration_residual(kept, torch.view_as_complex(channels), calibration, sigma)
    scale = _scale(kept, MriOperator(sigma, block.mask, channels), calibration)
    good = (scale > 0) & scale.isfinite() & residual.isfinite()
    if not bool(good.all()):
        first = int(good.long().argmin())
        noise = f" beyond the stated noise, sigma_n {float(block.sigma[first]):.4g}" if block.sigma[first] > 0 else ""
        raise UserError(f"{block.where[first]}: its calibration lines show no coil maps{noise}; leave the slice out")
    operator = MriOperator((sigma / scale).float(), block.mask, channels)
    y = complex_to_channels(kspace / scale[:, None, None, None])
    return Calibrated(y, operator, (scale * block.unit).float(), residual)


def _scale(kept: Tensor, operator: MriOperator, calibration: tuple[int, int]) -> Tensor:
    """The value that becomes 1, float32 `[n]`, from the image of the calibration lines, or of all lines if too few."""
    if min(calibration) >= CALIBRATION:
        centre = torch.zeros_like(kept)
        centre_block(centre, calibration).copy_(centre_block(kept, calibration))
        kept = centre
    image = operator.extract(complex_to_channels(kept))
    return image.square().sum(1).sqrt().flatten(1).amax(1) / _BRIGHTEST
