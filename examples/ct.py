"""Computed tomography as an operator of your own: slices from their parallel-beam projections, and no slice ever seen.

A file of this kind needs one function, `apply`: images `[n, C, H, W]` to measurements `[n, C, h, w]`, linear, in torch.
Its adjoint is found by autograd; the name of the file is the name of the operator. A benchmark on handwritten digits:

    restill run digits-noise --out demo --operator examples/ct.py \
        --set "corruption={kind: function, name: ct, sigma_n: 0.05}"

Sinograms of your own, of slices of 64 x 64 pixels, as measurements:

    restill import sinograms.npy --operator examples/ct.py --corruption "{kind: function, name: ct}" --sigma-n 0.1 \
        --image-size 64,64 --out store
"""

import functools
import math

import torch
from torch import Tensor

ANGLES = 12


@functools.cache
def rays(height: int, width: int) -> Tensor:
    """How much each pixel adds to each detector, `[ANGLES, detectors, H, W]`; detectors are half a pixel wide."""
    angle = torch.arange(ANGLES)[:, None, None] * (math.pi / ANGLES)
    row, column = torch.arange(height)[:, None] - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    position = column * angle.cos() + row * angle.sin()
    detectors = 3 * max(height, width)
    detector = (torch.arange(detectors)[:, None, None] - (detectors - 1) / 2) / 2
    return (1 - 2 * (position[:, None] - detector).abs()).clamp_min(0) * (2 / height)


def apply(x: Tensor) -> Tensor:
    """Sinograms `[n, C, ANGLES, detectors]` of images `[n, C, H, W]`: means along rays."""
    return torch.einsum("nchw,adhw->ncad", x, rays(*x.shape[2:]).to(x))
