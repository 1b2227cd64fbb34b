"""An injected failure of each kind moves its metric the right way, and leaves alone the one that should not see it.

Two halves of the 8x8 digits: one is the reference, the other what a perfect generator draws. Every failure is compared
with equally many images of that other half, and "moves" means by more than 4 standard errors of the difference.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restill.core.tensors import seeded
from restill.io import digits
from restill.metrics import (
    ClassifierFeatures,
    Estimate,
    Features,
    PixelFeatures,
    density_coverage,
    feature_moments,
    frechet_estimate,
    inception_score,
    kernel_distance,
    precision_recall,
    train_classifier,
)

SUBSET = 200  # of KID


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    """All digits in random order, in normalised units, and their classes."""
    pytest.importorskip("sklearn.datasets")
    source = digits()
    assert source.labels is not None
    values = torch.stack([torch.from_numpy(image) for image in source]) / 8 - 1
    order = torch.randperm(len(values), generator=seeded("test-failures"))
    return values[order], torch.as_tensor(source.labels)[order]


@pytest.fixture(scope="module")
def classifier(images: tuple[Tensor, Tensor]) -> ClassifierFeatures:
    return train_classifier(*images, seed=3, steps=300)


@pytest.fixture(scope="module", params=["pixels", "classifier"])
def features(request: pytest.FixtureRequest) -> Features:
    space: Features = PixelFeatures((1, 8, 8))
    return space if request.param == "pixels" else request.getfixturevalue("classifier")


def halves(images: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Reference, the other half, and its classes."""
    return images[0][::2], images[0][1::2], images[1][1::2]


def scores(ours: Tensor, reference: Tensor, features: Features) -> dict[str, Estimate]:
    """Every metric of two sets, each with the standard error of its value."""
    a, b = features(ours), features(reference)
    frechet = frechet_estimate(feature_moments([ours], features), feature_moments([reference], features), a)
    kid = kernel_distance(a, b, subset_size=SUBSET)
    assert kid.std is not None
    precision, recall = precision_recall(b, a)
    density, coverage = density_coverage(b, a)
    kid = kid._replace(std=kid.std / (len(a) / SUBSET) ** 0.5)  # as many images as that many disjoint subsets hold
    return {
        "frechet": frechet, "kid": kid, "precision": precision, "recall": recall, "density": density,
        "coverage": coverage,
    }  # fmt: skip


def moves(bad: Tensor, images: tuple[Tensor, Tensor], features: Features) -> dict[str, float]:
    """By how many standard errors each metric of the bad images lies above that of as many good ones."""
    reference, good, _ = halves(images)
    assert len(good[: len(bad)]) == len(bad) > 2 * SUBSET
    pairs = scores(bad, reference, features), scores(good[: len(bad)], reference, features)
    moved = {}
    for metric in pairs[0]:
        (value, std, _), (usual, usual_std, _) = (of[metric] for of in pairs)
        assert std is not None and usual_std is not None
        moved[metric] = (value - usual) / max((std**2 + usual_std**2) ** 0.5, 1e-12)
    return moved


def test_noise_lowers_precision_not_recall(images: tuple[Tensor, Tensor], features: Features) -> None:
    _, good, _ = halves(images)
    noise = torch.randn(good.shape, generator=seeded("test-failures-noise"))
    moved = moves(good + 0.6 * noise, images, features)
    assert moved["frechet"] > 4 and moved["precision"] < -4
    assert moved["density"] < -4 and moved["coverage"] < -4
    if features.name == "pixels":
        assert moved["recall"] > -4  # a coverage that no sample has earned: noise widens the balls of what is judged
        assert moved["kid"] < 4  # three moments of pixels hardly see white noise
    else:
        assert moved["kid"] > 4


def test_blur_lowers_all(images: tuple[Tensor, Tensor], features: Features) -> None:
    _, good, _ = halves(images)
    moved = moves(F.avg_pool2d(F.pad(good, (1, 1, 1, 1), mode="replicate"), 3, 1), images, features)
    assert moved["frechet"] > 4 and moved["kid"] > 4
    assert max(moved[metric] for metric in ("precision", "recall", "density", "coverage")) < -4


def test_dropped_modes_lower_recall_and_coverage_not_precision(
    images: tuple[Tensor, Tensor], features: Features
) -> None:
    _, good, labels = halves(images)
    moved = moves(good[labels < 5], images, features)
    assert moved["frechet"] > 4 and moved["kid"] > 4
    assert moved["recall"] < -4 and moved["coverage"] < -4
    assert moved["precision"] > -4 and moved["density"] > -4


def test_few_distinct_samples_lower_recall_and_coverage_not_precision(
    images: tuple[Tensor, Tensor], features: Features
) -> None:
    _, good, _ = halves(images)
    moved = moves(good[:30].repeat(30, 1, 1, 1)[: len(good)], images, features)
    assert moved["frechet"] > 4 and moved["kid"] > 4
    assert moved["recall"] < -4 and moved["coverage"] < -4
    assert moved["precision"] > -4 and moved["density"] > -4


def test_quality_bought_with_coverage(images: tuple[Tensor, Tensor]) -> None:
    """Images drawn towards their mean lie denser than real ones and reach fewer of them."""
    _, good, _ = halves(images)
    moved = moves(good.mean(dim=0) + 0.6 * (good - good.mean(dim=0)), images, PixelFeatures((1, 8, 8)))
    assert moved["precision"] > 4 and moved["density"] > 4
    assert moved["recall"] < -4 and moved["coverage"] < -4
    assert moved["frechet"] > 4


def test_more_classes_raise_the_inception_score(images: tuple[Tensor, Tensor], classifier: ClassifierFeatures) -> None:
    _, good, labels = halves(images)
    values = [inception_score(classifier.logits(good[labels < classes])).value for classes in (1, 2, 5, 10)]
    for classes, value, fewer in zip((2, 5, 10), values[1:], values, strict=False):
        assert fewer * 1.3 < value <= classes * 1.05
    blurred = F.avg_pool2d(F.pad(good, (1, 1, 1, 1), mode="replicate"), 3, 1)
    assert inception_score(classifier.logits(blurred)).value < 0.95 * values[-1]
