"""How complex images are shown and measured: their magnitude, and their phase in colours.

A view has the range [-1, 1] of a real image, so everything that shows or measures real images also takes views:
magnitude 0 becomes -1 (black) and magnitude 1 becomes 1 (white).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tensors import channels_to_complex

_GAMMA = 0.5  # exponent of the brightness of phase colours; it brightens tissue, whose magnitude is rarely above 0.5


def magnitude(x: Tensor) -> Tensor:
    """Magnitudes `2 |x| - 1` of complex images as channels `[n, 2k, H, W]`: `[n, k, H, W]`, black at -1.

    Raises:
        ValueError: the number of channels is odd.
    """
    return 2 * channels_to_complex(x).abs() - 1


def phase_colours(x: Tensor) -> Tensor:
    r"""Phases of complex images as channels `[n, 2k, H, W]` in colours, RGB `[n, 3, H, k W]` in [-1, 1].

    Colour `c` = 0, 1, 2 (red, green, blue) of a pixel :math:`r e^{i\phi}` is
    :math:`\sqrt{\min(r, 1)}\,(1 + \cos(\phi - 2\pi c/3))/2`: red is phase 0, cyan is :math:`\pi`, there is no seam, and
    where there is no signal it is black, so that the phase of noise in air is not shown. Several channels stand side by
    side.

    Raises:
        ValueError: the number of channels is odd.
    """
    values = channels_to_complex(x)
    shift = torch.arange(3, dtype=x.dtype, device=x.device)[:, None, None] * (2 * math.pi / 3)
    waves = (1 + (values.angle()[:, :, None] - shift).cos()) / 2
    rgb = values.abs().clamp(max=1)[:, :, None] ** _GAMMA * waves
    return 2 * rgb.movedim(1, -2).flatten(-2) - 1


def displayed(x: Tensor, is_complex: bool) -> Tensor:
    """Images `[n, C, H, W]` as people and metrics see them: magnitudes of complex ones, real ones unchanged."""
    return magnitude(x) if is_complex else x


def clipped(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Images as they would be seen: values outside of `bounds`, which no file can hold, become the nearest bound.

    Values inside are kept as they are: rounding them to the steps of an 8-bit file would move none by more than half a
    step, 1/255 of the range from black to white in normalised units.

    Args:
        bounds: smallest and largest value in normalised units; None leaves images as they are.
    """
    return x if bounds is None else x.clamp(*bounds)


def displayed_shape(shape: tuple[int, ...], is_complex: bool) -> tuple[int, int, int]:
    """`(C, H, W)` of `displayed` for images of `shape` `(C, H, W)`."""
    channels, height, width = shape
    return channels // 2 if is_complex else channels, height, width
