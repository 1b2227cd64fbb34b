"""Cartesian sampling patterns: batched masks of the measured lines of k-space, and random subsets of them.

Lines are columns: phase encoding runs along the last axis. The number of lines is `width / R` for acceleration R in
expectation, rounded up or down at random. It always includes the centre lines.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centre(size: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The `count` positions around zero frequency, which lies at `size // 2`, bool `[size]`."""
    position = torch.arange(size, device=device) - (size // 2 - count // 2)
    return (position >= 0) & (position < count)


def random_lines(acceleration_N: Tensor, width: int, acs: int, generator: torch.Generator) -> Tensor:
    """The `acs` centre lines and random others, bool `[n, 1, 1, width]` (fastMRI, random Cartesian masks)."""
    every = torch.ones(len(acceleration_N), 1, 1, width, dtype=torch.bool, device=generator.device)
    return _kept(every, centre(width, acs, every.device).expand_as(every), width / acceleration_N, generator)


def equispaced_lines(acceleration_N: Tensor, width: int, acs: int, generator: torch.Generator) -> Tensor:
    """The `acs` centre lines and a comb with a random offset, bool `[n, 1, 1, width]` (fastMRI, equispaced masks)."""
    device = generator.device
    spacing = (width - acs) / (width / acceleration_N - acs).clamp_min(1e-6)
    offset = torch.rand(len(acceleration_N), generator=generator, device=device) * spacing
    position = torch.arange(width, device=device) - offset[:, None]
    teeth = ((position + 1) / spacing[:, None]).floor() > (position / spacing[:, None]).floor()
    return (teeth | centre(width, acs, device))[:, None, None]


def fewer(mask: Tensor, acs: int, delta: float, generator: torch.Generator) -> Tensor:
    """Subsets of masks `[n, 1, h, W]` of acceleration `R` with acceleration `R + delta`; the centre is kept.

    Args:
        mask: bool; `h` is 1 for lines, and the height for single points of k-space.
    """
    _, _, height, width = mask.shape
    kept = centre(width, acs, mask.device)
    if height > 1:
        kept = kept & centre(height, acs, mask.device)[:, None]
    total, measured = height * width, mask.flatten(1).sum(1)
    return _kept(mask, mask & kept, total / (total / measured + delta), generator)


def _kept(mask: Tensor, always: Tensor, count_N: Tensor, generator: torch.Generator) -> Tensor:
    """A random `count` of the entries of each `mask`, rounded up or down at random; `always` is included."""
    flat, first = mask.flatten(1), always.flatten(1)
    rounded = (count_N + torch.rand(len(flat), generator=generator, device=flat.device)).floor()
    score = torch.rand(flat.shape, generator=generator, device=flat.device)
    order = (score + 2 * first + flat).argsort(dim=1, descending=True).argsort(dim=1)
    return (flat & ((order < rounded[:, None]) | first)).reshape(mask.shape)


PATTERNS = {"random": random_lines, "equispaced": equispaced_lines}
