"""DINOv2 with random weights from a folder, by transformers (extra `dino`) where installed, and by a small stand-in."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import standins
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import DinoFeatures, Features, open_features
from restill.metrics import features as feature_spaces
from untrusted import Evil, digest

SHAPE = (3, 9, 14)


def noise(n: int, *shape: int) -> Tensor:
    """Images with values on both sides of [-1, 1], to see the clipping too."""
    return 0.7 * torch.randn(n, *shape, generator=seeded("test-plugins", *shape))


@pytest.fixture(scope="module", params=["package", "stand-in"])
def transformers(request: pytest.FixtureRequest) -> Iterator[types.ModuleType]:
    if request.param == "stand-in":
        with pytest.MonkeyPatch.context() as patch:
            for name, module in (found := standins.transformers()).items():
                patch.setitem(sys.modules, name, module)
            yield found["transformers"]
        return
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers (extra `dino`) is not installed")
    yield importlib.import_module("transformers")


@pytest.fixture
def folder(transformers: types.ModuleType, tmp_path: Path) -> Path:
    """A small DINOv2 with random weights in Hugging Face's format."""
    config = transformers.Dinov2Config(hidden_size=64, num_attention_heads=1, num_hidden_layers=2, image_size=70)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


def resized_by_pillow(images: np.ndarray) -> Tensor:
    """8-bit images `[n, 3, H, W]` as DINOv2 takes them; Pillow's bicubic filter has antialiasing."""
    planes = [
        [np.asarray(PIL.Image.fromarray(plane.astype(np.float32)).resize((224, 224), PIL.Image.Resampling.BICUBIC))
         for plane in image]
        for image in images
    ]  # fmt: skip
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.tensor((np.array(planes) / 255 - mean[:, None, None]) / std[:, None, None], dtype=torch.float32)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 301, 250), (3, 224, 224)])
def test_dino_is_the_cls_token_of_resized_images(
    transformers: types.ModuleType, folder: Path, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = noise(3, *shape)
    bytes_ = np.clip(np.floor(127.5 * images.numpy() + 128), 0, 255)
    network = transformers.Dinov2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = network(resized_by_pillow(bytes_)).pooler_output
    monkeypatch.setattr(feature_spaces, "_CHUNK", 2)
    features: Features = DinoFeatures(folder, shape)
    found = features(images)
    assert (features.name, features.dim, found.shape, found.dtype) == ("dino", 64, (3, 64), torch.float32)
    assert float(expected.std(dim=0).mean()) > 1e-2  # the images do differ
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_dino_takes_grey_images(folder: Path) -> None:
    images = noise(2, 1, 20, 30)
    grey, rgb = DinoFeatures(folder, (1, 20, 30)), DinoFeatures(folder, (3, 20, 30))
    assert torch.equal(grey(images), rgb(images.expand(-1, 3, -1, -1)))


def test_dino_is_read_from_the_folder_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the network nor keys of the configuration that name code are used."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    features, images = DinoFeatures(folder, SHAPE), noise(1, *SHAPE)
    (folder / "modeling.py").write_text("raise SystemExit('executed')")
    change(
        folder,
        auto_map={"AutoModel": "modeling.Model"},
        _attn_implementation="someone/kernels",
        attn_implementation="someone/kernels",
        quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True},
        dtype="float16",
        torch_dtype="float16",
    )
    changed = DinoFeatures(folder, SHAPE)
    assert changed.fingerprint == features.fingerprint
    assert torch.equal(changed(images), features(images))


def test_half_precision_weights_are_used_in_float32(folder: Path) -> None:
    images, file = noise(1, *SHAPE), folder / "model.safetensors"
    before = DinoFeatures(folder, SHAPE)(images)
    save_file({name: value.half() for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    after = DinoFeatures(folder, SHAPE)(images)
    assert after.dtype == torch.float32
    torch.testing.assert_close(after, before, atol=0.02, rtol=0)
    assert not torch.equal(after, before)


def test_the_hash_of_dino_is_checked(folder: Path) -> None:
    found = digest(folder / "model.safetensors")
    assert open_features(f"dino:{folder}#{found.upper()}", SHAPE).fingerprint == found
    with pytest.raises(UserError, match=f"model.safetensors: has the SHA-256 {found}, not 1111"):
        open_features(f"dino:{folder}#{'1' * 64}", SHAPE)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model_type": "vit"}, "is not a DINOv2 configuration"),
        ({"num_attention_heads": 2}, "hidden_size must be 64 times"),
        ({"num_attention_heads": None}, "hidden_size must be 64 times"),
        ({"hidden_act": "relu"}, "hidden_act must be 'gelu'"),
        ({"num_channels": 1}, "num_channels must be 3"),
        ({"num_hidden_layers": 3}, "lacks 18 weights of DINOv2, e.g. encoder.layer.2."),
        ({"mlp_ratio": 2}, "does not hold DINOv2 weights"),
        ({"patch_size": "x"}, "does not hold DINOv2 weights"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    folder: Path, keys: dict[str, Any], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change(folder, **keys)
    capfd.readouterr()
    with pytest.raises(UserError, match=words) as caught:
        DinoFeatures(folder, SHAPE)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_dino_needs_safetensors_and_nothing_else(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"adapter_config.json changes the network"):
        DinoFeatures(folder, SHAPE)
    (folder / "adapter_config.json").unlink()
    evidence = folder / "executed"
    torch.save({"x": Evil(evidence)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="does not hold DINOv2 weights"):
        DinoFeatures(folder, SHAPE)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors: no such file"):
        DinoFeatures(folder, SHAPE)
    assert not evidence.exists()
