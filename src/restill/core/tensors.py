"""Broadcasting, seeded generators, and complex images as channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def right_broadcast(value_N: Tensor, like: Tensor) -> Tensor:
    """`[n]` as `[n, 1, ..., 1]` with as many dimensions as `like`."""
    return value_N.reshape(-1, *(1,) * (like.ndim - 1))


def on_grid(mask: Tensor, x: Tensor) -> Tensor:
    """A mask `[n, K, h, w]` on the pixels of `x` `[n, C, H, W]`: itself, or by nearest neighbour on a finer grid."""
    if mask.shape[-2:] == x.shape[-2:]:
        return mask
    return torch.nn.functional.interpolate(mask.float(), size=x.shape[-2:], mode="nearest").to(mask.dtype)


def wide_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have no float64 (Apple's mps)."""
    return torch.float32 if device.type == "mps" else torch.float64


def mix_seed(*parts: int | str) -> int:
    """One 63-bit seed from several integers or words; equal parts give equal seeds on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeded(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded by `mix_seed(*parts)`."""
    return torch.Generator(device=device).manual_seed(mix_seed(*parts))


def sample_normal(seed: int, indices: Iterable[int], shape: tuple[int, ...], stream: str = "latent") -> Tensor:
    """Standard normal `[n, *shape]`, float32 on the CPU; row `i` depends only on `seed` and `indices[i]`.

    Image `k` of a seed is therefore the same for every batch size, order, device and number of processes.
    """
    rows = [torch.randn(shape, generator=seeded(stream, seed, int(k))) for k in indices]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def complex_to_channels(x: Tensor) -> Tensor:
    """Complex `[n, C, H, W]` to real `[n, 2C, H, W]`: real and imaginary part of each channel in turn."""
    return torch.view_as_real(x).movedim(-1, 2).flatten(1, 2)


def channels_to_complex(x: Tensor) -> Tensor:
    """Inverse of `complex_to_channels`. Raises ValueError if the number of channels is odd."""
    if x.shape[1] % 2:
        raise ValueError(f"complex images need an even number of channels, not {x.shape[1]}")
    return torch.view_as_complex(x.unflatten(1, (-1, 2)).movedim(2, -1).contiguous())
