"""Photon noise against exact sums over counts (scipy) and the parabolic cylinder functions of the read noise.

The oracle shares nothing with the library but the definition of the generalised Anscombe transform.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from scipy import special, stats

from restill.core.errors import UserError
from restill.corruption import Compose, Poisson, PoissonOperator
from restill.corruption.poisson import _table

F64 = torch.float64
LIGHT = (0.0, 1e-3, 0.05, 0.3, 1.0, 2.5, 7.0, 30.0, 150.0, 199.9, 200.1, 260.0, 1e3, 1e4)
READ = (0.0, 0.3, 1.0, 5.0, 30.0)


def given_counts(counts: np.ndarray, read: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of `2 sqrt(max(k + 3/8 + read^2 + read eps, 0))` over the read noise."""
    a = counts + 0.375 + read**2
    if read == 0:
        return 2 * np.sqrt(a), 4 * a
    t = a / read
    square = 4 * (a * stats.norm.cdf(t) + read * stats.norm.pdf(t))
    near = np.minimum(t, 12)  # E (t + eps)_+^(1/2) = Gamma(3/2) exp(-t^2/4) D_{-3/2}(-t) / sqrt(2 pi)
    cylinder = special.pbdv(-1.5, -near)[0] * np.exp(-(near**2) / 4) * special.gamma(1.5) / np.sqrt(2 * np.pi)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    smooth = np.sqrt(np.maximum(t[:, None] + nodes, 0)) @ weights / weights.sum()
    return 2 * np.sqrt(read) * np.where(t < 12, cylinder, smooth), square


