"""How the network's input and output are scaled where pixels are missing: against EDM's coefficients written out.

The network is a `Preconditioned` one whose `model` records what it is given and returns known numbers.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from closed_form import edm_weight
from restill.core.fourier import fft2c, ifft2c
from restill.core.tensors import channels_to_complex, complex_to_channels
from restill.corruption import Compose, Identity, Mask, MaskOperator, Mri, Operator
from restill.diffusion import NetworkDenoiser, Noisy, Prior
from restill.diffusion.networks import build_network
from restill.objectives import AmbientTweedie, Draw
from tiny import tiny_denoiser

F64 = torch.float64
SIGMA_DATA = 0.7


class Recorder(nn.Module):
    """A stand-in for the U-net: keeps its arguments, returns a fixed random image per call."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.map_layer0 = nn.Linear(1, 1).to(dtype)
        self.x_in, self.c_noise, self.out = torch.empty(0), torch.empty(0), torch.empty(0)
        self.told: tuple[Tensor | None, Tensor | None] = None, None

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        self.x_in, self.c_noise, self.told = x, c_noise, (labels, augment)
        if self.out.shape != x.shape:
            self.out = torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
        return self.out


def recording(
    channels: int, condition: int, masked: bool, dtype: torch.dtype = F64
) -> tuple[NetworkDenoiser, Recorder]:
    net = build_network(
        "EDMPrecond",
        {
            "img_resolution": 8,
            "img_channels": channels + condition,
            "model_type": "SongUNet",
            "model_channels": 16,
            "channel_mult": [1],
            "num_blocks": 1,
            "attn_resolutions": [],
            "sigma_data": SIGMA_DATA,
        },
    )
    recorder = Recorder(dtype)
    net.model = recorder  # type: ignore[assignment]
    return NetworkDenoiser(net, channels, SIGMA_DATA, masked=masked), recorder


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masks(n: int, shape: tuple[int, int, int], per_channel: bool = False) -> MaskOperator:
    return Mask(p=0.5, per_channel=per_channel).draw(n, shape, torch.Generator().manual_seed(1))


