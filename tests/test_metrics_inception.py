"""Inception-v3 with random weights from files, and how the published weights are fetched.

The tests of the network run with torch-fidelity (extra `fid`; torchvision may be missing) where it is installed, and
everywhere with a small stand-in of the same interface.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import standins
from restill.core.errors import UserError
from restill.core.tensors import seeded
from restill.metrics import InceptionFeatures, download_inception, inception, open_features
from restill.metrics import features as feature_spaces
from untrusted import Evil, digest

SHAPE = (3, 9, 14)


def noise(n: int, *shape: int) -> Tensor:
    """Images with values on both sides of [-1, 1], to see the clipping too."""
    return 0.7 * torch.randn(n, *shape, generator=seeded("test-plugins", *shape))


@pytest.fixture(scope="module", params=["package", "stand-in"])
def torch_fidelity(request: pytest.FixtureRequest) -> Iterator[types.ModuleType]:
    """The submodule of torch-fidelity; where torchvision is absent a stub stands for it, which Inception never uses."""
    if request.param == "stand-in":
        with pytest.MonkeyPatch.context() as patch:
            for name, module in (found := standins.torch_fidelity()).items():
                patch.setitem(sys.modules, name, module)
            yield found[standins.FIDELITY]
        return
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("torch-fidelity (extra `fid`) is not installed")
    parts = ("", ".datasets", ".transforms", ".transforms.functional")
    with pytest.MonkeyPatch.context() as patch:
        for part in parts if importlib.util.find_spec("torchvision") is None else ():
            stub = types.ModuleType(f"torchvision{part}")
            stub.__spec__ = ModuleSpec(stub.__name__, loader=None)
            stub.__dict__.update({name: type(name, (), {}) for name in ("CIFAR10", "CIFAR100", "STL10")})
            patch.setitem(sys.modules, stub.__name__, stub)
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "torch_fidelity"]:
        del sys.modules[name]  # it holds the stub


@pytest.fixture(scope="module")
def random_inception(torch_fidelity: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of Inception-v3 as a file of torch, the published format."""
    kind = torch_fidelity.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(torch_fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda *_, **__: None)
        network = kind("inception", ["2048"])
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # keeps the scale over 48 layers
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def features(random_inception: Path) -> InceptionFeatures:
    return InceptionFeatures(random_inception, SHAPE, digest(random_inception))


def test_inception_is_torch_fidelitys_on_8_bits(
    features: InceptionFeatures,
    torch_fidelity: types.ModuleType,
    random_inception: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = noise(3, *SHAPE)
    expected_bytes = np.clip(np.floor(127.5 * images.numpy() + 128), 0, 255).astype(np.uint8)
    network = torch_fidelity.FeatureExtractorInceptionV3(
        "test", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(random_inception)
    ).eval()
    expected, logits = network(torch.from_numpy(expected_bytes))
    assert expected.shape == (3, 2048) and float(expected.std(dim=0).max()) > 1e-3  # the images do differ
    monkeypatch.setattr(feature_spaces, "_CHUNK", 2)
    found = features(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(features.logits_of(found), logits)
    assert logits.shape == (3, 1008)


def test_torch_fidelity_resizes_as_the_rule_says(torch_fidelity: types.ModuleType) -> None:
    """TensorFlow 1: output pixel k lies at k * in / out, without the half pixel, clamped at the far border."""
    if not hasattr(torch_fidelity, "interpolate_bilinear_2d_like_tensorflow1x"):
        pytest.skip("a stand-in does not resize")
    x = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.float64)
    expected = np.empty((299, 299))
    for i in range(299):
        for j in range(299):
            v, u = i * 5 / 299, j * 7 / 299
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, 4), min(u0 + 1, 6)
            top = x[v0, u0] + (x[v0, u1] - x[v0, u0]) * (u - u0)
            bottom = x[v1, u0] + (x[v1, u1] - x[v1, u0]) * (u - u0)
            expected[i, j] = top + (bottom - top) * (v - v0)
    resize = torch_fidelity.interpolate_bilinear_2d_like_tensorflow1x
    found = resize(torch.tensor(x, dtype=torch.float32)[None, None], size=(299, 299), align_corners=False)
    np.testing.assert_allclose(found[0, 0], expected, atol=2e-3)  # float32 positions, times differences of up to 255


