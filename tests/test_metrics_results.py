"""metrics.json and the proximal distance."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.corruption import AdditiveNoise
from restill.metrics import (
    Features,
    Moments,
    PixelFeatures,
    Proximal,
    Result,
    feature_moments,
    frechet_distance,
    load_results,
    mean_std,
    recorrupted,
    save_results,
)
from tiny import tiny_store


def result(**changes: object) -> Result:
    fields = {
        "subject": "student", "metric": "frechet", "features": "pixels", "value": 0.42, "seeds": (0, 1), "std": 0.01,
        "n": 1797, "reference": "clean", "features_fingerprint": "f", "reference_fingerprint": "r",
        "sampler": "one step", "seconds": 0.26, "images_per_second": 6900.0,
    }  # fmt: skip
    return Result.model_validate({**fields, **changes})


def test_metrics_json_round_trips_and_keeps_the_contract(tmp_path: Path) -> None:
    results = [result(), result(subject="measurements", seeds=(), std=None, seconds=None, images_per_second=None)]
    save_results(tmp_path / "metrics.json", results)
    assert load_results(tmp_path / "metrics.json").results == results
    data = json.loads((tmp_path / "metrics.json").read_text())
    assert data["results"][0]["seeds"] == [0, 1]
    contract = {"subject", "metric", "features", "value", "seeds", "std", "n", "reference"}
    assert contract <= set(data["results"][0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "results"),
        ('{"results": 3}', "results"),
        ('{"results": [{"subject": "pupil"}]}', r"results\.0\.subject"),
        ('{"checks": []}', "results"),
        ('{"results": [], "checks": 3}', "checks"),
        ('{"results": [], "checks": [{"name": 3}]}', r"checks\.0\.name"),
        ("{", "JSON"),
    ],
)
def test_a_broken_metrics_json_names_the_file_and_the_key(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=f"metrics.json.*{words}"):
        load_results(tmp_path / "metrics.json")


def test_values_must_be_finite_and_keys_known() -> None:
    for changes in ({"value": float("nan")}, {"colour": "red"}, {"n": 0}):
        with pytest.raises(ValueError):
            result(**changes)


def test_mean_and_std_over_seeds() -> None:
    assert mean_std([2.0]) == (2.0, None)
    mean, std = mean_std([1.0, 2.0, 3.0])
    assert (mean, std) == (2.0, pytest.approx(1.0))


def proximal_moments(images: Tensor, corruption: AdditiveNoise, features: Features, seed: int) -> Moments:
    return feature_moments(recorrupted([images], corruption, seed), features)


def test_the_proximal_distance_to_a_store_is_that_of_its_moments(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "y", AdditiveNoise(sigma_n=0.3), n=300)
    features = PixelFeatures((1, 8, 8))
    images = torch.rand(280, 1, 8, 8, generator=seeded("test-proximal-images"))
    measured = feature_moments([store.batch(torch.arange(300)).y], features)
    found = Proximal(store, features)(images, seed=3)
    expected = frechet_distance(proximal_moments(images, AdditiveNoise(sigma_n=0.3), features, 3), measured)
    assert found.value == pytest.approx(expected, rel=1e-9) and found.value > 1
    assert found.std is not None and 0 < found.std < found.value


def test_proximal_moments_meet_the_closed_form() -> None:
    """Constant images under noise s: mean unchanged, covariance s^2 I, within 5 standard errors of n = 4000."""
    images = torch.full((4000, 1, 2, 2), 0.3)
    moments = proximal_moments(images, AdditiveNoise(sigma_n=0.5), PixelFeatures((1, 2, 2)), seed=0)
    assert moments.n == 4000
    torch.testing.assert_close(moments.mean, torch.full((4,), 0.3).double(), atol=5 * 0.5 / 4000**0.5, rtol=0)
    torch.testing.assert_close(moments.cov, 0.25 * torch.eye(4).double(), atol=5 * 0.25 * (2 / 4000) ** 0.5, rtol=0)


def test_the_proximal_distance_prefers_true_images_to_worse_ones() -> None:
    corruption, features = AdditiveNoise(sigma_n=0.4), PixelFeatures((1, 3, 3))
    x = torch.randn(40000, 1, 3, 3, generator=seeded("test-proximal"))
    operator = corruption.draw(20000, (1, 3, 3), seeded("test-proximal-operator"))
    y = corruption.corrupt(x[:20000], operator, seeded("test-proximal-noise"))
    measured = feature_moments([operator.to_image(y)], features)
    true, noisy, shrunk = (
        frechet_distance(proximal_moments(images, corruption, features, seed=1), measured)
        for images in (x[20000:], y, 0.8 * x[20000:])
    )
    assert 3 * true < min(noisy, shrunk)


def test_proximal_moments_depend_on_images_and_seed_alone() -> None:
    corruption, features = AdditiveNoise(sigma_n=(0.1, 0.4)), PixelFeatures((1, 3, 3))
    x = torch.randn(300, 1, 3, 3, generator=seeded("test-proximal"))
    torch.manual_seed(0)
    first = proximal_moments(x, corruption, features, seed=1)
    torch.manual_seed(1)
    second, other = proximal_moments(x, corruption, features, seed=1), proximal_moments(x, corruption, features, seed=2)
    assert torch.equal(first.cov, second.cov)
    assert not torch.equal(first.cov, other.cov)
