"""Building preconditioned networks, and what they accept."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restill.core.errors import UserError
from restill.diffusion.networks import EDMPrecond, VPPrecond, build_network

SMALL: dict[str, Any] = {
    "model_type": "SongUNet",
    "img_resolution": 16,
    "img_channels": 3,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.5,
}
CIFAR: dict[str, Any] = {
    "model_type": "SongUNet",
    "img_resolution": 32,
    "img_channels": 3,
    "label_dim": 0,
    "use_fp16": False,
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": [1, 1],
    "model_channels": 128,
    "channel_mult": [2, 2, 2],
    "augment_dim": 9,
    "dropout": 0.13,
}


def alive(cls: str = "EDMPrecond", **changes: Any) -> nn.Module:
    """A small network whose output depends on all of its layers."""
    torch.manual_seed(0)
    net = build_network(cls, SMALL | changes).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(
    ("changes", "millions"),
    [({}, 55.7), ({"img_resolution": 64, "channel_mult": [1, 2, 2, 2], "dropout": 0.05}, 61.8)],
)
def test_published_sizes(changes: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        net = build_network("EDMPrecond", CIFAR | changes)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions


def test_published_names_and_shapes() -> None:
    with torch.device("meta"):
        state = build_network("EDMPrecond", CIFAR).state_dict()
    shapes = {name: list(value.shape) for name, value in state.items()}
    expected = {
        "model.map_augment.weight": [128, 9],
        "model.map_layer0.weight": [512, 128],
        "model.enc.32x32_conv.weight": [128, 3, 3, 3],
        "model.enc.32x32_block0.skip.weight": [256, 128, 1, 1],
        "model.enc.16x16_down.conv0.resample_filter": [1, 1, 2, 2],
        "model.enc.16x16_block3.qkv.weight": [768, 256, 1, 1],
        "model.dec.8x8_in0.proj.bias": [256],
        "model.dec.16x16_block4.norm2.weight": [256],
        "model.dec.32x32_block4.conv0.weight": [256, 384, 3, 3],
        "model.dec.32x32_aux_norm.weight": [256],
        "model.dec.32x32_aux_conv.weight": [3, 256, 3, 3],
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert "model.dec.16x16_block3.qkv.weight" not in shapes
    assert "model.enc.32x32_block0.qkv.weight" not in shapes
    assert "model.dec.8x8_in1.qkv.weight" not in shapes


def test_names_of_ncsn_and_adm() -> None:
    ncsn = {
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    }
    with torch.device("meta"):
        song = build_network("VPPrecond", CIFAR | ncsn | {"label_dim": 10}).state_dict()
        adm = build_network(
            "EDMPrecond", {"model_type": "DhariwalUNet", "img_resolution": 64, "img_channels": 3, "label_dim": 1000}
        ).state_dict()
    assert song["model.map_noise.freqs"].shape == (128,)
    assert song["model.map_label.bias"].shape == (256,)
    assert song["model.enc.16x16_aux_residual.weight"].shape == (256, 3, 3, 3)
    assert song["model.enc.8x8_aux_residual.weight"].shape == (256, 256, 3, 3)
    assert song["model.enc.8x8_aux_residual.resample_filter"].shape == (1, 1, 4, 4)
    assert round(sum(v.numel() for k, v in adm.items() if "resample" not in k) / 1e6) == 296  # EDM's table of ImageNet
    assert adm["model.map_label.weight"].shape == (768, 1000)
    assert "model.map_label.bias" not in adm
    assert adm["model.enc.32x32_down.skip.resample_filter"].shape == (1, 1, 2, 2)
    assert "model.enc.32x32_down.skip.weight" not in adm
    assert adm["model.enc.64x64_block0.affine.weight"].shape == (384, 768)
    assert adm["model.dec.32x32_block0.qkv.weight"].shape == (1152, 384, 1, 1)
    assert {"model.out_norm.weight", "model.out_conv.weight"} <= adm.keys()


@pytest.mark.parametrize(
    ("cls", "changes", "message"),
    [
        ("EDMPrecon", {}, "did you mean 'EDMPrecond'"),
        ("Resnet", {}, "known are EDMPrecond, VPPrecond"),
        ("EDMPrecond", {"model_type": "SongUnet"}, "did you mean 'SongUNet'"),
        ("EDMPrecond", {"chanel_mult": [1]}, "did you mean 'channel_mult'"),
        ("EDMPrecond", {"beta_d": 19.9}, "no argument 'beta_d'"),
        ("EDMPrecond", {"model_type": "DhariwalUNet", "encoder_type": "skip"}, "no argument 'encoder_type'"),
        ("EDMPrecond", {"in_channels": 3}, "no argument 'in_channels'"),
        ("EDMPrecond", {"model_kwargs": {}}, "no argument 'model_kwargs'"),
        ("EDMPrecond", {"encoder_type": "resid"}, "'standard', 'skip' or 'residual'"),
        ("EDMPrecond", {"embedding_type": "rotary"}, "'positional' or 'fourier'"),
        ("EDMPrecond", {"decoder_type": "residual"}, "'standard' or 'skip'"),
        ("EDMPrecond", {"dropout": 1.5}, "dropout: must be a probability in [0, 1), not 1.5"),
        ("EDMPrecond", {"img_resolution": 1}, "use at least 2"),
        ("EDMPrecond", {"channel_mult": []}, "channel_mult"),
        ("EDMPrecond", {"num_blocks": -1}, "num_blocks at least 0"),
        ("EDMPrecond", {"img_channels": 0}, "img_channels: 0"),
        ("EDMPrecond", {"sigma_data": -1.0}, "sigma_data: must be positive, not -1.0"),
        ("EDMPrecond", {"model_channels": 15}, "even"),
    ],
)
def test_mistakes_name_the_key_in_one_line(cls: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        build_network(cls, SMALL | changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UserError, match="img_channels"):
        build_network("EDMPrecond", {"img_resolution": 16})


def test_edm_coefficients_give_unit_variance_and_the_target() -> None:
    """Input and training target have variance 1 for data of standard deviation `sigma_data` (EDM, appendix B.6)."""
    net = build_network("EDMPrecond", SMALL | {"sigma_data": 0.7})
    assert isinstance(net, EDMPrecond)
    s = torch.logspace(-3, 2, 7, dtype=torch.float64)
    c = net.coefficients(s)
    torch.testing.assert_close(c.c_in**2 * (s**2 + 0.49), torch.ones_like(s))
    torch.testing.assert_close(c.c_skip, 0.49 / (s**2 + 0.49))
    torch.testing.assert_close(((1 - c.c_skip) ** 2 * 0.49 + c.c_skip**2 * s**2) / c.c_out**2, torch.ones_like(s))
    torch.testing.assert_close((4 * c.c_noise).exp(), s)


def test_vp_times_and_levels_are_inverse() -> None:
    net = build_network("VPPrecond", SMALL)
    assert isinstance(net, VPPrecond)
    t = torch.linspace(1e-5, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(net.process.time(net.process.level(t)), t, rtol=1e-6, atol=1e-12)
    assert net.sigma_max == pytest.approx(math.sqrt(math.expm1(19.9 / 2 + 0.1)))
    assert net.sigma_min == pytest.approx(math.sqrt(1e-6), rel=1e-3)
    c = net.coefficients(torch.tensor([3.0], dtype=torch.float64))
    assert (c.c_skip.item(), c.c_out.item()) == (1, -3)
    assert c.c_noise.item() == pytest.approx(999 * (math.sqrt(0.01 + 39.8 * math.log(10)) - 0.1) / 19.9)


@pytest.mark.parametrize("cls", ["EDMPrecond", "VPPrecond"])
def test_noise_level_forms_agree(cls: str) -> None:
    net, x = alive(cls), images(2, 3, 16, 16)
    outs = [
        net(x.double(), torch.tensor(0.8, dtype=torch.float64)),
        net(x, 0.8),
        net(x, torch.full((2,), 0.8)),
        net(x, torch.full((2, 1, 1, 1), 0.8)),
    ]
    assert all(out.dtype == torch.float32 for out in outs)
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0])
    assert (outs[0] - net(x, 0.9)).abs().max() > 1e-3


def test_no_class_labels_are_zeros() -> None:
    net, x = alive(label_dim=4), images(2, 3, 16, 16)
    torch.testing.assert_close(net(x, 1.0), net(x, 1.0, torch.zeros(2, 4)))
    torch.testing.assert_close(net.model(x, torch.ones(2)), net.model(x, torch.ones(2), torch.zeros(1, 4)))
    assert (net(x, 1.0) - net(x, 1.0, torch.eye(4)[:2])).abs().max() > 1e-3


def test_wrong_shapes_are_refused() -> None:
    net, x = alive(label_dim=4, augment_dim=9), images(2, 3, 16, 16)
    with pytest.raises(ValueError, match="class_labels"):
        net(x, 1.0, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="class_labels: for 2 images"):
        net(x, 1.0, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="augment_labels"):
        net(x, 1.0, augment_labels=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="noise levels"):
        net(x, torch.ones(3))
    with pytest.raises(ValueError, match="3, H, W"):
        net(x[:, :2], 1.0)
    plain = alive()
    with pytest.raises(ValueError, match="class_labels"):
        plain(x, 1.0, torch.zeros(2, 4))
    torch.testing.assert_close(plain(x, 1.0, torch.zeros(2, 0)), plain(x, 1.0))


@pytest.mark.parametrize("model_type", ["SongUNet", "DhariwalUNet"])
@pytest.mark.parametrize("size", [(16, 16), (13, 22), (5, 3), (1, 7), (32, 8)])
def test_any_image_size(model_type: str, size: tuple[int, int]) -> None:
    changes = {} if model_type == "SongUNet" else {"model_channels": 64}
    net = alive(model_type=model_type, channel_mult=[1, 1, 2], **changes)
    x = images(2, 3, *size).requires_grad_()
    out = net(x, torch.tensor([0.5, 5.0]))
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(dim=(0, 1)) > 0).all()  # every pixel counts


def test_padding_equals_padding_by_hand() -> None:
    net, x = alive(), images(2, 3, 13, 16)
    by_hand = torch.cat([x, x[:, :, 11:12]], dim=2)
    torch.testing.assert_close(net(x, 1.0), net(by_hand, 1.0)[:, :, :13])


def test_dropout_acts_in_training_only() -> None:
    net, x = alive(), images(2, 3, 16, 16)
    assert torch.equal(net(x, 1.0), net(x, 1.0))
    net.train()
    assert not torch.equal(net(x, 1.0), net(x, 1.0))


@pytest.mark.parametrize("model_type", ["SongUNet", "DhariwalUNet"])
def test_label_dropout_hides_classes_in_training_only(model_type: str) -> None:
    changes = {"label_dim": 4, "label_dropout": 0.5, "dropout": 0.0, "model_type": model_type}
    net = alive(**changes)
    x, labels = images(1, 3, 16, 16).expand(64, -1, -1, -1), torch.eye(4)[:1].expand(64, -1)
    seen, hidden = net(x[:1], 1.0, labels[:1]), net(x[:1], 1.0)
    assert (seen - hidden).abs().max() > 1e-3
    torch.testing.assert_close(net(x, 1.0, labels), seen.expand(64, -1, -1, -1), atol=1e-4, rtol=1e-4)
    out = net.train()(x, 1.0, labels)
    is_hidden = (out - hidden).abs().amax((1, 2, 3)) < (out - seen).abs().amax((1, 2, 3))
    assert 12 <= int(is_hidden.sum()) <= 52  # Binomial(64, 1/2): 5 standard deviations
    torch.testing.assert_close(out, torch.where(is_hidden[:, None, None, None], hidden, seen), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cls", ["EDMPrecond", "VPPrecond"])
def test_a_float64_network_computes_in_float64(cls: str) -> None:
    net, x = alive(cls), images(2, 3, 16, 16, dtype=torch.float64)
    single = net(x, torch.tensor([0.5, 3.0]))
    double = copy.deepcopy(net).double()(x, torch.tensor([0.5, 3.0]))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), atol=1e-3, rtol=1e-3)
    assert not torch.equal(double, double.float().double())


@pytest.mark.parametrize("embedding_type", ["positional", "fourier"])
def test_bf16_stays_close(embedding_type: str) -> None:
    net, x = alive(embedding_type=embedding_type), images(4, 3, 16, 16)
    sigma = torch.tensor([0.05, 0.5, 2.0, 20.0])
    want = net(x, sigma)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x, sigma)
    net.model.to(torch.bfloat16)
    for got in (mixed, net(x, sigma)):
        assert got.dtype == torch.float32
        error = (got - want).square().mean().sqrt() / want.square().mean().sqrt()
        assert 0 < error < 0.05


def test_training_reaches_every_parameter() -> None:
    net = alive(label_dim=4, augment_dim=9, encoder_type="residual", decoder_type="skip").train()
    net(images(2, 3, 16, 16), torch.ones(2), torch.eye(4)[:2], augment_labels=images(2, 9)).square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias before a norm over exactly its own group of channels would be dead; groups have four channels here
    assert dead == []
