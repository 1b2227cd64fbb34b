"""What a teacher can restore in one evaluation: the posterior mean of a measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion import Denoiser
from ..store import Batch

_SIGMA_MIN = 0.002  # the smallest level that a sampler asks the network for
_ALIKE = 1e-3  # of the largest value: photon noise has a tabulated inverse


def posterior_mean(denoiser: Denoiser, batch: Batch) -> Tensor:
    """Posterior means `E[x | y] = D(y; sigma_n)` of measurements, float32 `[n, C, H, W]` on the CPU.

    The truncated sampler ends with this step. A denoiser of blurred images, of images of lower resolution or of
    measurements restores these, not the image (`shows_image`).
    """
    parameter = next(denoiser.parameters())
    batch = batch.to(parameter.device)
    operator = batch.operator
    sigma = operator.sigma_n.clamp(min=_SIGMA_MIN)
    with torch.no_grad():
        d = operator.to_domain(batch.y)
        images = operator.from_domain(denoiser(d, sigma, operator, batch.labels))
    return images.float().cpu()


def shows_image(batch: Batch, clean: Tensor) -> bool:
    """Whether measurements without their noise equal what is seen of the clean images, as for a teacher of images."""
    if batch.operator.to_domain(batch.y).shape != clean.shape:
        return False
    difference = batch.operator.to_image(batch.operator.apply(clean)) - batch.operator.seen(clean)
    return float(difference.abs().max()) <= _ALIKE * float(clean.abs().max())
