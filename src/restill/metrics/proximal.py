r"""The proximal Fréchet distance: model selection without a clean image (RSD, arXiv 2505.13377).

Generated images are corrupted with the law that corrupted the measurements, and compared with these. The true
distribution of clean images gives a distance of zero (up to the bias of finite n), but so does every distribution that
looks the same through the corruption.

**What it cannot see.** Whatever lies in the null space of *every* operator that the law draws: frequencies that no mask
or blur passes. And what noise hides: under :math:`\sigma_n` a difference of covariances counts for less the smaller it
is beside :math:`\sigma_n^2`, so it separates good generators less sharply than a distance to clean images does.
"""

from __future__ import annotations

from torch import Tensor

from ..corruption import Corruption
from ..tensors import seeded
from .features import Features
from .frechet import MomentAccumulator, Moments

_CHUNK = 256  # images that share one generator: part of what `seed` means, so not an argument


def proximal_moments(images: Tensor, corruption: Corruption, features: Features, seed: int) -> Moments:
    """Moments of the features of generated images, corrupted anew; compare with those of `to_image(y)` of the store.

    Args:
        images: generated images `[n, C, H, W]` in normalised units, n at least 2.
        corruption: the law of the measurements.
        features: made for the shape of `to_image(y)`, which is that of the images.
        seed: of operators and noise; equal seeds give equal moments on one kind of device.

    Raises:
        UserError: fewer than two images, images that are not finite, or of a shape that the features do not take.
    """
    accumulator = MomentAccumulator(features.dim)
    for k, chunk in enumerate(images.split(_CHUNK)):
        generator = seeded("proximal", seed, k, device=images.device)
        operator = corruption.draw(len(chunk), tuple(chunk.shape[1:]), generator)
        y = corruption.corrupt(chunk, operator, generator)
        accumulator.update(features(operator.to_image(y)))
    return accumulator.moments()
