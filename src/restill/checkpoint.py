"""Networks and training states on disk, as safetensors and JSON. Writing is atomic; loading executes nothing.

A network is a folder with `model.safetensors` and `config.json`. A training state is one safetensors file with the
JSON in its header, so tensors and counters are always replaced together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from typing_extensions import Self

from .core.errors import UserError
from .core.files import replacing, write_json
from .core.modules import module_state, restore_module
from .core.reading import check_regular, parse_json, read_json
from .core.settings import Section, Several, setting
from .corruption import Corruption, corruption_from
from .diffusion import Denoiser, NetworkDenoiser, Prior
from .diffusion.networks import build_network
from .sampling import Classes

FORMAT = 1


def save_state(path: Path, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
    """Write tensors and plain data as one file, atomically; equal ones give equal bytes."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = save(plain, metadata={"format": str(FORMAT), "data": json.dumps(data)})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # else equal states differ in their bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # `save_file` has a temporary file of its own, which a kill would leave behind.
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(content)[8 + size :])


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of `save_state`. Raises UserError, naming the file, if it is truncated or not a state."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, _data(path, file)


def load_state_data(path: Path) -> dict[str, Any]:
    """The plain data of a state, without its tensors. Raises UserError as `load_state` does."""
    with _opened(path) as file:
        return _data(path, file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint")
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}: is not a complete checkpoint of restill ({error}); restore it from a copy, or train again"
        ) from error


def _data(path: Path, file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    check_format(path, metadata.get("format", "0"))
    data = parse_json(metadata["data"])
    if not isinstance(data, dict):
        raise ValueError("its header holds no keys and values")
    return data


def check_format(path: Path, found: object) -> None:
    """Raises UserError if a file was written by a newer restill."""
    if str(found) != str(FORMAT):
        raise UserError(
            f"{path}: has checkpoint format {found}, but this restill reads {FORMAT}; use the version that wrote it"
        )


class NetworkConfig(Section):
    """The content of `config.json`: everything that is needed to use a network, except its weights."""

    role: str = setting(..., "teacher or student")
    cls: str = setting(..., "class of the network, for `build_network`")
    kwargs: dict[str, Any] = setting(..., "its arguments, for `build_network`")
    shape: Several[int] = setting(..., "`(C, h, w)` of the domain, where the teacher denoises")
    sigma_data: float = setting(..., "standard deviation of the clean data")
    num_classes: int = setting(..., "number of classes; 0 for unconditional networks")
    corruption: dict[str, Any] = setting(..., "description of the corruption of the measurements")
    offset: float = setting(..., "`physical = normalised * scale + offset`")
    scale: float = setting(..., "`physical = normalised * scale + offset`")
    value_range: Annotated[tuple[float, float], Field(strict=False)] | None = setting(
        ..., "of the physical data; `(0, 255)` marks 8-bit images"
    )
    init_sigma: float | None = setting(None, "noise level at which a student starts; null for a teacher")
    classes: Several[str] | None = setting(None, "names of the classes")
    class_counts: Several[int] | None = setting(
        None, "measurements of each class, in whose proportion classes are drawn; null in older folders"
    )
    images_seen: int = setting(0, "length of the training", unit="images")
    ema_sigma_rel: float | None = setting(
        None, "relative length of the average of the weights, where `restill select` chose it"
    )
    image_shape: Several[int] | None = setting(None, "`(C, H, W)` of an image, where the domain has another shape")
    preconditioning: str = setting("edm", "edm, or masked for one that knows of missing pixels")
    complex_values: bool = setting(False, "whether the channels of an image are real and imaginary parts in turn")
    power: Several[float] | None = setting(
        None, "spectrum of complex images by radius (`Prior.stationary`); null for white images"
    )

    @property
    def grid(self) -> tuple[int, ...]:
        """`(C, H, W)` of an image."""
        return self.image_shape or self.shape

    @property
    def drawn_classes(self) -> Classes | None:
        """How often each class is drawn; None for unconditional networks."""
        if not self.num_classes:
            return None
        if self.class_counts is None:
            return Classes.alike(self.num_classes, self.classes)
        return Classes(self.class_counts, self.classes)

    @model_validator(mode="after")
    def _a_count_for_each_class(self) -> Self:
        if self.num_classes and self.class_counts is not None:
            if len(self.class_counts) != self.num_classes:
                raise ValueError(f"class_counts must hold {self.num_classes} numbers, not {len(self.class_counts)}")
            Classes(self.class_counts)
        return self

    def build_corruption(self) -> Corruption:
        """The corruption."""
        return corruption_from(self.corruption)

    def build(self) -> NetworkDenoiser:
        """The denoiser with fresh weights."""
        net = build_network(self.cls, dict(self.kwargs))
        masked, prior = self.preconditioning == "masked", None
        if self.power is not None:
            prior = Prior.stationary(self.power, *self.grid[1:])
        return NetworkDenoiser(net, self.grid[0], self.sigma_data, self.num_classes, masked, prior)


def save_network(folder: Path, denoiser: Denoiser, config: NetworkConfig) -> None:
    """Write `config.json` and then `model.safetensors`, so that a folder with weights is complete.

    The header of the weights holds a copy of the configuration.
    """
    data = {"format": FORMAT, **config.model_dump(mode="json")}
    tensors = {name.removeprefix("net."): value for name, value in module_state(denoiser).items()}
    write_json(folder / "config.json", data)
    save_state(folder / "model.safetensors", tensors, data)


def load_network(folder: Path, device: torch.device | str = "cpu") -> tuple[NetworkDenoiser, NetworkConfig]:
    """Read a network folder. Raises UserError, naming the file, if one is missing, damaged, too new or does not fit."""
    config = load_network_config(folder)
    denoiser = _built(folder, config)
    tensors, _ = load_state(folder / "model.safetensors")
    try:
        restore_module(denoiser.net, tensors)
    except UserError as error:
        raise UserError(f"{folder / 'model.safetensors'}: {error}") from error
    return denoiser.to(device).eval().requires_grad_(False), config


def _built(folder: Path, config: NetworkConfig) -> NetworkDenoiser:
    try:
        return config.build()
    except (TypeError, ValueError, KeyError, RuntimeError, UserError) as error:
        raise UserError(f"{folder / 'config.json'}: does not describe a network of restill ({error})") from error


def load_network_config(folder: Path) -> NetworkConfig:
    """Read `config.json` alone."""
    path = folder / "config.json"
    if not folder.is_dir() or not path.exists():
        raise UserError(f"{folder}: is not a network folder (it has no config.json)")
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a network configuration (it holds no keys and values)")
    check_format(path, data.pop("format", 0))
    try:
        return NetworkConfig(**data)
    except UserError as error:
        raise UserError(f"{path}: is not a network configuration ({error})") from error
