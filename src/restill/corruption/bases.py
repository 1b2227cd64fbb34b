"""Traits that operators share, one class each, and ready bases made of them.

A trait answers one question about an operator and defines the methods that follow from the answer:

- Is it linear? `Linear`, or `Differentiable`.
- Does it miss something? If not, it is `Complete`.
- Does the teacher denoise on the image grid? Then it is `OnImageGrid`.
- Is the noise white there? Then it is `WhiteInDomain`.
- Do measurements lie where noise is white? Then they are compared `AsMeasured`.

`class Dead(MaskingOperator)` says `restrict` and `condition`; `class Smear(CompleteOperator)`, `apply` and `adjoint`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..core.errors import UserError
from .operator import Operator


class Linear(Operator):
    """Linear in the image: `apply` is its own derivative, and `from_domain` is `lift`."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """`A^H y`: observations `[n, ...]` to images `[n, C, H, W]`, with `<A x, y> = <x, A^H y>`."""

    @final
    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.apply(v)

    @final
    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        return self.adjoint(w)

    @final
    def from_domain(self, d: Tensor) -> Tensor:
        return self.lift(d)


def linear(operator: Operator, what: str) -> Linear:
    """The operator, if it has an adjoint. Raises UserError otherwise; `what` names who needs the adjoint."""
    if not isinstance(operator, Linear):
        raise UserError(f"{what}: needs a linear operator with an adjoint, not {type(operator).__name__}")
    return operator


class Differentiable(Operator):
    """Not linear: autograd differentiates `apply`."""

    @final
    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        derivative: Tensor = torch.func.jvp(self.apply, (x,), (v,))[1]
        return derivative

    @final
    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        derivative: Tensor = torch.func.vjp(self.apply, x)[1](w)[0]
        return derivative


class Complete(Operator):
    """Nothing is missing."""

    @final
    def restrict(self, y: Tensor) -> Tensor:
        return y

    @final
    def condition(self) -> None:
        return None


class OnImageGrid(Operator):
    """The domain is the image grid."""

    @final
    def lift(self, d: Tensor) -> Tensor:
        return d

    @final
    def project(self, x: Tensor) -> Tensor:
        return x


class WhiteInDomain(Operator):
    """The noise of the measurements is white in the domain; each entry of the domain is either observed or not."""

    white_domain: ClassVar[bool] = True

    @final
    def embed(self, d: Tensor) -> Tensor:
        return d

    @final
    def extract(self, e: Tensor) -> Tensor:
        return e


class AsMeasured(Operator):
    """Measurements need no map to the white space."""

    @final
    def observed(self, y: Tensor) -> Tensor:
        return self.restrict(y)


class PixelOperator(Linear, AsMeasured, WhiteInDomain, OnImageGrid):
    """Observations are images that may lack pixels: say `apply`, `adjoint`, `restrict`, `condition`."""


class CompleteOperator(PixelOperator, Complete):
    """Observations are whole images: say `apply`, `adjoint`."""


class MeasurementOperator(Linear, AsMeasured, WhiteInDomain, Complete):
    """The teacher denoises measurements as they are, on a grid of their own; nothing is missing.

    Say `apply`, `adjoint`, `lift`, `project`.
    """


class SamplingOperator(Linear, AsMeasured, OnImageGrid):
    """`A = restrict . embed`: samples in another space, e.g. k-space.

    Say `embed`, `extract`, `restrict`, `condition`; `restrict` is a product with 0 and 1, entry by entry.
    """

    @final
    def apply(self, x: Tensor) -> Tensor:
        return self.restrict(self.embed(x))

    @final
    def adjoint(self, y: Tensor) -> Tensor:
        return self.extract(self.restrict(y))


class MaskingOperator(SamplingOperator, WhiteInDomain):
    """Pixels are missing: say `restrict`, `condition`."""


@dataclass(frozen=True)
class Identity(CompleteOperator):
    """`A x = x`: the operator of purely additive noise."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y
