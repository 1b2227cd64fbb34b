r"""Operators: drawn, immutable, batched forward maps, and how an observation relates to the image grid.

A measurement is :math:`y = A(x) + \sigma_n \epsilon` with :math:`\epsilon \sim N(0, I)`. An `Operator` is a batch of
`n` drawn maps :math:`A_1, \dots, A_n` together with the noise level of each. Everything that training needs to know
about a corruption goes through the methods below, so that objectives and distillation contain no case distinction:

=============  ===================  =================  =====================  ==================  ================
method         meaning              noise              random mask `M`        blur `k *`          multi-coil MRI
=============  ===================  =================  =====================  ==================  ================
`apply(x)`     image -> observation `x`                `M x`                  `k * x`             `M F S x`
`adjoint(y)`   its adjoint          `y`                `M y`                  `k~ * y`            `S^H F^-1 M y`
`to_image(y)`  on the image grid    `y`                `y`                    `y`                 `S^H F^-1 M y`
`seen(x)`      the part of an image `x`                `M x`                  `x`                 `A^H A x`
               that was observed
`restrict(y)`  a less corrupted     `y`                `M y`                  `y`                 `M y`
               operator's `y`, as
               this one sees it
`condition()`  channels shown to    none               `M`                    none                `M`
               the network
=============  ===================  =================  =====================  ==================  ================

(`seen` is the identity for blur because there the network models blurred images, and all of a blurred image is
observed.) `seen(x) == to_image(apply(x))` wherever the network models `x` itself.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self


@dataclass(frozen=True)
class Operator(ABC):
    r"""A batch of `n` drawn forward maps. Subclasses are frozen dataclasses.

    Every field that is a tensor is a per-sample parameter with leading dimension `n`: it is what a store keeps.
    Fields of other types are shared by the batch. Device follows the parameters, dtype follows the input.

    Attributes:
        sigma_n: standard deviation of the additive white noise of each sample, in the units of the (normalised)
            observation, shape `[n]`; 0 where the sample has no noise.
    """

    sigma_n: Tensor

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """`A x`: images `[n, C, H, W]` to noise-free observations `[n, ...]`; differentiable and linear."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """`A^H y`: observations `[n, ...]` to images `[n, C, H, W]`, with `<A x, y> = <x, A^H y>`."""

    def to_image(self, y: Tensor) -> Tensor:
        """The observation on the image grid, `[n, C, H, W]`; the identity where it already lies there."""
        return y

    def seen(self, x: Tensor) -> Tensor:
        """The part of an image `[n, C, H, W]` that the observation determines; the identity by default."""
        return x

    def restrict(self, y: Tensor) -> Tensor:
        """What this operator would have measured, from the observation of a less corrupted one; identity by default."""
        return y

    def condition(self) -> Tensor | None:
        """Channels `[n, K, H, W]` that the network is shown beside the image, e.g. the mask; none by default."""
        return None

    def parameters(self) -> dict[str, Tensor]:
        """The per-sample parameters, by name; each has leading dimension `n`."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value for name, value in fields if isinstance(value, Tensor)}

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return dataclasses.replace(self, **{name: function(value) for name, value in self.parameters().items()})

    def select(self, index: Tensor | slice) -> Self:
        """The operators of some samples, in the given order."""
        return self._map(lambda value: value[index])

    def to(self, device: torch.device | str) -> Self:
        """The same operators on another device."""
        return self._map(lambda value: value.to(device))

    @staticmethod
    def concatenate(operators: Sequence[Operator]) -> Operator:
        """One batch of operators from several batches of the same law."""
        parts = [operator.parameters() for operator in operators]
        merged = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return dataclasses.replace(operators[0], **merged)

    def __len__(self) -> int:
        return len(self.sigma_n)


@dataclass(frozen=True)
class Identity(Operator):
    """`A x = x`: the operator of purely additive noise."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y
