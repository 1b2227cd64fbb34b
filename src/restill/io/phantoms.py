"""Random head phantoms in the manner of Shepp and Logan: images for MRI that need no file."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.tensors import seeded
from .arrays import array_source
from .images import ImageSource

_FINE = 3  # samples a pixel and axis: edges are smooth
_CLASSES = ("healthy", "lesion")


class Ellipses(NamedTuple):
    """An ellipse in each of `n` images, in units of half the field of view; each field `[n]`."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    angle: Tensor

    def __call__(self, grid_y: Tensor, grid_x: Tensor) -> Tensor:
        """Whether the points lie inside, bool `[n, H, W]`."""
        cos, sin = (f(self.angle)[:, None, None] for f in (torch.cos, torch.sin))
        dx, dy = grid_x - self.x[:, None, None], grid_y - self.y[:, None, None]
        along, across = (
            (cos * dx + sin * dy) / self.width[:, None, None],
            (cos * dy - sin * dx) / self.height[:, None, None],
        )
        return along.square() + across.square() <= 1


def phantoms(size: int = 64, count: int = 2000) -> ImageSource:
    """`count` grey images `[1, size, size]`, 8 bits, of two classes: heads without and with a bright lesion.

    A head is a bright rim (scalp and skull), brain with a smooth texture, and two dark ventricles; its size, pose,
    contrasts and texture are drawn from a fixed seed, image by image in the order of their numbers.

    Source: the ellipses of L. Shepp, B. Logan, The Fourier reconstruction of a head section, 1974, made random.
    """
    made = [_heads(start, min(250, count - start), size) for start in range(0, count, 250)]
    labels = torch.cat([label for _, label in made]).tolist()
    images = torch.cat([image for image, _ in made]).numpy()
    return array_source(images, "phantoms", value_range=(0.0, 255.0), labels=labels, classes=_CLASSES)


def _heads(start: int, n: int, size: int) -> tuple[Tensor, Tensor]:
    """Images uint8 `[n, size, size]` and whether each has a lesion."""
    generator = seeded("phantoms", start)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    fine = size * _FINE
    line = (torch.arange(fine) + 0.5) / fine * 2 - 1
    grid = torch.meshgrid(line, line, indexing="ij")
    angle, x, y = between(-0.25, 0.25), between(-0.05, 0.05), between(-0.05, 0.05)
    width, height, rim = between(0.6, 0.75), between(0.75, 0.9), between(0.06, 0.1)
    skull, brain = Ellipses(x, y, width, height, angle), Ellipses(x, y, width - rim, height - rim, angle)
    texture = F.interpolate(torch.randn(n, 1, 9, 9, generator=generator), size=(fine, fine), mode="bicubic")[:, 0]
    value = brain(*grid) * (between(0.4, 0.55)[:, None, None] + 0.08 * texture)
    value += (skull(*grid) & ~brain(*grid)) * between(0.75, 0.95)[:, None, None]
    distance, length, dark = between(0.12, 0.2), between(0.2, 0.34), between(0.05, 0.15)
    for side in (-1, 1):  # the ventricles, mirrored about the head's axis
        ventricle = Ellipses(
            x + side * distance * angle.cos(),
            y + side * distance * angle.sin(),
            between(0.05, 0.1),
            length,
            angle + side * 0.25,
        )
        value = torch.where(ventricle(*grid), dark[:, None, None], value)
    turn, far, radius = between(0, 2 * math.pi), between(0.3, 0.42), between(0.08, 0.15)
    lesion = Ellipses(x + far * turn.cos(), y + far * turn.sin(), radius, radius * between(0.7, 1.0), turn)
    has = torch.rand(n, generator=generator) < 0.5
    value = torch.where(lesion(*grid) & has[:, None, None], between(0.85, 1.0)[:, None, None], value)
    image = F.avg_pool2d(value[:, None].clamp(0, 1), _FINE)[:, 0]
    return (image * 255).round().to(torch.uint8), has.to(torch.int64)
