"""The centred orthonormal Fourier transform of complex images, between the image grid and k-space.

Centred: index `H // 2`, `W // 2` is the origin of both, as in fastMRI and sigpy, for odd sizes too. Orthonormal: the
adjoint is the inverse, and white noise stays white.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (-2, -1)


def fft2c(x: Tensor) -> Tensor:
    """Centred orthonormal 2-D Fourier transform `F x` over the last two axes; complex in, complex out, same dtype.

    Differentiable, and computed in the precision of `x` whatever autocast says. Raises TypeError if `x` is real.
    """
    with torch.autocast(_complex(x).device.type, enabled=False):
        return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, AXES), norm="ortho"), AXES)


def ifft2c(k: Tensor) -> Tensor:
    """Inverse, and adjoint, of `fft2c`."""
    with torch.autocast(_complex(k).device.type, enabled=False):
        return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, AXES), norm="ortho"), AXES)


def _complex(x: Tensor) -> Tensor:
    if not x.is_complex():
        raise TypeError(f"the Fourier transform takes complex64 or complex128, not {x.dtype}; see channels_to_complex")
    return x


def radius(height: int, width: int) -> Tensor:
    """Of every centred frequency of an image, in cycles per its longer side, float64 `[H, W]`."""
    y = (torch.arange(height, dtype=torch.float64) - height // 2) / height
    x = (torch.arange(width, dtype=torch.float64) - width // 2) / width
    return torch.hypot(y[:, None], x[None]) * max(height, width)
