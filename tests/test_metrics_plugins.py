"""Feature spaces by name, from Python, and without their packages; how images become 8 bits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import (
    ClassifierFeatures,
    DinoFeatures,
    Features,
    InceptionFeatures,
    NamedFeatures,
    PixelFeatures,
    feature_moments,
    frechet_distance,
    named_features,
    open_features,
)
from restill.metrics.features import rgb_bytes
from untrusted import digest

SHAPE = (3, 9, 14)


def noise(n: int, *shape: int) -> Tensor:
    """Images with values on both sides of [-1, 1], to see the clipping too."""
    return 0.7 * torch.randn(n, *shape, generator=seeded("test-plugins", *shape))


def test_pixels_by_name() -> None:
    features, images = open_features("pixels", SHAPE), noise(2, *SHAPE)
    assert isinstance(features, PixelFeatures)
    assert torch.equal(features(images), images.flatten(1))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lpips", "'lpips' are not known: use one of dino:FOLDER.#sha256., inception:PATH.#sha256., pixels, or"),
        ("", "not known"),
        ("pixels:4", "'pixels:4'"),
        ("inception", "'inception' need a path: inception:PATH"),
        ("dino:", "'dino' need a path: dino:FOLDER"),
        ("dino:#" + "0" * 64, "need a path"),
        ("inception:weights.pth#6726825d", "must be 64 hex digits, not '6726825d'"),
        ("inception:no/weights.pth", "no/weights.pth: no such file; `restill.metrics.download_inception`"),
        ("dino:no/folder", "config.json: no such file"),
    ],
)
def test_names_that_lead_nowhere(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_features(spec, SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8)])
@pytest.mark.parametrize("spec", ["inception:no.pth", "dino:no"])
def test_other_numbers_of_channels_are_refused_before_anything_is_read(spec: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="1 or 3 channels"):
        open_features(spec, shape)


class Means(nn.Module, Features):
    """A user's own feature space: nothing but the attributes of `Features`."""

    name, fingerprint, dim, resize = "means", "1", 3, "none"

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    __call__ = nn.Module.__call__


def test_a_module_is_a_feature_space() -> None:
    features: Features = Means()
    images = noise(50, *SHAPE)
    moments = feature_moments(images.split(20), features)
    np.testing.assert_allclose(moments.mean, images.double().mean(dim=(0, 2, 3)), atol=1e-6)
    assert frechet_distance(moments, feature_moments([images + 0.5], features)) == pytest.approx(0.75, rel=1e-5)


def test_a_kind_of_features_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NamedFeatures, "_members", dict(NamedFeatures._members))
    opened: list[tuple[str, tuple[int, int, int]]] = []

    class Named(NamedFeatures, kind="means"):
        usage = "means:OPTION"

        @classmethod
        def open(cls, argument: str, shape: tuple[int, int, int]) -> Features:
            opened.append((argument, shape))
            return Means()

        def __call__(self, images: Tensor) -> Tensor:
            return images

    assert open_features("means:a:b", SHAPE).name == "means"
    assert opened == [("a:b", SHAPE)] and Named in named_features()
    with pytest.raises(UserError, match=r"use one of .*, means:OPTION, .* with --plugin"):
        open_features("mean", SHAPE)


def test_every_feature_space_says_what_it_shows() -> None:
    spaces = [PixelFeatures((1, 8, 8)), PixelFeatures((3, 64, 64)), ClassifierFeatures, InceptionFeatures, DinoFeatures]
    sentences = [space.shows for space in spaces]
    assert len(set(sentences)) == len(spaces)
    for sentence in (*sentences, Means().shows):
        assert sentence.endswith(".") and sentence.count(". ") <= 2 and "\n" not in sentence and len(sentence) < 300
    assert "2x2" not in sentences[0] and "2x2" in sentences[1]


# 8 bits


def test_eight_bit_images_come_back_exactly() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    images = (values.double() / 127.5 - 1).float().reshape(1, 1, 16, 16)
    back = rgb_bytes(images, (1, 16, 16), "test")
    assert back.shape == (1, 3, 16, 16) and back.dtype == torch.uint8
    for channel in range(3):
        assert torch.equal(back[0, channel].flatten(), values)


def test_other_values_are_rounded_and_clipped() -> None:
    x = np.array([-3.0, -1.0, -0.999, 0.0, 0.5, 0.123, 0.9999, 1.0, 7.0])
    expected = np.clip(np.floor(127.5 * x + 127.5 + 0.5), 0, 255)
    found = rgb_bytes(torch.tensor(x, dtype=torch.float32).reshape(1, 1, 1, 9), (1, 1, 9), "test")
    np.testing.assert_array_equal(found[0, 0, 0], expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_eight_bits_would_hide_is_refused(bad: float) -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 0] = bad
    with pytest.raises(UserError, match="'test': 1 values of a batch are not finite"):
        rgb_bytes(images, (3, 4, 4), "test")


# Packages that are not there


@pytest.mark.parametrize(("package", "extra"), [("torch_fidelity", "fid"), ("transformers", "dino")])
def test_a_missing_package_is_named_in_one_sentence(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    file = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    spec = f"inception:{file}" if extra == "fid" else f"dino:{tmp_path}"
    with pytest.raises(UserError, match=rf"pip install 'restill\[{extra}\]'.*{package}") as caught:
        open_features(f"{spec}#{digest(file)}", SHAPE)
    assert "\n" not in str(caught.value)
