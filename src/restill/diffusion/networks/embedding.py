r"""Noise levels as vectors: sinusoids at fixed frequencies, computed in at least float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ...core.errors import UserError

MAX_PERIOD = 10_000  # Vaswani et al. 2017
FOURIER_SCALE = 16.0  # Song et al. 2021, appendix C


def sinusoids(angle: Tensor, *, sine_first: bool) -> Tensor:
    """`[n, half]` angles in radians to `[n, 2 half]`: cosines, then sines, or the other way round."""
    parts = [angle.sin(), angle.cos()] if sine_first else [angle.cos(), angle.sin()]
    return torch.cat(parts, dim=1)


def half_of(channels: int) -> int:
    """Raises UserError if `channels` is odd."""
    if channels % 2:
        raise UserError(f"model_channels: the embedding of the noise level needs an even width, not {channels}")
    return channels // 2


class PositionalEmbedding(nn.Module):
    r"""Geometric frequencies :math:`10000^{-i / (h - e)}`, `i = 0 .. h-1`, `h = channels / 2` (Vaswani et al. 2017).

    Args:
        channels: width of the embedding, even.
        endpoint: whether the last frequency is 1/10000 itself (`e = 1`, Ho et al. 2020) or the next one would be
            (`e = 0`, Dhariwal & Nichol 2021).
        sine_first: order of the two halves of the result.
    """

    def __init__(self, channels: int, *, endpoint: bool, sine_first: bool) -> None:
        super().__init__()
        self.num_frequencies = half_of(channels)
        self.endpoint = endpoint
        self.sine_first = sine_first

    def forward(self, noise_labels: Tensor) -> Tensor:
        """Noise labels `[n]`, float32 or float64, to `[n, channels]` of the same dtype."""
        index = torch.arange(self.num_frequencies, dtype=noise_labels.dtype, device=noise_labels.device)
        # Rounded in this order on purpose: a label of 1000 turns one unit in the last place into 6e-5 radians.
        frequency = (1 / MAX_PERIOD) ** (index / max(self.num_frequencies - self.endpoint, 1))
        return sinusoids(torch.outer(noise_labels, frequency), sine_first=self.sine_first)


class FourierEmbedding(nn.Module):
    r"""Random frequencies :math:`16 \cdot N(0, 1)`, drawn once and stored (Tancik et al. 2020; Song et al. 2021).

    Attributes:
        freqs: buffer `[channels / 2]` in cycles per unit of the noise label, part of the state dict.
    """

    freqs: Tensor

    def __init__(self, channels: int, *, sine_first: bool) -> None:
        super().__init__()
        self.sine_first = sine_first
        self.register_buffer("freqs", torch.randn(half_of(channels)) * FOURIER_SCALE)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keeps at least float32 when the module is cast: in bf16 a frequency of 16 would be off by 0.2 radians."""
        exact = self.freqs
        super()._apply(fn, recurse)
        if self.freqs.dtype in (torch.bfloat16, torch.float16):
            self.freqs = exact.to(self.freqs.device)
        return self

    def forward(self, noise_labels: Tensor) -> Tensor:
        """Noise labels `[n]`, float32 or float64, to `[n, channels]` of the same dtype."""
        angular = 2 * math.pi * self.freqs.to(noise_labels.dtype)
        return sinusoids(torch.outer(noise_labels, angular), sine_first=self.sine_first)
