"""Laws of the parts of the noise estimates: bands, sites, extrapolation of content, levels of single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.core.tensors import seeded
from restill.estimation.coefficients import Bands, bands_of
from restill.estimation.content import Tally, level_of
from restill.estimation.photon_noise import _Bin, _fit, _jackknife_error, _Line, _physical, _rows
from restill.estimation.sites import Patches, Pixels, Reading, _doubling, _ranks
from restill.estimation.white_noise import _halves, _rare, level_of_images

F64 = torch.float64


def white(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded("laws", *shape), dtype=F64)


# bands


def test_bands_are_orthonormal_and_hold_everything_but_the_mean() -> None:
    y = white(20, 3, 4, 4) + 5
    bands = bands_of(y, 4)
    basis = bands.filters.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(45, dtype=F64))
    assert basis.unflatten(1, (3, 16)).sum(2).abs().max() < 1e-12
    energy = (y - y.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    torch.testing.assert_close(bands.coefficients(y, bands.filters).square().sum((1, 2)), energy)


def test_components_of_colour_are_uncorrelated_and_ordered() -> None:
    mixed = torch.einsum(
        "nchw,dc->ndhw", white(200, 3, 4, 4) * torch.tensor([1.0, 2, 4], dtype=F64)[:, None, None], MIX
    )
    mixing = bands_of(mixed, 4).mixing
    variance = torch.cov(torch.einsum("nchw,cd->dnhw", mixed, mixing).flatten(1))
    torch.testing.assert_close(variance, variance.diag().diag(), rtol=0, atol=1e-8)
    assert variance.diag().sqrt().numpy() == pytest.approx([1, 2, 4], rel=0.1)
    squares = bands_of(mixed, 4).mean_squares(mixed).unflatten(0, (3, 15)).mean(1)
    assert squares.sqrt().numpy() == pytest.approx([1, 2, 4], rel=0.1)


MIX = torch.linalg.qr(torch.randn(3, 3, generator=seeded("laws", "mix"), dtype=F64))[0]


def test_patches_overlap_by_half() -> None:
    bands, y = Bands(torch.eye(1, dtype=F64), 4), white(3, 1, 9, 12)
    places = [y[:, 0, a : a + 4, b : b + 4].flatten(1) for a in (0, 2, 4) for b in (0, 2, 4, 6, 8)]
    expected = torch.stack([torch.einsum("np,kp->nk", place, bands.filters.flatten(1)) for place in places], 2)
    torch.testing.assert_close(bands.coefficients(y, bands.filters), expected)
    assert bands.stride == 2 and bands.patches(9, 12) == 15
    kept = torch.arange(45).reshape(3, 15) % 4 > 0
    squares = expected.square().movedim(1, 2)[kept]
    torch.testing.assert_close(bands.mean_squares(y, kept), squares.mean(0))
    torch.testing.assert_close(bands.mean_squares(y), expected.square().mean((0, 2)))


# sites


@pytest.mark.parametrize("side", [4, 8])
def test_no_patch_is_chosen_for_quiet_noise(side: int) -> None:
    """White noise has the level 1 in every bin, quiet or louder, though bins differ in what they are chosen by."""
    sites = Patches(white(60, 2, 20, 24), side)
    tally = sites.read(white(300, 2, 20, 24)).tally(sites.bins)
    assert tally.sites.sum() == 300 * (99 if side == 4 else 20)
    for part in (tally.quiet, tally.louder):
        means = part.sum(0) / tally.sites.sum(0)
        error = (part - means * tally.sites).square().sum(0).sqrt() / tally.sites.sum(0)
        held = tally.sites.sum(0) > 0
        assert ((means - 1) / error)[held].abs().max() < 4.5 and error[held].max() < 0.06


def test_patches_of_every_image_are_ranked_by_their_content() -> None:
    """The right half of each image holds strokes, whatever the level of the noise is."""
    y = white(60, 1, 16, 16) * torch.linspace(0.1, 1, 60, dtype=F64)[:, None, None, None]
    y[:, :, :, 8:] += 9 * white(60, 1, 16, 8)
    sites = Patches(y, 4)
    reading = sites.read(y)
    bins = reading.bin.unflatten(1, (7, 7))
    assert bins[:, :, :3].max() <= bins[:, :, 4:].min() and bins.min() == 0 and bins.max() == sites.bins - 1
    assert (reading.bin == 0).sum(1).eq(1).all()  # one of 49 patches is below 2%
    assert reading.bin[:, 0].bincount().argmax() < 7 and sites.freedom == 5
    assert ((reading.bin < sites.enough).double().mean(1) - 0.25).abs().max() < 0.06
    few = Patches(y[:, :, :4, :8], 4)
    assert few.enough == few.bins and (few.read(y[:, :, :4, :8]).bin == 0).sum() <= 4


def test_quiet_bands_are_quieter_than_louder_ones() -> None:
    y = white(80, 1, 16, 16).cumsum(3).cumsum(2)
    sites = Patches(y[:40], 8)
    reading = sites.read(y[40:])
    assert sites.freedom == 21 and reading.quiet.mean() < 0.8 * reading.louder.mean()


def test_what_holds_no_noise_is_left_out() -> None:
    y = white(50, 1, 16, 16)
    y[:, :, :, 14:] = 3.0  # two columns of padding
    y[:25, :, 10:13, 3:6] = 0.5  # a masked square in half of the images
    bins = Patches(y, 4).read(y).bin.unflatten(1, (7, 7))
    assert (bins[:, :, 6] == -1).all() and (bins[25:, :, :6] >= 0).all()
    square = torch.zeros(7, 7, dtype=torch.bool)
    square[[5], 1] = True  # rows 10 to 13 hold it, columns 2 to 5
    assert torch.equal(bins[:25, :, :6] == -1, square[:, :6].expand(25, -1, -1))
    everything = torch.zeros(4, 1, 16, 16, dtype=F64)
    assert (Patches(everything, 4).read(everything).bin >= 0).all()


def test_sites_without_noise_are_not_summed() -> None:
    one = torch.ones(1, 4, dtype=F64)
    tally = Reading(one, 2 * one, torch.tensor([[0, -1, 1, 1]])).tally(3)
    assert [part.tolist() for part in tally] == [[[1, 2, 0]], [[1, 2, 0]], [[2, 4, 0]]]


def test_pixels_are_grouped_by_how_much_they_vary() -> None:
    scale = torch.linspace(0.1, 2, 64, dtype=F64).reshape(1, 8, 8)
    y, z = 3 + white(400, 1, 8, 8) * scale, 3 + white(401, 1, 8, 8) * scale
    sites = Pixels(y)
    reading = sites.read(z)
    assert sites.bins == 6 and reading.bin[0].bincount().tolist() == [1, 1, 2, 4, 8, 16]
    tally = reading.tally(sites.bins)
    assert tally.sites.sum(0).tolist() == [401, 401, 802, 1604, 3208, 6416]
    expected = torch.stack([part.square().mean() for part in scale.flatten().split([1, 1, 2, 4, 8, 16, 32])])
    assert (tally.quiet.sum(0) / tally.sites.sum(0)).numpy() == pytest.approx(expected[:6].numpy(), rel=0.35)
    assert (tally.louder.sum(0) / tally.sites.sum(0)).numpy() == pytest.approx(expected[1:].numpy(), rel=0.35)
    few = torch.stack([Pixels(white(5, 1, 16, 16 + k)).read(white(900, 1, 16, 16 + k)).quiet.mean() for k in range(9)])
    assert few.mean() == pytest.approx(1, abs=0.04)  # the mean of five images varies by a fifth: 1.2 without a factor
    assert sites.white(white(2, 1, 8, 8)).mean() == pytest.approx(3, abs=0.5)


def test_ranks_and_groups() -> None:
    values = torch.tensor([[3.0, 1.0, torch.inf, 2.0], [40, 30, 20, 10]])
    within = torch.tensor([[2.5 / 3, 0.5 / 3, 3.5 / 3, 1.5 / 3], [3.5 / 4, 2.5 / 4, 1.5 / 4, 0.5 / 4]])
    torch.testing.assert_close(_ranks(values, across=False), within)
    across = torch.tensor([[2.5, 0.5, 7.5, 1.5], [6.5, 5.5, 4.5, 3.5]]) / 7
    torch.testing.assert_close(_ranks(values, across=True), across)
    assert _doubling(64) == [1, 1, 2, 4, 8, 16, 32] and _doubling(200) == [3, 3, 6, 12, 24, 48, 96, 8]


# content


def tally_of(level: float, content: Tensor, ratio: float, bend: float = 0.0, images: int = 100) -> Tally:
    """Bins of 40 sites an image with chi-squared noise of 5 degrees of freedom."""
    rng = np.random.default_rng(0)
    shape = (images, len(content), 40)
    x = content[:, None]
    quiet = level**2 + ratio * x * (x / content.max()).clamp_min(1e-9) ** -bend
    noise = [torch.from_numpy(rng.chisquare(5, shape) / 5) for _ in range(2)]
    return Tally(torch.full(shape[:2], 40.0, dtype=F64), (quiet * noise[0]).sum(2), ((level**2 + x) * noise[1]).sum(2))


@pytest.mark.parametrize(("ratio", "bend"), [(0.05, 0.0), (0.3, 0.0), (0.3, 0.1), (0.4, -0.1)])
def test_content_is_extrapolated_to_none(ratio: float, bend: float) -> None:
    """Even where every bin holds content; the mean square of the quietest is 10% and 15% too high for the last two."""
    found = level_of(tally_of(2.0, torch.linspace(1.5, 20, 12, dtype=F64), ratio, bend), 5, 0.12)
    assert found.low <= 2 <= found.high and found.sigma == pytest.approx(2, rel=0.05)
    assert found.high - found.low < 0.6


def test_without_content_the_level_is_the_mean() -> None:
    tally = tally_of(2.0, torch.zeros(12, dtype=F64), 0.3)
    found = level_of(tally, 5, 0.12)
    assert found.sigma == pytest.approx(2, rel=0.015)
    assert 1.01 * found.sigma < found.high < 1.03 * found.sigma and 0.93 * found.sigma < found.low < 0.99 * found.sigma
    scaled = level_of(Tally(tally.sites, 1e12 * tally.quiet, 1e12 * tally.louder), 5, 0.12)
    assert np.array(scaled) == pytest.approx(1e6 * np.array(found), rel=1e-9)


def test_few_images_widen_the_interval() -> None:
    content = torch.linspace(0, 20, 12, dtype=F64)
    few, many = (level_of(tally_of(2.0, content, 0.3, images=n), 5, 0.12) for n in (4, 400))
    assert few.high - few.low > 3 * (many.high - many.low) and many.high - many.low > 0.04


def test_halves_and_rare_content() -> None:
    half = _halves(101)
    assert sorted(half.bincount().tolist()) == [50, 51] and half[:50].double().mean() == pytest.approx(0.5, abs=0.25)
    freedom = torch.full((1000,), 4.0, dtype=F64)
    noise = torch.from_numpy(np.random.default_rng(0).chisquare(4, 1000) / 4)
    assert not _rare(noise, freedom) and _rare(noise * (torch.arange(1000) % 5 == 0), freedom)
    assert _rare(noise**4, freedom)


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_edges_are_not_taken_for_noise(sigma: float) -> None:
    """Discs on a background, of which the finest band alone says 20% to 90% too much."""
    y, x = torch.meshgrid(torch.arange(16.0, dtype=F64), torch.arange(16.0, dtype=F64), indexing="ij")
    places = 16 * torch.rand(2, 100, 1, 1, 1, generator=seeded("laws", "discs"), dtype=F64)
    discs = ((y - places[0]).square() + (x - places[1]).square() < 20).to(F64)
    found = level_of_images(discs + sigma * white(100, 1, 16, 16))
    assert found.low <= sigma <= found.high < 1.1 * sigma and found.low > 0.85 * sigma


def test_levels_that_vary_are_not_taken_for_content() -> None:
    levels = torch.linspace(0.5, 1.5, 200, dtype=F64)
    found = level_of_images(levels[:, None, None, None] * white(200, 1, 16, 16))
    assert found.sigma == pytest.approx(float(levels.square().mean().sqrt()), rel=0.03)


# photons


def photon_bins(gain: float, read: float) -> list[_Bin]:
    rng = np.random.default_rng(0)
    found = []
    for mean in np.linspace(10, 100, 16):
        means = torch.from_numpy(mean + rng.normal(size=4000))
        noise = np.sqrt(gain * mean + read**2) * np.abs(rng.normal(size=4000))
        found.append(_Bin(torch.from_numpy(noise), means, torch.arange(4000) % 20))
    return found


def test_the_line_of_the_variance() -> None:
    bins = photon_bins(2.0, 8.0)
    line = _fit(bins)
    assert line.gain == pytest.approx(2, rel=0.1) and line.read == pytest.approx(64, rel=0.1)
    assert _physical(line, bins) == line
    means, variances, counts = _rows(bins, left_out=3)
    assert means.numpy() == pytest.approx(np.linspace(10, 100, 16), abs=0.2) and counts.eq(3800).all()
    assert (variances / (2 * means + 64) - 1).abs().max() < 0.2
    texture = [bin_._replace(magnitudes=2 * bin_.magnitudes) if k in (4, 9) else bin_ for k, bin_ in enumerate(bins)]
    assert _fit(texture).gain == pytest.approx(2, rel=0.25) and _fit(texture).read == pytest.approx(64, rel=0.3)


def test_a_line_that_cannot_be_is_moved_to_the_nearest_that_can() -> None:
    bins = photon_bins(3.0, 0.0)
    through_zero = _physical(_Line(3.2, -5.0), bins)
    assert through_zero.read == 0 and through_zero.gain == pytest.approx(3, rel=0.05)
    flat = _physical(_Line(-0.1, 70.0), photon_bins(0.0, 8.0))
    assert flat.gain == 0 and flat.read == pytest.approx(64, rel=0.05)


def test_jackknife_of_a_mean() -> None:
    """Of the means without one value each, the standard error of the mean of all."""
    x = np.random.default_rng(0).normal(size=20)
    left_out = [float(np.delete(x, k).mean()) for k in range(20)]
    assert _jackknife_error(left_out) == pytest.approx(x.std(ddof=1) / np.sqrt(20))
