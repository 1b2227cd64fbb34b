"""Small stand-ins with the interface of packages that are not installed everywhere: torch-fidelity and transformers.

They have small networks where the packages have large ones, and read and write files as these do, so that the code
around a feature space is tested where the package is missing.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FIDELITY = "torch_fidelity.feature_extractor_inceptionv3"


def torch_fidelity() -> dict[str, types.ModuleType]:
    """Modules by name, as in `sys.modules`."""
    package, module = types.ModuleType("torch_fidelity"), types.ModuleType(FIDELITY)

    class FeatureExtractorInceptionV3(nn.Module):
        """Features of the mean colours of quarters of an image, and logits of these, under the published names."""

        def __init__(
            self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None
        ) -> None:
            super().__init__()
            self.features_list = features_list
            self.conv, self.fc = nn.Conv2d(3, 2048, 2), nn.Linear(2048, 1008)
            if feature_extractor_weights_path is None:
                state = module.load_state_dict_from_url("https://published")
            else:
                state = torch.load(feature_extractor_weights_path, weights_only=False)
            self.load_state_dict(state)
            for parameter in self.parameters():
                parameter.requires_grad_(False)
            self.eval()

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            if x.dtype != torch.uint8:
                raise TypeError("images must be uint8, as torch-fidelity takes them")
            features = self.conv(F.adaptive_avg_pool2d(x.float() / 127.5 - 1, 2)).flatten(1)
            known = {"2048": features, "logits_unbiased": features @ self.fc.weight.T}
            return tuple(known[name] for name in self.features_list)

    def load_state_dict_from_url(url: str, **_: Any) -> dict[str, Tensor]:
        raise ConnectionError(f"{url}: a test must not fetch anything")

    module.__dict__.update(
        FeatureExtractorInceptionV3=FeatureExtractorInceptionV3, load_state_dict_from_url=load_state_dict_from_url
    )
    package.__dict__["feature_extractor_inceptionv3"] = module
    return {"torch_fidelity": package, FIDELITY: module}


class Dinov2Config:
    """The keys that shape a network; unknown ones are kept, as transformers does."""

    def __init__(self, **keys: Any) -> None:
        self.__dict__.update(
            hidden_size=768, num_hidden_layers=12, num_attention_heads=12, mlp_ratio=4, image_size=518, patch_size=14,
            model_type="dinov2",
        )  # fmt: skip
        self.__dict__.update(keys)


class _Layer(nn.Module):
    """As many tensors as a layer of DINOv2 has, 18, two of which depend on `mlp_ratio`."""

    def __init__(self, width: int, mlp: int) -> None:
        super().__init__()
        for name in ("norm1", "query", "key", "value", "output", "norm2", "scale"):
            self.add_module(name, nn.Linear(width, width))
        self.fc1, self.fc2 = nn.Linear(width, mlp), nn.Linear(mlp, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.gelu(self.fc1(x)))


class Dinov2Model(nn.Module):
    """A network over patches, whose first token is the mean of the others."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        self.embeddings = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        layers = [_Layer(width, config.mlp_ratio * width) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, pixel_values: Tensor) -> types.SimpleNamespace:
        tokens = self.embeddings(pixel_values).flatten(2).movedim(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        for layer in self.encoder["layer"]:
            tokens = layer(tokens)
        return types.SimpleNamespace(last_hidden_state=tokens, pooler_output=tokens[:, 0])

    def save_pretrained(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(vars(self.config)))
        save_file(self.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(
        cls, folder: Path, config: Dinov2Config | None = None, *, output_loading_info: bool = False, **options: Any
    ) -> Any:
        """Weights that the file lacks stay random, and are listed; those of other shapes are an error."""
        assert not output_loading_info or (options["local_files_only"] and options["use_safetensors"])
        config = config or Dinov2Config(**json.loads((folder / "config.json").read_text()))
        network = cls(config)
        state = load_file(folder / "model.safetensors")
        missing = network.load_state_dict(state, strict=False).missing_keys
        network.eval()
        return (network, {"missing_keys": missing, "mismatched_keys": []}) if output_loading_info else network


def transformers() -> dict[str, types.ModuleType]:
    """Modules by name, as in `sys.modules`."""
    package, utils = types.ModuleType("transformers"), types.ModuleType("transformers.utils")
    logging = types.SimpleNamespace(
        get_verbosity=lambda: 30, set_verbosity=lambda level: None, set_verbosity_error=lambda: None,
        is_progress_bar_enabled=lambda: True, disable_progress_bar=lambda: None, enable_progress_bar=lambda: None,
    )  # fmt: skip
    utils.__dict__["logging"] = logging
    package.__dict__.update(Dinov2Config=Dinov2Config, Dinov2Model=Dinov2Model, utils=utils)
    return {"transformers": package, "transformers.utils": utils}
