"""What images are compared by: pixels, or the penultimate layer of a classifier (`classifier.py`)."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

MAX_PIXEL_FEATURES = 4096  # an eigendecomposition of this size takes about half a minute on two cores


class Features(Protocol):
    """A deterministic map from images to feature vectors. Distances compare only within one fingerprint."""

    @property
    def name(self) -> str:
        """Short name for tables and `metrics.json`, e.g. `pixels`."""

    @property
    def fingerprint(self) -> str:
        """Hex hash of everything that the features depend on (weights, shape)."""

    @property
    def dim(self) -> int:
        """Number of features."""

    @property
    def resize(self) -> str:
        """How images are resized for the features, in words; `none` where they are not."""

    def __call__(self, images: Tensor) -> Tensor:
        """Features `[n, dim]` of images `[n, C, H, W]`, float32 in normalised units ([-1, 1])."""


class PixelFeatures:
    """The pixels themselves; average-pooled by the smallest power of two that leaves at most 4096 of them.

    The name says so: `pixels`, `pixels/2`, `pixels/4`. Windows that reach over the border average what lies inside.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` is that of one image, `(C, H, W)`. Raises UserError where no pooling helps (C > 4096)."""
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.pool = 1
        while self.dim > MAX_PIXEL_FEATURES:
            if self.pool >= max(height, width):
                raise UserError(f"pixel features: {channels} channels are more than {MAX_PIXEL_FEATURES} features")
            self.pool *= 2

    @property
    def name(self) -> str:
        return "pixels" if self.pool == 1 else f"pixels/{self.pool}"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name} {self.shape}".encode()).hexdigest()

    @property
    def dim(self) -> int:
        channels, height, width = self.shape
        return channels * -(-height // self.pool) * -(-width // self.pool)

    @property
    def resize(self) -> str:
        return "none" if self.pool == 1 else f"averaged over {self.pool}x{self.pool} pixels"

    def __call__(self, images: Tensor) -> Tensor:
        check_images(images, self.shape, self.name)
        return F.avg_pool2d(images, self.pool, ceil_mode=True).flatten(1) if self.pool > 1 else images.flatten(1)


def check_images(images: Tensor, shape: tuple[int, int, int], name: str) -> None:
    """Raise UserError unless `images` are real, of shape `[n, *shape]`."""
    if images.ndim != 4 or tuple(images.shape[1:]) != shape or not images.is_floating_point():
        raise UserError(
            f"features {name!r} take real images of shape [n, {', '.join(map(str, shape))}], "
            f"not {images.dtype} {list(images.shape)}"
        )
