"""K-space made with numpy, and files of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIZE = (32, 24)


def transform(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal Fourier transform over the last two axes."""
    shifted = np.fft.ifftshift(image, (-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (-2, -1))


def inverse(kspace: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(kspace, (-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), (-2, -1))


def pictures(n: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """Smooth complex pictures without symmetries, complex64 `[n, H, W]`, of magnitudes about 1."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
    a, b, c = rng.uniform(0.5, 1.5, (3, n, 1, 1))
    magnitude = 0.3 + np.exp(-2 * ((y - 0.3 * a) ** 2 + (x + 0.3 * b) ** 2)) + 0.2 * np.cos(7 * a * y + 5 * b * x)
    texture = 0.02 * rng.standard_normal((n, *size))
    return ((magnitude + texture) * np.exp(1j * (a * y + b * x + c))).astype(np.complex64)


def coil_maps(coils: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Smooth maps with sum of squares 1, complex64 `[coils, H, W]`; the first one is real and positive."""
    y, x = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
    angle = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    maps = np.exp(-((y - np.sin(angle)) ** 2 + (x - np.cos(angle)) ** 2) / 4 + 0.5j * (y * np.cos(angle) + x))
    maps = maps * np.exp(-1j * np.angle(maps[:1]))
    return (maps / np.sqrt((np.abs(maps) ** 2).sum(0))).astype(np.complex64)


def measured(n: int, coils: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """Fully sampled k-space, complex64 `[n, coils, H, W]`."""
    return transform(coil_maps(coils, size) * pictures(n, size, seed)[:, None]).astype(np.complex64)


def lines(width: int = SIZE[1], acs: int = 8, every: int = 3) -> np.ndarray:
    """A mask of lines, bool `[W]`."""
    mask = np.zeros(width, dtype=bool)
    mask[::every] = True
    mask[width // 2 - acs // 2 : width // 2 - acs // 2 + acs] = True
    return mask


def write_h5(path: Path, **arrays: Any) -> Path:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path
