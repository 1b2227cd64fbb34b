"""Images whose noise is estimated: in memory, or read in passes because they are too many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.progress import Advance, silent

MIN_SIDE = 4
MAX_IMAGES, MAX_VALUES = 5_000, 1 << 23  # from which coefficients are chosen


@dataclass(frozen=True)
class ImageSet:
    """Images of one shape.

    Attributes:
        name: for messages.
        count: how many there are.
        shape: `(C, H, W)`.
        batches: starts a pass over all images, in order, `[b, C, H, W]`.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    batches: Callable[[], Iterator[Tensor]]

    def indices(self) -> Tensor:
        """Which images coefficients are chosen from: evenly spread, two at least."""
        most = max(2, min(self.count, MAX_IMAGES, MAX_VALUES // math.prod(self.shape)))
        return torch.linspace(0, self.count - 1, most, dtype=torch.float64).round().long()

    def sample(self, advance: Advance = silent) -> Tensor:
        """The images of `indices`, float64. Raises UserError if a value is not finite or nothing varies."""
        wanted = torch.zeros(self.count, dtype=torch.bool)
        wanted[self.indices()] = True
        found, start = [], 0
        for batch in self.batches():
            if not bool(torch.isfinite(batch).all()):
                first = start + int((~torch.isfinite(batch)).flatten(1).any(1).nonzero()[0])
                raise UserError(f"{self.name}: image {first} holds NaN or infinity; images must be finite")
            found.append(batch[wanted[start : start + len(batch)]].to(torch.float64))
            start += len(batch)
            advance(done=len(batch))
        images = torch.cat(found)
        if bool((images.flatten(1) == images.flatten(1)[:, :1]).all()):
            raise UserError(f"{self.name}: every image is constant; there is no noise to estimate (sigma_n is 0)")
        return images


def image_set(images: Tensor | ImageSet) -> ImageSet:
    """The set; a tensor must be `[n, C, H, W]`. Raises UserError if images are too few, too small, or no images."""
    if isinstance(images, Tensor):
        if images.ndim != 4:
            raise UserError(f"images must be [n, C, H, W], not {list(images.shape)}")
        tensor = images
        images = ImageSet("images", len(tensor), tuple(tensor.shape[1:]), lambda: iter(tensor.split(256)))
    name, count, shape = images.name, images.count, images.shape
    if len(shape) != 3:
        raise UserError(
            f"{name}: measurements of shape {list(shape)} are not images [C, H, W]; their noise cannot be estimated"
        )
    if count < 2:
        raise UserError(f"{name}: holds one image; the noise estimate compares images and needs at least two")
    if min(shape[1:]) < MIN_SIDE:
        raise UserError(
            f"{name}: images of {shape[1]}x{shape[2]} are too small; at least {MIN_SIDE}x{MIN_SIDE} is needed"
        )
    return images
