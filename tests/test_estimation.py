"""Noise levels from measurements alone, against levels that are known because the tests added them."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.estimation import ImageSet, NoiseEstimate, estimate_poisson_gaussian, estimate_sigma
from restill.estimation.coefficients import dct_matrix
from restill.estimation.image_levels import distribution
from restill.estimation.white_noise import level_of_images
from restill.io import digits, open_images


@functools.cache
def clean_digits() -> Tensor:
    return torch.from_numpy(np.stack(list(digits()))).double() / 8 - 1


@pytest.fixture(scope="module")
def cifar(shared_data: Path) -> Tensor:
    """1,000 clean colour images, one in ten of the test set."""
    path = shared_data / "cifar10-test.tar.xz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    images = np.stack([image for i, image in enumerate(open_images(path)) if i % 10 == 0])
    return torch.from_numpy(images).double() / 127.5 - 1


def white(shape: torch.Size | tuple[int, ...], *seed: int | str) -> Tensor:
    return torch.randn(tuple(shape), generator=seeded("test", *seed), dtype=torch.float64)


def noisy(clean: Tensor, sigma: float | Tensor, seed: int = 0) -> Tensor:
    level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return clean + level * white(clean.shape, seed)


# the level of a set

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5)


@pytest.mark.parametrize("sigma", LEVELS)
def test_level_of_digits(sigma: float) -> None:
    found = estimate_sigma(noisy(clean_digits(), sigma))
    assert found.sigma == pytest.approx(sigma, rel=0.05)  # standard error 1.2%
    assert found.low <= found.sigma <= found.high and found.high / found.low < 1.18
    assert not found.mixed


@pytest.mark.parametrize("sigma", LEVELS)
def test_level_of_cifar(sigma: float, cifar: Tensor) -> None:
    found = estimate_sigma(noisy(cifar, sigma))
    assert found.sigma == pytest.approx(sigma, rel=0.03)  # standard error 0.6%
    assert found.low <= found.sigma <= found.high and found.high / found.low < 1.08
    assert not found.mixed


def test_intervals_cover_the_level() -> None:
    """Of 60 intervals at 95% at least 51 cover; fewer than that have a probability of 0.2% if 95% is right."""
    levels = [
        (s, level_of_images(noisy(clean_digits()[k % 6 :: 6], s, k))) for s in (0.05, 0.2, 0.5) for k in range(20)
    ]
    assert sum(found.low <= sigma <= found.high for sigma, found in levels) >= 51
    for sigma in (0.05, 0.2, 0.5):  # a bias of 1% at most, with a standard error of 1%
        assert np.mean([found.sigma for s, found in levels if s == sigma]) == pytest.approx(sigma, rel=0.04)


def test_nothing_but_noise_of_many_shapes() -> None:
    for shape in ((400, 1, 4, 4), (300, 2, 7, 12), (60, 5, 16, 9), (20, 3, 40, 40)):
        found = estimate_sigma(5 + 3 * white(shape, "shape"))
        error = (found.high - found.sigma) / 1.96  # at most 7% of 3 in the smallest
        assert abs(found.sigma - 3) < 4 * error < 1.2, shape


def test_units_and_offsets_do_not_matter() -> None:
    y = noisy(clean_digits()[:500], 0.2)
    found, scaled = estimate_sigma(y), estimate_sigma(1000 + 40 * y)
    assert scaled.sigma == pytest.approx(40 * found.sigma, rel=1e-6)
    torch.testing.assert_close(scaled.per_sample, 40 * found.per_sample, rtol=1e-6, atol=0)


def test_images_that_do_not_fit_in_memory_have_the_same_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    y = noisy(clean_digits(), 0.3)
    whole = estimate_sigma(y)
    told: list[int] = []
    parts = ImageSet("y", 1797, (1, 8, 8), lambda: iter(y.split(100)))
    again = estimate_sigma(parts, advance=lambda done: told.append(done))
    assert whole[:3] == again[:3] and torch.equal(whole.per_sample, again.per_sample) and sum(told) == 2 * 1797
    monkeypatch.setattr("restill.estimation.image_set.MAX_IMAGES", 600)
    some = estimate_sigma(y)
    assert len(some.per_sample) == 1797 and some.sigma == pytest.approx(0.3, rel=0.08) and some.sigma != whole.sigma
    monkeypatch.setattr("restill.estimation.image_set.MAX_IMAGES", 2)
    assert estimate_sigma(white((9, 1, 64, 64), "two of nine")).sigma == pytest.approx(1, rel=0.15)


def test_padding_holds_no_noise_and_does_not_count() -> None:
    y = noisy(clean_digits(), 0.2)
    padded = torch.nn.functional.pad(y, (0, 2, 0, 2), value=-1.0)
    assert estimate_sigma(padded).sigma == pytest.approx(0.2, rel=0.05)


# blur


def blurred(clean: Tensor) -> Tensor:
    """Circularly, with a binomial kernel of 5x5."""
    kernel = torch.tensor([1, 4, 6, 4, 1], dtype=torch.float64) / 16
    spread = torch.zeros(clean.shape[2:], dtype=torch.float64)
    spread[:5, :5] = torch.outer(kernel, kernel)
    return torch.fft.ifft2(torch.fft.fft2(clean) * torch.fft.fft2(spread)).real


@pytest.mark.parametrize("sigma", [0.05, 0.5])
def test_blur_before_the_noise(sigma: float, cifar: Tensor) -> None:
    for images, tolerance in ((blurred(clean_digits()), 0.05), (blurred(cifar), 0.03)):
        found = estimate_sigma(noisy(images, sigma, seed=1))
        assert found.sigma == pytest.approx(sigma, rel=tolerance) and found.low <= sigma <= found.high


# levels of single images


def two_levels(clean: Tensor, low: float, high: float, share: float) -> tuple[Tensor, NoiseEstimate]:
    levels = torch.full((len(clean),), high, dtype=torch.float64)
    levels[torch.rand(len(clean), generator=seeded("test", "levels")) < share] = low
    return levels, estimate_sigma(noisy(clean, levels))


def test_one_level_stays_one_level() -> None:
    found = estimate_sigma(noisy(clean_digits(), 0.2))
    error = (found.per_sample / 0.2 - 1).square().mean().sqrt()
    assert error < 0.1 < found.error < 0.35  # shrunk, from 25% for single images with six to ten such pixels


def test_levels_of_single_colour_images(cifar: Tensor) -> None:
    levels = torch.linspace(0.1, 0.5, len(cifar), dtype=torch.float64)
    found = estimate_sigma(noisy(cifar, levels))
    relative = found.per_sample / levels - 1
    assert found.mixed and relative.square().mean().sqrt() < 0.05 and found.error < 0.05
    assert found.spread[0] == pytest.approx(0.12, rel=0.1) and found.spread[1] == pytest.approx(0.48, rel=0.1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_clean_images_among_noisy_ones(share: float) -> None:
    levels, found = two_levels(clean_digits(), 0.0, 0.4, share)
    assert found.mixed and found.spread[0] < 0.05 and found.spread[1] == pytest.approx(0.4, rel=0.15)
    assert found.per_sample[levels == 0].median() < 0.03
    assert found.per_sample[levels > 0].median() == pytest.approx(0.4, rel=0.05)


def test_two_levels_of_colour_images(cifar: Tensor) -> None:
    levels, found = two_levels(cifar, 0.2, 0.3, 0.5)
    assert found.mixed
    for level in (0.2, 0.3):
        assert found.per_sample[levels == level].numpy() == pytest.approx(level, rel=0.1)


def test_distribution_of_levels_from_chi_squared_values() -> None:
    """A quarter at level 1, the rest at 3, each seen through 20 degrees of freedom (relative error 16%)."""
    rng = np.random.default_rng(0)
    levels = np.where(np.arange(4000) % 4 == 0, 1.0, 3.0)
    squares = torch.from_numpy(levels**2 * rng.chisquare(20, 4000) / 20)
    found = distribution(squares, torch.full((4000,), 20.0, dtype=torch.float64))
    assert found.spread == (pytest.approx(1, rel=0.05), pytest.approx(3, rel=0.08))
    raw = np.sqrt(np.mean((squares.sqrt().numpy() / levels - 1) ** 2))
    shrunk = np.sqrt(np.mean((found.per_sample.numpy() / levels - 1) ** 2))
    assert raw == pytest.approx(math.sqrt(1 / 40), rel=0.1) and shrunk < raw / 2


# the parts


def test_dct_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=7)
    np.testing.assert_allclose(dct_matrix(7).numpy() @ x, scipy.fft.dct(x, norm="ortho"), atol=1e-12)


# photons


@functools.cache
def counted(gain: float, read: float, seed: int) -> Tensor:
    """Photon counts of smooth pictures of 100 units on average, 300 images of 32x32."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (2, 300, 1, 1, 1))
    rows, columns = np.arange(32)[:, None] / 32, np.arange(32) / 32
    clean = 100 + 45 * (np.sin(2 * np.pi * rows + phase[0]) + np.sin(2 * np.pi * columns + phase[1]))
    return torch.from_numpy(gain * rng.poisson(clean / gain) + read * rng.normal(size=clean.shape))


