"""The residual block that both U-nets are made of, with optional resampling and self-attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import UserError
from .dropout import dropout
from .initialisation import Initialisation, started
from .resampling import Direction, Resample, filter_kernel, resample


class GroupNorm(nn.GroupNorm):
    """Group norm; statistics in at least float32.

    PyTorch's bf16 kernel takes four times as long as casting twice, forward and backward on a CPU with channels_last.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)


def group_norm(channels: int, eps: float) -> GroupNorm:
    """Group norm with `min(32, channels // 4)` groups (Ho et al. 2020: 32; at least four channels in each).

    Raises:
        UserError: if the groups do not divide the channels.
    """
    groups = max(1, min(32, channels // 4))
    if channels % groups:
        raise UserError(f"model_channels, channel_mult: a layer of {channels} channels has no {groups} equal groups")
    return GroupNorm(groups, channels, eps)


class ResampledConv2d(nn.Conv2d):
    """Resampling by two (see `resampling`), then a convolution that keeps the size.

    Attributes:
        resample_filter: buffer `[1, 1, k, k]`, part of the state dict.
    """

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, direction: Direction, taps: tuple[float, ...]
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.direction = direction
        self.is_box = len(taps) == 2 and taps[0] == taps[1]
        self.register_buffer("resample_filter", filter_kernel(taps))

    def forward(self, x: Tensor) -> Tensor:
        if self.direction == "up" and self.is_box and self.kernel_size == (1, 1):
            return F.interpolate(super().forward(x), scale_factor=2.0)  # the same, on a quarter of the pixels
        return super().forward(resample(x, self.direction, self.resample_filter, is_box=self.is_box))


class ConvThenDown(nn.Conv2d):
    """A 3x3 convolution and the downsampling filter as one linear map (NCSN++'s encoder; Song et al. 2021).

    The convolution runs first and computes `(len f - 1) // 2` extra pixels on each side for the filter, which then
    needs no padding. Away from the border this equals filtering first; the bias comes last.

    Attributes:
        resample_filter: buffer `[1, 1, k, k]`, part of the state dict.
    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, taps: tuple[float, ...]) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1 + (len(taps) - 1) // 2)
        self.register_buffer("resample_filter", filter_kernel(taps))

    def forward(self, x: Tensor) -> Tensor:
        wide = super().forward(x)  # the filter sums to one, so it leaves the bias alone
        depthwise = self.resample_filter.to(wide.dtype).expand(self.out_channels, 1, -1, -1)
        return F.conv2d(wide, depthwise, stride=2, groups=self.out_channels)


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of one network share.

    Attributes:
        emb_channels: width of the noise embedding.
        dropout: probability of zeroing a channel value before the second convolution, in training mode.
        skip_scale: factor on each sum of a branch and its skip (sqrt 0.5 in Song et al. 2021, 1 in ADM).
        eps: of the group norms.
        adaptive_scale: the embedding scales and shifts the second norm (ADM) instead of being added before it.
        channels_per_head: attention has `C // channels_per_head` heads; None for exactly `num_heads`.
        num_heads: see above.
        taps: the resampling filter.
        project_resampled: a block that resamples has a 1x1 convolution in its skip even if channels do not change.
        init: how weights start.
    """

    emb_channels: int
    dropout: float
    skip_scale: float
    eps: float
    adaptive_scale: bool
    channels_per_head: int | None
    num_heads: int
    taps: tuple[float, ...]
    project_resampled: bool
    init: Initialisation

    def heads(self, channels: int) -> int:
        """Number of attention heads of a layer; 0, that is no attention, if ADM's `C // 64` is 0."""
        heads = self.num_heads if self.channels_per_head is None else channels // self.channels_per_head
        if heads and channels % heads:
            raise UserError(f"model_channels, channel_mult: {channels} channels cannot be split into {heads} heads")
        return heads


class Block(nn.Module):
    """Norm, SiLU, convolution, twice, around a skip; the noise embedding enters before or in the second norm.

    Ho et al. 2020; resampling inside the block and the scaled skip from Song et al. 2021 (BigGAN's block); adaptive
    norm from Dhariwal & Nichol 2021. Parameter names are those of the EDM family of checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: BlockStyle,
        *,
        resampling: Direction | None = None,
        attention: bool = False,
    ) -> None:
        super().__init__()
        init = style.init
        self.dropout = style.dropout
        self.skip_scale = style.skip_scale
        self.adaptive_scale = style.adaptive_scale
        self.norm0 = group_norm(in_channels, style.eps)
        self.conv0 = started(init.hidden, _conv(in_channels, out_channels, 3, resampling, style.taps))
        self.affine = started(
            init.hidden, nn.Linear(style.emb_channels, out_channels * (2 if style.adaptive_scale else 1))
        )
        self.norm1 = group_norm(out_channels, style.eps)
        self.conv1 = started(init.last, _conv(out_channels, out_channels, 3, None, style.taps))
        self.skip = self._make_skip(in_channels, out_channels, style, resampling)
        self.heads = style.heads(out_channels) if attention else 0
        if self.heads:
            self.norm2 = group_norm(out_channels, style.eps)
            self.qkv = started(init.qkv, _conv(out_channels, 3 * out_channels, 1, None, style.taps))
            self.proj = started(init.last, _conv(out_channels, out_channels, 1, None, style.taps))

    @staticmethod
    def _make_skip(
        in_channels: int, out_channels: int, style: BlockStyle, resampling: Direction | None
    ) -> nn.Module | None:
        if in_channels != out_channels or (resampling and style.project_resampled):
            return started(style.init.hidden, _conv(in_channels, out_channels, 1, resampling, style.taps))
        return Resample(resampling, style.taps) if resampling else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Feature maps `[n, C_in, H, W]` and embedding `[n or 1, emb_channels]` to `[n, C_out, H', W']`."""
        h = self.conv0(F.silu(self.norm0(x)))
        bias = self.affine(emb)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = bias.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm1(h), scale + 1)
        else:
            h = self.norm1(h.add_(bias))
        h = self.conv1(dropout(F.silu(h), self.dropout, self.training))
        # In place wherever the result of a convolution is summed: its backward pass does not need it.
        x = h.add_(x if self.skip is None else self.skip(x)).mul_(self.skip_scale)
        return self._attend(x) if self.heads else x

    def _attend(self, x: Tensor) -> Tensor:
        """Adds self-attention over all pixels of `x` `[n, C, H, W]`."""
        qkv = F.conv2d(self.norm2(x), *_deinterleave(self.qkv))
        # With channels_last this is a view, [3, n, heads, H W, C / heads].
        q, k, v = qkv.flatten(2).unflatten(1, (3, self.heads, -1)).permute(1, 0, 2, 4, 3).unbind()
        a = attention(q, k, v)
        a = a.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
        return self.proj(a).add_(x).mul_(self.skip_scale)


def _conv(cin: int, cout: int, kernel: int, resampling: Direction | None, taps: tuple[float, ...]) -> nn.Conv2d:
    if resampling:
        return ResampledConv2d(cin, cout, kernel, resampling, taps)
    return nn.Conv2d(cin, cout, kernel, padding=kernel // 2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(d)) v` for `[n, heads, pixels, d]`.

    In bf16 on the CPU, PyTorch's fused kernel takes three times as long as two products, forward and backward; those
    hold the scores of all pairs of pixels, so they serve small images only.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or q.shape[2] > 1024:
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return (q * q.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(3) @ v


def _deinterleave(qkv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight `[3C, C, 1, 1]` and bias `[3C]` in the order `q0 q1 .. k0 .. v0 ..`; checkpoints have `q0 k0 v0 q1 ..`."""
    assert qkv.bias is not None
    weight, bias = (p.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1) for p in (qkv.weight, qkv.bias))
    return weight, bias
