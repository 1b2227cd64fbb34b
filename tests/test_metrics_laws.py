"""Each metric of a set points the right way: which set is judged, by which neighbours, and what it cannot see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restill.core.tensors import seeded
from restill.metrics import Features, FeatureSet, measure
from restill.metrics.measure import SET_METRICS, Measure
from restill.metrics.sets import density_coverage, inception_score, precision_recall


class Plain(Features):
    """Images are their own features; of three or more, they are logits too."""

    fingerprint, resize, shows = "plain", "none", ""

    def __init__(self, name: str = "plain", dim: int = 2) -> None:
        self.name, self.dim, self.logits_of = name, dim, (lambda features: features) if dim > 2 else None

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def normal(n: int, spread: float = 1.0, dim: int = 2, word: str = "laws") -> Tensor:
    return spread * torch.randn(n, dim, generator=seeded(word, n, dim))


def measured(ours: Tensor, theirs: Tensor, name: str = "plain") -> dict[str, Measure]:
    features = Plain(name, ours.shape[1])
    sets = [FeatureSet(features.dim).update(each) for each in (ours, theirs)]
    return measure(sets[0], sets[1], features, SET_METRICS)


def test_images_of_the_middle_are_precise_and_dense_and_cover_little() -> None:
    """A set that keeps to the densest place of the reference, as truncated samplers do, and one that leaves it."""
    real = normal(400, dim=8)
    middle, wide, alike = (
        {name: m.estimate.value for name, m in measured(normal(400, spread, 8, "others"), real).items()}
        for spread in (0.4, 3.0, 1.0)
    )
    assert middle["precision"] > 0.98 and middle["density"] > 2 and middle["recall"] < 0.2
    assert wide["precision"] < 0.1 and wide["recall"] > 0.98 and wide["density"] < 0.1 and wide["coverage"] < 0.2
    assert min(alike[name] for name in ("precision", "recall", "coverage")) > 0.8
    assert alike["density"] == pytest.approx(1, abs=0.1)
    for worse in (middle, wide):
        assert worse["frechet"] > 10 * alike["frechet"] and worse["kid"] > 0.1 > abs(alike["kid"])


def test_neighbours_are_as_published() -> None:
    ours, theirs = normal(120, 0.8), normal(150)
    found = measured(ours, theirs)
    expected = {**precision_recall(theirs, ours, k=3)._asdict(), **density_coverage(theirs, ours, k=5)._asdict()}
    for name, estimate in expected.items():
        assert found[name].estimate == estimate
        assert found[name].settings == {
            "k": 5 if name in ("density", "coverage") else 3, "images": 120, "reference_images": 150
        }  # fmt: skip


def test_the_inception_score_is_that_of_the_images_alone() -> None:
    sure = 40 * torch.eye(3)[torch.arange(300) % 3]
    undecided = torch.zeros(300, 3) + normal(300, 1e-3, 3)
    found = measured(sure, undecided)["inception-score"]
    assert found.estimate.value == pytest.approx(inception_score(sure).value) and found.estimate.value > 2.9
    assert measured(undecided, sure)["inception-score"].estimate.value == pytest.approx(1, abs=1e-3)


def test_kid_is_not_measured_in_pixels() -> None:
    assert "kid" in measured(normal(50), normal(60))
    for name in ("pixels", "pixels/2"):
        assert "kid" not in measured(normal(50), normal(60), name) and "frechet" in measured(
            normal(50), normal(60), name
        )


def test_a_reference_of_moments_alone_has_no_metric_of_single_images() -> None:
    theirs = FeatureSet.of_moments(FeatureSet(2).update(normal(60)).moments)
    found = measure(FeatureSet(2).update(normal(50)), theirs, Plain(), SET_METRICS)
    assert set(found) == {"frechet", "frechet-infinity"}