@pytest.mark.parametrize(("gain", "read"), [(1.0, 5.0), (3.0, 10.0), (0.2, 20.0)])
def test_gain_and_read_noise(gain: float, read: float) -> None:
    found = estimate_poisson_gaussian(counted(gain, read, 0))
    low, high = found.gain_interval
    assert low <= gain <= high and found.read_interval[0] <= read <= found.read_interval[1]
    if gain >= 1:
        assert found.gain == pytest.approx(gain, rel=0.08) and found.read == pytest.approx(read, rel=0.1)
    else:  # photon noise is a twentieth of all: only its being small is known
        assert found.gain < 0.6 and found.read == pytest.approx(read, rel=0.1)


def test_gaussian_noise_has_little_gain() -> None:
    y = counted(1e-6, 10.0, 1)
    found = estimate_poisson_gaussian(y)
    assert found.gain * 100 < 0.1 * 10.0**2 and found.read == pytest.approx(10, rel=0.05)
    assert found.gain_interval[0] == 0


@pytest.mark.parametrize(("gain", "read"), [(1.0, 3.0), (2.0, 8.0), (4.0, 2.0)])
def test_gain_of_cifar(gain: float, read: float, cifar: Tensor) -> None:
    rng = np.random.default_rng(2)
    clean = (cifar[::2].numpy() + 1) * 127.5
    y = torch.from_numpy(gain * rng.poisson(clean / gain) + read * rng.normal(size=clean.shape))
    found = estimate_poisson_gaussian(y)
    assert found.gain == pytest.approx(gain, rel=0.06)
    assert found.gain_interval[0] <= gain <= found.gain_interval[1]
    assert found.read_interval[0] <= read <= found.read_interval[1]
    if read**2 > gain * clean.mean() / 5:
        assert found.read == pytest.approx(read, rel=0.15)


