"""Gaussian images: the assumption about images on which preconditioning rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.fourier import fft2c, ifft2c, radius
from ...core.tensors import channels_to_complex, complex_to_channels

_SMALLEST = 0.1  # level, by the images' deviation, below which polynomials no longer tell levels apart


def scaled(x: Tensor, multiplier: Tensor, frequencies: bool) -> Tensor:
    """Images `[n, C, H, W]`, or each of their frequencies, times a number."""
    if not frequencies:
        return multiplier * x
    return complex_to_channels(ifft2c(multiplier * fft2c(channels_to_complex(x))))


@dataclass(frozen=True)
class Prior:
    """Gaussian images of mean 0, white or stationary. A poor prior changes the conditioning, not the minimiser.

    Attributes:
        variance: of each channel, 0-dimensional; or the power spectrum of complex images, the variance of real and
            imaginary part of each centred frequency, `[H, W]`, all above 0.
    """

    variance: Tensor

    @classmethod
    def white(cls, deviation: float) -> Prior:
        """Independent pixels."""
        return cls(torch.tensor(deviation, dtype=torch.float64).square())

    @classmethod
    def stationary(cls, power: Sequence[float], height: int, width: int) -> Prior:
        """Images whose power spectrum depends on the radius of the frequency alone.

        Args:
            power: variance of each channel at radius 0, 1, 2, ... (`radius`), above 0; linear between in its logarithm,
                constant beyond.
            height, width: of the images.
        """
        knots = torch.tensor(power, dtype=torch.float64).log()
        at = radius(height, width).clamp_max(len(knots) - 1)
        low = at.long().clamp_max(max(len(knots) - 2, 0))
        high = (low + 1).clamp_max(len(knots) - 1)
        return cls(torch.lerp(knots[low], knots[high], at - low).exp())

    def draw(self, white: Tensor) -> Tensor:
        """Such an image from white noise `[n, C, H, W]`."""
        return scaled(white, self.variance.sqrt().to(white), bool(self.variance.ndim))

    def balanced(self, e: Tensor) -> Tensor:
        """`e`, in the white space, with frequencies brought half way to equal size: divided by `variance^(1/4)`.

        White images stay as they are.
        """
        if not self.variance.ndim:
            return e
        return e * (self.variance.mean() / self.variance).pow(0.25).to(e)

    def at(self, sigma: Tensor) -> Shrinkage:
        """Such images in white noise of levels `sigma` `[n]`."""
        level = sigma.reshape(-1, 1, 1, 1)
        if not self.variance.ndim:
            return Shrinkage(level, self.variance)  # a number: no copy to the device
        variance = self.variance.to(sigma)
        return Shrinkage(level.maximum(_SMALLEST * variance.mean().sqrt()), variance)


@dataclass(frozen=True)
class Shrinkage:
    r"""Gaussian images in white noise: the Wiener filter :math:`P = (1 + r)^{-1}`, `r` noise over image in variance.

    Where only `A^H A` of them is seen, let :math:`T = 1 - P^{1/2} (1 - A^H A) P^{1/2}`, with eigenvalues in (0, 1]. The
    posterior's mean is :math:`P^{1/2} T^{-1} P^{1/2} A^H y`, and its covariance :math:`s^2 P^{1/2} T^{-1} P^{1/2}`
    (`posterior.py` has `T^{-1}` and `T^{-1/2}`).

    Attributes:
        sigma: noise levels `s`, `[n, 1, 1, 1]`.
        variance: of the images, as `Prior.variance`.
    """

    sigma: Tensor
    variance: Tensor

    @property
    def ratio(self) -> Tensor:
        """`r`: `[n, 1, 1, 1]`, or of each frequency `[n, 1, H, W]`."""
        return self.sigma.square() / self.variance

    def half(self, x: Tensor) -> Tensor:
        """`P^{1/2} x` of images `[n, C, H, W]`."""
        return scaled(x, (1 + self.ratio).rsqrt(), bool(self.variance.ndim))
