"""Downsampling: `y = D x + sigma_n eps`, measured at a resolution that is lower by a whole factor."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.settings import setting, wrong
from .bases import Complete, Linear, WhiteInDomain
from .corruption import Loss, reduction
from .traits import GaussianNoise, WithoutGaps


def average_matrix(size: int, factor: int) -> Tensor:
    """Means of blocks of `factor` pixels, float64 `[size / factor, size]`."""
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, dim=1) / factor


def bicubic_matrix(size: int, factor: int) -> Tensor:
    """Antialiased bicubic reduction (Keys, a = -0.5, stretched by `factor`), rows sum to 1, as Pillow's resize."""
    centre = (torch.arange(size // factor, dtype=torch.float64)[:, None] + 0.5) * factor - 0.5
    t = ((torch.arange(size, dtype=torch.float64) - centre) / factor).abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weight = torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
    return weight / weight.sum(1, keepdim=True)


def smooth_inverse(matrix: Tensor) -> Tensor:
    """The smoothest right inverse of a reduction `R`, float64 `[size, size / factor]`: `R U = 1`; flat stays flat.

    `U` interpolates as the conditional mean of an image whose neighbours differ by white noise (a spectrum of 1/f^2, as
    photographs have) and of unknown mean (ordinary kriging); `C` is exponential with the length of the side.
    """
    position = torch.arange(matrix.shape[1], dtype=torch.float64)
    prior = torch.exp(-(position[:, None] - position).abs() / len(position))
    precision = torch.linalg.inv(matrix @ prior @ matrix.T)
    known = prior @ matrix.T @ precision  # of an image of mean 0
    mean = precision.sum(0) / precision.sum()  # the likeliest, of what was measured
    return known + (1 - known.sum(1, keepdim=True)) * mean


METHODS = {"average": average_matrix, "bicubic": bicubic_matrix}


@functools.lru_cache(maxsize=64)
def _matrix(method: str, size: int, factor: int, inverse: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The reduction of one axis, or its inverse."""
    matrix = METHODS[method](size, factor)
    return (smooth_inverse(matrix) if inverse else matrix).to(device, dtype)


@dataclass(frozen=True)
class DownsamplingOperator(Linear, WhiteInDomain, Complete):
    """`A x = R x R^T` for every channel.

    Attributes:
        factor: of both axes.
        method: "average" or "bicubic".
        lifted: whether the domain is the image grid, `U y`, instead of the measurements' own.
    """

    factor: int
    method: str
    lifted: bool

    def _along(self, x: Tensor, inverse: bool = False, transpose: bool = False) -> Tensor:
        """`R x R^T`, with the inverse or the transpose in place of `R`."""
        enlarging = inverse or transpose
        for axis in (-2, -1):
            size = x.shape[axis] * (self.factor if enlarging else 1)
            matrix = _matrix(self.method, size, self.factor, inverse, x.dtype, x.device)
            x = torch.matmul(matrix.T if transpose else matrix, x) if axis == -2 else torch.matmul(
                x, matrix if transpose else matrix.T
            )  # fmt: skip
        return x

    def apply(self, x: Tensor) -> Tensor:
        return self._along(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._along(y, transpose=True)

    def observed(self, y: Tensor) -> Tensor:
        return self._along(y, inverse=True) if self.lifted else y

    def lift(self, d: Tensor) -> Tensor:
        return d if self.lifted else self._along(d, inverse=True)

    def project(self, x: Tensor) -> Tensor:
        return x if self.lifted else self.apply(x)


class Downsampling(GaussianNoise, WithoutGaps, kind="downsampling"):
    """Images at a lower resolution; the generator draws them at the full one.

    Without noise, the teacher denoises on the image grid (`U y`: the smoothest image with this measurement). With
    noise, it denoises at the measurements' resolution, where the noise is white; on the image grid it is not. Its
    network works on the image grid in both cases, so that the generator can start from it.
    """

    lost = frozenset({Loss.RESOLUTION})
    factor: int = setting(2, "divides the images' sides", ge=2)
    method: Literal["average", "bicubic"] = setting("average", "average (of blocks) or bicubic (antialiased)")
    grid: Literal["auto", "image", "measurement"] = setting(
        "auto", "grid on which the teacher denoises: the image's, the measurement's, or the image's only without noise"
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.grid == "image" and self.sigma_max > 0:
            raise wrong("grid", "image needs measurements without noise: noise is not white on the image grid")
        return self

    @property
    def lifted(self) -> bool:
        """Whether the teacher denoises on the image grid."""
        return self.grid == "image" or (self.grid == "auto" and self.sigma_max == 0)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> DownsamplingOperator:
        if any(length % self.factor for length in shape[1:]):
            raise UserError(
                f"corruption.factor {self.factor} does not divide images of {shape[1]} x {shape[2]}; resize them"
            )
        return DownsamplingOperator(self.draw_sigma_n(n, generator), self.factor, self.method, self.lifted)

    def operator_in_words(self) -> str:
        k = self.factor
        return (
            f"averages of {k} x {k} pixels" if self.method == "average" else f"1/{k} of the resolution ({self.method})"
        )


@reduction.register
def _(corruption: Downsampling) -> int:
    return corruption.factor
