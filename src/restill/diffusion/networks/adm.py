"""ADM (Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis")."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .block import BlockStyle, group_norm
from .embedding import PositionalEmbedding
from .initialisation import ADM, started
from .unet import Decoder, Encoder, Plan, UNet, check_probability

EPS = 1e-5


class DhariwalUNet(UNet):
    """ADM: adaptive group norm, attention of 64 channels per head at several levels, no scaling of skips.

    Args, beside those of `SongUNet`:
        channels_per_head: attention has `C // channels_per_head` heads; a layer with fewer channels has no attention.

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
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        channels_per_head: int = 64,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        check_probability("label_dropout", label_dropout)
        self.in_channels, self.label_dim, self.augment_dim = in_channels, label_dim, augment_dim
        self.label_dropout = label_dropout
        widths = tuple(model_channels * factor for factor in channel_mult)
        self.plan = Plan(img_resolution, widths, num_blocks, frozenset(attn_resolutions))
        style = BlockStyle(
            emb_channels=model_channels * channel_mult_emb,
            dropout=dropout,
            skip_scale=1.0,
            eps=EPS,
            adaptive_scale=True,
            channels_per_head=channels_per_head,
            num_heads=0,
            taps=(1, 1),
            project_resampled=False,
            init=ADM,
        )
        self._add_embedding(model_channels, style.emb_channels)
        self.enc = Encoder(self.plan, in_channels, widths[0], style, "standard")
        self.dec = Decoder(self.plan, self.enc.skip_channels, style, attend_in_all=True)
        self.out_norm = group_norm(widths[0], EPS)
        self.out_conv = started(ADM.last, nn.Conv2d(widths[0], out_channels, 3, padding=1))

    def _add_embedding(self, model_channels: int, emb_channels: int) -> None:
        self.map_noise = PositionalEmbedding(model_channels, endpoint=False, sine_first=False)
        if self.augment_dim:
            self.map_augment = started(ADM.augment, nn.Linear(self.augment_dim, model_channels, bias=False))
        self.map_layer0 = started(ADM.hidden, nn.Linear(model_channels, emb_channels))
        self.map_layer1 = started(ADM.hidden, nn.Linear(emb_channels, emb_channels))
        if self.label_dim:
            self.map_label = started(ADM.label, nn.Linear(self.label_dim, emb_channels, bias=False))

    def embed(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        emb = self.map_noise(noise_labels).to(self.map_layer0.weight.dtype)
        if augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if class_labels is not None:
            emb = emb + self.map_label(class_labels)
        return F.silu(emb)

    def read_out(self, ends: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.out_conv(F.silu(self.out_norm(ends[0])))
        return out