def test_a_pedestal_moves_the_line_and_nothing_else() -> None:
    y = counted(2.0, 8.0, 3)
    found, moved = estimate_poisson_gaussian(y), estimate_poisson_gaussian(y + 250, zero=250)
    assert moved.zero == 250 and moved._replace(zero=0) == (
        pytest.approx(found.gain, rel=1e-6),
        pytest.approx(found.gain_interval, rel=1e-6),
        pytest.approx(found.read, rel=1e-6),
        pytest.approx(found.read_interval, rel=1e-6),
        0,
    )
    with pytest.raises(UserError, match=r"negative at 0, .* at least 21.* if gain"):  # 250 - 8^2 / 2 = 218
        estimate_poisson_gaussian(y + 250)
    with pytest.raises(UserError, match="below --zero 200"):
        estimate_poisson_gaussian(y, zero=200)


def test_noise_that_no_photons_make_is_refused() -> None:
    y = counted(2.0, 3.0, 3)
    for images, words in (
        (300 - y, "the noise falls with the signal"),
        ((y.clamp_min(0) / 255) ** (1 / 2.2), "the noise falls with the signal"),
        (100 * (y / 100) ** 4, "is not a line in the signal|would be negative at 0"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            estimate_poisson_gaussian(images)
        assert len(str(caught.value)) <= 300


def test_drawings_are_refused_rather_than_fitted() -> None:
    """On 8x8 digits every band holds strokes: the fitted gain would be two to four times too large."""
    y = torch.from_numpy(np.random.default_rng(0).poisson((clean_digits().numpy() + 1) * 8).astype(float))
    with pytest.raises(UserError, match="details are as strong as the noise at every scale"):
        estimate_poisson_gaussian(y)
    with pytest.raises(UserError, match="too few patches"):
        estimate_poisson_gaussian(white((6, 1, 8, 8), "few"))


# input that allows no estimate


@pytest.mark.parametrize("estimate", [estimate_sigma, estimate_poisson_gaussian])
def test_images_that_are_refused(estimate: object) -> None:
    assert callable(estimate)
    y = noisy(clean_digits()[:6], 0.2)
    broken = y.clone()
    broken[4, 0, 1, 1] = torch.nan
    for images, message in (
        (y[:1], "holds one image"),
        (y[:, :, :3], "3x8 are too small; at least 4x4 is needed"),
        (y[:, 0], r"images must be \[n, C, H, W\]"),
        (broken, "image 4 holds NaN or infinity"),
        (torch.ones_like(y), "every image is constant; there is no noise"),
        (y[:, :, :1, :1].expand_as(y), "every image is constant"),
    ):
        with pytest.raises(UserError, match=message):
            estimate(images)


def test_clean_images_have_next_to_no_noise() -> None:
    found = estimate_sigma(clean_digits())
    assert found.sigma < 0.01 and found.low == 0


def test_two_images_are_enough_where_they_are_large() -> None:
    found = estimate_sigma(0.5 * white((2, 1, 64, 64), "two"))
    assert found.sigma == pytest.approx(0.5, rel=0.15)  # the two halves choose bands from one image each
