"""Patterns of missing pixels: each is a seeded draw of boolean masks, True where observed.

All draw `[n, K, H, W]` at once for rates of missing pixels `[n]`: single pixels, boxes, stripes, spots of dust.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.tensors import right_broadcast


def pixels(rate_N: Tensor, shape: tuple[int, int, int], size: int, generator: torch.Generator) -> Tensor:
    """Each pixel is missing with probability `rate`, independently (Bernoulli)."""
    uniform = torch.rand(len(rate_N), *shape, generator=generator, device=generator.device)
    return uniform >= right_broadcast(rate_N, uniform)


def box(rate_N: Tensor, shape: tuple[int, int, int], size: int, generator: torch.Generator) -> Tensor:
    """One box of the image's proportions that covers a share `rate`, anywhere inside the image."""
    start = torch.rand(len(rate_N), shape[0], 2, generator=generator, device=generator.device)
    return _boxes(rate_N, shape, start)


def centre_box(rate_N: Tensor, shape: tuple[int, int, int], size: int, generator: torch.Generator) -> Tensor:
    """The same box in the middle of every image."""
    return _boxes(rate_N, shape, torch.full((len(rate_N), shape[0], 2), 0.5, device=generator.device))


def _boxes(rate_N: Tensor, shape: tuple[int, int, int], start: Tensor) -> Tensor:
    inside = []
    for axis, length in enumerate(shape[1:]):
        side = (rate_N.sqrt() * length).round()[:, None]
        first = (start[..., axis] * (length - side + 1)).floor().clamp_max(length - 1)
        first = torch.minimum(first, length - side)
        position = torch.arange(length, device=start.device)
        inside.append((position >= first[..., None]) & (position < (first + side)[..., None]))
    return ~(inside[0][..., :, None] & inside[1][..., None, :])


def stripes(rate_N: Tensor, shape: tuple[int, int, int], size: int, generator: torch.Generator) -> Tensor:
    """Vertical stripes, `size` pixels wide, at random places, until a share `rate` is covered on average."""
    channels, height, width = shape
    # a column is missing if any of `size` possible starts to its left begins a stripe
    starts = torch.rand(len(rate_N), channels, 1, width + size - 1, generator=generator, device=generator.device)
    begun = (starts < _rate_of_starts(rate_N, size)[:, None, None, None]).float()
    covered = torch.nn.functional.max_pool1d(begun[:, :, 0], size, stride=1) > 0
    return ~covered[:, :, None].expand(-1, -1, height, -1)


def dust(rate_N: Tensor, shape: tuple[int, int, int], size: int, generator: torch.Generator) -> Tensor:
    """Round spots of diameter `size` at random places, until a share `rate` is covered on average."""
    offset = torch.arange(size, device=generator.device) - (size - 1) / 2
    disc = (offset[:, None] ** 2 + offset**2 <= (size / 2) ** 2).float()
    height, width = (length + size - 1 for length in shape[1:])
    starts = torch.rand(len(rate_N), shape[0], height, width, generator=generator, device=generator.device)
    begun = (starts < right_broadcast(_rate_of_starts(rate_N, int(disc.sum())), starts)).float()
    covered = torch.nn.functional.conv2d(begun.flatten(0, 1)[:, None], disc[None, None])[:, 0] > 0.5
    return ~covered.unflatten(0, (len(rate_N), shape[0]))


def _rate_of_starts(rate_N: Tensor, area: int) -> Tensor:
    """Probability of a start with which a pixel that `area` of them reach is covered with probability `rate`."""
    return 1 - (1 - rate_N) ** (1 / area)


Pattern = Callable[[Tensor, tuple[int, int, int], int, torch.Generator], Tensor]
PATTERNS: dict[str, Pattern] = {
    "pixels": pixels,
    "box": box,
    "centre-box": centre_box,
    "stripes": stripes,
    "dust": dust,
}


def bounds(pattern: str, shape: tuple[int, int, int]) -> tuple[float, float]:
    """The rate above which a pattern hides any pixel of an image, and the rate from which it hides all."""
    if pattern in ("box", "centre-box"):  # of sides that are rounded to whole pixels
        return max((0.5 / n) ** 2 for n in shape[1:]), max(((n - 0.5) / n) ** 2 for n in shape[1:])
    return 0.0, math.nextafter(1.0, 0.0)
