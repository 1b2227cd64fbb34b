"""The power spectrum of images that nobody has seen, from undersampled k-space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.fourier import ifft2c, radius
from restill.core.tensors import complex_to_channels
from restill.corruption import Mri
from restill.diffusion import Prior
from restill.estimation import RadialPower

POWER = tuple(0.02 + 2.0 / (1 + k) ** 2 for k in range(12))


def images(n: int, height: int, width: int) -> Tensor:
    """Complex Gaussian images of the spectrum POWER, `[n, 2, H, W]`."""
    white = torch.randn(n, 1, height, width, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    deviation = Prior.stationary(POWER, height, width).variance.sqrt()
    return complex_to_channels(ifft2c(deviation * torch.view_as_complex(white)))


def estimated(law: Mri, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    power = RadialPower(*x.shape[2:])
    for part in x.split(100):
        operator = law.draw(len(part), tuple(part.shape[1:]), generator)
        power.add(law.corrupt(part, operator, generator), operator.mask, operator.sigma_n)
    return torch.tensor(power.profile(), dtype=torch.float64)


def test_radius_counts_cycles_of_the_longer_side() -> None:
    assert radius(4, 4)[2].tolist() == [2, 1, 0, 1] and radius(5, 5)[:, 2].tolist() == [2, 1, 0, 1, 2]
    assert radius(4, 8)[2].tolist() == [4, 3, 2, 1, 0, 1, 2, 3] and radius(4, 8)[:, 4].tolist() == [4, 2, 0, 2]


def test_stationary_prior_goes_through_its_knots() -> None:
    variance = Prior.stationary((4.0, 1.0), 5, 5).variance
    assert variance[2].tolist() == pytest.approx([1, 1, 4, 1, 1])
    assert variance[1, 1] == 1
    between = Prior.stationary((4.0, 1.0), 4, 8).variance[1, 3]  # at sqrt(5): beyond the last
    assert between == 1
    assert Prior.stationary((4.0, 2.0, 1.0), 5, 5).variance[1, 1] == pytest.approx(2 ** (2 - 2**0.5))
    assert Prior.stationary((3.0,), 2, 3).variance.tolist() == [[pytest.approx(3)] * 3] * 2


@pytest.mark.parametrize("sigma_n", [0.0, 0.2])
@pytest.mark.parametrize(("coils", "tolerance"), [(1, 0.06), (4, 0.25)])
def test_spectrum_of_undersampled_k_space(coils: int, tolerance: float, sigma_n: float) -> None:
    """One coil: to the statistical error, but for the centre, which its phase blurs. Four: blurred more."""
    law = Mri(acceleration=3, acs=2, coils=coils, sigma_n=sigma_n)
    exact = Prior.stationary(POWER, 20, 20).variance
    bins = radius(20, 20).round().long()
    mean = torch.stack([exact[bins == k].mean() for k in range(int(bins.max()) + 1)])
    found = estimated(law, images(1000, 20, 20))
    assert found.shape == mean.shape
    assert ((found / mean - 1).abs()[2 if coils > 1 else 1 :] < tolerance).all()


def test_noise_is_taken_away() -> None:
    x = images(600, 12, 12)
    noisy, plain = (estimated(Mri(acceleration=2, acs=2, coils=3, sigma_n=level), x) for level in (0.3, 0.0))
    assert ((noisy - plain).abs()[1:] < 0.02).all()
    assert 3 * 0.3**2 > 10 * 0.02  # what would be there otherwise


def test_too_much_noise_and_nothing_measured() -> None:
    power = RadialPower(4, 6)
    with pytest.raises(UserError, match="sigma_n"):
        power.profile()
    power.add(torch.zeros(2, 2, 4, 6), torch.ones(2, 1, 1, 6, dtype=torch.bool), torch.full((2,), 0.5))
    with pytest.raises(UserError, match="smaller sigma_n"):
        power.profile()


def test_a_radius_without_measurement_is_like_the_one_before() -> None:
    power = RadialPower(2, 8)
    mask = (torch.arange(8) - 4).abs().le(1).view(1, 1, 1, 8)
    power.add(torch.ones(1, 2, 2, 8) * mask, mask, torch.zeros(1))
    found = power.profile()
    assert len(found) == 7 and found == pytest.approx((1.0,) * 7)


@pytest.mark.parametrize("lines", [True, False], ids=["lines", "points"])
def test_profile_by_its_definition(lines: bool) -> None:
    """In numpy: measured samples alone, each slice's noise, radii without any, and the floor; whatever the units."""
    rng = np.random.default_rng(3)
    height, width, coils = 6, 11, 2
    y, x = np.indices((height, width))
    r = np.hypot((y - 3) / 6, (x - 5) / 11) * 11
    kspace = rng.normal(size=(3, 2 * coils, height, width)) * np.exp(-r / 2)
    mask = np.abs(x - 5)[:1] < 2 if lines else r < 4
    masks = np.stack([mask, mask & (x[: len(mask)] != 6), mask])[:, None]
    sigma = np.array([0.0, 0.1, 0.3])
    bins = r.round().astype(int)
    power, count = np.zeros(bins.max() + 1), np.zeros(bins.max() + 1)
    for k, m, s in zip(kspace, masks, sigma, strict=True):
        for place in zip(*np.nonzero(np.broadcast_to(m[0], (height, width))), strict=True):
            power[bins[place]] += np.square(k[(slice(None), *place)]).sum() - 2 * coils * s**2
            count[bins[place]] += 1
    assert (count == 0).any()
    profile = []
    for p, c in zip(power, count, strict=True):
        profile.append(p / c / 2 if c else profile[-1])
    mean = sum(profile[k] for k in bins.flat) / bins.size
    wanted = np.maximum(profile, 1e-3 * mean)
    assert (wanted > profile).any() or not lines
    for factor in (1.0, 1e4):
        found = RadialPower(height, width)
        for part in (slice(0, 2), slice(2, 3)):
            given = torch.from_numpy(kspace * masks * factor)[part], torch.from_numpy(masks)[part]
            found.add(*given, torch.from_numpy(sigma * factor)[part])
        np.testing.assert_allclose(np.array(found.profile()) / factor**2, wanted, rtol=1e-9)
