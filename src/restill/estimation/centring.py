"""Whether k-space and its images lie in the middle, from measured samples alone.

Both numbers change their sign where everything lies half a size off, as after a Fourier transform without its shifts.
They are 0 where nothing can be said: noise, or an object that fills the field of view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST = 64  # central frequencies that are looked at along an axis: images of 64 pixels show where an object lies
_PART = 1 / 8  # of an axis that is its middle, and as much its edges


def frequencies_centred(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> tuple[float, float]:
    r"""How much of the energy lies about the middle of k-space, along height and width, -1 to 1.

    Along an axis of length `N`, :math:`\sum |k|^2 \cos(2\pi (i - i_0) / N) / \sum |k|^2`: above 0 where the zero
    frequency is at :math:`i_0 = N // 2`, since images are mostly of low frequencies, and below 0 where it is at 0.

    Args:
        kspace: `[coils, H, W]`; values that were not measured do not matter.
        mask: where it was measured, `[1, W]` or `[H, W]`.
    """
    energy = np.square(np.abs(_measured(kspace, mask)), dtype=np.float64).sum(0)
    total = energy.sum()
    return tuple(  # type: ignore[return-value]
        float(energy.sum(1 - axis) @ _cosine(energy.shape[axis]) / total) if total > 0 else 0.0 for axis in (0, 1)
    )


def images_centred(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """How much brighter the middle of the field of view is than its edges, along height and width, -1 to 1.

    Of the magnitude of all coils together, `(m - e) / (m + e)`: `m` is the mean of the middle eighth of the axis, `e`
    that of its outermost eighth. An object with air around it is above 0, and below 0 where it is wrapped by half the
    field of view, so that it lies in the corners. The image is made of the fully sampled centre alone, smoothly cut
    off, so that no undersampling matters.

    Args:
        kspace: `[coils, H, W]`, centred.
        mask: where it was measured, `[1, W]` or `[H, W]`, the zero frequency among it.
    """
    size = kspace.shape[1:]
    known = np.broadcast_to(mask, size)
    middle = size[0] // 2, size[1] // 2
    columns = _run(known[middle[0], :], middle[1])
    rows = _run(np.all(known[:, middle[1] - columns : middle[1] + columns + 1], axis=1), middle[0])
    block = _measured(kspace, mask)[:, middle[0] - rows : middle[0] + rows + 1, middle[1] - columns :]
    block = block[..., : 2 * columns + 1].astype(np.complex128)
    scale = np.abs(block).max()
    if not scale > 0:
        return 0.0, 0.0
    window = np.hanning(2 * rows + 3)[1:-1, None] * np.hanning(2 * columns + 3)[1:-1]
    images = np.fft.fftshift(np.fft.ifft2(block / scale * window, s=(2 * _MOST, 2 * _MOST)), (-2, -1))
    magnitude = np.sqrt(np.square(np.abs(images)).sum(0))
    return _contrast(magnitude.sum(1)), _contrast(magnitude.sum(0))


def _measured(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> NDArray[np.complex64]:
    return np.where(mask, kspace, np.complex64(0))


def _cosine(size: int) -> NDArray[np.float64]:
    return np.asarray(np.cos(2 * np.pi * (np.arange(size) - size // 2) / size))


def _run(line: NDArray[np.bool_], middle: int) -> int:
    """How far measured samples reach to both sides of `middle`, at most `_MOST // 2`."""
    most = min(middle, len(line) - 1 - middle, _MOST // 2)
    return next((k - 1 for k in range(1, most + 1) if not (line[middle - k] and line[middle + k])), most)


def _contrast(profile: NDArray[np.float64]) -> float:
    """Of the middle against the edges of a profile with its origin at `len // 2`."""
    distance = np.abs(np.arange(len(profile)) - len(profile) // 2) / (len(profile) / 2)
    middle, edges = profile[distance <= _PART].mean(), profile[distance >= 1 - _PART].mean()
    return float((middle - edges) / (middle + edges))
