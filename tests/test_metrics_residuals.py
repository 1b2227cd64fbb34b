"""Statistics of single images against loops, the Kolmogorov-Smirnov test against scipy, alarms, and the words."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restill.checks.residuals import (
    Difference,
    image_statistics,
    in_words,
    kolmogorov_smirnov,
    kolmogorov_tail,
    residuals,
    residuals_check,
)
from restill.core.errors import UserError
from restill.core.tensors import seeded


def noise(n: int, seed: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Tensor:
    return torch.randn(n, *shape, generator=seeded("residuals", seed))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (2, 2, 3)])
def test_statistics_agree_with_loops(shape: tuple[int, int, int]) -> None:
    images = noise(6, 0, shape)
    found = image_statistics(images)
    for row, x in enumerate(images.double().numpy()):
        blocks = [
            (c[i, j] - c[i, j + 1] - c[i + 1, j] + c[i + 1, j + 1]) / 2
            for c in x
            for i in range(0, shape[1] - 1, 2)
            for j in range(0, shape[2] - 1, 2)
        ]
        steps = [np.abs(np.diff(c, axis=axis)).ravel() for c in x for axis in (0, 1)]
        expected = {
            "mean": x.mean(), "std": x.std(), "maximum": x.max(),
            "high-frequency": np.square(blocks).mean(), "variation": np.concatenate(steps).mean(),
        }  # fmt: skip
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert float(found[name][row]) == pytest.approx(value, rel=1e-12)


def test_statistics_of_known_images() -> None:
    """White noise has a Haar energy of sigma^2 and a variation of 2 sigma/sqrt(pi); ramps have no diagonal detail."""
    white = image_statistics(0.3 * noise(4000, 1))
    assert float(white["high-frequency"].mean()) == pytest.approx(0.09, abs=5 * 0.09 * math.sqrt(2 / (4000 * 16)))
    assert float(white["variation"].mean()) == pytest.approx(0.6 / math.sqrt(math.pi), rel=0.01)
    ramp = image_statistics((torch.arange(4.0)[:, None] + 2 * torch.arange(4.0)).expand(1, 1, 4, 4))
    assert float(ramp["high-frequency"]) == 0 and float(ramp["variation"]) == 1.5
    assert image_statistics(noise(1000, 2))["mean"].shape == (1000,)  # in two chunks
    assert set(image_statistics(noise(3, 2, (1, 1, 9)))) == {"mean", "std", "maximum"}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "m"), [(40, 60), (2000, 300), (200, 200)])
def test_kolmogorov_smirnov_agrees_with_scipy(n: int, m: int, ties: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = seeded("ks", n)
    a, b = (torch.randn(size, generator=generator, dtype=torch.float64) + 0.2 * i for i, size in enumerate((n, m)))
    if ties:
        a, b = (2 * a).round(), (2 * b).round()
    distance, p = kolmogorov_smirnov(a, b)
    expected = stats.ks_2samp(a, b, method="exact")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=0.2, abs=0.03)  # asymptotic


def test_the_tail_is_that_of_kolmogorov() -> None:
    stats = pytest.importorskip("scipy.stats")
    for t in (0.0, 0.15, 0.2, 0.21, 0.5, 0.83, 1.36, 2.5, 6.0):
        assert kolmogorov_tail(t) == pytest.approx(stats.kstwobign.sf(t), rel=1e-10, abs=1e-12)


def test_false_alarms_are_as_rare_as_the_limit_says() -> None:
    """Both samples of one law, 200 times: corrected p below 0.1 in up to 10%, within 4 standard errors, and in some."""
    p = [residuals(noise(150, 2 * i), noise(100, 2 * i + 1)).p for i in range(1, 201)]
    share = float(np.mean([value < 0.1 for value in p]))
    assert 0 < share < 0.1 + 4 * math.sqrt(0.1 * 0.9 / 200)
    assert max(p) == 1


def test_smoothed_images_are_named_by_what_they_lack() -> None:
    measured, generated = noise(800, 1), noise(800, 2)
    smooth = 0.9 * generated + 0.1 * generated.flip(-1)
    found = residuals(smooth, measured)
    check = residuals_check(found, "student")
    assert check.status == "warning" and check.value == found.differences[0].distance > 0.1
    assert found.p < 1e-6 and "have a standard deviation 9.0% lower than the measurements" in check.sentence
    lost = next(d for d in found.differences if d.name == "high-frequency")
    assert lost.generated / lost.measured == pytest.approx(0.9**2 + 0.1**2, rel=0.03)  # pixels are independent
    same = residuals_check(residuals(generated, measured), "student")
    assert same.status == "ok" and "cannot be distinguished" in same.sentence
    assert same.settings["images"] == same.settings["measurements"] == 800


def test_a_checkerboard_is_high_frequency_energy() -> None:
    measured, generated = noise(600, 3), noise(600, 4)
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    found = residuals(generated + 0.5 * board, measured)
    assert found.differences[0].name == "high-frequency"
    assert found.differences[0].generated == pytest.approx(1 + 4 * 0.25, rel=0.05)  # each Haar block gains (2 * 0.5)^2
    assert "more high-frequency energy than the measurements" in residuals_check(found, "student").sentence


def test_small_differences_are_real_but_no_warning() -> None:
    found = residuals(noise(20000, 5, (1, 4, 4)) * 1.01, noise(20000, 6, (1, 4, 4)))
    check = residuals_check(found, "teacher-full")
    assert found.p < 0.01 and check.status == "ok" and "small difference" in check.sentence


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("high-frequency", 0.97, 1.0, 0.1, 0.1), "have 3.0% less high-frequency energy than the measurements"),
        (("variation", 1.2, 1.0, 0.1, 0.1), "have 20.0% more total variation than the measurements"),
        (("std", 0.9, 1.0, 0.1, 0.1), "have a standard deviation 10.0% lower than the measurements"),
        (("mean", -0.31, -0.33, 0.1, 0.1), "have a mean 0.02 higher than the measurements"),
        (("maximum", 0.6, 0.9, 0.1, 0.1), "have a maximum 0.3 lower than the measurements"),
        (("mean", 0.001, 0.0, 0.13, 0.1), "vary 30.0% more in mean from image to image than the measurements"),
        (("std", 1.0, 1.0, 0.05, 0.1), "vary 50.0% less in standard deviation from image to image"),
        (("high-frequency", 5.0, 0.0, 1.0, 0.0), "have far more high-frequency energy than the measurements"),
        (("mean", 0.0, 0.0, 0.1, 0.1), "differ from the measurements in the distribution of their mean"),
    ],
)
def test_differences_in_words(fields: tuple[str, float, float, float, float], words: str) -> None:
    name, generated, measured, generated_std, measured_std = fields
    assert words in in_words(Difference(name, 0.2, 0.0, generated, measured, generated_std, measured_std))


def test_refusals() -> None:
    x = noise(4, 0)
    for a, b, message in (
        (x, noise(4, 0, (1, 8, 7)), "same shape"),
        (x[:1], x, "two images"),
        (x * torch.inf, x, "NaN"),
        (x.to(torch.complex64), x.to(torch.complex64), "real"),
        (x[:, 0], x[:, 0], "real"),
    ):
        with pytest.raises(UserError, match=message):
            residuals(a, b)
