"""The networks against a literal reading of their description, in float64.

`Reference` walks over a state dict with plain filters, explicit loops over attention heads and no shortcuts; it shares
nothing with the library but the names of the parameters.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restill.diffusion.networks import build_network

BASE: dict[str, Any] = {
    "img_resolution": 8,
    "img_channels": 3,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "model_channels": 16,
}
SONG = BASE | {"model_type": "SongUNet", "attn_resolutions": [4]}
NCSN = SONG | {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
    "channel_mult_noise": 2,
}
ADM = BASE | {"model_type": "DhariwalUNet", "model_channels": 64, "attn_resolutions": [8, 4]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm++": ("EDMPrecond", SONG | {"augment_dim": 9, "channel_mult": [1, 2, 2], "attn_resolutions": [4, 2]}),
    "ddpm++ classes": ("EDMPrecond", SONG | {"label_dim": 5, "channel_mult": [2, 2]}),
    "ncsn++": ("EDMPrecond", NCSN | {"augment_dim": 9, "channel_mult": [1, 2, 2]}),
    "ncsn++ box": ("EDMPrecond", NCSN | {"resample_filter": [1, 1], "channel_mult": [1, 2, 3]}),
    "skips": (
        "EDMPrecond",
        NCSN | {"encoder_type": "skip", "decoder_type": "skip", "channel_mult": [1, 2, 2], "label_dim": 2},
    ),
    "six taps": ("EDMPrecond", NCSN | {"decoder_type": "skip", "resample_filter": [1, 2, 4, 6, 2, 1]}),
    "vp one channel": ("VPPrecond", SONG | {"img_channels": 1}),
    "vp ncsn++": ("VPPrecond", NCSN | {"img_channels": 2}),
    "adm": ("EDMPrecond", ADM | {"label_dim": 4, "augment_dim": 9}),
    "adm three levels": ("VPPrecond", ADM | {"channel_mult": [1, 2, 3], "attn_resolutions": [2], "img_channels": 1}),
    "adm no blocks": ("EDMPrecond", ADM | {"num_blocks": 0, "channel_mult": [1, 2, 3], "label_dim": 4}),
    "ncsn++ no blocks": ("EDMPrecond", NCSN | {"num_blocks": 0, "channel_mult": [2, 1, 2]}),
    "adm no heads": ("EDMPrecond", ADM | {"model_channels": 32, "channel_mult": [1, 2]}),
}


class Reference:
    def __init__(self, kwargs: dict[str, Any], state: dict[str, Tensor]) -> None:
        self.k = kwargs
        self.s = {name.removeprefix("model."): value for name, value in state.items()}
        self.adm = kwargs["model_type"] == "DhariwalUNet"
        self.eps = 1e-5 if self.adm else 1e-6
        self.scale = 1.0 if self.adm else math.sqrt(0.5)
        f = torch.tensor(kwargs.get("resample_filter", [1, 1]), dtype=torch.float64)
        self.kernel = torch.outer(f, f) / f.sum() ** 2
        self.pad = (len(f) - 1) // 2

    def has(self, name: str) -> bool:
        return any(key.startswith(name + ".") for key in self.s)

    def filter(self, x: Tensor, direction: str) -> Tensor:
        k = self.kernel.repeat(x.shape[1], 1, 1, 1)
        if direction == "up":
            return F.conv_transpose2d(x, 4 * k, stride=2, padding=self.pad, groups=x.shape[1])
        return F.conv2d(x, k, stride=2, padding=self.pad, groups=x.shape[1])

    def conv(self, name: str, x: Tensor, direction: str | None = None) -> Tensor:
        if direction:
            x = self.filter(x, direction)
        if f"{name}.weight" not in self.s:
            return x
        w = self.s[f"{name}.weight"]
        return F.conv2d(x, w, padding=w.shape[-1] // 2) + self.s[f"{name}.bias"][:, None, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (min(32, x.shape[1] // 4), -1))
        centred = groups - groups.mean((2, 3, 4), keepdim=True)
        y = (centred / (centred.square().mean((2, 3, 4), keepdim=True) + self.eps).sqrt()).flatten(1, 2)
        return y * self.s[f"{name}.weight"][:, None, None] + self.s[f"{name}.bias"][:, None, None]

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = x @ self.s[f"{name}.weight"].T
        return y + self.s[f"{name}.bias"] if f"{name}.bias" in self.s else y

    def attention(self, name: str, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        heads = c // 64 if self.adm else 1
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x)).reshape(n * heads, c // heads, 3, h * w)
        out = torch.empty(n * heads, c // heads, h * w, dtype=x.dtype)
        for i in range(n * heads):
            q, k, v = qkv[i].unbind(1)
            out[i] = v @ (q.T @ k / math.sqrt(c // heads)).softmax(1).T
        return (x + self.conv(f"{name}.proj", out.reshape(n, c, h, w))) * self.scale

    def block(self, name: str, x: Tensor, emb: Tensor) -> Tensor:
        direction = {"up": "up", "own": "down"}.get(name[-3:].removeprefix("_"))
        h = self.conv(f"{name}.conv0", F.silu(self.norm(f"{name}.norm0", x)), direction)
        e = self.linear(f"{name}.affine", emb)[:, :, None, None]
        if self.adm:
            h = F.silu(self.norm(f"{name}.norm1", h) * (1 + e[:, : h.shape[1]]) + e[:, h.shape[1] :])
        else:
            h = F.silu(self.norm(f"{name}.norm1", h + e))
        skip = self.conv(f"{name}.skip", x, direction) if self.has(f"{name}.skip") else x
        x = (self.conv(f"{name}.conv1", h) + skip) * self.scale
        return self.attention(name, x) if self.has(f"{name}.qkv") else x

    def embedding(self, c_noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        if self.has("map_noise"):
            angles = c_noise[:, None] * self.s["map_noise.freqs"] * 2 * math.pi
        else:
            half = self.s["map_layer0.weight"].shape[1] // 2
            i = torch.arange(half, dtype=torch.float64)
            angles = c_noise[:, None] * 10000 ** (-i / (half - (0 if self.adm else 1)))
        parts = [angles.cos(), angles.sin()]
        emb = torch.cat(parts if self.adm else parts[::-1], 1)
        if labels is not None and not self.adm:
            emb = emb + self.linear("map_label", labels * math.sqrt(self.k["label_dim"]))
        if augment is not None:
            emb = emb + self.linear("map_augment", augment)
        emb = self.linear("map_layer1", F.silu(self.linear("map_layer0", emb)))
        if labels is not None and self.adm:
            emb = emb + self.linear("map_label", labels)
        return F.silu(emb)

    def encode(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        aux, skips = x, []
        for level in range(len(self.k["channel_mult"])):
            r = f"enc.{8 >> level}x{8 >> level}"
            x = self.block(f"{r}_down", x, emb) if level else self.conv(f"{r}_conv", x)
            if self.has(f"{r}_aux_skip"):
                aux = self.filter(aux, "down")
                x = x + self.conv(f"{r}_aux_skip", aux)
            if self.has(f"{r}_aux_residual"):
                w = self.s[f"{r}_aux_residual.weight"]
                wide = F.conv2d(aux, w, padding=1 + self.pad)
                k = self.kernel.repeat(len(w), 1, 1, 1)
                low = F.conv2d(wide, k, stride=2, groups=len(w))
                x = aux = (x + low + self.s[f"{r}_aux_residual.bias"][:, None, None]) / math.sqrt(2)
            skips.append(x)
            for i in range(self.k["num_blocks"]):
                x = self.block(f"{r}_block{i}", x, emb)
                skips.append(x)
        return skips

    def model(self, x: Tensor, c_noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        emb = self.embedding(c_noise, labels, augment)
        skips = self.encode(x, emb)
        x, aux = skips[-1], None
        for level in reversed(range(len(self.k["channel_mult"]))):
            r = f"dec.{8 >> level}x{8 >> level}"
            for part in ("in0", "in1", "up"):
                x = self.block(f"{r}_{part}", x, emb) if self.has(f"{r}_{part}") else x
            for i in range(self.k["num_blocks"] + 1):
                x = self.block(f"{r}_block{i}", torch.cat([x, skips.pop()], 1), emb)
            if self.has(f"{r}_aux_conv"):
                image = self.conv(f"{r}_aux_conv", F.silu(self.norm(f"{r}_aux_norm", x)))
                aux = image if aux is None else self.filter(aux, "up") + image
        return self.conv("out_conv", F.silu(self.norm("out_norm", x))) if aux is None else aux

    def denoise(self, cls: str, x: Tensor, s: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        s4 = s[:, None, None, None]
        if cls == "VPPrecond":
            t = ((0.01 + 2 * 19.9 * (1 + s**2).log()).sqrt() - 0.1) / 19.9
            return x - s4 * self.model(x / (1 + s4**2).sqrt(), 999 * t, labels, augment)
        norm = (s4**2 + 0.25).sqrt()
        return 0.25 / norm**2 * x + 0.5 * s4 / norm * self.model(x / norm, s.log() / 4, labels, augment)


def randomised(cls: str, kwargs: dict[str, Any]) -> torch.nn.Module:
    """A network in which every parameter counts: nothing is zero, small or one."""
    torch.manual_seed(0)
    net = build_network(cls, kwargs).double().eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.randn_like(p) / math.sqrt(p[0].numel()) if p.ndim > 1 else torch.randn_like(p) * 0.3)
            if "norm" in name and name.endswith("weight"):
                p.add_(1)
    return net


@pytest.mark.parametrize("case", CASES)
def test_networks_compute_what_their_description_says(case: str) -> None:
    cls, kwargs = CASES[case]
    net = randomised(cls, kwargs)
    x = torch.randn(2, kwargs["img_channels"], 8, 8, dtype=torch.float64)
    sigma = torch.tensor([0.02, 7.0], dtype=torch.float64)
    labels = torch.rand(2, kwargs["label_dim"], dtype=torch.float64) if kwargs.get("label_dim") else None
    augment = torch.randn(2, 9, dtype=torch.float64) if kwargs.get("augment_dim") else None
    reference = Reference(kwargs, net.state_dict())
    for sigma_n in (sigma, sigma[1:2]):
        with torch.no_grad():
            got = net(x, sigma_n, labels, augment_labels=augment)
        want = reference.denoise(cls, x, sigma_n, labels, augment)
        assert want.std() > 0.1
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["ddpm++ classes", "ncsn++", "skips", "adm"])
def test_gradients_follow_the_description(case: str) -> None:
    cls, kwargs = CASES[case]
    net = randomised(cls, kwargs)
    reference = Reference(kwargs, dict(net.named_parameters()) | dict(net.named_buffers()))
    x = torch.randn(2, kwargs["img_channels"], 8, 8, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([0.1, 2.0], dtype=torch.float64)
    labels = torch.rand(2, kwargs["label_dim"], dtype=torch.float64) if kwargs.get("label_dim") else None
    weight = torch.randn_like(x)
    wanted = [x] + [p for name, p in net.named_parameters() if "map_augment" not in name]
    got = torch.autograd.grad((net(x, sigma, labels) * weight).sum(), wanted)
    want = torch.autograd.grad((reference.denoise(cls, x, sigma, labels, None) * weight).sum(), wanted)
    for g, w in zip(got, want, strict=True):
        assert w.abs().max() > 0
        torch.testing.assert_close(g, w, rtol=1e-7, atol=1e-8 * float(w.abs().max()))
