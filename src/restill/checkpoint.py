"""Networks and training states on disk, as safetensors and JSON. Writing is atomic; loading executes nothing.

A network is a folder with `model.safetensors` and `config.json`. A training state is one safetensors file with the
JSON in its header, so tensors and counters are always replaced together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from typing_extensions import Self

from .core.errors import UserError
from .core.files import replacing, write_json
from .core.modules import check_fits, module_state, restore_module
from .core.reading import check_regular, check_size, parse_json, read_json, understood
from .core.settings import Section, Several, setting
from .corruption import Corruption, corruption_from
from .diffusion import Denoiser, NetworkDenoiser, Prior
from .diffusion.networks import Preconditioned, build_network
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


def state_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a state, by name, from its header. Raises UserError as `load_state` does."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict


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

    role: Literal["teacher", "student"] = setting(..., "teacher or student")
    cls: str = setting(..., "class of the network, for `build_network`")
    kwargs: dict[str, Any] = setting(..., "its arguments, for `build_network`")
    shape: Several[PositiveInt] = setting(
        ..., "`(C, h, w)` of the domain, where the teacher denoises", min_length=3, max_length=3
    )
    sigma_data: float = setting(..., "standard deviation of the clean data", gt=0)
    num_classes: int = setting(..., "number of classes; 0 for unconditional networks", ge=0)
    corruption: dict[str, Any] = setting(..., "description of the corruption of the measurements")
    offset: float = setting(..., "`physical = normalised * scale + offset`")
    scale: float = setting(..., "`physical = normalised * scale + offset`", gt=0)
    value_range: Annotated[tuple[float, float], Field(strict=False)] | None = setting(
        ..., "of the physical data; `(0, 255)` marks 8-bit images"
    )
    init_sigma: float | None = setting(None, "noise level at which a student starts; null for a teacher", gt=0)
    classes: Several[str] | None = setting(None, "names of the classes")
    class_counts: Several[int] | None = setting(
        None, "measurements of each class, in whose proportion classes are drawn; null in older folders"
    )
    images_seen: int = setting(0, "length of the training", unit="images", ge=0)
    ema_sigma_rel: float | None = setting(
        None, "relative length of the average of the weights, where `restill select` chose it"
    )
    image_shape: Several[PositiveInt] | None = setting(
        None, "`(C, H, W)` of an image, where the domain has another shape"
    )
    preconditioning: Literal["edm", "masked"] = setting("edm", "edm, or masked for one that knows of missing pixels")
    complex_values: bool = setting(False, "whether the channels of an image are real and imaginary parts in turn")
    power: Several[float] | None = setting(
        None, "spectrum of complex images by radius (`Prior.stationary`); null for white images"
    )

    @field_validator("shape", "image_shape")
    @classmethod
    def _no_larger_than_memory(cls, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if shape is not None and len(shape) != 3:
            raise ValueError(f"must hold 3 numbers, not {len(shape)}")
        check_size(shape or ())
        return shape

    @field_validator("power")
    @classmethod
    def _above_zero(cls, power: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if power is not None and not (power and min(power) > 0):
            raise ValueError("must hold numbers above 0")
        return power

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
    config, _ = planned_network(folder)
    denoiser = _built(folder, config)
    tensors, _ = load_state(folder / "model.safetensors")
    with _naming(folder / "model.safetensors"):
        restore_module(denoiser.net, tensors)
    return denoiser.to(device).eval().requires_grad_(False), config


def planned_network(folder: Path) -> tuple[NetworkConfig, NetworkDenoiser]:
    """A network folder's configuration, and its network on the meta device: sizes, without memory for the weights.

    Raises:
        UserError: the configuration describes no network, or the weights, if there are any, do not fit it.
    """
    config, weights = load_network_config(folder), folder / "model.safetensors"
    with torch.device("meta"):
        denoiser = _built(folder, config)
    with _naming(folder / "config.json"):
        _check_shown(config, denoiser.net)
    if weights.exists():
        shapes = state_shapes(weights)
        with _naming(weights):
            check_fits(denoiser.net, shapes)
    return config, denoiser


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Puts the file before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _check_shown(config: NetworkConfig, net: nn.Module) -> None:
    """Raises UserError where the network takes other classes or channels than it will be shown."""
    if not isinstance(net, Preconditioned):
        return
    if net.label_dim != config.num_classes:
        raise UserError(f"num_classes is {config.num_classes}, but label_dim of the network {net.label_dim}")
    if net.img_resolution != max(config.grid[1:]):
        raise UserError(f"images are {list(config.grid)}, but img_resolution of the network is {net.img_resolution}")
    try:
        channels = config.grid[0] + config.build_corruption().shapes(config.grid).condition
    except UserError:  # a corruption of the user's, whose file is not named
        return
    if net.img_channels != channels:
        raise UserError(f"img_channels of the network is {net.img_channels}, but images and masks have {channels}")


def _built(folder: Path, config: NetworkConfig) -> NetworkDenoiser:
    path = folder / "config.json"
    try:
        with understood(path, "a configuration of a network"):
            return config.build()
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: does not describe a network of restill ({reason})") from error


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
