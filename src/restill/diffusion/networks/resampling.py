r"""Changing the size of feature maps by a factor of two, and padding images to a size that a U-net can halve.

Resampling is depthwise filtering with the separable kernel :math:`k = f f^T / (\sum f)^2` (Song et al. 2021:
`f = [1, 1]` in DDPM++, `f = [1, 3, 3, 1]` in NCSN++), with zeros outside the image and padding `(len f - 1) // 2`:

- down: correlation with `k`, every second pixel;
- up: the transposed map times 4, so that a constant image keeps its value (away from the border).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import UserError

Direction = Literal["up", "down"]


def filter_kernel(taps: Sequence[float]) -> Tensor:
    """The 2-D kernel `[1, 1, k, k]`, float32, of `k` separable taps; it sums to 1.

    Raises:
        UserError: if the number of taps is odd (sizes would not halve and double exactly) or their sum is zero.
    """
    if len(taps) % 2 or not sum(taps):
        raise UserError(f"resample_filter: {list(taps)} needs an even number of taps with a nonzero sum, e.g. [1, 1]")
    f = torch.tensor([float(tap) for tap in taps])
    return (torch.outer(f, f) / f.sum() ** 2)[None, None]


class Resample(nn.Module):
    """`[n, C, H, W]` to `[n, C, 2H, 2W]` or `[n, C, H/2, W/2]`, without weights.

    With the taps `[1, 1]` the filter is a 2x2 mean (down) or a repetition of each pixel (up); both then run as such.

    Attributes:
        resample_filter: buffer `[1, 1, k, k]`, part of the state dict.
    """

    resample_filter: Tensor

    def __init__(self, direction: Direction, taps: Sequence[float]) -> None:
        super().__init__()
        self.direction = direction
        self.is_box = len(taps) == 2 and taps[0] == taps[1]
        self.register_buffer("resample_filter", filter_kernel(taps))

    def forward(self, x: Tensor) -> Tensor:
        return resample(x, self.direction, self.resample_filter, is_box=self.is_box)


def resample(x: Tensor, direction: Direction, kernel: Tensor, *, is_box: bool) -> Tensor:
    """Filters `x` `[n, C, H, W]` with `kernel` `[1, 1, k, k]` and resamples; `is_box`: the kernel is a 2x2 mean."""
    if is_box:
        return F.avg_pool2d(x, 2) if direction == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")
    channels, padding = x.shape[1], (kernel.shape[-1] - 1) // 2
    depthwise = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    if direction == "down":
        return F.conv2d(x, depthwise, stride=2, padding=padding, groups=channels)
    return F.conv_transpose2d(x, 4 * depthwise, stride=2, padding=padding, groups=channels)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`[n, C, H, W]` extended below and to the right until both sides are multiples of `multiple`.

    The border is reflected, or repeated where a side is too short for a reflection. Returns `x` itself if it fits.
    """
    for axis in (2, 3):
        side = x.shape[axis]
        missing = -side % multiple
        if missing:
            pad = (0, missing, 0, 0) if axis == 3 else (0, 0, 0, missing)
            x = F.pad(x, pad, mode="reflect" if missing < side else "replicate")
    return x
