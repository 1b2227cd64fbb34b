"""Coefficients of images that hold little besides noise, found from many images or known from the blur.

White noise has the same level in every orthonormal basis. Images do not: their finest scales, the differences between
their colours, or some of their pixels are nearly empty. Which ones depends on the data set (CIFAR-10: the finest band
of the least varied colour component; 8x8 digits: pixels at the border), so the quietest are chosen among candidates:

- every band of the 8x8 discrete cosine transform (DCT, type II) of overlapping patches, except the mean,
- every pixel about its mean over the images,

each in every colour component.

Colour components are the eigenvectors of the covariance of the channels. All candidates have unit norm: white noise
of standard deviation `s` gives each of them variance `s^2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import UserError

MAX_SIDE = 8  # of the patches
KILLED = 1e-3  # frequencies that pass less than this part of the strongest hold noise alone
_Z = 4.0  # standard errors by which the quietest of thousands of equal candidates lies below their level
_BLOCK_VALUES = 1 << 22
Coefficients = Callable[[Tensor], Tensor]
"""Images `[n, C, H, W]` to coefficients `[n, m]`, linear and of unit norm each."""


@dataclass(frozen=True)
class Candidates:
    """Bands and pixels of images of one shape.

    Attributes:
        shape: `(C, H, W)`.
        mixing: columns are the colour components, `[C, C]`, orthonormal.
        mean: mean image `[C, H, W]`.
    """

    shape: tuple[int, int, int]
    mixing: Tensor
    mean: Tensor

    @property
    def side(self) -> int:
        """Side of the patches, in pixels."""
        return min(MAX_SIDE, *self.shape[1:])

    @property
    def stride(self) -> int:
        """Distance of neighbouring patches."""
        return max(1, self.side // 2)

    @property
    def patches(self) -> int:
        """Number of patches of an image, which is that of the coefficients of a band."""
        return math.prod((size - self.side) // self.stride + 1 for size in self.shape[1:])

    @property
    def bands(self) -> Tensor:
        """Every band as a filter, `[C (side^2 - 1), C, side, side]`."""
        dct = dct_matrix(self.side).to(self.mixing)
        waves = torch.einsum("uy,vx->uvyx", dct, dct).flatten(0, 1)[1:]
        return torch.einsum("cd,kyx->dkcyx", self.mixing, waves).flatten(0, 1)

    def mean_squares(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean square of every candidate, pixels first, and of how many values it is the mean; both `[candidates]`."""
        pixels = bands = torch.zeros((), dtype=torch.float64)
        for block in _blocks(images):
            pixels = pixels + self._pixels(block).square().sum(0)
            bands = bands + self._filter(block, self.bands).square().sum((0, 2))
        n = len(images)
        counts = torch.cat([torch.full_like(pixels, n), torch.full_like(bands, n * self.patches)])
        return torch.cat([pixels, bands]) / counts, counts

    def chosen(self, index: Tensor) -> Coefficients:
        """The coefficients of some candidates, numbered as in `mean_squares`."""
        pixels = index[index < math.prod(self.shape)]
        filters = self.bands[index[index >= math.prod(self.shape)] - math.prod(self.shape)]

        def coefficients(images: Tensor) -> Tensor:
            found = [self._pixels(images)[:, pixels]] if len(pixels) else []
            found += [self._filter(images, filters).flatten(1)] if len(filters) else []
            return torch.cat(found, dim=1)

        return coefficients

    def _pixels(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", images - self.mean, self.mixing).flatten(1)

    def _filter(self, images: Tensor, filters: Tensor) -> Tensor:
        """`[n, filters, patches]`."""
        return F.conv2d(images, filters, stride=self.stride).flatten(2)


def candidates_of(images: Tensor) -> Candidates:
    """The candidates for images `[n, C, H, W]`, float64."""
    channels = images.shape[1]
    covariance = torch.cov(images.movedim(1, 0).flatten(1)).reshape(channels, channels)
    shape = (channels, images.shape[2], images.shape[3])
    return Candidates(shape, torch.linalg.eigh(covariance).eigenvectors, images.mean(0))


def quietest(
    candidates: Candidates, images: Tensor, wanted: int, tolerance: float
) -> tuple[Coefficients, Coefficients]:
    """The quietest candidates in these images, in two choices.

    Ranked by the upper confidence limit of the mean square, so that none wins by chance. Candidates that never vary are
    left out: they hold no noise either (padding).

    Args:
        wanted: number of values that the first choice is to give for a set of this size.
        tolerance: relative mean square, above the least, up to which the second choice goes.

    Returns:
        The few quietest, for the level of a set, at most a tenth of the bands; and all that are about as quiet, for
        that of single images.
    """
    squares, counts = candidates.mean_squares(images)
    limit = squares / _lower_quantile(counts - 1)
    rounding = torch.finfo(torch.float32).eps ** 2 * float(images.square().mean())
    order = limit.argsort()
    order = order[squares[order] > rounding]
    if not len(order):
        return (candidates.chosen(torch.zeros(1, dtype=torch.int64)),) * 2
    most = max(1, len(candidates.bands) // 10)
    few = order[: min(int((counts[order].cumsum(0) < wanted).sum()) + 1, most)]
    many = order[limit[order] <= (1 + tolerance) * limit[order[0]]]
    return candidates.chosen(few), candidates.chosen(many if len(many) > len(few) else few)


def quietest_bands(candidates: Candidates, images: Tensor) -> tuple[Tensor, Tensor]:
    """Bands in order, the quietest in these images first, `[bands]`, and the mean square of each, `[bands]`."""
    squares = candidates.mean_squares(images)[0][math.prod(candidates.shape) :]
    return squares.argsort(), squares


def killed_frequencies(response: Tensor) -> Coefficients:
    """Discrete Hartley coefficients at the frequencies that a known filter does not pass.

    Args:
        response: transfer function of a circular convolution, real or complex, in the order of `torch.fft.fft2`.

    Raises:
        UserError: the filter passes every frequency.
    """
    gain = response.abs().to(torch.float64)
    gain = torch.maximum(gain, gain.flip(0, 1).roll((1, 1), (0, 1)))  # a real filter treats f and -f alike
    killed = (gain < KILLED * gain.max()).flatten()
    if not bool(killed.any()):
        raise UserError(f"response: passes every frequency (none below {KILLED:g} of the strongest); leave it out")

    def coefficients(images: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(images, norm="ortho")
        return (spectrum.real - spectrum.imag).flatten(2)[:, :, killed].flatten(1)

    return coefficients


def _lower_quantile(freedom: Tensor) -> Tensor:
    """Of chi-squared over its degrees of freedom, by Wilson and Hilferty's cube root; tiny where there is none."""
    variance = 2 / (9 * freedom.clamp_min(0.1))
    return (1 - variance - _Z * variance.sqrt()).clamp_min(1e-2) ** 3


def dct_matrix(side: int) -> Tensor:
    """Orthonormal DCT of type II, rows are the waves, `[side, side]`, float64."""
    k = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * k[:, None] * (k + 0.5)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _blocks(images: Tensor) -> tuple[Tensor, ...]:
    return images.split(max(1, _BLOCK_VALUES // (4 * math.prod(images.shape[1:]))))