def edm(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`c_skip`, `c_out`, `c_in` (EDM, table 1), `[n, 1, 1, 1]`."""
    s, d = sigma.view(-1, 1, 1, 1), SIGMA_DATA
    return d**2 / (s**2 + d**2), s * d / (s**2 + d**2) ** 0.5, 1 / (s**2 + d**2) ** 0.5


@pytest.mark.parametrize("per_channel", [False, True])
def test_masked_preconditioning(per_channel: bool) -> None:
    """EDM where a pixel is shown, sigma_data F where it is not; the mask itself is given as it is."""
    denoiser, recorder = recording(2, 2, masked=True)
    operator = masks(5, (2, 4, 6), per_channel)
    sigma = torch.tensor([0.002, 0.1, 0.7, 5.0, 80.0], dtype=F64)
    x_t = operator.seen(normal(5, 2, 4, 6))
    got = denoiser(x_t, sigma, operator)
    c_skip, c_out, c_in = edm(sigma)
    torch.testing.assert_close(recorder.x_in, torch.cat([c_in * x_t, operator.mask.to(F64)], dim=1))
    torch.testing.assert_close(recorder.c_noise, sigma.log() / 4)
    out = recorder.out[:, :2]
    expected = torch.where(operator.mask, c_skip * x_t + c_out * out, SIGMA_DATA * out)
    torch.testing.assert_close(got, expected)
    assert operator.mask.any() and not operator.mask.all()


def test_published_preconditioning() -> None:
    """`masked=False`: the mask is concatenated and goes through the whole network, times `c_in` like any channel."""
    denoiser, recorder = recording(2, 2, masked=False)
    operator = masks(3, (2, 4, 6))
    sigma = torch.tensor([0.1, 0.7, 5.0], dtype=F64)
    x_t = operator.seen(normal(3, 2, 4, 6))
    got = denoiser(x_t, sigma, operator)
    c_skip, c_out, c_in = edm(sigma)
    both = torch.cat([x_t, operator.mask.to(F64)], dim=1)
    torch.testing.assert_close(recorder.x_in, c_in * both)
    torch.testing.assert_close(got, (c_skip * both + c_out * recorder.out)[:, :2])
    torch.testing.assert_close(got, denoiser.net(both, sigma)[:, :2])


@pytest.mark.parametrize("masked", [True, False])
def test_classes_and_moves_reach_the_network(masked: bool) -> None:
    denoiser, recorder = recording(1, 1, masked)
    denoiser.num_classes = 3
    operator, augment = masks(4, (1, 4, 6)), normal(4, 9)
    denoiser(operator.seen(normal(4, 1, 4, 6)), 0.5, operator, torch.tensor([2, 0, 1, 2]), augment)
    labels, moves = recorder.told
    assert labels is not None and torch.equal(labels, torch.eye(3, dtype=F64)[[2, 0, 1, 2]])
    assert moves is not None and torch.equal(moves, augment)


def test_nothing_missing_is_edm() -> None:
    """With whole masks both forms are EDM's, but for the scale of the mask; without masks they are one."""
    sigma, x = torch.tensor([0.1, 2.0], dtype=F64), normal(2, 2, 4, 6)
    whole = masks(2, (2, 4, 6)).whole()
    for masked in (True, False):
        denoiser, recorder = recording(2, 2, masked)
        c_skip, c_out, _ = edm(sigma)
        got = denoiser(x, sigma, whole)
        torch.testing.assert_close(got, c_skip * x + c_out * recorder.out[:, :2])
    results = [recording(2, 0, masked)[0](x, sigma, Identity(torch.zeros(2))) for masked in (True, False)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_missing_pixels_are_pixels_of_infinite_noise() -> None:
    """The limit of EDM's coefficients as s grows, to order s^-2, up to `c_skip x = sigma_data^2/s n`, of order 1/s."""
    out, noise = normal(4), normal(4, seed=1)
    for sigma in (1e2, 1e4, 1e6):
        c_skip, c_out, c_in = (part.flatten() for part in edm(torch.tensor([sigma], dtype=F64)))
        assert abs(c_out.item() / SIGMA_DATA - 1) < SIGMA_DATA**2 / sigma**2
        assert c_skip.item() < SIGMA_DATA**2 / sigma**2
        difference = (c_skip * sigma * noise + c_out * out - SIGMA_DATA * out).abs().max()
        assert difference < 3 / sigma
        # what a network is shown there differs: noise of unit variance, where a missing pixel is 0
        assert (c_in * sigma).item() == pytest.approx(1, abs=1 / sigma**2)


@pytest.mark.parametrize("c", [1.0, 0.3, 0.01])
def test_loss_weight_and_output_scale_are_one(c: float) -> None:
    """Weight times squared scale of the network's output is 1/max(c, c_min) in every pixel, shown or not (EDM, B.6)."""
    sigma = torch.tensor([0.002, 0.1, 0.7, 5.0, 80.0], dtype=F64)
    share = torch.full_like(sigma, c)
    objective = AmbientTweedie(c_min=0.05)
    half = MaskOperator(torch.zeros(5), torch.tensor([True, False]).expand(5, 1, 1, 2))
    ones = torch.ones(5, 1, 1, 2, dtype=F64)
    weight = objective.whitened(ones, half, sigma, share, Prior.white(SIGMA_DATA)).square()[:, 0, 0]
    for product in (weight[:, 0] * edm(sigma)[1].flatten() ** 2, weight[:, 1] * SIGMA_DATA**2):
        torch.testing.assert_close(product * max(c, 0.05), torch.ones(5, dtype=F64))
    torch.testing.assert_close(edm_weight(sigma * 1e9, SIGMA_DATA), torch.full_like(sigma, 1 / SIGMA_DATA**2))


def test_gradient_of_a_noise_free_loss_is_of_one_size() -> None:
    """By autograd through the objective: d loss / d F has the same coefficient in shown and in observed, hidden pixels.

    With x_t = 0 and y = 0 the loss is `weight * scale^2 * F^2 / d` where a pixel was observed, and 0 elsewhere.
    """
    denoiser, recorder = recording(1, 1, masked=True)
    observed = torch.tensor([1, 1, 1, 0], dtype=torch.bool).view(1, 1, 1, 4)
    shown = torch.tensor([1, 0, 1, 0], dtype=torch.bool).view(1, 1, 1, 4)
    operator, further = (MaskOperator(torch.zeros(1), mask) for mask in (observed, shown))
    recorder.out = torch.ones(1, 2, 1, 4, dtype=F64, requires_grad=True)
    zero = torch.zeros(1, 1, 1, 4, dtype=F64)
    draw = Draw(torch.tensor([0.02], dtype=F64), zero)
    (loss,) = AmbientTweedie()(denoiser, zero, operator, further, draw)
    (slope,) = torch.autograd.grad(loss, recorder.out)
    torch.testing.assert_close(slope[0, 0, 0], torch.tensor([0.5, 0.5, 0.5, 0.0], dtype=F64))


@pytest.mark.parametrize("masked", [True, False])
def test_masks_of_a_coarser_grid(masked: bool) -> None:
    """Masks of low-resolution measurements: the network sees each pixel of them as a block of the image's."""
    law = Compose(operators=({"kind": "downsampling", "factor": 2}, {"kind": "mask", "p": 0.5}))
    operator = law.draw(3, (1, 4, 8), torch.Generator().manual_seed(2))
    denoiser, recorder = recording(1, 1, masked)
    d = operator.seen(normal(3, 1, 2, 4))
    sigma = torch.tensor([0.1, 0.7, 5.0], dtype=F64)
    got = denoiser(d, sigma, operator)
    condition = operator.condition()
    assert condition is not None and condition.shape == (3, 1, 2, 4) and got.shape == (3, 1, 2, 4)
    blocks = condition.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    c_skip, c_out, c_in = edm(sigma)
    lifted, out = operator.lift(d), recorder.out[:, :1]
    torch.testing.assert_close(recorder.x_in[:, 1:], blocks.to(F64) * (1 if masked else c_in))
    edm_image = c_skip * lifted + c_out * out
    image = torch.where(blocks, edm_image, SIGMA_DATA * out) if masked else edm_image
    torch.testing.assert_close(denoiser.image(Noisy(d, sigma, operator)), image)
    means = image.view(3, 1, 2, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(got, means)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16])
def test_precision_is_the_networks_whatever_is_given(masked: bool, given: torch.dtype) -> None:
    """Weights in float32: inputs of other dtypes are taken as well, and the output is float32, masked or not."""
    denoiser = tiny_denoiser(channels=1, condition=1)
    denoiser.masked = masked
    operator: Operator = masks(2, (1, 8, 8))
    x_t = operator.seen(normal(2, 1, 8, 8)).to(given)
    with torch.no_grad():
        got = denoiser(x_t, 0.5, operator)
        same = denoiser(x_t.float(), torch.tensor([0.5, 0.5]), operator)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, same, rtol=1e-5, atol=1e-5)


