"""What people look at and metrics take of complex images: the magnitude, and the phase in colours.

Views are in the convention of real images, which span [-1, 1], so that all that shows or measures real images does so
with them: magnitude 0 is black, -1, and magnitude 1 is white, 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tensors import channels_to_complex

_GAMMA = 0.5  # of the brightness of phases: tissue is rarely brighter than half, and is to be told by its colour


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
    """Images `[n, C, H, W]` as they are looked at and measured: complex ones as magnitudes, real ones as they are."""
    return magnitude(x) if is_complex else x


def displayed_shape(shape: tuple[int, ...], is_complex: bool) -> tuple[int, int, int]:
    """`(C, H, W)` of `displayed` for images of `shape` `(C, H, W)`."""
    channels, height, width = shape
    return channels // 2 if is_complex else channels, height, width
