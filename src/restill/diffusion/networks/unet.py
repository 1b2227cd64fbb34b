"""Encoder and decoder of the U-nets: which blocks there are, how they are named, and how skips connect them.

Level `l` has the name `RxR` with `R = img_resolution >> l`, whatever the size of the input; names are those of the EDM
family of checkpoints.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from .block import Block, BlockStyle, ConvThenDown
from .initialisation import started
from .resampling import Resample, pad_to_multiple

EncoderType = Literal["standard", "skip", "residual"]
DecoderType = Literal["standard", "skip"]
MOST_BLOCKS: Final = 1000  # the largest published ones have some fifty


@dataclass(frozen=True)
class Plan:
    """Sizes of a U-net.

    Attributes:
        resolution: the nominal image size; names the levels and decides where attention is.
        widths: channels of each level, the finest first.
        num_blocks: blocks per level of the encoder; the decoder has one more.
        attn_resolutions: level names `R` with attention.
    """

    resolution: int
    widths: tuple[int, ...]
    num_blocks: int
    attn_resolutions: frozenset[int]

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.num_blocks < 0:
            raise UserError("model_channels and channel_mult must be positive, num_blocks at least 0")
        if (blocks := len(self.widths) * (2 * self.num_blocks + 2)) > MOST_BLOCKS:
            raise UserError(f"num_blocks, channel_mult: a network of {blocks:,} blocks; the most is {MOST_BLOCKS}")
        if self.resolution < self.multiple:
            raise UserError(
                f"img_resolution: {self.resolution} is too small for the {len(self.widths)} levels of channel_mult; "
                f"use at least {self.multiple}"
            )

    @property
    def multiple(self) -> int:
        """The sides of an image must be multiples of this to pass all levels."""
        return int(2 ** (len(self.widths) - 1))

    def name(self, level: int, part: str) -> str:
        """Name of a part of a level, e.g. `16x16_block0`."""
        r = self.resolution >> level
        return f"{r}x{r}_{part}"

    def attends(self, level: int) -> bool:
        """Whether this level has attention."""
        return self.resolution >> level in self.attn_resolutions


class Encoder(nn.ModuleDict):
    """The downward half.

    Args:
        plan: sizes.
        in_channels: channels of the image.
        stem: channels of the first convolution.
        style: of the blocks.
        aux: how a second, downsampled path of the input enters each level: not at all (`standard`), through a 1x1
            convolution (`skip`) or as a running residual (`residual`, NCSN++; Song et al. 2021).

    Attributes:
        skip_channels: channels of each feature map that `forward` returns.
    """

    def __init__(self, plan: Plan, in_channels: int, stem: int, style: BlockStyle, aux: EncoderType) -> None:
        super().__init__()
        self.plan = plan
        self.aux = aux
        first = started(style.init.hidden, nn.Conv2d(in_channels, stem, 3, padding=1))
        self[plan.name(0, "conv")] = first
        self.skip_channels = [stem]
        channels, aux_channels = stem, in_channels
        for level, width in enumerate(plan.widths):
            if level > 0:
                self._add_down(level, channels, aux_channels, style)
                aux_channels = channels if aux == "residual" else aux_channels
                self.skip_channels.append(channels)
            for i in range(plan.num_blocks):
                self[plan.name(level, f"block{i}")] = Block(channels, width, style, attention=plan.attends(level))
                channels = width
                self.skip_channels.append(channels)

    def _add_down(self, level: int, channels: int, aux_channels: int, style: BlockStyle) -> None:
        name = self.plan.name
        self[name(level, "down")] = Block(channels, channels, style, resampling="down")
        if self.aux == "skip":
            self[name(level, "aux_down")] = Resample("down", style.taps)
            self[name(level, "aux_skip")] = started(style.init.hidden, nn.Conv2d(aux_channels, channels, 1))
        elif self.aux == "residual":
            self[name(level, "aux_residual")] = started(
                style.init.hidden, ConvThenDown(aux_channels, channels, style.taps)
            )

    def forward(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """Images `[n, C, H, W]` to the feature maps of all layers, the finest first; the last one is the bottleneck."""
        name, aux = self.plan.name, x
        x = self[name(0, "conv")](x).contiguous(memory_format=torch.channels_last)
        features = [x]
        for level in range(len(self.plan.widths)):
            if level > 0:
                x = self[name(level, "down")](x, emb)
                x, aux = self._add_aux(level, x, aux)
                features.append(x)
            for i in range(self.plan.num_blocks):
                x = self[name(level, f"block{i}")](x, emb)
                features.append(x)
        return features

    def _add_aux(self, level: int, x: Tensor, aux: Tensor) -> tuple[Tensor, Tensor]:
        """The feature map with the second path added, and that path at this level."""
        name = self.plan.name
        if self.aux == "skip":
            aux = self[name(level, "aux_down")](aux)
            return x + self[name(level, "aux_skip")](aux), aux
        if self.aux == "residual":
            x = (x + self[name(level, "aux_residual")](aux)) * math.sqrt(0.5)
            return x, x
        return x, aux


class Decoder(nn.ModuleDict):
    """The upward half.

    Args:
        plan: sizes.
        skip_channels: channels of the encoder's feature maps.
        style: of the blocks.
        attend_in_all: attention in all blocks of an attending level (ADM), or in the last of each (SongUNet).
    """

    def __init__(self, plan: Plan, skip_channels: Sequence[int], style: BlockStyle, *, attend_in_all: bool) -> None:
        super().__init__()
        self.plan = plan
        skips, channels = list(skip_channels), skip_channels[-1]
        last = len(plan.widths) - 1
        for level in range(last, -1, -1):
            if level == last:
                self[plan.name(level, "in0")] = Block(channels, channels, style, attention=True)
                self[plan.name(level, "in1")] = Block(channels, channels, style)
            else:
                self[plan.name(level, "up")] = Block(channels, channels, style, resampling="up")
            for i in range(plan.num_blocks + 1):
                attention = plan.attends(level) and (attend_in_all or i == plan.num_blocks)
                width = plan.widths[level]
                self[plan.name(level, f"block{i}")] = Block(channels + skips.pop(), width, style, attention=attention)
                channels = width

    def forward(self, features: Sequence[Tensor], emb: Tensor) -> list[Tensor]:
        """The encoder's feature maps to `[n, width, H, W]` at the end of each level, the finest first."""
        name, skips, x = self.plan.name, list(features), features[-1]
        ends = []
        last = len(self.plan.widths) - 1
        for level in range(last, -1, -1):
            for part in ("in0", "in1") if level == last else ("up",):
                x = self[name(level, part)](x, emb)
            for i in range(self.plan.num_blocks + 1):
                x = self[name(level, f"block{i}")](torch.cat([x, skips.pop()], dim=1), emb)
            ends.append(x)
        return ends[::-1]


