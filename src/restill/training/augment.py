"""Augmentation that keeps white noise white: flips and quarter turns, told to the network (EDM, appendix F.2).

EDM's pipeline also scales, shears and rotates by any angle. That interpolates, and interpolated noise is no longer
white with level sigma_n, so for noisy measurements only the exact geometric maps are used. The labels keep EDM's nine
columns; those of the maps left out stay zero. The generator runs with zero labels: no augmentation leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 9  # x-flip, y-flip, scale, rotation (cos - 1, sin), anisotropy (2), translation (2)


@dataclass(frozen=True)
class Moves:
    """A flip or turn of each of `n` images, drawn once, so that masks can move with their images.

    Attributes:
        flips: columns of flips left-right and up-down, bool `[n, 2]`.
        quarters: quarter turns, int64 `[n]`.
    """

    flips: Tensor
    quarters: Tensor

    @classmethod
    def draw(cls, n: int, size: Sequence[int], probability: float, generator: torch.Generator) -> Moves:
        """Each map with `probability`; quarter turns only of square images."""
        device = generator.device

        def chosen() -> Tensor:
            active = torch.rand(n, generator=generator, device=device) < probability
            return active & (torch.rand(n, generator=generator, device=device) < 0.5)

        flips = torch.stack([chosen(), chosen()], dim=1)
        if size[0] != size[1]:
            return cls(flips, torch.zeros(n, dtype=torch.int64, device=device))
        active = torch.rand(n, generator=generator, device=device) < probability
        return cls(flips, torch.randint(4, (n,), generator=generator, device=device) * active)

    def __call__(self, image: Tensor) -> Tensor:
        """The images `[n, C, H, W]`, or their masks, moved."""
        for column, dim in ((0, -1), (1, -2)):
            image = torch.where(self.flips[:, column, None, None, None], image.flip(dim), image)
        if image.shape[-1] == image.shape[-2]:
            for k in (1, 2, 3):
                image = torch.where((self.quarters == k)[:, None, None, None], image.rot90(k, (-2, -1)), image)
        return image

    @property
    def labels(self) -> Tensor:
        """What the network is told, float32 `[n, 9]`."""
        labels = torch.zeros(len(self.flips), WIDTH, device=self.flips.device)
        labels[:, :2] = self.flips.float()
        angle = self.quarters * (torch.pi / 2)
        labels[:, 3], labels[:, 4] = angle.cos().round() - 1, angle.sin().round()
        return labels
