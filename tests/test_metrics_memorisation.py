"""Copies of the training images are flagged, fresh images are not, and the power is what perfect copies show."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from custom_corruptions import RandomMask
from restill.checks.memorisation import (
    Memorisation,
    mann_whitney,
    memorisation,
    memorisation_check,
    twin_check,
    twin_share,
)
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise, Corruption
from restill.io import digits


@pytest.fixture(scope="module")
def clean() -> Tensor:
    """All 1,797 digits in a random order, `[1797, 1, 8, 8]`; in [-1, 1]."""
    pytest.importorskip("sklearn")
    images = torch.from_numpy(np.stack(list(digits()))) / 8 - 1
    return images[torch.randperm(len(images), generator=seeded("memorisation-order"))]


def measured(x: Tensor, corruption: Corruption, seed: int = 0) -> Tensor:
    generator = seeded("memorisation-measured", seed)
    operator = corruption.draw(len(x), tuple(x.shape[1:]), generator)
    return operator.to_image(corruption.corrupt(x, operator, generator))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "m"), [(30, 40), (500, 7)])
def test_mann_whitney_agrees_with_scipy(n: int, m: int, ties: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = seeded("mann-whitney", n)
    a, b = (torch.randn(size, generator=generator, dtype=torch.float64) + 0.3 * i for i, size in enumerate((n, m)))
    if ties:
        a, b = a.round(), b.round()
    z, area = mann_whitney(a, b)
    expected = stats.mannwhitneyu(a, b, use_continuity=False, alternative="less", method="asymptotic")
    assert area == pytest.approx(expected.statistic / (n * m), rel=1e-12)
    assert z == pytest.approx(stats.norm.ppf(expected.pvalue), rel=1e-9)


def test_mann_whitney_of_equal_values_is_no_difference() -> None:
    assert mann_whitney(torch.ones(4), torch.ones(9)) == (0.0, 0.5)


@pytest.mark.parametrize(
    "corruption", [AdditiveNoise(sigma_n=0.4), RandomMask(p=0.1, sigma_n=0.05)], ids=["noise", "mask"]
)
def test_memorised_images_are_flagged(clean: Tensor, corruption: Corruption) -> None:
    """A generator that draws exactly the clean training images: z is as low as was foretold from fresh images."""
    train, fresh = clean[:898], clean[898:]
    found = memorisation(measured(train, corruption), train, corruption, seed=1)
    foretold = memorisation(measured(train, corruption), fresh, corruption, seed=1)
    assert found.z < -8 and found.area < 0.4 and found.copied > 0.8
    assert found.z == pytest.approx(foretold.z_copy, abs=5 * 1.2 * math.sqrt(2))  # both of standard deviation 1.2
    check = memorisation_check(found, "student")
    assert (check.status, check.value, check.subject) == ("warning", found.z, "student")
    assert f"z = {found.z:.1f}" in check.sentence and f"z = {found.z_copy:.1f}" in check.sentence
    assert found.z_ratio < -4 and "suggests copies" in check.sentence
    good = memorisation_check(foretold, "student")
    assert good.status == "ok" and good.sentence.startswith("No sign of memorisation")


def test_false_alarms_are_as_rare_as_the_limit_says(clean: Tensor) -> None:
    """40 random halves of the data against the other half: z has mean 0, standard deviation 1 to 1.2, and no alarm."""
    corruption, z = AdditiveNoise(sigma_n=0.4), []
    for seed in range(40):
        order = torch.randperm(len(clean), generator=seeded("memorisation-halves", seed))
        found = memorisation(measured(clean[order[:898]], corruption, seed), clean[order[898:]], corruption, seed)
        assert memorisation_check(found, "student").status == "ok"
        z.append(found.z)
    assert abs(float(np.mean(z))) < 4 * 1.2 / math.sqrt(40)
    assert 0.6 < float(np.std(z)) < 1.2 * (1 + 4 / math.sqrt(80))  # the standard error of a deviation is 1/sqrt(2n)


@pytest.mark.parametrize("copies", [150, 298, 600, 898])
def test_copies_lower_z_in_proportion_to_their_number(clean: Tensor, copies: int) -> None:
    corruption = AdditiveNoise(sigma_n=0.2)
    train, fresh = clean[:898], clean[898:1796]
    images = torch.cat([fresh[copies:], train[:copies]])
    found = memorisation(measured(train, corruption), images, corruption, seed=2)
    assert found.copied == pytest.approx(copies / 898, abs=5 * 1.2 / 35)
    assert found.z_ratio < -4 and "suggests copies" in memorisation_check(found, "student").sentence


def test_strong_noise_hides_copies_and_the_sentence_says_so(clean: Tensor) -> None:
    corruption = AdditiveNoise(sigma_n=1.6)
    found = memorisation(measured(clean[:898], corruption), clean[:898], corruption, seed=3)
    check = memorisation_check(found, "student")
    assert found.z_copy > -4 and found.noticeable > 1
    assert check.status == "info" and "cannot tell whether" in check.sentence


def test_other_failures_are_told_from_copies(clean: Tensor) -> None:
    """Images far from the data lie farther away, z > 0; images without variation lie nearer, and are warned of too."""
    corruption = AdditiveNoise(sigma_n=0.4)
    y = measured(clean[:898], corruption)
    far = memorisation(y, -clean[898:], corruption, seed=4)
    assert far.z > 10 and memorisation_check(far, "student").status == "ok"
    assert "in another way" in memorisation_check(far, "student").sentence
    flat = memorisation(y, clean[898:] * 0.5 + 0.5 * clean[898:].mean(0), corruption, seed=4)
    assert flat.z < -4 and flat.z_ratio > -4
    assert "suggests the latter" in memorisation_check(flat, "student").sentence


def test_held_out_measurements_replace_leave_one_out(clean: Tensor) -> None:
    corruption = AdditiveNoise(sigma_n=0.3)
    y, held_out = measured(clean[:800], corruption), measured(clean[800:1300], corruption, seed=1)
    copies = memorisation(y, clean[:800], corruption, seed=5, held_out=held_out)
    fresh = memorisation(y, clean[1300:], corruption, seed=5, held_out=held_out)
    assert copies.z < -10 and abs(fresh.z) < 5
    assert (fresh.held_out, fresh.n, fresh.images) == (500, 800, 497)
    assert "held-out measurements are" in memorisation_check(copies, "student").sentence
    assert memorisation_check(fresh, "student").settings["held_out"] == 500


def test_without_noise_copies_are_exact() -> None:
    x = torch.rand(60, 1, 4, 4, generator=seeded("memorisation-exact"))
    corruption = AdditiveNoise(sigma_n=0.0)
    found = memorisation(x, x[:30], corruption, seed=0)
    assert (
        found.area == 0 and found.z < -5 and found.z == pytest.approx(found.z_ratio, rel=1e-3)
    )  # all distances and ratios are 0


def test_the_result_depends_on_the_seed_alone(clean: Tensor) -> None:
    corruption = AdditiveNoise(sigma_n=(0.1, 0.4))
    y = measured(clean[:200], corruption)

    def run(seed: int) -> Memorisation:
        torch.manual_seed(int(torch.randint(1000, ())))
        return memorisation(y, clean[200:400], corruption, seed)

    assert (run(1).z, run(1).z_copy) == (run(1).z, run(1).z_copy)
    assert run(1).z != run(2).z and run(1).z_copy != run(2).z_copy


def test_repeated_images_are_twins(clean: Tensor) -> None:
    sigma_data = float(clean.std())
    assert twin_share(clean, sigma_data) == 0
    assert twin_check(0.0, len(clean), "student").status == "ok"
    few = clean[torch.arange(1000) % 300] + 0.01 * torch.randn(1000, 1, 8, 8, generator=seeded("twins"))
    assert twin_share(few, sigma_data) == 1
    one = clean[:1] + 0.01 * torch.randn(50, 1, 8, 8, generator=seeded("twins"))  # a generator that has collapsed
    assert twin_share(one, sigma_data) == 1
    half = torch.cat([clean[:500], clean[:250], clean[600:850]])
    check = twin_check(twin_share(half, sigma_data), len(half), "student")
    assert (check.value, check.status) == (0.5, "warning")
    assert check.std == pytest.approx(0.5 / math.sqrt(1000)) and "50.0% of 1000" in check.sentence


def test_refusals(clean: Tensor) -> None:
    corruption = AdditiveNoise(sigma_n=0.4)
    for y, images, held_out, message in (
        (clean[:2], clean[:5], None, "not 2 and 5"),
        (clean[:5], clean[:2], None, "not 5 and 2"),
        (clean[:5], clean[:5], clean[:0], "held_out is empty"),
        (clean[:5], clean[:5, :, :4], None, r"\[5, 32\] and \[5, 64\]"),
        (clean[:5] * torch.nan, clean[:5], None, "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            memorisation(y, images, corruption, 0, held_out)
    for images, sigma_data in ((clean[:1], 0.5), (clean[:5], 0.0), (clean[:5], math.nan)):
        with pytest.raises(UserError, match="sigma_data"):
            twin_share(images, sigma_data)
