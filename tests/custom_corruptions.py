"""Corruptions as a user would write them: random masks, a fixed blur, and Fourier masks of complex images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restill.core.tensors import channels_to_complex, complex_to_channels
from restill.corruption import (
    CompleteOperator,
    CustomCorruption,
    MaskingOperator,
    Operator,
    SamplingOperator,
    WithoutGaps,
)


@dataclass(frozen=True)
class MaskOperator(MaskingOperator):
    """`A x = M x`.

    Attributes:
        mask: ones where a pixel was observed, `[n, 1, H, W]`, the same for all channels.
    """

    mask: Tensor

    def restrict(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def condition(self) -> Tensor:
        return self.mask


class RandomMask(CustomCorruption, kind="custom-mask"):
    """Each pixel is missing with probability `p`; further masks drop each observed one with probability `delta`."""

    p: float = 0.6
    delta: float = 0.1

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MaskOperator:
        uniform = torch.rand(n, 1, *shape[1:], generator=generator, device=generator.device)
        return MaskOperator(self.draw_sigma_n(n, generator), (uniform >= self.p).float())

    def further(self, operator: Operator, generator: torch.Generator) -> MaskOperator:
        assert isinstance(operator, MaskOperator)
        mask = operator.mask
        kept = torch.rand(mask.shape, generator=generator, device=generator.device) >= self.delta
        return MaskOperator(operator.sigma_n, mask * kept.to(mask))


@dataclass(frozen=True)
class BlurOperator(CompleteOperator):
    """Separable blur `A x = B_H x B_W^T` with a Gaussian of standard deviation `width`, normalised at the borders."""

    width: float = 1.0

    def _matrix(self, size: int, like: Tensor) -> Tensor:
        position = torch.arange(size, dtype=like.dtype, device=like.device)
        kernel = torch.exp(-0.5 * ((position[:, None] - position) / self.width) ** 2)
        return kernel / kernel.sum(1, keepdim=True)

    def apply(self, x: Tensor) -> Tensor:
        return self._matrix(x.shape[-2], x) @ x @ self._matrix(x.shape[-1], x).T

    def adjoint(self, y: Tensor) -> Tensor:
        return self._matrix(y.shape[-2], y).T @ y @ self._matrix(y.shape[-1], y)


class Blur(CustomCorruption, WithoutGaps, kind="custom-blur"):
    """One fixed blur; the network models blurred images, so `seen` and `to_domain` are the identity."""

    width: float = 1.0

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> BlurOperator:
        return BlurOperator(self.draw_sigma_n(n, generator), self.width)


def _fourier(x: Tensor) -> Tensor:
    """Centred orthonormal Fourier transform of complex images given as channels."""
    shifted = torch.fft.ifftshift(channels_to_complex(x), dim=(-2, -1))
    return complex_to_channels(torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1)))


def _inverse_fourier(k: Tensor) -> Tensor:
    shifted = torch.fft.ifftshift(channels_to_complex(k), dim=(-2, -1))
    return complex_to_channels(torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1)))


@dataclass(frozen=True)
class FourierMaskOperator(SamplingOperator):
    """`A x = M F x` for complex images and frequencies, both as channels (real and imaginary part in turn).

    Attributes:
        mask: ones at the measured frequencies, `[n, 1, H, W]`.
    """

    mask: Tensor

    def embed(self, d: Tensor) -> Tensor:
        return _fourier(d)

    def extract(self, e: Tensor) -> Tensor:
        return _inverse_fourier(e)

    def restrict(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def condition(self) -> Tensor:
        return self.mask


class RandomLines(CustomCorruption, kind="custom-fourier-mask"):
    """Keeps the centre column and a share `kept` of the other columns; further masks keep `kept_further` of those."""

    kept: float = 0.5
    kept_further: float = 0.7

    def _keep(self, lines: Tensor, share: float, generator: torch.Generator) -> Tensor:
        kept = (torch.rand(lines.shape, generator=generator, device=generator.device) < share).to(lines)
        kept[..., lines.shape[-1] // 2] = 1
        return lines * kept

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> FourierMaskOperator:
        lines = torch.ones(n, 1, 1, shape[-1], device=generator.device)
        mask = self._keep(lines, self.kept, generator).repeat(1, 1, shape[-2], 1)
        return FourierMaskOperator(self.draw_sigma_n(n, generator), mask)

    def further(self, operator: Operator, generator: torch.Generator) -> FourierMaskOperator:
        assert isinstance(operator, FourierMaskOperator)
        lines = self._keep(operator.mask[:, :, :1], self.kept_further, generator)
        return FourierMaskOperator(operator.sigma_n, lines.repeat(1, 1, operator.mask.shape[-2], 1))
