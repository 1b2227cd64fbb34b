"""The fully sampled centre of k-space, and fewer virtual coils in place of many.

*Centre.* A block of size `h` begins at index `H // 2 - h // 2`, so that it holds the origin `H // 2` as its own, as in
sigpy and in fastMRI's masks.

*Compression* (Buehrer et al., Magnetic Resonance in Medicine 57, 2007): the singular vectors of the calibration block,
coils by positions. The virtual coils of a slice are orthonormal combinations of its coils, so white noise of the same
level in all coils stays so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.tensors import wide_dtype


class Compressed(NamedTuple):
    """Virtual coils.

    Attributes:
        kspace: `matrix @ kspace` at every position, `[n, coils, H, W]`, strongest coil first.
        matrix: orthonormal rows, `[n, coils, C]`. Sensitivity maps of the coils become those of the virtual coils
            by the same matrix.
    """

    kspace: Tensor
    matrix: Tensor


def centre_block(kspace: Tensor, calibration: tuple[int, int]) -> Tensor:
    """The centre `[n, C, h, w]` of k-space `[n, C, H, W]`, a view; `calibration = (h, w)`.

    Raises UserError if the block is empty or larger than k-space.
    """
    size = (int(kspace.shape[-2]), int(kspace.shape[-1]))
    if not all(0 < part <= whole for part, whole in zip(calibration, size, strict=True)):
        raise UserError(f"calibration: {calibration} does not fit k-space of {size}; give a smaller (height, width)")
    top, left = (whole // 2 - part // 2 for part, whole in zip(calibration, size, strict=True))
    return kspace[..., top : top + calibration[0], left : left + calibration[1]]


def calibration_of(mask: Tensor) -> Tensor:
    """Width of the largest measured block of lines about the centre `W // 2`, int64 `[...]`.

    `mask` is bool `[..., W]`, True where a line was measured. The block is one of `centre_block`, so of a run of lines
    that reaches further to one side than to the other the longer side does not count; 0 if the centre is not measured.
    """
    centre = mask.shape[-1] // 2
    left = mask[..., : centre + 1].flip(-1).long().cumprod(-1).sum(-1)  # the centre included
    right = mask[..., centre + 1 :].long().cumprod(-1).sum(-1)
    odd = 2 * torch.minimum(left - 1, right) + 1
    even = 2 * torch.minimum(left - 1, right + 1)
    return torch.maximum(odd, even).clamp(min=0)


def compress_coils(kspace: Tensor, coils: int, calibration: tuple[int, int]) -> Compressed:
    """`coils` virtual coils that keep the most of the energy of the calibration block, slice by slice.

    Args:
        kspace: complex `[n, C, H, W]`, centred; zeros where not measured.
        coils: how many to keep, 1 to C.
        calibration: (height, width) of the centre block to learn from, fully sampled.

    The phase of a virtual coil, which is arbitrary, is such that its largest coefficient is positive. Raises UserError
    if `coils` or `calibration` does not fit.
    """
    count = kspace.shape[1]
    if not 1 <= coils <= count:
        raise UserError(f"coils: {count} coils cannot give {coils} virtual coils; state 1 to {count}")
    block = centre_block(kspace, calibration).flatten(2).to(wide_dtype(kspace.device).to_complex())
    vectors = torch.linalg.eigh(block @ block.mH).eigenvectors.flip(-1)[..., :coils]  # by falling singular value
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    matrix = (vectors * largest.sgn().conj()).mH.to(kspace.dtype)
    return Compressed((matrix @ kspace.flatten(2)).unflatten(2, kspace.shape[2:]), matrix)
