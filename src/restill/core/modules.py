"""Modules as plain tensors by name, and back; several in one state, each under a prefix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .errors import UserError


def module_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {name: value.detach() for name, value in module.state_dict().items()}


def restore_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load parameters and buffers. Raises UserError, naming the first tensor that does not fit."""
    check_fits(module, {name: tuple(value.shape) for name, value in tensors.items()})
    module.load_state_dict(tensors)


def check_fits(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError, naming the first tensor that does not fit, unless tensors of these shapes are a module's own.

    The module may be on the meta device, so that sizes are compared before memory is taken.
    """
    own = module.state_dict()
    for name, value in own.items():
        if name not in shapes:
            raise UserError(f"the checkpoint lacks the tensor {name}; it belongs to another network")
        if shapes[name] != tuple(value.shape):
            raise UserError(
                f"the checkpoint's tensor {name} has shape {list(shapes[name])}, but the network needs "
                f"{list(value.shape)}"
            )
    if extra := sorted(set(shapes) - set(own)):
        raise UserError(f"the checkpoint holds the tensor {extra[0]}, which the network does not have")


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix/`."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `prefixed`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
