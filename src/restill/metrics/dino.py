"""DINOv2 from a local folder in the Hugging Face format (extra `dino`).

A Vision Transformer that was trained on photographs without labels; its Fréchet distance follows human judgement of
photographs more closely than that of Inception-v3 (arXiv 2306.04675). `transformers` builds the network and is not
imported before these features are asked for. Only `config.json` and `model.safetensors` of the folder are read, nothing
in them is executed, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.reading import read_json
from .features import NetworkFeatures, check_weights

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as DINOv2 was trained with
# What shapes the network; other keys of a configuration can name code to fetch (kernels, quantisers) and are not used.
_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "image_size", "patch_size", "qkv_bias",
    "use_swiglu_ffn", "use_mask_token",
)  # fmt: skip
# What the shapes of the weights do not tell: as in every DINOv2, so that the hash of the weights says it all.
_HEAD_SIZE, _FIXED = 64, {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3}


class DinoFeatures(NetworkFeatures, kind="dino"):
    """The CLS token of DINOv2 after the last layer norm (arXiv 2304.07193): 384 to 1536 features by model.

    Attributes:
        fingerprint: hex SHA-256 of `model.safetensors`.
    """

    usage = "dino:FOLDER[#sha256]"
    name = "dino"
    resize = "bicubic with antialiasing to 224x224, from 8-bit values (rounded to the nearest, clipped)"
    shows = (
        "DINOv2 features see content and layout of natural RGB photographs, and agree with human judgement better than "
        "Inception features. They were not made for grey or scientific images. They are blind to detail beyond 8 bits."
    )

    def read(self, path: Path, sha256: str | None) -> nn.Module:
        """From a folder with `config.json` and `model.safetensors`, e.g. a copy of `facebook/dinov2-large`."""
        config = _config(path)
        self.fingerprint = check_weights(path / "model.safetensors", sha256)
        network = _read(path, config)
        self.dim = int(network.config.hidden_size)
        return cast(nn.Module, network)

    def of_bytes(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.network(_prepared(images)).last_hidden_state
        return tokens[:, 0]


def _prepared(images: Tensor) -> Tensor:
    """uint8 `[n, 3, H, W]` resized, in [0, 1], less the mean and over the standard deviation of ImageNet."""
    x = images.float() / 255
    if x.shape[2:] != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)
    mean, std = (torch.tensor(values, device=x.device).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (x - mean) / std


def _config(folder: Path) -> dict[str, Any]:
    """The keys of `config.json` that shape the network. Raises UserError unless it is that of a DINOv2."""
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict) or config.get("model_type") != "dinov2":
        raise UserError(f"{path}: is not a DINOv2 configuration in Hugging Face's format (model_type 'dinov2')")
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{folder}: adapter_config.json changes the network; remove it to use model.safetensors alone")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise UserError(f"{path}: {key} must be {value!r}, as in every DINOv2, not {config[key]!r}")
    heads = config.get("num_attention_heads", 12)
    if not isinstance(heads, int) or config.get("hidden_size", 768) != _HEAD_SIZE * heads:
        raise UserError(f"{path}: hidden_size must be {_HEAD_SIZE} times num_attention_heads, as in every DINOv2")
    return {key: config[key] for key in _KEYS if key in config}


def _read(folder: Path, config: dict[str, Any]) -> Any:
    """The `Dinov2Model` of a folder, every weight of it from the file. Raises UserError where that fails."""
    try:
        from transformers import Dinov2Config, Dinov2Model
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"features 'dino' need `pip install 'restill[dino]'` ({reason})") from error
    try:
        with _quiet():
            network, loading = Dinov2Model.from_pretrained(
                folder, config=Dinov2Config(**config, **_FIXED), local_files_only=True, use_safetensors=True,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # of any kind: the files are foreign and so is their reader
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(f"{folder}: does not hold DINOv2 weights ({type(error).__name__}: {reason})") from error
    missing = sorted(map(str, {*loading["missing_keys"], *loading["mismatched_keys"]}))
    if missing:  # transformers would have drawn them at random
        raise UserError(f"{folder / 'model.safetensors'}: lacks {len(missing)} weights of DINOv2, e.g. {missing[0]}")
    return network.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and reports of `transformers`: what matters of them becomes a UserError."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