class UNet(nn.Module, ABC):
    """What both U-nets do with their input; subclasses say how they embed labels and how they read out the image.

    Subclasses register `enc`, `dec` and `map_layer0`, set the attributes below, and implement `embed` and `read_out`.

    Attributes:
        plan: sizes.
        in_channels: channels of the input.
        label_dim: number of classes, 0 for an unconditional network.
        augment_dim: width of the augmentation labels, 0 for none.
        label_dropout: probability of replacing the class labels of a sample by zeros in training mode.
    """

    plan: Plan
    in_channels: int
    label_dim: int
    augment_dim: int
    label_dropout: float
    enc: Encoder
    dec: Decoder
    map_layer0: nn.Linear

    @abstractmethod
    def embed(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        """Noise labels `[n or 1]` (at least float32) and labels in the dtype of the weights, to `[n or 1, emb]`."""

    @abstractmethod
    def read_out(self, ends: Sequence[Tensor]) -> Tensor:
        """The end of each level of the decoder, the finest first, to images `[n, out_channels, H, W]`."""

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """The network `F(c_in x; c_noise)` without preconditioning.

        Any image size works, whatever `img_resolution`: sides that are no multiple of `2^(levels - 1)` are padded below
        and on the right (reflected, or repeated where a side is too short) and the output is cropped. The dtype is that
        of the weights, or that of the autocast around this call; the noise embedding always runs in float32 or more.

        Args:
            x: scaled images `[n, in_channels, H, W]`.
            noise_labels: `c_noise`, `[n]` or `[1]`.
            class_labels: one-hot or soft, `[n, label_dim]`; None for zeros.
            augment_labels: `[n, augment_dim]`; None for zeros.

        Returns:
            `[n, out_channels, H, W]`.

        Raises:
            ValueError: on shapes that do not fit, and on labels for a network that has none.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"the network takes images [n, {self.in_channels}, H, W], not {list(x.shape)}")
        if noise_labels.numel() not in (1, len(x)):
            raise ValueError(f"{len(x)} images need 1 or {len(x)} noise levels, not {noise_labels.numel()}")
        height, width = x.shape[2:]
        emb = self._embedding(x, noise_labels.reshape(-1), class_labels, augment_labels)
        x = pad_to_multiple(x.to(emb.dtype), self.plan.multiple)
        image = self.read_out(self.dec(self.enc(x, emb), emb))
        return image[:, :, :height, :width]

    def _embedding(
        self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        dtype = self.map_layer0.weight.dtype
        classes = fit_labels(class_labels, self.label_dim, "class_labels", x)
        augment = fit_labels(augment_labels, self.augment_dim, "augment_labels", x)
        if classes is not None and self.training and self.label_dropout:
            keep = torch.rand(len(classes), 1, device=classes.device) >= self.label_dropout
            classes = classes * keep
        with torch.autocast(noise_labels.device.type, enabled=False):
            return self.embed(
                noise_labels.to(torch.promote_types(dtype, torch.float32)),
                None if classes is None else classes.to(dtype),
                None if augment is None else augment.to(dtype),
            )


def fit_labels(labels: Tensor | None, width: int, what: str, x: Tensor) -> Tensor | None:
    """Labels as `[n or 1, width]` for images `x` `[n, ...]`, zeros for None; None if the network has no such labels.

    Raises:
        ValueError: on another shape (labels of width 0 are accepted by a network without).
    """
    if labels is None:
        return x.new_zeros(1, width) if width else None
    if labels.shape[-1] != width or (width and labels.numel() // width not in (1, len(x))):
        raise ValueError(f"{what}: for {len(x)} images this network takes [n, {width}], not {list(labels.shape)}")
    return labels.reshape(-1, width) if width else None


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raises UserError unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{key}: must be one of {', '.join(choices)}, not {value!r}")


def check_probability(key: str, value: float) -> None:
    """Raises UserError unless `0 <= value < 1`."""
    if not 0 <= value < 1:
        raise UserError(f"{key}: must be a probability in [0, 1), not {value}")