def moments(light: float, read: float) -> tuple[float, float]:
    """Mean and variance of the stabilised measurement of `light` photons."""
    spread = 12 * light**0.5
    step = max(1, int(light**0.5) // 40)  # 40 counts to a standard deviation are as good as all
    counts = np.arange(max(0, int(light - spread)), int(light + spread + 60), step)
    weights = stats.poisson.pmf(counts, light)
    weights /= weights.sum()
    mean, square = given_counts(counts, read)
    return float(weights @ mean), float(weights @ square - (weights @ mean) ** 2)


def law_of(white: float, read: float, zero: float = -1.0) -> Poisson:
    """A law by what it is in photons."""
    gain = (1 - zero) / white
    return Poisson(gain=gain, read_noise=read * gain, zero=zero)


def operator_of(law: Poisson, n: int = 1) -> PoissonOperator:
    return law.draw(n, (1, 1, 1), torch.Generator().manual_seed(0))


def image(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(1, 1, 1, -1)


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("white", [0.5, 100.0, 1e4, 1e9])
def test_apply_is_the_mean_of_what_is_measured(white: float, read: float) -> None:
    """To 1e-6 of the noise from no light to 10,000 photons, or to as far as a table of few photons goes."""
    law = law_of(white, read)
    low, high = moments(0.0, read)[0], moments(white, read)[0]
    light = [value for value in LIGHT if value < 4 * white + 50]
    expected = torch.tensor([(moments(value, read)[0] - low) / (high - low) * 2 - 1 for value in light], dtype=F64)
    x = torch.tensor(light, dtype=F64) * law.gain - 1
    got = operator_of(law).apply(image(x)).flatten()
    sigma_n = law.levels[0]
    assert sigma_n == pytest.approx(2 / (high - low), rel=1e-6)
    # light itself is rounded to 1e-16 of white
    torch.testing.assert_close(got / sigma_n, expected / sigma_n, rtol=0, atol=1e-6 + 1e-15 * white)


@pytest.mark.parametrize("zero", [-1.5, -1.0, 0.3])
def test_no_light_may_have_any_value(zero: float) -> None:
    """It is measured as -1 and white as 1; what lies between by the oracle, and back."""
    law = law_of(80.0, 1.5, zero=zero)
    operator = operator_of(law)
    light = [0.0, 20.0, 80.0]
    low, high = moments(0.0, 1.5)[0], moments(80.0, 1.5)[0]
    expected = torch.tensor([(moments(value, 1.5)[0] - low) / (high - low) * 2 - 1 for value in light], dtype=F64)
    x = torch.tensor(light, dtype=F64) * law.gain + zero
    assert float(x[-1]) == pytest.approx(1)
    torch.testing.assert_close(operator.apply(image(x)).flatten(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(operator.from_domain(image(expected)).flatten(), x, rtol=0, atol=1e-5)
    assert law.levels[0] == pytest.approx(2 / (high - low), rel=1e-6)


def test_the_oracle_by_drawing() -> None:
    """n = 200,000 counts by numpy: mean and variance within 5 standard errors."""
    rng, n = np.random.default_rng(0), 200_000
    for light, read in ((0.3, 1.0), (7.0, 0.3), (150.0, 5.0)):
        counts = rng.poisson(light, n) + read * rng.standard_normal(n)
        f = 2 * np.sqrt(np.maximum(counts + 0.375 + read**2, 0))
        mean, variance = moments(light, read)
        assert abs(f.mean() - mean) < 5 * f.std() / n**0.5
        assert abs(f.var() - variance) < 5 * ((f - f.mean()) ** 2).std() / n**0.5


VARIANCE = {  # of stabilised measurements: bounds below 3 photons, from 3 on, and from 10 on
    0.0: ((0.0, 0.985), (0.98, 1.01), (0.999, 1.01)),
    0.3: ((0.26, 1.015), (1.0, 1.02), (0.999, 1.01)),
    1.0: ((0.95, 1.10), (1.0, 1.07), (0.999, 1.01)),
    2.0: ((1.07, 1.21), (1.0, 1.08), (0.999, 1.02)),
    5.0: ((1.0, 1.03), (1.0, 1.02), (0.999, 1.02)),
}


@pytest.mark.parametrize("read", VARIANCE)
def test_noise_is_of_one_level_but_for_the_dark(read: float) -> None:
    """Variance over sigma_n^2, exact. From 3 photons on 1 within 8%, from 10 on within 2%, for all read noise.

    Below, read noise of 2 photons adds up to 20%; without any the variance vanishes: 0.72 at 1 photon, 0.12 at a tenth.
    """
    bounds = VARIANCE[read]
    for first, last, (low, high) in zip((0.0, 3.0, 10.0), (3.0, 10.0, 1e4), bounds, strict=True):
        found = [moments(light, read)[1] for light in np.linspace(first, last, 25)]
        assert low <= min(found) and max(found) <= high, (min(found), max(found))
    if read == 0:
        assert moments(1.0, read)[1] == pytest.approx(0.717, abs=0.001)
        assert moments(0.1, read)[1] == pytest.approx(0.118, abs=0.001)


@pytest.mark.parametrize("read", [0.0, 1.0, 5.0])
def test_corrupt_has_these_moments(read: float) -> None:
    """n = 50,000 of each light: mean and variance within 5 standard errors of the oracle's, in units of sigma_n."""
    law, n = law_of(200.0, read), 50_000
    sigma_n, low = law.levels[0], moments(0.0, read)[0]
    for k, light in enumerate((0.0, 0.5, 4.0, 40.0, 199.0)):
        x = torch.full((n, 1, 1, 1), light * law.gain - 1, dtype=F64)
        y = law.corrupt(x, operator_of(law, n), torch.Generator().manual_seed(k))
        f = ((y + 1) / sigma_n + low).flatten().numpy()
        mean, variance = moments(light, read)
        assert abs(f.mean() - mean) <= 5 * f.std() / n**0.5 + 1e-6
        assert abs(f.var() - variance) <= 5 * ((f - f.mean()) ** 2).std() / n**0.5 + 1e-6


@pytest.mark.parametrize("read", [0.0, 2.0])
def test_light_below_zero_makes_no_photons(read: float) -> None:
    """A generator may draw it: the measurement is that of no light, and its mean still falls."""
    law, n = law_of(100.0, read, zero=-0.5), 1000
    dark, below = (torch.full((n, 1, 1, 1), value, dtype=F64) for value in (-0.5, -0.9))
    y, other = (law.corrupt(x, operator_of(law, n), torch.Generator().manual_seed(0)) for x in (dark, below))
    assert torch.equal(y, other) and y.isfinite().all()
    assert read > 0 or (y == -1).all()
    operator = operator_of(law)
    assert operator.apply(image(below[:1])) < operator.apply(image(dark[:1]))


@pytest.mark.parametrize("read", [0.0, 1e3])
@pytest.mark.parametrize("white", [0.5, 100.0, 1e9])
def test_inverse_is_exact_and_both_rise(white: float, read: float) -> None:
    law = law_of(white, read)
    operator = operator_of(law)
    x = torch.cat([torch.linspace(-3, 10, 2001, dtype=F64), torch.linspace(-1.001, -0.999, 2001, dtype=F64)]).sort()[0]
    y = operator.apply(image(x))
    assert (y.flatten().diff()[x.diff() > 0] > 0).all()
    torch.testing.assert_close(operator.from_domain(y).flatten(), x, rtol=1e-9, atol=1e-9)
    ends = operator.apply(image(torch.tensor([-1.0, 1.0], dtype=F64)))
    torch.testing.assert_close(ends.flatten(), torch.tensor([-1.0, 1.0], dtype=F64), rtol=0, atol=1e-6 * law.levels[0])


@pytest.mark.parametrize("read", [0.0, 1.0])
@pytest.mark.parametrize("white", [0.5, 100.0, 1e6])
def test_gradients_are_slopes_everywhere(white: float, read: float) -> None:
    """By central differences; below no light and far above white too, from where a generator must find back."""
    law = law_of(white, read)
    operator = operator_of(law)
    x = torch.cat([torch.linspace(-3, 20, 501, dtype=F64), -1 + torch.logspace(-9, 0, 200, dtype=F64)])
    x = torch.cat([x, torch.tensor([-1.0], dtype=F64)]).requires_grad_()
    slope = torch.autograd.grad(operator.apply(image(x)).sum(), x)[0]
    assert torch.isfinite(slope).all() and (slope > 0).all()
    with torch.no_grad():
        step = 1e-7
        differences = (operator.apply(image(x + step)) - operator.apply(image(x - step))).flatten() / (2 * step)
    close = (slope - differences).abs() < 1e-3 * slope  # a difference may step over one of 4,096 corners
    assert close.float().mean() > 0.9 if white > 1e5 else close.float().mean() > 0.98
    y = operator.apply(image(x.detach())).requires_grad_()
    back = torch.autograd.grad(operator.from_domain(y).sum(), y)[0]
    assert torch.isfinite(back).all() and (back > 0).all()


def test_slope_in_the_middle_is_that_of_the_mean() -> None:
    """Against differences of the oracle, to 0.1%: straight pieces have the slope of the curve."""
    law = law_of(100.0, 1.0)
    span = moments(100.0, 1.0)[0] - moments(0.0, 1.0)[0]
    for light in (0.5, 3.0, 40.0, 300.0):
        x = torch.tensor([light * law.gain - 1], dtype=F64, requires_grad=True)
        (slope,) = torch.autograd.grad(operator_of(law).apply(image(x)).sum(), x)
        rise = (moments(light + 1e-3, 1.0)[0] - moments(light - 1e-3, 1.0)[0]) / 2e-3
        assert slope.item() == pytest.approx(rise * 2 / span / law.gain, rel=1e-3)


@pytest.mark.parametrize("white", [0.5, 100.0, 1e4, 1e8])
def test_float32_is_as_good_as_its_numbers(white: float) -> None:
    """Within a few roundings of light (6e-8 of white) and of stabilised values, all far below the noise."""
    law = law_of(white, 1.0)
    operator = operator_of(law)
    x = torch.linspace(-1.2, 5, 3001, dtype=torch.float32)
    got, exact = operator.apply(image(x)), operator.apply(image(x.double()))
    assert got.dtype == torch.float32
    error = (got - exact).abs() / exact.abs().clamp_min(1)
    assert error.max() < 1e-6 and error.max() < 0.01 * law.levels[0]
    back = operator.from_domain(got)
    assert back.dtype == torch.float32 and (back.flatten() - x).abs().max() < 1e-5


def test_counts_come_to_the_mean_where_there_is_much_light_in_float32() -> None:
    """Dark pixels beside a white of 10^8 photons keep their counts: n = 100,000, within 5 standard errors."""
    law, n = law_of(1e8, 0.0, zero=0.0), 100_000
    x = torch.full((n, 1, 1, 1), 4 * law.gain, dtype=torch.float32)
    y = law.corrupt(x, operator_of(law, n), torch.Generator().manual_seed(0)).double()
    f = (y.flatten() + 1) / law.levels[0] + moments(0.0, 0.0)[0]
    mean, variance = moments(4.0, 0.0)
    # a value in float32 near -1 is rounded to 6e-8, which is sigma_n * 6e-4 here
    assert abs(float(f.mean()) - mean) < 5 * (variance / n) ** 0.5 + 6e-4


def test_units_of_files() -> None:
    """A camera with an offset of 100, 2.1 units per photon and a read noise of 5 units; white is 4,195 units."""
    camera = Poisson(gain=2.1, read_noise=5.0, zero=100.0)
    law = camera.in_units(offset=2147.5, scale=2047.5)
    assert (law.gain, law.read_noise) == pytest.approx((2.1 / 2047.5, 5 / 2047.5))
    assert law.zero == pytest.approx(-1.0)
    same = law_of(4095 / 2.1, 5 / 2.1)
    assert law.levels[0] == pytest.approx(same.levels[0], rel=1e-12)
    values = torch.tensor([95.0, 100.0, 300.0, 4195.0], dtype=F64)
    f = 2 * ((values - 100) / 2.1 + 0.375 + (5 / 2.1) ** 2).clamp_min(0).sqrt()
    low, high = moments(0.0, 5 / 2.1)[0], moments(4095 / 2.1, 5 / 2.1)[0]
    expected = (f - low) / (high - low) * 2 - 1
    torch.testing.assert_close(law.stabilise((values - 2147.5) / 2047.5), expected, rtol=0, atol=1e-8)
    with pytest.raises(UserError, match=r"corruption.zero 100.* must lie below what becomes white, 90"):
        camera.in_units(offset=45.0, scale=45.0)
    for act in (lambda: camera.levels, lambda: operator_of(camera).apply(torch.zeros(1, 1, 1, 1))):
        with pytest.raises(UserError, match=r"corruption.zero.*must lie below white, which is 1, not 100"):
            act()


def test_values_below_no_light() -> None:
    """With read noise they are ordinary; without it the law is wrong, unless they are off by rounding alone."""
    m = torch.tensor([-1.1, -1.0, 0.0], dtype=F64)
    assert torch.isfinite(law_of(100.0, 3.0).stabilise(m)).all()
    with pytest.raises(UserError, match=r"a measurement lies below the value of no light \(-1\.1 < -1\)"):
        law_of(100.0, 0.0).stabilise(m)
    rounded = law_of(100.0, 0.0).stabilise(torch.tensor([-1.0 - 1e-7, -1.0], dtype=F64))
    torch.testing.assert_close(rounded, torch.tensor([-1.0, -1.0], dtype=F64), rtol=0, atol=1e-4)


def test_counts_and_measurements_are_stabilised_alike() -> None:
    """`corrupt` of light, and `stabilise` of the counts that it drew, given in normalised units."""
    law, generator = law_of(50.0, 2.0), torch.Generator().manual_seed(3)
    x = torch.rand(4, 1, 5, 7, generator=generator, dtype=F64) * 2 - 1
    y = law.corrupt(x, operator_of(law, 4), torch.Generator().manual_seed(4))
    again = torch.Generator().manual_seed(4)
    counts = torch.poisson((x + 1) / law.gain, generator=again)
    noise = torch.randn(x.shape, generator=again, dtype=F64)
    m = -1 + law.gain * counts + law.read_noise * noise
    torch.testing.assert_close(law.stabilise(m), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("white", "read"), [(0.01, 0.0), (0.01, 50.0), (2e9, 0.0), (2e9, 1e3), (100.0, 1e6)])
def test_tables_stay_small_and_finite(white: float, read: float) -> None:
    """A few thousand numbers and well under a second, from a hundredth of a photon to two thousand million."""
    law = law_of(white, read)
    start = time.process_time()
    table = _table.__wrapped__(law.gain, law.read_noise, law.zero)
    assert time.process_time() - start < 5
    assert len(table.curve) < 5000 and (table.curve.diff() > 0).all() and (table.value.diff() > 0).all()
    assert torch.isfinite(table.value).all() and 0 < law.levels[0] < float("inf")
    assert _table(law.gain, law.read_noise, law.zero) is _table(law.gain, law.read_noise, law.zero)


def test_noise_beyond_all_light_is_refused() -> None:
    with pytest.raises(UserError, match=r"corruption.read_noise: 1e.12 and gain 0.02 hide white, which is 100 photons"):
        Poisson(gain=0.02, read_noise=1e12)


def test_photons_at_the_end_of_a_chain() -> None:
    """Missing pixels are exactly 0 and the others have the moments of photon noise: n = 90,000, 5 standard errors."""
    law = Compose(operators=({"kind": "poisson", "gain": 0.02}, {"kind": "mask", "p": 0.3}))
    x = torch.full((9, 1, 100, 100), 0.02 * 20 - 1, dtype=F64)
    operator = law.draw(9, (1, 100, 100), torch.Generator().manual_seed(0))
    y = law.corrupt(x, operator, torch.Generator().manual_seed(1))
    mask = operator.condition()
    assert mask is not None and (y[~mask] == 0).all()
    low, high = moments(0.0, 0.0)[0], moments(100.0, 0.0)[0]
    f = ((y[mask] + 1) / 2 * (high - low) + low).numpy()
    mean, variance = moments(20.0, 0.0)
    assert abs(f.mean() - mean) < 5 * (variance / len(f)) ** 0.5
    assert abs(f.var() - variance) < 5 * ((f - f.mean()) ** 2).std() / len(f) ** 0.5
