"""Drawing many images: image `k` of a seed is the same whatever the batch size, device or process count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..core.tensors import sample_normal, seeded
from ..corruption import Corruption, Operator
from ..diffusion import Denoiser
from .classes import Classes
from .sampler import Sampler


def generate(
    denoiser: Denoiser,
    sampler: Sampler,
    indices: Sequence[int],
    shape: tuple[int, ...],
    seed: int = 0,
    *,
    corruption: Corruption | None = None,
    classes: Classes | None = None,
    labels: Tensor | None = None,
    batch_size: int = 256,
    image_shape: tuple[int, ...] | None = None,
) -> Iterator[Tensor]:
    """Yield batches of images `[b, C, H, W]` on the denoiser's device, in the order of `indices`.

    Args:
        indices: which images of the seed, e.g. `range(64)`; processes share the work by taking different ones.
        corruption: of the measurements; one operator per image is drawn from it where the network is conditioned on
            operators (masks).
        image_shape: shape of an image `(C, H, W)` where `shape`, that of the latents, is another one (the domain of the
            measurements).
        classes: of a class-conditional denoiser: image `k` has a class drawn from the seed and `k`; all equally often
            where this is None.
        labels: the classes of the images instead, int64, one for each of `indices`.
    """
    parameter = next(denoiser.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    if classes is None and denoiser.num_classes:
        classes = Classes.alike(denoiser.num_classes)
    was_training = denoiser.training
    denoiser.eval()
    try:
        for start in range(0, len(indices), batch_size):
            chosen = indices[start : start + batch_size]
            operator, white = _operators(corruption, tuple(image_shape or shape), seed, chosen)
            latents = sample_normal(seed, chosen, white or tuple(shape)).to(device)
            shown = _labels(classes, seed, chosen) if labels is None else labels[start : start + batch_size]
            with torch.no_grad():  # left before `yield`, or it would hold in the caller's code too
                images = sampler(
                    denoiser,
                    latents,
                    None if operator is None else operator.to(device),
                    None if shown is None else shown.to(device),
                )
            yield images
    finally:
        denoiser.train(was_training)


def _operators(
    corruption: Corruption | None, shape: tuple[int, ...], seed: int, indices: Sequence[int]
) -> tuple[Operator | None, tuple[int, ...]]:
    """Operators of images of `shape` and the shape of their white space; none where they make no difference."""
    if corruption is None:
        return None, ()
    known = corruption.shapes(shape)
    if not known.condition:
        if known.domain == shape:
            return None, ()
        one = corruption.draw(1, shape, seeded("operator", seed))  # the domain is that of all samples
        return one.select(torch.zeros(len(indices), dtype=torch.int64)), known.white
    drawn = []
    for k in indices:
        generator = seeded("operator", seed, k)
        drawn.append(corruption.further(corruption.draw(1, shape, generator), generator))
    return Operator.concatenate(drawn), known.white


def _labels(classes: Classes | None, seed: int, indices: Sequence[int]) -> Tensor | None:
    if classes is None:
        return None
    return torch.cat([classes.draw(1, seeded("label", seed, k)) for k in indices])
