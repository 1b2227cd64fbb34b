"""Coil sensitivity maps: simulated ones, and banks of measured ones at a coarse resolution.

Maps are `[n, coils, H, W, 2]`, real and imaginary part last, with the sum over the coils of `|S|^2` equal to 1 on the
support and 0 elsewhere, so that all coils together see every pixel once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 1.5  # of the ring of coils, where the field of view reaches from -1 to 1
BANK = 1 << 22  # numbers that a corruption keeps of measured maps
_COARSE = 48  # pixels a side: sensitivities are smooth
_INSIDE = 0.5  # of the norm over the coils, beyond which a pixel of an interpolated map belongs to the support


def birdcage(rotation_N: Tensor, coils: int, height: int, width: int) -> Tensor:
    """Maps of a ring of coils, rotated by angles `[n]`, float32 `[n, coils, H, W, 2]` (as `sigpy.mri.birdcage_maps`).

    A coil's sensitivity falls as one over the distance, and its phase is the direction to it.
    """
    device = rotation_N.device
    angle = torch.arange(coils, device=device) * (2 * math.pi / coils)
    direction = (angle + rotation_N[:, None])[..., None, None]
    y = (torch.arange(height, device=device) - height / 2)[:, None] / (height / 2) - RADIUS * direction.sin()
    x = (torch.arange(width, device=device) - width / 2) / (width / 2) - RADIUS * direction.cos()
    phase = torch.atan2(x, -y) - direction
    maps = torch.stack([phase.cos(), phase.sin()], dim=-1) / (x.square() + y.square()).sqrt()[..., None]
    return normalised(maps)


def normalised(maps: Tensor) -> Tensor:
    """Maps `[n, coils, H, W, 2]` with sum `|S|^2 = 1` wherever they are not 0."""
    norm = maps.square().sum(dim=(1, -1), keepdim=True).sqrt()
    return torch.where(norm > 0, maps / norm.clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


def coarse(maps: Tensor) -> Tensor:
    """Block averages of maps, at most 48 pixels a side, float32 `[n, coils, h, w, 2]`, for a corruption to keep."""
    height, width = (min(_COARSE, size) for size in maps.shape[2:4])
    return F.adaptive_avg_pool2d(_channels(maps), (height, width)).unflatten(1, (-1, 2)).movedim(2, -1).contiguous()


def refined(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps `[n, coils, h, w, 2]` on a finer grid (bicubic), normalised; those of the same size are left as they are."""
    if maps.shape[2:4] == (height, width):
        return maps
    fine = F.interpolate(_channels(maps), size=(height, width), mode="bicubic").unflatten(1, (-1, 2)).movedim(2, -1)
    inside = fine.square().sum(dim=(1, -1), keepdim=True).sqrt() > _INSIDE
    return normalised(fine * inside).contiguous()


def _channels(maps: Tensor) -> Tensor:
    return maps.movedim(-1, 2).flatten(1, 2)