def test_grey_images_are_repeated(features: InceptionFeatures, random_inception: Path) -> None:
    grey = InceptionFeatures(random_inception, (1, 9, 14), digest(random_inception))
    images = noise(2, 1, 9, 14)
    assert torch.equal(grey(images), features(images.expand(-1, 3, -1, -1)))
    with pytest.raises(UserError, match="'inception' take real images"):
        grey(noise(2, *SHAPE))


def test_safetensors_hold_the_same_inception(features: InceptionFeatures, tmp_path: Path) -> None:
    file = tmp_path / "inception.safetensors"
    features.save(file)
    loaded = open_features(f"inception:{file}#{digest(file)}", SHAPE)
    images = noise(1, *SHAPE)
    assert loaded.fingerprint == features.fingerprint
    assert torch.equal(loaded(images), features(images))
    state = load_file(file)
    state["fc.weight"][3, 5] += 1e-3
    save_file(state, file)
    assert InceptionFeatures(file, SHAPE, digest(file)).fingerprint != features.fingerprint


def test_weights_of_another_hash_are_not_read(
    random_inception: Path, features: InceptionFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "_read", lambda *_: pytest.fail("the file was read"))
    with pytest.raises(
        UserError, match=f"has the SHA-256 {digest(random_inception)}, not the published 6726825d[.]{{3}}; state it"
    ):
        InceptionFeatures(random_inception, SHAPE)
    with pytest.raises(UserError, match=f"not {'0' * 64} as stated"):
        open_features(f"inception:{random_inception}#{'0' * 64}", SHAPE)


def test_the_published_hash_is_enough(random_inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    monkeypatch.setattr(inception, "PUBLISHED", digest(random_inception)[:8])
    monkeypatch.setattr(inception, "_read", lambda module, weights: network)
    InceptionFeatures(random_inception, SHAPE)


def test_nothing_in_a_file_of_torch_is_executed(torch_fidelity: types.ModuleType, tmp_path: Path) -> None:
    file, evidence = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"fc.weight": Evil(evidence)}, file)
    torch.load(file, weights_only=False)
    assert evidence.exists()  # the file is as dangerous as it is meant to be
    evidence.unlink()
    with pytest.raises(UserError, match=r"evil.pth: does not hold Inception-v3 weights \(UnpicklingError") as caught:
        InceptionFeatures(file, SHAPE, digest(file))
    assert not evidence.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["other.pth", "other.safetensors"])
def test_weights_of_another_network_are_refused(torch_fidelity: types.ModuleType, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    state = {"fc.weight": torch.zeros(2, 2)}
    torch.save(state, file) if name.endswith(".pth") else save_file(state, file)
    with pytest.raises(UserError, match=r"does not hold Inception-v3 weights \(RuntimeError") as caught:
        InceptionFeatures(file, SHAPE, digest(file))
    assert "\n" not in str(caught.value)


# Fetching the weights of Inception-v3

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one block


class Server(BaseHTTPRequestHandler):
    """`/whole` and `/unknown-length` give the content, `/broken` the first half of it, anything else nothing."""

    def do_GET(self) -> None:
        known = self.path in ("/whole", "/unknown-length", "/broken")
        self.send_response(200 if known else 404)
        if self.path in ("/whole", "/broken"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if known:
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/broken" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/whole", "/unknown-length"])
def test_weights_are_fetched_once(server: str, path: str, tmp_path: Path) -> None:
    target, expected = tmp_path / "new" / "weights.pth", hashlib.sha256(CONTENT).hexdigest()
    assert download_inception(target, server + path, expected) == target
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["weights.pth"]
    download_inception(target, server + "/nothing", expected.upper())  # is there already
    with pytest.raises(UserError, match=r"weights.pth: has the SHA-256 .*, not the published 6726825d"):
        download_inception(target, server + path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/whole", "/whole: has the SHA-256 .*, not the published 6726825d"),
        ("/broken", "was lost after 1,152,000 of 2,304,000 bytes"),
        ("/nothing", "cannot be fetched .*404"),
    ],
)
def test_a_failed_download_leaves_nothing(server: str, path: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        download_inception(tmp_path / "weights.pth", server + path)
    assert str(caught.value).startswith(server) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_breaks_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    class Response(types.SimpleNamespace):
        def __enter__(self) -> Response:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, size: int) -> bytes:
            raise ConnectionResetError("reset by peer")

    with pytest.raises(UserError, match=r"https://here: the connection was lost .reset by peer"):
        download_inception(tmp_path / "w", "https://here", opener=lambda url, timeout: Response(headers={}))
    assert list(tmp_path.iterdir()) == []
