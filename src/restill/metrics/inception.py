"""Inception-v3 as in the literature on FID: 2048 features, and logits for the Inception score (extra `fid`).

The network is that of torch-fidelity, whose package imports torchvision as a whole, so both must be installed, and
neither is imported before these features are asked for. The weights come from a local file; nothing is downloaded
unless `download_inception` is called. Their SHA-256 is checked before the file is read, and reading executes nothing.
"""

from __future__ import annotations

import http.client
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.files import replacing
from ..core.progress import progress_bar
from .features import NetworkFeatures, check_weights, state_fingerprint

PUBLISHED = "6726825d"  # the first digits of the SHA-256, which are part of the published file's name
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-{PUBLISHED}.pth"
_BLOCK = 1 << 20


class InceptionFeatures(NetworkFeatures, kind="inception"):
    """The pooled last layer (2048 features) of Inception-v3 with the weights of FID (arXiv 1706.08500)."""

    usage = "inception:PATH[#sha256]"
    name = "inception"
    dim = 2048
    resize = "bilinear to 299x299 as TensorFlow 1 does, from 8-bit values (rounded to the nearest, clipped)"
    shows = (
        "Inception features, used for FID in the literature, see texture and objects of natural RGB photographs. They "
        "were not made for grey or scientific images. They are blind to detail beyond 8 bits."
    )

    def read(self, path: Path, sha256: str | None) -> nn.Module:
        """From the published file, or a `.safetensors` of the same state (see `save`).

        Without a stated `sha256` the hash must begin as that of the published file does.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file; `restill.metrics.download_inception` fetches the published one")
        check_weights(path, sha256, PUBLISHED)
        network = _read(_torch_fidelity(), path)
        self.fingerprint = state_fingerprint(_state(network))
        return network

    def of_bytes(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)[0]
        return features

    def logits_of(self, features: Tensor) -> Tensor:
        """Logits without bias float32 `[n, 1008]` of features `[n, 2048]`, as the Inception score (1606.03498) uses."""
        weight: Tensor = self.network.get_parameter("fc.weight")
        return features.float() @ weight.to(features.device).T

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, atomically; they give the same features and the same fingerprint."""
        with replacing(path) as temporary:
            weights = {name: value.cpu().contiguous() for name, value in _state(self.network).items()}
            temporary.write_bytes(save(weights))


def download_inception(
    target: Path,
    url: str = URL,
    sha256: str | None = None,
    opener: Callable[..., Any] = urllib.request.urlopen,
) -> Path:
    """Fetch the published weights (about 90 MB) to the file `target`, unless they are there; returns `target`.

    Args:
        url: where they lie.
        sha256: of the file, 64 hex digits; without it the hash must begin as that of the published file does.
        opener: called as `opener(url, timeout=seconds)`.

    Raises:
        UserError: the connection failed or broke off, another SHA-256, or the disk is full; `target` is not made.
    """
    if target.exists():
        check_weights(target, sha256, PUBLISHED)
        return target
    try:
        response = opener(url, timeout=60)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cannot be fetched ({error})") from error
    with response, replacing(target) as temporary:
        _fetch(response, url, temporary)
        try:
            check_weights(temporary, sha256, PUBLISHED)
        except UserError as error:  # the temporary file says nothing to the user
            raise UserError(str(error).replace(str(temporary), url)) from None
    return target


def _fetch(response: Any, url: str, target: Path) -> None:
    size = response.headers.get("Content-Length")
    total, done = int(size) if size and size.isdigit() else 0, 0
    with target.open("wb") as file, progress_bar("Inception-v3", total, unit="bytes") as advance:
        while block := _block(response, url):
            file.write(block)
            done += len(block)
            advance(done=len(block))
    if done < total:
        raise UserError(f"{url}: the connection was lost after {done:,} of {total:,} bytes; try again")


def _block(response: Any, url: str) -> bytes:
    try:
        return bytes(response.read(_BLOCK))
    except (OSError, http.client.HTTPException) as error:  # not the disk's, which `replacing` reports
        raise UserError(f"{url}: the connection was lost ({error}); try again") from error


def _torch_fidelity() -> Any:
    """The submodule with the network; importing it imports all of torch-fidelity, and with it torchvision."""
    try:
        import torch_fidelity.feature_extractor_inceptionv3 as module
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        reason = str(error).splitlines()[0]
        raise UserError(f"features 'inception' need `pip install 'restill[fid]'` ({reason})") from error
    return module


def _read(module: Any, weights: Path) -> nn.Module:
    """The network with these weights; nothing in the foreign file is executed.

    torch-fidelity 0.4 reads its file with `weights_only=False`, which may execute what the file says. The environment
    variable overrides that, by torch's documentation, and leaves an allow-list reader of tensors. Safetensors take the
    place of what torch-fidelity would have downloaded, so that it reads no file at all.
    """
    build = module.FeatureExtractorInceptionV3
    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
            with patch.object(module, "load_state_dict_from_url", lambda *_, **__: state):
                network = build("inception", ["2048"])
        else:
            with patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
                network = build("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except Exception as error:  # of any kind: the file is foreign and so is its reader
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(f"{weights}: does not hold Inception-v3 weights ({type(error).__name__}: {reason})") from error
    return cast(nn.Module, network)


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
