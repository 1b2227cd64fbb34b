"""Operators one after the other, with one noise at the end; masks are the last ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from .bases import WhiteInDomain
from .operator import Operator
from .traits import untouched


@dataclass(frozen=True)
class Chain(WhiteInDomain):
    """Operators one after the other; each has its own parameters, and `sigma_n` is that of the chain.

    Attributes:
        parts: in the order in which they act; masks are the last ones.
        masks: how many of them are masks.
    """

    parts: tuple[Operator, ...]
    masks: int

    @property
    def _modelled(self) -> tuple[Operator, ...]:
        return self.parts[: len(self.parts) - self.masks]

    @property
    def _masks(self) -> tuple[Operator, ...]:
        return self.parts[len(self.parts) - self.masks :]

    def apply(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.apply(x)
        return x

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        for part in self.parts:
            x, v = part.apply(x), part.jvp(x, v)
        return v

    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        inputs = [x]
        for part in self.parts[:-1]:
            inputs.append(part.apply(inputs[-1]))
        for part, at in zip(reversed(self.parts), reversed(inputs), strict=True):
            w = part.vjp(at, w)
        return w

    def observed(self, y: Tensor) -> Tensor:
        y = self.restrict(y)
        return self._modelled[-1].observed(y) if self._modelled else y

    def restrict(self, y: Tensor) -> Tensor:
        for part in self._masks:
            y = part.restrict(y)
        return y

    def condition(self) -> Tensor | None:
        """The pixels that no mask hides."""
        shown: Tensor | None = None
        for part in self._masks:
            mask = part.condition()
            shown = mask if shown is None or mask is None else shown & mask
        return shown

    def from_domain(self, d: Tensor) -> Tensor:
        for part in reversed(self._modelled):
            d = part.from_domain(d)
        return d

    def lift(self, d: Tensor) -> Tensor:
        for part in reversed(self._modelled):
            d = part.lift(d)
        return d

    def project(self, x: Tensor) -> Tensor:
        for part in self._modelled:
            x = part.project(x)
        return x


@untouched.register
def _(operator: Chain) -> Chain:
    parts = tuple(untouched(part) for part in operator.parts)
    return dataclasses.replace(operator, sigma_n=torch.zeros_like(operator.sigma_n), parts=parts)
