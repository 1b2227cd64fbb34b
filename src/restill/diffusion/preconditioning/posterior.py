r"""Gaussian images given what an operator sees of them in white noise: the maps by which a network is preconditioned.

With :math:`P` and :math:`T` of a `Shrinkage` and `out` what the network returns, its estimate is
:math:`P^{1/2} (T^{-1} P^{1/2} x_t + s\, T^{-1/2} out)`, mean and deviation of the posterior. Where everything is seen,
`T` is 1 and this is EDM's preconditioning.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...core.tensors import on_grid
from ...corruption import Operator
from .chebyshev import Polynomial, inverse, inverse_root
from .prior import Shrinkage

_STEPS = 8  # applications of T in a polynomial
_LOW = 0.02  # eigenvalue down to which it is accurate
_Map = Callable[[Tensor], Tensor]


class Posterior(ABC):
    """`T^{-1}` and `T^{-1/2}` on images `[n, C, H, W]`."""

    @abstractmethod
    def inverse(self, b: Tensor) -> Tensor:
        """`T^{-1} b` of what is seen."""

    @abstractmethod
    def inverse_root(self, f: Tensor) -> Tensor:
        """`T^{-1/2} f` of any `f`."""

    @abstractmethod
    def visible(self, x: Tensor) -> Tensor:
        """`x` with 0 in pixels that were not observed."""


@dataclass(frozen=True)
class Projected(Posterior):
    """White images with some pixels seen and the others not: `T` is 1 on those seen and `1 - P` elsewhere.

    Attributes:
        given: the images and the noise.
        shown: 1 where a pixel is seen, on the image grid; None where all are.
    """

    given: Shrinkage
    shown: Tensor | None

    def inverse(self, b: Tensor) -> Tensor:
        return b

    def inverse_root(self, f: Tensor) -> Tensor:
        if self.shown is None:
            return f
        seen = self.shown.to(f) * f
        return seen + (1 + 1 / self.given.ratio).sqrt() * (f - seen)

    def visible(self, x: Tensor) -> Tensor:
        return x if self.shown is None else x.masked_fill(~self.shown, 0.0)


@dataclass(frozen=True)
class Approximated(Posterior):
    """By polynomials in `T`, for any operator. With a white prior it is the regularised SENSE reconstruction of MRI
    (Pruessmann et al. 2001).

    Attributes:
        apply: `T`, in some coordinates.
        there, back: images to these coordinates, and back; unitary.
    """

    apply: _Map
    there: _Map
    back: _Map

    def inverse(self, b: Tensor) -> Tensor:
        return self._polynomial(inverse, b)

    def inverse_root(self, f: Tensor) -> Tensor:
        return self._polynomial(inverse_root, f)

    def visible(self, x: Tensor) -> Tensor:
        return x

    @final
    def _polynomial(self, of: Polynomial, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.back(of(self.apply, self.there(x), _LOW, _STEPS))


def general(operator: Operator, given: Shrinkage) -> Approximated:
    """For any operator whose domain is the image grid."""

    def apply(x: Tensor) -> Tensor:
        shrunk = given.half(x)
        return x - given.half(shrunk - operator.seen(shrunk))

    return Approximated(apply, _itself, _itself)


def _itself(x: Tensor) -> Tensor:
    return x


@functools.singledispatch
def posterior(operator: Operator, given: Shrinkage, d: Tensor, x: Tensor) -> Posterior:
    """The posterior of images given what the operator sees of them in noise; operators may register a faster one.

    Args:
        given: the images and the noise.
        d: what is seen, in the domain `[n, c, h, w]`.
        x: the same, on the image grid `[n, C, H, W]`.
    """
    if operator.condition() is None:
        return Projected(given, None)
    missing = operator.missing(d)
    if missing is None or given.variance.ndim:
        return general(operator, given)
    if missing.shape[1] != x.shape[1]:
        missing = missing.all(dim=1, keepdim=True)
    return Projected(given, on_grid(~missing, x))


def whiten(operator: Operator, residual: Tensor, given: Shrinkage) -> Tensor:
    """A residual in the white space, divided by the deviation that Gaussian images would give it.

    The deviation is `s / sqrt(1 + r)` where the operator sees the residual, and that of the images elsewhere. With a
    spectrum as prior, the white space is k-space.
    """
    seen = operator.restrict(residual)
    scaled = (1 + 1 / given.ratio).sqrt() * seen
    return (scaled if seen is residual else scaled + (residual - seen)) / given.variance.sqrt()
