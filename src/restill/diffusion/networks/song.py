"""DDPM++ and NCSN++ (Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from .block import BlockStyle, group_norm
from .embedding import FourierEmbedding, PositionalEmbedding
from .initialisation import DDPM, started
from .resampling import Resample
from .unet import (
    Decoder,
    DecoderType,
    Encoder,
    EncoderType,
    Plan,
    UNet,
    check_choice,
    check_probability,
)

EmbeddingType = Literal["positional", "fourier"]
EPS = 1e-6


class SongUNet(UNet):
    """DDPM++ with the defaults; NCSN++ with `fourier`, encoder `residual`, `[1, 3, 3, 1]` and `channel_mult_noise` 2.

    Args:
        img_resolution: nominal image size; names the levels and decides where attention is (inputs may differ).
        in_channels: channels of the input.
        out_channels: channels of the output.
        label_dim: number of classes; 0 for an unconditional network.
        augment_dim: width of the augmentation labels; 0 for none (Karras et al. 2022, appendix F.2).
        model_channels: channels of the first convolution, multiplied by `channel_mult` at each level.
        channel_mult: one factor per level.
        channel_mult_emb: width of the noise embedding, in units of `model_channels`.
        num_blocks: blocks per level of the encoder, at least 0; the decoder has one more.
        attn_resolutions: level names with attention.
        dropout: in each block, in training mode.
        label_dropout: probability of hiding the class labels in training mode.
        embedding_type: of the noise level.
        channel_mult_noise: width of the sinusoids, in units of `model_channels`.
        encoder_type: how a downsampled copy of the input enters each level.
        decoder_type: the image is read out at the finest level (`standard`) or summed over all levels (`skip`).
        resample_filter: taps of the resampling filter.
        num_heads: of attention.

    Raises:
        UserError: on values that fit no network.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: EmbeddingType = "positional",
        channel_mult_noise: int = 1,
        encoder_type: EncoderType = "standard",
        decoder_type: DecoderType = "standard",
        resample_filter: Sequence[float] = (1, 1),
        num_heads: int = 1,
    ) -> None:
        super().__init__()
        check_choice("embedding_type", embedding_type, get_args(EmbeddingType))
        check_choice("encoder_type", encoder_type, get_args(EncoderType))
        check_choice("decoder_type", decoder_type, get_args(DecoderType))
        check_probability("dropout", dropout)
        check_probability("label_dropout", label_dropout)
        self.in_channels, self.label_dim, self.augment_dim = in_channels, label_dim, augment_dim
        self.label_dropout = label_dropout
        widths = tuple(model_channels * factor for factor in channel_mult)
        self.plan = Plan(img_resolution, widths, num_blocks, frozenset(attn_resolutions))
        style = BlockStyle(
            emb_channels=model_channels * channel_mult_emb,
            dropout=dropout,
            skip_scale=math.sqrt(0.5),
            eps=EPS,
            adaptive_scale=False,
            channels_per_head=None,
            num_heads=num_heads,
            taps=tuple(resample_filter),
            project_resampled=True,
            init=DDPM,
        )
        self._add_embedding(embedding_type, model_channels * channel_mult_noise, style.emb_channels)
        self.enc = Encoder(self.plan, in_channels, model_channels, style, encoder_type)
        self.dec = Decoder(self.plan, self.enc.skip_channels, style, attend_in_all=False)
        self.read_levels = len(widths) if decoder_type == "skip" else 1
        self._add_read_out(out_channels, style)

    def _add_embedding(self, embedding_type: EmbeddingType, noise_channels: int, emb_channels: int) -> None:
        self.map_noise = (
            PositionalEmbedding(noise_channels, endpoint=True, sine_first=True)
            if embedding_type == "positional"
            else FourierEmbedding(noise_channels, sine_first=True)
        )
        if self.label_dim:
            self.map_label = started(DDPM.label, nn.Linear(self.label_dim, noise_channels))
        if self.augment_dim:
            self.map_augment = started(DDPM.augment, nn.Linear(self.augment_dim, noise_channels, bias=False))
        self.map_layer0 = started(DDPM.hidden, nn.Linear(noise_channels, emb_channels))
        self.map_layer1 = started(DDPM.hidden, nn.Linear(emb_channels, emb_channels))

    def _add_read_out(self, out_channels: int, style: BlockStyle) -> None:
        for level in reversed(range(self.read_levels)):
            name, width = self.plan.name, self.plan.widths[level]
            if level < self.read_levels - 1:
                self.dec[name(level, "aux_up")] = Resample("up", style.taps)
            self.dec[name(level, "aux_norm")] = group_norm(width, EPS)
            self.dec[name(level, "aux_conv")] = started(DDPM.last, nn.Conv2d(width, out_channels, 3, padding=1))

    def embed(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        emb = self.map_noise(noise_labels).to(self.map_layer0.weight.dtype)
        if class_labels is not None:
            emb = emb + self.map_label(class_labels * math.sqrt(self.label_dim))
        if augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def read_out(self, ends: Sequence[Tensor]) -> Tensor:
        name = self.plan.name
        image: Tensor | None = None
        for level in reversed(range(self.read_levels)):
            part: Tensor = self.dec[name(level, "aux_conv")](F.silu(self.dec[name(level, "aux_norm")](ends[level])))
            image = part if image is None else self.dec[name(level, "aux_up")](image) + part
        assert image is not None
        return image
