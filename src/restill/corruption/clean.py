"""Clean images among the measurements: operators that leave a sample as it is."""

from __future__ import annotations

import functools
from typing import TypeVar

import torch
from torch import Tensor

from ..core.tensors import right_broadcast
from .operator import Operator

OperatorT = TypeVar("OperatorT", bound=Operator)


@functools.singledispatch
def untouched(operator: Operator) -> Operator:
    """Operators of the same kind that do nothing and have no noise; these do nothing once nothing is missing."""
    parameters = operator.whole().parameters()
    return operator.with_parameters(parameters | {"sigma_n": torch.zeros_like(operator.sigma_n)})


def cleared(operator: OperatorT, where: Tensor) -> OperatorT:
    """The same operators, those of `where` (bool `[n]`) replaced by ones that do nothing."""
    nothing = untouched(operator).parameters()
    parameters = operator.parameters()
    return operator.with_parameters(
        {name: torch.where(right_broadcast(where, value), nothing[name], value) for name, value in parameters.items()}
    )
