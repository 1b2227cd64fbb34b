"""Augmentation that keeps white noise white: flips and quarter turns, told to the network (EDM, appendix F.2).

EDM's pipeline also scales, shears and rotates by any angle. That interpolates, and interpolated noise is no longer
white with level sigma_n, so for noisy measurements only the exact geometric maps are used. The labels keep EDM's nine
columns; those of the maps left out stay zero. The generator runs with zero labels: no augmentation leaks.
"""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 9  # x-flip, y-flip, scale, rotation (cos - 1, sin), anisotropy (2), translation (2)


def augment(image: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip and turn each image `[n, C, H, W]`, each map with `probability`; quarter turns only where `H == W`.

    Returns:
        The images and their labels `[n, 9]`.
    """
    n, device = len(image), image.device
    labels = torch.zeros(n, WIDTH, device=device, dtype=image.dtype)

    def chosen() -> Tensor:
        active = torch.rand(n, generator=generator, device=device) < probability
        return active & (torch.rand(n, generator=generator, device=device) < 0.5)

    for column, dim in ((0, -1), (1, -2)):
        flip = chosen()
        image = torch.where(flip[:, None, None, None], image.flip(dim), image)
        labels[:, column] = flip
    if image.shape[-1] == image.shape[-2]:
        active = torch.rand(n, generator=generator, device=device) < probability
        quarter = torch.randint(4, (n,), generator=generator, device=device) * active
        for k in (1, 2, 3):
            image = torch.where((quarter == k)[:, None, None, None], image.rot90(k, (-2, -1)), image)
        angle = quarter * (torch.pi / 2)
        labels[:, 3], labels[:, 4] = angle.cos().round() - 1, angle.sin().round()
    return image, labels
