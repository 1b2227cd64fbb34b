"""Proximal metrics: generated images, corrupted anew, against the measurements. No clean image is needed.

They cannot detect errors in what every operator of the corruption hides (RSD, section 5; `hidden.py` measures it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..core.tensors import seeded
from ..core.views import clipped
from ..corruption import Corruption
from ..store import Store
from .estimate import Estimate
from .feature_set import FeatureSet
from .features import Features
from .frechet import feature_moments, frechet_estimate

CHUNK = 256  # images that share one generator: part of what `seed` means, so not an argument


def recorrupted(batches: Iterable[Tensor], corruption: Corruption, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Generated images, corrupted anew, on the image grid (`to_image(y)`); the size of the batches does not matter.

    Args:
        batches: of generated images `[n, C, H, W]` in normalised units.
        corruption: of the measurements.
        seed: of operators and noise; equal seeds give equal results on one kind of device.
        first: number of the first image, a multiple of 256, for processes that share the work.

    Yields:
        `[up to 256, C, H, W]`, in the order of the images.
    """
    if first % CHUNK:
        raise ValueError(f"processes share images at multiples of {CHUNK}, not at {first}")
    for k, chunk in enumerate(_chunks(batches), start=first // CHUNK):
        generator = seeded("proximal", seed, k, device=chunk.device)
        operator = corruption.draw(len(chunk), tuple(chunk.shape[1:]), generator)
        yield operator.to_image(corruption.corrupt(chunk, operator, generator))


def _chunks(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same images in batches of 256 and a last one of what is left."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(part) for part in waiting) >= CHUNK:
            *full, rest = torch.cat(waiting).split(CHUNK)
            if len(rest) == CHUNK:
                full, rest = [*full, rest], rest[:0]
            yield from full
            waiting = [rest]
    left = torch.cat(waiting) if waiting else None
    if left is not None and len(left):
        yield left


class Proximal:
    """The proximal Fréchet distance of sets of images to the measurements of one store, in one feature space.

    Args:
        store: the measurements; their corruption corrupts images anew.
        features: for images of the shape of `to_image(y)`.
        bounds: to which images are clipped before they are corrupted (`views.clipped`); None leaves them as they are.
    """

    def __init__(self, store: Store, features: Features, bounds: tuple[float, float] | None = None) -> None:
        self.corruption, self.features, self.bounds = store.corruption, features, bounds
        self.measured = feature_moments(store.image_blocks(), features)

    def __call__(self, images: Tensor, seed: int) -> Estimate:
        """The distance of images `[n, C, H, W]`, n at least 2, with its standard error from the finite n.

        Raises:
            UserError: fewer than two images, images that are not finite, or of a shape that the features do not take.
        """
        corrupted = FeatureSet(self.features.dim)
        for batch in recorrupted([clipped(images, self.bounds)], self.corruption, seed):
            corrupted.update(self.features(batch))
        return frechet_estimate(corrupted.moments, self.measured, corrupted.kept)
