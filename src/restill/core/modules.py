"""Modules as plain tensors by name, and back; several in one state, each under a prefix."""

from __future__ import annotations

from torch import Tensor, nn

from .errors import UserError


def module_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {name: value.detach() for name, value in module.state_dict().items()}


def restore_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load parameters and buffers. Raises UserError, naming the first tensor that does not fit."""
    own = module.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise UserError(f"the checkpoint lacks the tensor {name}; it belongs to another network")
        if tensors[name].shape != value.shape:
            raise UserError(
                f"the checkpoint's tensor {name} has shape {list(tensors[name].shape)}, but the network needs "
                f"{list(value.shape)}"
            )
    if extra := sorted(set(tensors) - set(own)):
        raise UserError(f"the checkpoint holds the tensor {extra[0]}, which the network does not have")
    module.load_state_dict(tensors)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix/`."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `prefixed`."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
