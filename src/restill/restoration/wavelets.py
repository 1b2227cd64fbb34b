"""Orthonormal wavelet transforms of batches of images, as small matrices that are made with PyWavelets (extra `mri`).

One level of a transform along a side of `n` pixels is an orthonormal matrix `[n, n]`: what PyWavelets makes of the unit
vectors. As matrices it runs on any device and in any precision, in batches, and PyWavelets is needed only to make them.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UserError

_TOLERANCE = 1e-9


class Wavelets:
    """The orthonormal discrete wavelet transform `W` of images `[..., H, W]`, periodic at the borders (Mallat 1989).

    Coefficients have the shape of the image: means of the last level in the top left corner, as
    `pywt.coeffs_to_array` lays them out. Where a side is odd at some level, its last line is no part of that level and
    is left among the details as it is; so `W` is orthonormal for every size.

    Attributes:
        shape: `(H, W)` of the images.
        name: of the wavelet, as PyWavelets calls it.
        levels: how often the means were transformed again.
    """

    def __init__(self, shape: tuple[int, int], name: str = "db4", levels: int | None = None) -> None:
        """Make the transform.

        Args:
            shape: `(H, W)`, each at least 2 pixels.
            name: an orthonormal wavelet of PyWavelets: haar, db2 to db38, sym2 to sym20, coif1 to coif17.
            levels: as many as the image holds without most of the coefficients wrapping around (`pywt.dwt_max_level`
                of the shorter side), and at least 1, where None.

        Raises:
            UserError: PyWavelets is missing, no such wavelet, one that is not orthonormal, or more levels than the
                image has.
        """
        self.shape = (int(shape[0]), int(shape[1]))
        self.name = name
        most = min(self.shape).bit_length() - 1
        if most < 1:
            raise UserError(f"wavelets: images of {shape[0]} x {shape[1]} are too small; each side needs 2 pixels")
        self.levels = max(1, _usual_levels(name, min(self.shape))) if levels is None else levels
        if not 1 <= self.levels <= most:
            raise UserError(f"wavelets: levels must be 1 to {most} for images of {shape[0]} x {shape[1]}, not {levels}")
        sides = [(self.shape[0] >> k, self.shape[1] >> k) for k in range(self.levels)]
        self._matrices = [(_matrix(name, height), _matrix(name, width)) for height, width in sides]

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients `W x` of images `[..., H, W]`, real or complex, of the same shape, dtype and device."""
        self._check(x)
        if x.is_complex():
            return torch.complex(self.forward(x.real), self.forward(x.imag))
        coefficients = x.clone()
        for rows, columns in self._matrices:
            height, width = len(rows), len(columns)
            block = rows.to(x) @ coefficients[..., :height, :width] @ columns.to(x).T
            coefficients[..., :height, :width] = block
        return coefficients

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Images `W^T c` of coefficients `[..., H, W]`, real or complex, of the same shape, dtype and device."""
        self._check(coefficients)
        if coefficients.is_complex():
            return torch.complex(self.inverse(coefficients.real), self.inverse(coefficients.imag))
        x = coefficients.clone()
        for rows, columns in reversed(self._matrices):
            height, width = len(rows), len(columns)
            x[..., :height, :width] = rows.to(x).T @ x[..., :height, :width] @ columns.to(x)
        return x

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[-2:]) != self.shape:
            raise ValueError(f"this transform is for images of {list(self.shape)}, not {list(x.shape[-2:])}")


@functools.lru_cache(maxsize=256)
def _matrix(name: str, side: int) -> Tensor:
    """One level of a side, orthonormal float64 `[side, side]`: rows of means, of details, and a last odd line.

    Raises:
        UserError: no such wavelet, or one that is not orthonormal.
    """
    pywt = _pywt()
    even = side - side % 2
    means, details = pywt.dwt(torch.eye(even, dtype=torch.float64).numpy(), _known(name), "periodization", axis=0)
    matrix = torch.eye(side, dtype=torch.float64)
    matrix[: even // 2, :even] = torch.from_numpy(means)
    matrix[even // 2 : even, :even] = torch.from_numpy(details)
    if not torch.allclose(matrix @ matrix.T, torch.eye(side, dtype=torch.float64), atol=_TOLERANCE):
        raise UserError(
            f"wavelets: {name!r} is not orthonormal; use haar, or a wavelet of the families db, sym and coif"
        )
    return matrix


def _usual_levels(name: str, side: int) -> int:
    return int(_pywt().dwt_max_level(side, _known(name).dec_len))


def _known(name: str) -> Any:
    """The wavelet of PyWavelets. Raises UserError, naming the nearest, if there is none of that name."""
    pywt = _pywt()
    if name not in (names := pywt.wavelist(kind="discrete")):
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        raise UserError(f"wavelets: {name!r} is not known: did you mean {near[0]!r}?")
    return pywt.Wavelet(name)


def _pywt() -> Any:
    try:
        return importlib.import_module("pywt")
    except ImportError:
        raise UserError("wavelets: PyWavelets is missing; run `pip install 'restill[mri]'`") from None