def test_weights_in_float64_are_used_as_such() -> None:
    denoiser = tiny_denoiser(channels=1, condition=1).double()
    denoiser.masked = True
    operator = masks(2, (1, 8, 8))
    x_t = operator.seen(normal(2, 1, 8, 8))
    with torch.no_grad():
        wide = denoiser(x_t, 0.5, operator)
        narrow = denoiser.float()(x_t, 0.5, operator)
    assert wide.dtype == F64 and narrow.dtype == torch.float32
    difference = (wide - narrow).abs().max().item()
    assert 0 < difference < 1e-4


def test_autocast_reaches_the_masked_network_and_not_the_preconditioning() -> None:
    """bfloat16 in the convolutions changes the output by its roundings, and the output is float32 all the same."""
    denoiser = tiny_denoiser(channels=1, condition=1)
    denoiser.masked = True
    operator = masks(2, (1, 8, 8))
    x_t = operator.seen(normal(2, 1, 8, 8, dtype=torch.float32))
    with torch.no_grad():
        exact = denoiser(x_t, 1e-4, operator)
        denoiser.autocast = torch.bfloat16
        rounded = denoiser(x_t, 1e-4, operator)
    assert rounded.dtype == torch.float32
    hidden = ~operator.mask
    assert 0 < (rounded - exact)[hidden].abs().max() < 0.1
    # where a pixel is shown, c_out of about 1e-4 scales the roundings down, and c_skip x has none
    assert (rounded - exact)[operator.mask].abs().max() < 1e-4


