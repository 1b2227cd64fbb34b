"""Parameters and buffers of a module as plain tensors."""

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
            raise UserError(f"checkpoint lacks the tensor {name}: it is of another network")
        if tensors[name].shape != value.shape:
            raise UserError(
                f"checkpoint tensor {name} has shape {list(tensors[name].shape)}, the network of the recipe has "
                f"{list(value.shape)}"
            )
    if extra := sorted(set(tensors) - set(own)):
        raise UserError(f"checkpoint holds the tensor {extra[0]}, which the network of the recipe lacks")
    module.load_state_dict(tensors)
