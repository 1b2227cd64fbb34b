r"""Heun's method for the probability-flow ODE :math:`dx/ds = (x - D(x; s))/s` (EDM, algorithm 1, without churn)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.tensors import wide_dtype


def karras_levels(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Noise levels from `sigma_max` down to `sigma_min`, float64 `[num_steps]` (EDM, eq. 5)."""
    if num_steps < 2:
        raise ValueError(f"a sampler needs at least 2 steps, not {num_steps}")
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


@torch.no_grad()
def heun(
    net: Callable[..., Tensor],
    latents: Tensor,
    num_steps: int = 18,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    stop_at: float = 0.0,
    **conditioning: Any,
) -> Tensor:
    """Deterministic second-order sampler; `2 num_steps - 1` network calls.

    Args:
        net: `net(x, sigma, **conditioning)`: a `Denoiser`, a network of `build_network`, or any closed form.
        latents: unit-variance noise `[n, C, H, W]`.
        num_steps: number of noise levels.
        stop_at: sigma_n for a truncated sampler: returns `D` at the first level whose successor lies below `stop_at`
            (RSD, Teacher-Truncated); 0 runs to the end.
        conditioning: passed to `net` as it is (class labels of a network; operator or labels of a `Denoiser`).

    Returns:
        Images `[n, C, H, W]`, float64 (float32 on devices without it); the network sees the latents' dtype.
    """
    levels = [*karras_levels(num_steps, sigma_min, sigma_max, rho).tolist(), 0.0]
    wide = wide_dtype(latents.device)
    x = latents.to(wide) * levels[0]

    def denoise(x: Tensor, level: float) -> Tensor:
        sigma = torch.tensor(level, dtype=wide, device=x.device)
        return net(x.to(latents.dtype), sigma, **conditioning).to(wide)

    for i, (level, following) in enumerate(itertools.pairwise(levels)):
        denoised = denoise(x, level)
        if following < stop_at:
            return denoised
        slope = (x - denoised) / level
        proposal = x + (following - level) * slope
        if i < num_steps - 1:
            corrected = (proposal - denoise(proposal, following)) / following
            proposal = x + (following - level) * (slope + corrected) / 2
        x = proposal
    return x