def test_a_silent_network_of_mri_gives_the_wiener_filter_of_the_spectrum() -> None:
    """Several coils, float64: with output 0, D = (G + s^2 C^-1)^-1 x_t with G = A^H A, to the accuracy of 8 steps.

    And what the network is shown is D without the second half of the filter of a complete measurement.
    """
    operator = Mri(acceleration=2, acs=2, coils=4).draw(2, (2, 4, 8), torch.Generator().manual_seed(3))
    prior = Prior.stationary((2.0, 0.8, 0.3, 0.2), 4, 8)
    denoiser, recorder = recording(2, 2, masked=True)
    denoiser.power = prior.variance
    recorder.out = torch.zeros(2, 4, 4, 8, dtype=F64)
    x_t, sigma = operator.seen(normal(2, 2, 4, 8)), torch.tensor([0.2, 2.0], dtype=F64)
    got = denoiser(x_t, sigma, operator)
    unit = torch.eye(64, dtype=F64).view(64, 2, 4, 8)
    for k in range(2):
        one, s = operator.select(torch.full((64,), k)), sigma[k]
        G = one.seen(unit).flatten(1)
        precision = filtered(unit, s**2 / prior.variance).flatten(1)
        exact = torch.linalg.solve(G + precision, x_t[k].flatten()).view(2, 4, 8)
        torch.testing.assert_close(got[k], exact, rtol=0, atol=0.06 * float(exact.abs().max()))
        shown = filtered(exact[None], (1 + s**2 / prior.variance).sqrt())[0] / SIGMA_DATA
        torch.testing.assert_close(recorder.x_in[k, :2], shown, rtol=0, atol=0.06 * float(shown.abs().max()))


def filtered(x: Tensor, multiplier: Tensor) -> Tensor:
    """Images `[n, 2, H, W]` with every frequency times a number."""
    return complex_to_channels(ifft2c(multiplier * fft2c(channels_to_complex(x))))


def test_where_a_generator_starts() -> None:
    """Noise of the level; with a spectrum, on a Gaussian image of it, seen through the lines."""
    denoiser, _ = recording(2, 2, masked=True)
    whole = Mri(acceleration=1, acs=2, coils=1).draw(2, (2, 4, 8), torch.Generator().manual_seed(3))
    z = normal(2, 2, 4, 8)
    torch.testing.assert_close(denoiser.start(z, 0.7, whole), whole.noise(0.7 * z))
    prior = Prior.stationary((9.0, 0.8, 0.3), 4, 8)
    denoiser.power = prior.variance
    unit = torch.eye(64, dtype=F64).view(64, 2, 4, 8)
    one = whole.select(torch.zeros(64, dtype=torch.int64))
    start = denoiser.start(unit, 0.7, one).flatten(1).T
    image = one.extract(unit).flatten(1).T  # orthonormal
    spectrum = filtered(unit, (0.7 + prior.variance.sqrt()) ** 2).flatten(1)
    torch.testing.assert_close(image.T @ image, torch.eye(64, dtype=F64), rtol=0, atol=1e-5)
    torch.testing.assert_close(start @ start.T, spectrum, rtol=0, atol=1e-5)
    lines = Mri(acceleration=2, acs=2, coils=4).draw(2, (2, 4, 8), torch.Generator().manual_seed(3))
    z = normal(2, 8, 4, 8)
    expected = lines.noise(0.7 * z) + lines.seen(prior.draw(lines.extract(z)))
    torch.testing.assert_close(denoiser.start(z, 0.7, lines), expected)


def test_frequencies_half_way_to_equal_sizes() -> None:
    prior = Prior.stationary((16.0, 1.0), 4, 8)
    e = normal(3, 8, 4, 8)
    assert Prior.white(0.3).balanced(e) is e
    scale = prior.balanced(e) / e
    torch.testing.assert_close(scale[..., 2, 4] * 2, scale[..., 0, 0])
    torch.testing.assert_close(scale**-4 * prior.variance.mean(), prior.variance.expand_as(e))
