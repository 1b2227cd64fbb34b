"""Blur kernels `[kh, kw]`: Gaussian, motion, and point-spread functions from files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError


def gaussian(size: int, std: float) -> Tensor:
    """Gaussian of standard deviation `std` pixels on `size` x `size` pixels, sum 1, float64 `[size, size]`."""
    position = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-0.5 * (position / std) ** 2)
    line = line / line.sum()
    return line[:, None] * line


def motion(size: int, length: float, angle_N: Tensor) -> Tensor:
    """Straight motion by `length` pixels at `angle` degrees (0: along rows), sum 1, float64 `[n, size, size]`.

    Each of many points along the path is shared out to the four pixels around it (bilinear weights).
    """
    points = max(2, 8 * math.ceil(length))
    along = (torch.arange(points, dtype=torch.float64, device=angle_N.device) + 0.5) / points - 0.5
    radians = angle_N.double() * (math.pi / 180)
    centre = (size - 1) / 2
    column = centre + length * along * radians.cos()[:, None]
    row = centre - length * along * radians.sin()[:, None]
    pixel = torch.arange(size, dtype=torch.float64, device=angle_N.device)
    weight_row = (1 - (row[..., None] - pixel).abs()).clamp_min(0)  # [n, points, size]
    weight_column = (1 - (column[..., None] - pixel).abs()).clamp_min(0)
    kernel = torch.einsum("npi,npj->nij", weight_row, weight_column)
    return kernel / kernel.sum((1, 2), keepdim=True)


def read_kernel(path: str | Path, normalise: bool) -> NDArray[np.float32]:
    """A measured point-spread function `[kh, kw]` from a picture or an array file; its middle pixel is the origin.

    Args:
        normalise: scale it to sum 1, so that it keeps brightness; otherwise it stays unchanged.

    Raises:
        UserError: no file, not one grey image, even sides, or a sum that is not positive.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; state gaussian, motion, or a file with the kernel")
    kernel = _array(path)
    try:
        check_kernel(kernel)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return (kernel / kernel.sum() if normalise else kernel).astype(np.float32)


def _array(path: Path) -> NDArray[Any]:
    """Numbers of an .npy or grey values of a picture, float64; three equal channels are one grey."""
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: cannot be read as a kernel ({reason}); save it with numpy.save") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
            found = getattr(array, "dtype", "several arrays")
            raise UserError(f"{path}: a kernel must hold real numbers, not {found}; save it with numpy.save")
        return array.astype(np.float64)
    from ..io.pictures import decode

    try:
        with path.open("rb") as stream:
            pixels = decode(str(path), stream).astype(np.float64)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a kernel ({error.strerror})") from error
    return pixels[0] if (pixels == pixels[:1]).all() else pixels


def check_kernel(kernel: NDArray[Any]) -> None:
    """Raises ValueError unless `kernel` has two axes, odd sides, finite values and a positive sum."""
    if kernel.ndim != 2 or not kernel.size:
        raise ValueError(f"a kernel must be one grey image [height, width], not {list(kernel.shape)}")
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        raise ValueError(f"a kernel must have finite values with a positive sum, not {kernel.sum():g}")
    check_odd(kernel.shape)


def check_odd(sides: tuple[int, ...]) -> None:
    """Raises ValueError unless a kernel has a middle pixel."""
    if any(side % 2 == 0 for side in sides):
        raise ValueError(f"a kernel needs odd sides, so that it has a middle pixel, not {' x '.join(map(str, sides))}")
