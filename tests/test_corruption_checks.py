"""Proximal distances and checks of a generator that is exactly right, or is not, under every corruption.

Right means: images of the same law as those behind the measurements, but other images. Every bound states how many
images and how many standard errors it rests on; all draws are seeded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.checks import (
    fit,
    hidden,
    hidden_share,
    memorisation,
    memorisation_check,
    residuals,
    residuals_check,
)
from restill.checks.likelihood import likelihood_check, measurement_likelihood
from restill.core.tensors import seeded
from restill.corruption import (
    AdditiveNoise,
    Blur,
    Compose,
    Corruption,
    Downsampling,
    Function,
    Mask,
    Operator,
    Poisson,
    function,
    register_operator,
)
from restill.metrics import PixelFeatures, feature_moments, frechet_distance, recorrupted

SHAPE = (1, 8, 8)
N = 300  # images on either side
BLUR = {"kind": "blur", "size": 5, "std": 1}
LAWS: dict[str, Corruption] = {
    "noise": AdditiveNoise(sigma_n=(0.2, 0.4)),
    "pixels": Mask(p=0.6, sigma_n=0.1),
    "pixels-mixed": Mask(p=(0.3, 0.8), clean_fraction=0.1, per_channel=True),
    "box": Mask(p=0.25, pattern="box"),
    "blur": Blur(size=5, std=1),
    "blur-noise": Blur(size=5, std=1, sigma_n=0.1),
    "motion": Blur(kernel="motion", size=5, sigma_n=0.1),
    "average": Downsampling(),
    "average-noise": Downsampling(sigma_n=0.2),
    "bicubic-noise": Downsampling(method="bicubic", sigma_n=0.1),
    "poisson": Poisson(gain=0.1),
    "poisson-read": Poisson(gain=0.1, read_noise=0.2),
    "poisson-dark": Poisson(gain=1.0),
    "function": Function(name="sums", sigma_n=0.1),
    "blur-mask": Compose(operators=(BLUR, {"kind": "mask", "p": 0.5}), sigma_n=0.1),
    "low-mask": Compose(operators=("downsampling", {"kind": "mask", "p": 0.5}), sigma_n=0.1),
    "poisson-mask": Compose(operators=({"kind": "poisson", "gain": 0.1}, {"kind": "mask", "p": 0.5})),
}
every_law = pytest.mark.parametrize("name", LAWS)


@pytest.fixture(autouse=True)
def operator() -> Iterator[None]:
    """Sums of rows and of columns."""
    known = dict(function._FUNCTIONS)
    register_operator("sums", lambda x: torch.stack([x.sum(-1), x.sum(-2)], dim=-2) / 8)
    yield
    function._FUNCTIONS.clear()
    function._FUNCTIONS.update(known)


def pictures(n: int, seed: int) -> Tensor:
    """Images of one law, `[n, 1, 8, 8]` in [-1, 1]: a bright spot of random place, size and height on a slope."""
    generator = seeded("checks", seed)
    row, column, width, height, slope = torch.rand(5, n, 1, 1, generator=generator)
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)
    squares = (rows - 1 - 5 * row) ** 2 + (columns - 1 - 5 * column) ** 2
    spot = (0.5 + height) * torch.exp(-squares / (2 * (0.8 + width) ** 2))
    return (spot + 0.4 * slope * (rows + columns) / 14 - 0.95)[:, None].clamp(-1, 1)


def measured(law: Corruption, x: Tensor, seed: int) -> tuple[Tensor, Operator]:
    generator = seeded("measured", seed)
    operator = law.draw(len(x), SHAPE, generator)
    return law.corrupt(x, operator, generator), operator


def proximal(law: Corruption, generated: Tensor, seed: int) -> float:
    """Proximal Fréchet distance of images to measurements of other images."""
    y, operator = measured(law, pictures(N, 2 * seed), seed)
    features = PixelFeatures(SHAPE)
    anew = feature_moments(recorrupted([generated], law, seed), features)
    return frechet_distance(anew, feature_moments([operator.to_image(y)], features))


@every_law
def test_proximal_distances_of_a_right_generator_are_those_of_chance(name: str) -> None:
    """300 images against 300 measurements, 16 times: the distance is biased by n, and chance alone sets its size.

    Its null distribution is found independently, from measurements against measurements: the means agree within five
    standard errors. Images of 0.7 of the contrast lie more than five standard deviations above it.
    """
    law, features = LAWS[name], PixelFeatures(SHAPE)
    null = []
    for seed in range(100, 116):
        sets = [measured(law, pictures(N, 2 * seed + k), 2 * seed + k) for k in (0, 1)]
        moments = [feature_moments([operator.to_image(y)], features) for y, operator in sets]
        null.append(frechet_distance(*moments))
    right = [proximal(law, pictures(N, 2 * seed + 1), seed) for seed in range(16)]
    error = math.hypot(np.std(right, ddof=1), np.std(null, ddof=1)) / 4
    assert abs(np.mean(right) - np.mean(null)) < 5 * error
    assert proximal(law, 0.7 * pictures(N, 1), 0) > np.mean(null) + 5 * np.std(null, ddof=1)


@every_law
def test_checks_do_not_warn_of_a_right_generator(name: str) -> None:
    law, images = LAWS[name], pictures(N, 1)
    y, operator = measured(law, pictures(N, 0), 0)
    found = memorisation(operator.to_image(y), images, law, 0)
    assert memorisation_check(found, "student").status != "warning"
    anew = torch.cat(list(recorrupted([images], law, 0)))
    assert residuals_check(residuals(anew, operator.to_image(y)), "student").status == "ok"
    likelihood = measurement_likelihood(y, operator, images, 0, law)
    assert (likelihood is None) == (law.sigma_max == 0)
    if likelihood is not None:
        assert likelihood_check(likelihood, "student").status == "ok"
        assert abs(likelihood.difference) < 5 * likelihood.difference_std  # standard error over 300 measurements


@pytest.mark.parametrize("name", ["noise", "blur-noise", "motion", "bicubic-noise", "poisson", "poisson-read"])
def test_copies_are_noticed_where_noise_leaves_anything_to_see(name: str) -> None:
    law, images = LAWS[name], 1.6 * torch.rand(N, *SHAPE, generator=seeded("varied")) - 0.8
    y, operator = measured(law, images, 0)
    found = memorisation(operator.to_image(y), images, law, 0)
    assert found.z_copy < -8 and memorisation_check(found, "student").status == "warning"


@pytest.mark.parametrize("name", ["poisson-read", "poisson-dark"])
def test_photon_noise_that_is_not_gaussian_is_on_both_sides(name: str) -> None:
    """In the dark stabilised counts have less noise than `sigma_n`, or none: Gaussian noise on one side would show."""
    law, images = LAWS[name], pictures(2000, 1)
    y, operator = measured(law, pictures(2000, 0), 0)
    fair = measurement_likelihood(y, operator, images, 0, law)
    unfair = measurement_likelihood(y, operator, images, 0)
    assert fair is not None and unfair is not None
    assert abs(fair.difference) < 5 * fair.difference_std
    assert abs(unfair.difference) > 5 * unfair.difference_std


@every_law
def test_squared_differences_are_those_of_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_NUMBERS", 700)
    law, images = LAWS[name], pictures(7, 1).double()
    y, operator = measured(law, pictures(5, 0).double(), 0)
    found, observed = fit.squared_differences(y, operator, images), fit.observed_numbers(y, operator)
    missing = operator.missing(operator.to_domain(y))
    for i in range(5):
        one = operator.select(slice(i, i + 1))
        shown = np.ones(y[i].shape, bool) if missing is None else ~missing[i].expand(y[i].shape).numpy()
        assert float(observed[i]) == shown.sum()
        for j in range(7):
            difference = (one.apply(images[j : j + 1])[0] - y[i]).numpy()[shown]
            assert float(found[i, j]) == pytest.approx((difference**2).sum(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("law", "by_each", "by_all"),
    [
        (AdditiveNoise(sigma_n=0.3), 0.0, 0.0),
        (Poisson(gain=0.1), 0.0, 0.0),
        (Mask(p=0.6), 0.6, 0.0),
        (Mask(p=0.6, sigma_n=0.2), 0.6, 0.0),
        (Mask(p=0.25, pattern="centre-box"), 0.25, 0.25),
        (Downsampling(), 0.75, 0.75),
        (Downsampling(sigma_n=0.2), 0.75, 0.75),
        (Downsampling(factor=4, method="average"), 15 / 16, 15 / 16),
        (Compose(operators=("downsampling", {"kind": "mask", "p": 0.5})), 0.875, 0.75),
    ],
    ids=lambda value: value.kind if isinstance(value, Corruption) else "",
)
def test_hidden_shares_are_those_of_counting(law: Corruption, by_each: float, by_all: float) -> None:
    """256 operators, 64 probes; five standard errors, and what Lanczos leaves open (0.002)."""
    operator = law.draw(256, SHAPE, seeded("hidden"))
    found = hidden_share(operator, SHAPE, 0.5, 0)
    assert abs(found.by_each - by_each) < 5 * found.by_each_std + 2e-3
    assert abs(found.by_all - by_all) < 5 * found.by_all_std + 2e-3


def test_the_mean_of_masks_stands_for_masks_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    law = LAWS["blur-mask"]
    assert isinstance(law, Compose)
    operator = law.draw(40, SHAPE, seeded("hidden"))
    quick = hidden_share(operator, SHAPE, 0.5, 0)
    monkeypatch.setattr(hidden, "alike", lambda _: False)
    slow = hidden_share(operator, SHAPE, 0.5, 0)
    assert quick.by_all == pytest.approx(slow.by_all, abs=1e-4) and 0.05 < quick.by_all < 0.95


def test_fewer_measurements_are_scored_where_each_has_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restill.checks.likelihood._APPLIED", 50 * 60 * 64)
    for name, n in (("motion", 50), ("blur-noise", 90), ("blur-mask", 90)):
        y, operator = measured(LAWS[name], pictures(90, 0), 0)
        found = measurement_likelihood(y, operator, pictures(60, 1), 0, LAWS[name])
        assert found is not None and found.n == n


def test_a_measurement_of_nothing_has_no_likelihood() -> None:
    law = Mask(p=0.5, sigma_n=0.1)
    y, operator = measured(law, pictures(20, 0), 0)
    mask = operator.parameters()["mask"].clone()
    mask[:3] = False
    blind = operator.with_parameters({**operator.parameters(), "mask": mask})
    found = measurement_likelihood(blind.restrict(y), blind, pictures(30, 1), 0, law)
    assert found is not None and found.n == 17 and math.isfinite(found.difference)
