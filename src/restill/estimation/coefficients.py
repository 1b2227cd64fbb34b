"""Bands of images: the discrete cosine transform (DCT, type II) of overlapping patches, in components of colour.

White noise has the same level in every orthonormal basis. Images do not: their finest scales and the differences
between their colours are nearly empty. Colour components are the eigenvectors of the covariance of the channels. All
bands have unit norm: white noise of standard deviation `s` gives each of them variance `s^2`, and the bands of one
patch have independent noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Bands:
    """Every band of the patches of images, except the means.

    Attributes:
        mixing: columns are the colour components, `[C, C]`, orthonormal.
        side: of the patches, in pixels.
    """

    mixing: Tensor
    side: int

    @property
    def stride(self) -> int:
        """Distance of neighbouring patches."""
        return max(1, self.side // 2)

    @property
    def filters(self) -> Tensor:
        """`[C (side^2 - 1), C, side, side]`."""
        dct = dct_matrix(self.side).to(self.mixing)
        waves = torch.einsum("uy,vx->uvyx", dct, dct).flatten(0, 1)[1:]
        return torch.einsum("cd,kyx->dkcyx", self.mixing, waves).flatten(0, 1)

    def coefficients(self, images: Tensor, filters: Tensor) -> Tensor:
        """Of images `[n, C, H, W]` and some filters, `[n, filters, patches]`."""
        return F.conv2d(images, filters, stride=self.stride).flatten(2)

    def patches(self, height: int, width: int) -> int:
        """Number of patches of an image, which is that of the coefficients of a band."""
        return math.prod((size - self.side) // self.stride + 1 for size in (height, width))

    def mean_squares(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Mean square of every band, `[bands]`, in the patches that are `kept`, bool `[n, patches]`, or in all."""
        total, count = torch.zeros(len(self.filters), dtype=images.dtype), 0
        for rows in blocks(images):
            squares = self.coefficients(images[rows], self.filters).square()
            chosen = torch.ones_like(squares[:, 0], dtype=torch.bool) if kept is None else kept[rows]
            total += (squares * chosen[:, None]).sum((0, 2))
            count += int(chosen.sum())
        return total / max(1, count)


def bands_of(images: Tensor, side: int) -> Bands:
    """The bands for images `[n, C, H, W]`, float64, no smaller than `side`."""
    channels = images.shape[1]
    covariance = torch.cov(images.movedim(1, 0).flatten(1)).reshape(channels, channels)
    return Bands(torch.linalg.eigh(covariance).eigenvectors, side)


def dct_matrix(side: int) -> Tensor:
    """Orthonormal DCT of type II, rows are the waves, `[side, side]`, float64."""
    k = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * k[:, None] * (k + 0.5)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def blocks(images: Tensor) -> Iterator[slice]:
    """Rows of images `[n, C, H, W]`, few enough at a time for all coefficients of theirs in memory."""
    size = max(1, _BLOCK_VALUES // (4 * math.prod(images.shape[1:])))
    return (slice(start, start + size) for start in range(0, len(images), size))
