"""Pixels and the classifier: shapes, names, determinism, saving, and that residual noise is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import (
    ClassifierFeatures,
    Features,
    PixelFeatures,
    feature_moments,
    frechet_distance,
    load_classifier,
    train_classifier,
)
from restill.metrics.features import NetworkFeatures


@pytest.mark.parametrize(
    ("shape", "name", "dim"),
    [
        ((1, 8, 8), "pixels", 64),
        ((3, 36, 36), "pixels", 3888),
        ((3, 37, 37), "pixels/2", 3 * 19 * 19),
        ((1, 64, 64), "pixels", 4096),
        ((3, 256, 256), "pixels/8", 3072),
        ((2, 33, 129), "pixels/2", 2 * 17 * 65),
        ((4, 5, 7), "pixels", 140),
    ],
)
def test_pixel_features_pool_as_little_as_needed(shape: tuple[int, ...], name: str, dim: int) -> None:
    features: Features = PixelFeatures(shape)
    images = torch.rand(2, *shape, generator=seeded("test-pixels"))
    values = features(images)
    assert (features.name, features.dim, values.shape) == (name, dim, (2, dim))
    constant = features(torch.full((1, *shape), 0.25))
    torch.testing.assert_close(constant, torch.full((1, dim), 0.25))
    size = int(name.partition("/")[2] or 1)
    windows = [
        images[:, :, i : i + size, j : j + size].mean(dim=(2, 3))
        for i in range(0, shape[1], size)
        for j in range(0, shape[2], size)
    ]
    torch.testing.assert_close(values, torch.stack(windows, dim=2).flatten(1))  # those at the border are smaller


def test_pixel_features_refuse_other_images() -> None:
    features = PixelFeatures((1, 8, 8))
    assert features.fingerprint != PixelFeatures((1, 4, 16)).fingerprint
    for wrong in (torch.zeros(2, 1, 8, 9), torch.zeros(1, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.complex64)):
        with pytest.raises(UserError, match="pixels"):
            features(wrong)
    with pytest.raises(UserError, match="5000 channels"):
        PixelFeatures((5000, 1, 1))


class Colours(NetworkFeatures):
    """The mean of each colour channel, scaled by a weight."""

    usage, name, dim = "colours:PATH[#sha256]", "colours", 3

    def read(self, path: Path, sha256: str | None) -> nn.Module:
        self.fingerprint = f"{path} {sha256}"
        return nn.Linear(3, 1, bias=False)

    def of_bytes(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8 and len(images) <= 32
        return images.float().mean(dim=(2, 3)) * self.network.get_parameter("weight")[0]


def test_networks_of_the_literature_get_rgb_bytes_in_small_parts() -> None:
    digest = 64 * "a"
    features = Colours.open(f"~/weights#{digest}", (1, 2, 2))
    assert features.fingerprint == f"{Path.home() / 'weights'} {digest}" and features.to("cpu") is features
    assert not any(parameter.requires_grad for parameter in features.network.parameters())
    levels = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0]).repeat(14)
    found = features(levels[:, None, None, None].expand(70, 1, 2, 2))
    expected = torch.tensor([0.0, 0, 128, 191, 255]).repeat(14)[:, None] * features.network.get_parameter("weight")
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="64 hex digits"):
        Colours.open("weights#aa", (1, 2, 2))
    with pytest.raises(UserError, match="1 or 3 channels"):
        Colours.open("weights", (2, 2, 2))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = pytest.importorskip("sklearn.datasets").load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(data.target)


@pytest.fixture(scope="module")
def classifier(digits: tuple[Tensor, Tensor]) -> ClassifierFeatures:
    return train_classifier(*digits, seed=3)


def test_classifier_learns_the_digits(classifier: ClassifierFeatures, digits: tuple[Tensor, Tensor]) -> None:
    features: Features = classifier
    assert (features.name, features.dim, classifier.classes) == ("classifier", 64, 10)
    assert classifier.accuracy > 0.95
    found = features(digits[0][:5])
    assert found.shape == (5, 64) and features.logits_of is not None
    torch.testing.assert_close(features.logits_of(found), classifier.logits(digits[0][:5]))


def test_classifier_sees_noise_and_missing_digits(
    classifier: ClassifierFeatures, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    noise = torch.randn(images.shape, generator=seeded("test-classifier-noise"))
    reference = feature_moments(images[::2].split(256), classifier)
    other, kept = images[1::2], labels[1::2] < 5
    split, slightly, badly, few = (
        frechet_distance(reference, feature_moments(x.split(256), classifier))
        for x in (other, other + 0.2 * noise[1::2], other + 0.4 * noise[1::2], other[kept])
    )
    assert split < slightly < badly
    assert 3 * split < badly
    assert 3 * split < few


def test_training_is_deterministic_and_leaves_the_global_state_alone(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:200], digits[1][:200]
    state, calls = torch.get_rng_state(), []
    first = train_classifier(images, labels, seed=1, steps=5, advance=lambda done: calls.append(done))
    torch.rand(3)
    second = train_classifier(images, labels, seed=1, steps=5)
    assert first.fingerprint == second.fingerprint != train_classifier(images, labels, seed=2, steps=5).fingerprint
    assert calls == [1] * 5
    torch.set_rng_state(state)
    train_classifier(images, labels, steps=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 13), (3, 32, 32), (4, 17, 40)])
def test_any_channels_and_sizes_survive_saving(shape: tuple[int, int, int], tmp_path: Path) -> None:
    images = torch.rand(24, *shape, generator=seeded("test-sizes"))
    trained = train_classifier(images, torch.arange(24) % 3, steps=2, batch_size=8)
    trained.save(tmp_path)
    state = torch.get_rng_state()
    loaded = load_classifier(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded(images), trained(images))
    for name in ("fingerprint", "accuracy", "seed", "steps", "shape", "classes"):
        assert getattr(loaded, name) == getattr(trained, name)


def test_a_changed_or_foreign_classifier_is_refused(tmp_path: Path) -> None:
    images = torch.rand(24, 1, 8, 8, generator=seeded("test-foreign"))
    for seed, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        train_classifier(images, torch.arange(24) % 3, seed=seed, steps=1).save(folder)
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(UserError, match="do not match config"):
        load_classifier(tmp_path / "a")
    with pytest.raises(UserError, match="no such file"):
        load_classifier(tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_classifier(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(UserError, match="not a restill classifier"):
        load_classifier(tmp_path / "a")


def test_training_data_that_cannot_be_used_is_named() -> None:
    images, labels = torch.zeros(20, 1, 8, 8), torch.arange(20) % 2
    for bad_images, bad_labels, words in (
        (torch.zeros(20, 1, 8, 7), labels, "8 by 8"),
        (images, labels[:5], "label"),
        (images, labels - 1, "label"),
        (images, labels.float(), "label"),
        (images / 0, labels, "NaN"),
    ):
        with pytest.raises(UserError, match=words):
            train_classifier(bad_images, bad_labels, steps=1)
