"""Resampling, blocks and attention against independent computations."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import upfirdn

from restill.core.errors import UserError
from restill.diffusion.networks.block import Block, BlockStyle, ConvThenDown, ResampledConv2d, attention, group_norm
from restill.diffusion.networks.dropout import dropout
from restill.diffusion.networks.embedding import FourierEmbedding, PositionalEmbedding
from restill.diffusion.networks.initialisation import ADM, DDPM
from restill.diffusion.networks.resampling import Direction, Resample, filter_kernel, pad_to_multiple

TAPS = [(1, 1), (1, 3, 3, 1), (2, 1, 0, 5), (1, 2, 4, 6, 2, 1)]


def style(**changes: object) -> BlockStyle:
    values: dict[str, object] = {
        "emb_channels": 12,
        "dropout": 0.0,
        "skip_scale": math.sqrt(0.5),
        "eps": 1e-6,
        "adaptive_scale": False,
        "channels_per_head": None,
        "num_heads": 1,
        "taps": (1, 1),
        "project_resampled": True,
        "init": DDPM,
    }
    return BlockStyle(**(values | changes))  # type: ignore[arg-type]


def along(x: np.ndarray, axis: int, taps: tuple[float, ...], direction: str) -> np.ndarray:
    """One axis with scipy: down correlates and keeps every second value; up is its transpose, times 2."""
    f, pad, size = np.array(taps) / sum(taps), (len(taps) - 1) // 2, x.shape[axis]
    if direction == "down":
        y = upfirdn(f[::-1], x, axis=axis)  # full correlation: entry j belongs to the window that ends at pixel j
        first = len(taps) - 1 - pad
        return y.take(range(first, first + size, 2), axis=axis)
    return 2 * upfirdn(f, x, up=2, axis=axis).take(range(pad, pad + 2 * size), axis=axis)


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("direction", get_args(Direction))
def test_resampling_agrees_with_scipy(taps: tuple[float, ...], direction: Direction) -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    rows = x.numpy() if direction == "down" else np.pad(x.numpy(), ((0, 0), (0, 0), (0, 4), (0, 4)))
    want = along(along(rows, 2, taps, direction), 3, taps, direction)
    got = Resample(direction, taps).double()(x)
    size = (4, 3) if direction == "down" else (16, 12)
    assert got.shape == (2, 3, *size)
    np.testing.assert_allclose(got.numpy(), want[:, :, : size[0], : size[1]], atol=1e-6)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_a_constant_image_stays_constant_away_from_the_border(taps: tuple[float, ...]) -> None:
    x = torch.full((1, 2, 16, 12), 0.7)
    low = Resample("down", taps)(x)
    assert torch.allclose(low[:, :, 1:-1, 1:-1], torch.tensor(0.7))
    again = Resample("up", taps)(low)
    assert again.shape == x.shape
    assert torch.allclose(again[:, :, 3:-3, 3:-3], torch.tensor(0.7))


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_up_is_the_transpose_of_down_times_four(taps: tuple[float, ...]) -> None:
    x, y = torch.randn(2, 3, 8, 6, dtype=torch.float64), torch.randn(2, 3, 4, 3, dtype=torch.float64)
    down, up = Resample("down", taps).double(), Resample("up", taps).double()
    torch.testing.assert_close((4 * down(x) * y).sum(), (x * up(y)).sum())


def test_the_box_shortcut_equals_the_filter() -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    for direction in get_args(Direction):
        box, general = Resample(direction, (1, 1)).double(), Resample(direction, (1, 1)).double()
        general.is_box = False
        assert box.is_box
        torch.testing.assert_close(box(x), general(x))


@pytest.mark.parametrize("taps", [(1,), (1, 2, 1), (), (1, -1)])
def test_filters_that_do_not_halve_are_refused(taps: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="resample_filter"):
        filter_kernel(taps)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_convolution_then_down_is_the_composed_kernel(taps: tuple[float, ...]) -> None:
    """One dense convolution with the product of both kernels gives the same, border included."""
    layer = ConvThenDown(3, 5, taps).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    side = 2 + len(taps)
    kernel = torch.zeros(5, 3, side, side, dtype=torch.float64)
    for i in range(len(taps)):
        for j in range(len(taps)):
            kernel[:, :, i : i + 3, j : j + 3] += layer.resample_filter[0, 0, i, j] * layer.weight
    want = F.conv2d(x, kernel, layer.bias, stride=2, padding=1 + (len(taps) - 1) // 2)
    assert want.shape == (2, 5, 4, 3)
    torch.testing.assert_close(layer(x), want)


def test_convolution_then_down_equals_convolution_and_padded_filter_inside() -> None:
    layer = ConvThenDown(3, 5, (1, 3, 3, 1)).double()
    x = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    separate = Resample("down", (1, 3, 3, 1)).double()(F.conv2d(x, layer.weight, layer.bias, padding=1))
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(layer(x)[inner], separate[inner])
    assert not torch.allclose(layer(x), separate)  # at the border it sees pixels that the other one takes for zero


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("direction", get_args(Direction))
def test_resampled_convolution_is_filter_then_convolution(
    taps: tuple[float, ...], kernel: int, direction: Direction
) -> None:
    layer = ResampledConv2d(3, 5, kernel, direction, taps).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    k = layer.resample_filter.expand(3, 1, -1, -1)
    pad = (len(taps) - 1) // 2
    low = F.conv2d(x, k, stride=2, padding=pad, groups=3)
    high = F.conv_transpose2d(x, 4 * k, stride=2, padding=pad, groups=3)
    want = F.conv2d(low if direction == "down" else high, layer.weight, layer.bias, padding=kernel // 2)
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_naive_sum_over_pixels(heads: int) -> None:
    block = Block(16, 16, style(num_heads=heads), attention=True).double()
    with torch.no_grad():
        block.proj.weight.normal_()
        block.qkv.weight.normal_()
        block.qkv.bias.normal_()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    qkv = block.qkv(block.norm2(x)).reshape(2 * heads, 16 // heads, 3, 15)
    a = torch.zeros(2 * heads, 16 // heads, 15, dtype=torch.float64)
    for n in range(2 * heads):
        for pixel in range(15):
            scores = torch.stack([qkv[n, :, 0, pixel] @ qkv[n, :, 1, other] for other in range(15)])
            weights = (scores / math.sqrt(16 // heads)).softmax(0)
            a[n, :, pixel] = sum(weights[other] * qkv[n, :, 2, other] for other in range(15))
    want = (x + block.proj(a.reshape(2, 16, 3, 5))) * math.sqrt(0.5)
    torch.testing.assert_close(block._attend(x), want)


def test_attention_in_bf16_is_that_in_float32() -> None:
    q, k, v = torch.randn(3, 2, 3, 50, 16).bfloat16().requires_grad_().unbind()
    want = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            got = attention(q, k, v)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.float(), want, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_dropout_zeroes_a_share_and_scales_the_rest(dtype: torch.dtype, channels_last: bool) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 33, 31, 29, dtype=dtype)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    y = dropout(x, 0.13, True)
    assert y.stride() == x.stride()
    kept, n = y != 0, x.numel()
    assert abs(kept.double().mean() - 0.87) < 5 * math.sqrt(0.13 * 0.87 / n)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.87), atol=1e-2, rtol=1e-4)
    for axis in range(4):  # no stripes: each slice keeps its share
        share = kept.double().movedim(axis, 0).flatten(1)
        assert (share.mean(1) - 0.87).abs().max() < 6 * math.sqrt(0.13 * 0.87 / share.shape[1])
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], y.detach())  # the gradient is the same mask
    assert not torch.equal(dropout(x, 0.13, True), y)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.13, True), y)
    assert dropout(x, 0.13, False) is x
    assert dropout(x, 0.0, True) is x


def test_group_norm_in_bf16_has_statistics_in_float32() -> None:
    norm = group_norm(16, 1e-6)
    x = (torch.randn(2, 16, 8, 8) * 0.01 + 1).bfloat16()  # a mean of 100 standard deviations
    torch.testing.assert_close(norm(x).float(), norm(x.float()), atol=0.02, rtol=0.01)
    norm.to(torch.bfloat16)
    assert norm(x).dtype == torch.bfloat16


def test_memory_format_changes_nothing() -> None:
    x = torch.randn(2, 8, 6, 4, dtype=torch.float64)
    emb = torch.randn(2, 12, dtype=torch.float64)
    for resampling in (None, "up", "down"):
        block = Block(8, 16, style(taps=(1, 3, 3, 1)), resampling=resampling, attention=True).double()
        with torch.no_grad():
            block.conv1.weight.normal_()
            block.proj.weight.normal_()
        want = block(x, emb)
        got = block.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last), emb)
        torch.testing.assert_close(got, want)


def test_groups_have_at_least_four_channels_and_are_at_most_32() -> None:
    assert [group_norm(c, 1e-6).num_groups for c in (3, 4, 16, 48, 128, 256)] == [1, 1, 4, 12, 32, 32]
    with pytest.raises(UserError, match="210 channels"):
        group_norm(210, 1e-6)


def test_heads_follow_the_channels() -> None:
    adm = style(channels_per_head=64, num_heads=0)
    assert [adm.heads(c) for c in (32, 64, 128, 192)] == [0, 1, 2, 3]
    assert not hasattr(Block(32, 32, adm, attention=True), "qkv")
    with pytest.raises(UserError, match="heads"):
        adm.heads(200)


def test_a_fresh_block_is_nearly_its_skip() -> None:
    x, emb = torch.randn(2, 64, 8, 8), torch.randn(2, 12)
    song = Block(64, 64, style(), attention=True)(x, emb)
    torch.testing.assert_close(song, x / 2, atol=1e-3, rtol=0)  # two sums, each times sqrt 0.5
    adm = style(skip_scale=1.0, adaptive_scale=True, channels_per_head=64, num_heads=0, init=ADM)
    torch.testing.assert_close(Block(64, 64, adm, attention=True)(x, emb), x, atol=0, rtol=0)


def test_positional_embedding_has_the_stated_frequencies() -> None:
    t = torch.tensor([0.0, 1.5], dtype=torch.float64)
    ddpm = PositionalEmbedding(8, endpoint=True, sine_first=True)(t)
    adm = PositionalEmbedding(8, endpoint=False, sine_first=False)(t)
    for i in range(4):
        w = 10000 ** (-i / 3)
        np.testing.assert_allclose(ddpm[1, [i, 4 + i]], [math.sin(1.5 * w), math.cos(1.5 * w)], rtol=1e-12)
        w = 10000 ** (-i / 4)
        np.testing.assert_allclose(adm[1, [i, 4 + i]], [math.cos(1.5 * w), math.sin(1.5 * w)], rtol=1e-12)


def test_fourier_embedding_has_stored_frequencies_of_scale_16() -> None:
    torch.manual_seed(0)
    embedding = FourierEmbedding(8000, sine_first=False).double()
    assert embedding.freqs.shape == (4000,)
    assert 16 * 0.95 < embedding.freqs.std() < 16 * 1.05  # 4 standard errors of 4000 draws
    angle = 0.3 * 2 * math.pi * embedding.freqs
    out = embedding(torch.tensor([0.3], dtype=torch.float64))
    torch.testing.assert_close(out[0], torch.cat([angle.cos(), angle.sin()]))
    exact = FourierEmbedding(8, sine_first=True).freqs
    embedding = FourierEmbedding(8, sine_first=True)
    embedding.freqs.copy_(exact)
    assert torch.equal(embedding.to(torch.bfloat16).freqs, exact)  # rounding a frequency would be worse than a weight


def test_padding_reflects_and_repeats_only_where_it_must() -> None:
    x = torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 4, 5)
    assert pad_to_multiple(x[..., :4], 4) is not x
    same = x[..., :4].contiguous()
    assert pad_to_multiple(same, 4) is same
    assert pad_to_multiple(x, 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_multiple(x[..., :2], 8)[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    assert pad_to_multiple(x[:, :, :3, :3], 4).shape == (1, 1, 4, 4)
