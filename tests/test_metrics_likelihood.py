"""Measurement likelihoods against loops and Gaussian closed forms; what lowers, raises and leaves the difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from custom_corruptions import Blur, RandomMask
from restill.checks import fit, likelihood
from restill.checks.likelihood import Likelihood, likelihood_check, measurement_likelihood
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise, Corruption, Identity, Operator
from restill.io import digits


def shuffled(values: Tensor) -> Tensor:
    return values[torch.randperm(len(values), generator=seeded("likelihood-order"))]


@pytest.fixture(scope="module")
def clean() -> Tensor:
    """All 1,797 digits in a random order, `[1797, 1, 8, 8]`; in [-1, 1]."""
    pytest.importorskip("sklearn")
    return shuffled(torch.from_numpy(np.stack(list(digits()))) / 8 - 1)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """Their classes, in the same order."""
    return shuffled(torch.tensor(digits().labels))


def measured(x: Tensor, corruption: Corruption, seed: int = 0) -> tuple[Tensor, Operator]:
    generator = seeded("likelihood-measured", seed)
    operator = corruption.draw(len(x), tuple(x.shape[1:]), generator)
    return corruption.corrupt(x, operator, generator), operator


def found(y: Tensor, operator: Operator, images: Tensor, seed: int = 0) -> Likelihood:
    value = measurement_likelihood(y, operator, images, seed)
    assert isinstance(value, Likelihood)
    return value


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize(
    "corruption",
    [AdditiveNoise(sigma_n=(0.2, 0.9)), Blur(sigma_n=0.4), RandomMask(p=0.5, sigma_n=(0.3, 0.6))],
    ids=lambda corruption: corruption.kind,
)
def test_log_densities_agree_with_loops(
    corruption: Corruption, leave_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logsumexp = pytest.importorskip("scipy.special").logsumexp
    x = torch.randn(9, 2, 4, 3, generator=seeded("likelihood-loops"), dtype=torch.float64)
    y, operator = measured(x[:5], corruption)
    own = torch.arange(5) if leave_out else None
    monkeypatch.setattr(fit, "_NUMBERS", 300)
    densities, effective = likelihood._log_density(y, operator, x, own)
    for i in range(5):
        one, sigma = operator.select(slice(i, i + 1)), float(operator.sigma_n[i])
        rows = [j for j in range(9) if not (leave_out and i == j)]
        observed = int(one.restrict(torch.ones(1, 2, 4, 3)).sum())
        logs = [
            -0.5 * float((one.apply(x[j : j + 1]) - y[i]).square().sum()) / sigma**2
            - observed / 2 * math.log(2 * math.pi * sigma**2)
            for j in rows
        ]
        assert float(densities[i]) == pytest.approx((logsumexp(logs) - math.log(len(rows))) / observed, rel=1e-6)
        weights = np.exp(logs - logsumexp(logs))
        assert float(effective[i]) == pytest.approx(1 / np.square(weights).sum(), rel=1e-5)


def test_gaussian_data_meet_the_closed_form() -> None:
    """y is normal with covariance B C B^T + s^2 I; 50,000 images leave an error of 1/sqrt(effective) each."""
    generator = seeded("likelihood-gaussian")
    factor = torch.randn(4, 4, generator=generator, dtype=torch.float64) / 2
    x = (torch.randn(50_300, 4, generator=generator, dtype=torch.float64) @ factor.T).reshape(-1, 1, 2, 2) + 0.3
    for corruption in (AdditiveNoise(sigma_n=0.6), Blur(width=0.8, sigma_n=0.6)):
        y, operator = measured(x[:300], corruption)
        result = found(y, operator, x[300:])
        basis = operator.select(torch.zeros(4, dtype=torch.int64)).apply(torch.eye(4).double().reshape(4, 1, 2, 2))
        forward = basis.flatten(1).T
        mean = forward @ torch.full((4,), 0.3, dtype=torch.float64)
        covariance = forward @ factor @ factor.T @ forward.T + 0.36 * torch.eye(4)
        exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(y.flatten(1)) / 4
        assert result.measurements == pytest.approx(float(exact.mean()), abs=5 / math.sqrt(result.effective) / 4)
        assert result.effective > 1000
        assert result.measurements_std == pytest.approx(float(exact.std()) / math.sqrt(300), rel=0.05)
        assert abs(result.difference) < 5 * result.difference_std
        assert (result.n, result.images, result.dim) == (300, 50_000, 4)


def test_fresh_images_explain_measurements_like_their_own(clean: Tensor) -> None:
    """30 random halves against the other half: z has mean 0 and a standard deviation of about 1.1, and no warning."""
    corruption, z = AdditiveNoise(sigma_n=0.4), []
    for seed in range(30):
        order = torch.randperm(len(clean), generator=seeded("likelihood-halves", seed))
        result = found(*measured(clean[order[:898]], corruption, seed), clean[order[898:]], seed)
        assert "as likely" in likelihood_check(result, "student").sentence
        z.append(result.difference / result.difference_std)
    assert abs(float(np.mean(z))) < 4 * 1.2 / math.sqrt(30)
    assert 0.6 < float(np.std(z)) < 1.2 * (1 + 4 / math.sqrt(60))


@pytest.mark.parametrize(
    "corruption", [AdditiveNoise(sigma_n=0.4), RandomMask(p=0.4, sigma_n=0.4)], ids=lambda corruption: corruption.kind
)
def test_a_generator_that_leaves_out_classes_is_noticed(clean: Tensor, labels: Tensor, corruption: Corruption) -> None:
    """It draws no digit above four."""
    y, operator = measured(clean[:300], corruption)
    rest = clean[300:1300]
    result = found(y, operator, rest[labels[300:1300] < 5])
    check = likelihood_check(result, "student")
    assert check.status == "warning" and check.value == result.difference < -8 * result.difference_std
    assert "no generated image explains" in check.sentence and "nearest image" in check.sentence
    complete = likelihood_check(found(y, operator, rest[:500]), "student")
    assert complete.status == "ok" and "as likely" in complete.sentence


def test_images_that_vary_too_much_and_copies_raise_the_difference(clean: Tensor) -> None:
    corruption = AdditiveNoise(sigma_n=0.4)
    y, operator = measured(clean[:500], corruption)
    wild = clean[500:] + 0.5 * torch.randn(1297, 1, 8, 8, generator=seeded("likelihood-wild"))
    for images in (wild, clean[:500]):
        check = likelihood_check(found(y, operator, images), "student")
        assert check.value > 0.05 and check.status == "ok"
        assert "vary more than the data, or are copies" in check.sentence


def test_samples_without_noise_are_left_away(clean: Tensor) -> None:
    y, operator = measured(clean[:50], AdditiveNoise(sigma_n=0.0))
    nothing = measurement_likelihood(y, operator, clean[50:], 0)
    assert nothing is None
    y, operator = measured(clean[:200], AdditiveNoise(sigma_n=(0.0, 0.4)))
    result = found(y, operator, clean[200:])
    noisy = operator.sigma_n > 0
    assert result.n == int(noisy.sum()) < 200
    assert found(y[noisy], operator.select(noisy), clean[200:]) == result


def test_the_result_depends_on_the_seed_alone(clean: Tensor) -> None:
    y, operator = measured(clean[:100], AdditiveNoise(sigma_n=0.4))
    torch.manual_seed(0)
    first = found(y, operator, clean[100:400], seed=1)
    torch.manual_seed(1)
    assert found(y, operator, clean[100:400], seed=1) == first
    other = found(y, operator, clean[100:400], seed=2)
    assert (other.own != first.own, other.measurements) == (True, first.measurements)


def test_small_differences_are_no_warning() -> None:
    fields = {"measurements": -1.0, "measurements_std": 1e-5, "own_std": 1e-5, "effective": 9.0, "n": 9, "images": 9}
    small = likelihood_check(Likelihood(own=-0.999, dim=64, **fields), "student")  # type: ignore[arg-type]
    assert small.status == "ok" and "as likely" in small.sentence and "nearest" not in small.sentence
    same_in_more_pixels = likelihood_check(Likelihood(own=-0.999, dim=3072, **fields), "student")  # type: ignore[arg-type]
    assert same_in_more_pixels.status == "warning" and "-0.001 ± 1e-05 nats" in same_in_more_pixels.sentence


def test_refusals() -> None:
    x, operator = torch.zeros(4, 1, 4, 4), Identity(torch.ones(4))
    for y, images, message in (
        (x[:3], x, "4 operators for 3 measurements"),
        (x, x[:2], "2 images"),
        (x, x * torch.nan, "NaN"),
        (x.to(torch.complex64), x, "real"),
    ):
        with pytest.raises(UserError, match=message):
            measurement_likelihood(y, operator, images, 0)
