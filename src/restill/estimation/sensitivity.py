r"""Coil sensitivity maps from the fully sampled centre of k-space, for many slices at once.

ESPIRiT (Uecker et al., Magnetic Resonance in Medicine 71, 2014). All `k x k` windows of the calibration block span the
*signal space*, for the maps `S` tie neighbouring samples of all coils together. Let `P` be the projector onto it. In
the image, "projecting every window" is a `C x C` operator at each pixel `r`, of which `S(r)` is an eigenvector to the
eigenvalue 1 wherever there is signal; elsewhere the largest eigenvalue is smaller.

A map for each kernel, as usually computed, takes hundreds of transforms. But the operator depends on `P` by its lags,

.. math:: W_{cd}(r) = k^{-2} \sum_l L_{cd}(l) e^{2 \pi i\, l \cdot r / N},
          \qquad L_{cd}(l) = \sum_{i - j = l} P_{(c,i),(d,j)}

and there are just `2k - 1` of them along each axis: two small matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.fourier import fft2c, ifft2c
from ..core.tensors import wide_dtype
from .coil_compression import centre_block

_SLICE_BYTES, _PIXEL_BYTES = 1 << 28, 1 << 26  # of the largest array of a chunk of slices, of rows
_EDGE = 1.1  # largest singular value of white noise, whose windows overlap: 0.9 to 1.1 of that of independent entries


def espirit(
    kspace: Tensor,
    calibration: tuple[int, int],
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.95,
    sigma: float | Tensor = 0.0,
) -> Tensor:
    """Sensitivity maps, complex64 `[n, C, H, W]`: `sum_c |S_c|^2 = 1` on the support, 0 outside.

    The phase is relative to the first coil, whose map is real and not negative: the phase of the image seen through the
    maps is that of the first coil's image. Uecker et al. 2014; same conventions and defaults as sigpy's `EspiritCalib`.

    Args:
        kspace: complex `[n, C, H, W]`, centred; zeros where not measured. Slices of zeros have no support.
        calibration: (height, width) of the centre block that is fully sampled.
        kernel: side `k` of the windows.
        threshold: singular values of the calibration matrix above this part of its largest belong to the signal.
        crop: eigenvalue, 0 to 1, that marks the support; 0 gives maps everywhere.
        sigma: standard deviation of the noise of the real and of the imaginary part of k-space, or one for each slice,
            `[n]`. Where noise alone lies above `threshold`, every window passes for signal, and the maps are random
            (`calibration_residual` shows it); the threshold is at least what noise of this level reaches.

    Raises UserError if the windows do not fit the block or the block not k-space, or if a slice is not finite there.
    """
    block = centre_block(kspace, calibration)
    if not 1 <= kernel <= min(calibration):
        raise UserError(
            f"kernel: {kernel} does not fit a calibration block of {calibration}; lower it, or enlarge the block"
        )
    if not (finite := block.isfinite().flatten(1).all(1)).all():
        raise UserError(
            f"slice {int(finite.long().argmin())}: the centre of k-space holds NaN or infinity; leave the slice out"
        )
    height, width = kspace.shape[-2:]
    rows_of = _fourier(height, kernel, kspace.device)
    size = _slices_at_once(block, kernel, height)
    levels = torch.as_tensor(sigma, device=block.device).expand(len(block))
    parts = []
    for some, level in zip(block.split(size), levels.split(size), strict=True):
        lags = _lags(_signal_projector(some, kernel, threshold, level), some.shape[1], kernel)
        rows = (rows_of @ lags.flatten(2)).unflatten(2, (2 * kernel - 1, -1))  # [n, H, 2k - 1, C^2]
        parts.append(_leading(rows.flatten(0, 1), _fourier(width, kernel, kspace.device), crop))
    return torch.cat(parts).unflatten(0, (-1, height)).movedim(-1, 1).contiguous()


def calibration_residual(
    kspace: Tensor, maps: Tensor, calibration: tuple[int, int], sigma: float | Tensor = 0.0
) -> Tensor:
    r"""How much of the calibration data the maps cannot explain, `[n]`, float32; 0 for a slice of zeros.

    With `b` the calibration block in a k-space of zeros, and `B` what keeps the block:
    :math:`\|b - B F S S^H F^{-1} b\| / \|b\|`, 0 to 1. Since `S S^H` projects onto the maps pixel by pixel, nothing
    remains of images of coils that are `S x`, but for what a block of finite width blurs across the changes of `S` and
    the edge of the support. This is the check of maps of Uecker et al. 2014, the projection of the images of the coils
    onto them, on the centre alone.

    Noise leaves about `(C - s) / C` of its energy (`s`: the support's share of the field), so where its level is given,
    its expected energy is taken out of both squared norms. A slice that holds no more than noise has 1.

    Args:
        kspace: complex `[n, C, H, W]`, centred.
        maps: sensitivity maps, complex `[n, C, H, W]`, normalised as by `espirit`.
        calibration: (height, width) of the fully sampled centre block.
        sigma: standard deviation of the noise of the real and of the imaginary part, or one for each slice, `[n]`.
    """
    block = torch.zeros_like(kspace)
    centre_block(block, calibration).copy_(centre_block(kspace, calibration))
    explained = fft2c(maps * (maps.conj() * ifft2c(block)).sum(1, keepdim=True))
    rest = _energy(centre_block(block - explained, calibration))
    noise = 2 * calibration[0] * calibration[1] * torch.as_tensor(sigma, device=rest.device).to(rest) ** 2
    unexplained = kspace.shape[1] - _energy(maps) / (kspace.shape[-2] * kspace.shape[-1])
    whole = _energy(block)
    signal = whole - noise * kspace.shape[1]
    part = ((rest - noise * unexplained) / signal).clamp(min=0).sqrt()
    return part.where(signal > 0, (whole > 0).to(part)).float()


def _energy(x: Tensor) -> Tensor:
    """Sum of squares of each, in the wide type before anything is squared: float32 ends at 1e38."""
    return torch.linalg.vector_norm(x.flatten(1).to(wide_dtype(x.device).to_complex()), dim=1).square()


def _slices_at_once(block: Tensor, kernel: int, rows: int) -> int:
    coils, height, width = block.shape[1:]
    windows, values = (height - kernel + 1) * (width - kernel + 1), coils * kernel**2
    return max(1, _SLICE_BYTES // (16 * max(windows * values, values**2, rows * (2 * kernel - 1) * coils**2)))


def _signal_projector(block: Tensor, kernel: int, threshold: float, sigma: Tensor) -> Tensor:
    """`P`, `[n, C k k, C k k]`, from calibration blocks `[n, C, h, w]` with noise `sigma` `[n]`."""
    windows = block.unfold(2, kernel, 1).unfold(3, kernel, 1).permute(0, 1, 4, 5, 2, 3)
    windows = windows.flatten(4).flatten(1, 3).to(wide_dtype(block.device).to_complex())
    with _one_thread():
        values, vectors = torch.linalg.eigh(windows @ windows.mH)  # squared singular values, ascending
    edge = _EDGE * 2**0.5 * (windows.shape[1] ** 0.5 + windows.shape[2] ** 0.5) * sigma.to(values)[:, None]
    signal = vectors * (values > torch.maximum(threshold**2 * values[:, -1:], edge**2))[:, None]
    return signal @ vectors.mH


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: matrices this small gain nothing from more, and are twenty times slower on a busy processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _lags(projector: Tensor, coils: int, kernel: int) -> Tensor:
    """`L / k^2`, complex64 `[n, 2k - 1, 2k - 1, C^2]`."""
    lag = torch.arange(kernel)[:, None] - torch.arange(kernel) + kernel - 1
    adds = torch.nn.functional.one_hot(lag.flatten()).T.to(projector)  # [2k - 1, k^2]
    pairs = projector.unflatten(2, (coils, kernel, kernel)).unflatten(1, (coils, kernel, kernel))
    pairs = pairs.permute(0, 2, 5, 3, 6, 1, 4)  # n, i_h, j_h, i_w, j_w, c, d
    first = (adds @ pairs.flatten(3).flatten(1, 2)).unflatten(2, (kernel**2, -1))
    return (adds @ first / kernel**2).to(torch.complex64)


def _fourier(size: int, kernel: int, device: torch.device) -> Tensor:
    """`exp(2 pi i l r / N)`, complex64 `[N, 2k - 1]`, `r` from the centre and `l` from `1 - k` to `k - 1`."""
    position = torch.arange(size, dtype=torch.float64) - size // 2
    lag = torch.arange(1 - kernel, kernel, dtype=torch.float64)
    return torch.exp(2j * torch.pi * position[:, None] * lag / size).to(torch.complex64).to(device)


def _leading(rows: Tensor, columns_of: Tensor, crop: float) -> Tensor:
    """Leading eigenvector of every pixel's operator, `[m, W, C]`, for `m` rows of pixels `[m, 2k - 1, C^2]`."""
    coils = round(rows.shape[-1] ** 0.5)
    parts = []
    for some in rows.split(max(1, _PIXEL_BYTES // (8 * len(columns_of) * coils**2))):
        values, vectors = torch.linalg.eigh((columns_of @ some).unflatten(-1, (coils, coils)))
        first = vectors[..., :1, -1]
        phase = torch.where(first == 0, torch.ones_like(first), first.sgn().conj())
        parts.append(vectors[..., -1] * phase * (values[..., -1:] > crop))
    return torch.cat(parts)
