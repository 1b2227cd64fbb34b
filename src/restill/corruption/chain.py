"""Operators one after the other, with one noise at the end; masks are the last ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .operator import Operator


@dataclass(frozen=True)
class Chain(Operator):
    """Operators one after the other; each has parameters of its own, and `sigma_n` is that of the whole.

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

    def adjoint(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.adjoint(y)
        return y

    def to_domain(self, y: Tensor) -> Tensor:
        y = self.restrict(y)
        return self._modelled[-1].to_domain(y) if self._modelled else y

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

    def seen(self, d: Tensor) -> Tensor:
        for part in self._masks:
            d = part.seen(d)
        return d

    def restrict(self, y: Tensor) -> Tensor:
        for part in self._masks:
            y = part.restrict(y)
        return y

    def condition(self) -> Tensor | None:
        """What all masks leave."""
        masks = [part.condition() for part in self._masks]
        shown = masks[0] if masks else None
        for mask in masks[1:]:
            assert shown is not None and mask is not None
            shown = shown & mask
        return shown

    def missing(self) -> Tensor | None:
        shown = self.condition()
        return None if shown is None else ~shown

    def whole(self) -> Chain:
        return dataclasses.replace(self, parts=tuple(part.whole() for part in self.parts))

    def linear_part(self) -> Operator:
        return dataclasses.replace(self, parts=tuple(part.linear_part() for part in self.parts))

    def cleared(self, where: Tensor) -> Chain:
        parts = tuple(part.cleared(where) for part in self.parts)
        return dataclasses.replace(super().cleared(where), parts=parts)

    def augmented(self, move: Callable[[Tensor], Tensor]) -> Chain:
        return dataclasses.replace(self, parts=tuple(part.augmented(move) for part in self.parts))

    def parameters(self) -> dict[str, Tensor]:
        """The parameters of part `k` as `k.name`; its own noise level is that of the chain, or none."""
        named = {"sigma_n": self.sigma_n}
        for k, part in enumerate(self.parts):
            named |= {f"{k}.{name}": value for name, value in part.parameters().items() if name != "sigma_n"}
        return named

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Chain:
        sigma_n, parts = parameters["sigma_n"], []
        for k, part in enumerate(self.parts):
            parts.append(part.with_parameters({"sigma_n": sigma_n} | of_part(parameters, k)))
        return dataclasses.replace(self, sigma_n=sigma_n, parts=tuple(parts))


def of_part(parameters: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """The parameters of part `k` of a chain, under their own names."""
    return {name.removeprefix(f"{k}."): value for name, value in parameters.items() if name.startswith(f"{k}.")}
