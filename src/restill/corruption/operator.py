r"""Operators: drawn, immutable, batched forward maps, and how an observation relates to the image grid.

A measurement is :math:`y = A(x) + \sigma_n \epsilon` with :math:`\epsilon \sim N(0, I)`. An `Operator` is a batch of
`n` drawn maps :math:`A_1, \dots, A_n` together with the noise level of each. Everything that training needs to know
about a corruption goes through the methods below, so that objectives and distillation contain no case distinction. The
*domain* is where the teacher denoises: where the noise of the measurement is white, and where its law can be learned.

================  ===================  =======  ================  ===========  ==============  ================
method            meaning              noise    mask `M`          blur `k *`   downsampling    multi-coil MRI
================  ===================  =======  ================  ===========  ==============  ================
`apply(x)`        image -> observation `x`      `M x`             `k * x`      `D x`           `M F S x`
`adjoint(y)`      its adjoint          `y`      `M y`             `k~ * y`     `D^T y`         `S^H F^-1 M y`
`to_domain(y)`    observation ->       `y`      `M y`             `y`          `y`, without    `S^H F^-1 M y`
                  domain                                                       noise `U y`
`from_domain(d)`  domain -> image      `d`      `d`               `d`          `U d`, or `d`   `d`
`to_image(y)`     both of these: the observation on the image grid
`lift(d)`         domain -> network    `d`      `d`               `d`          `U d`, or `d`   `d`
`project(x)`      network -> domain    `x`      `x`               `x`          `D x`, or `x`   `x`
`seen(d)`         the part of `d`      `d`      `M d`             `d`          `d`             `A^H A d`
                  that was observed
`predicted(d)`    what `d` says of     `d`      `M d`             `d`          `d`             `M F S d`
                  observations, where
                  their noise is white
`observed(y)`     and what they are    `y`      `M y`             `y`          `to_domain(y)`  `y`
`measured(e)`     white noise there    `e`      `M e`             `e`          `e`             `M e`
`inverse(b, p)`   how the network's input, its output, and residuals are scaled: mean and deviation of Gaussian images
`inverse_root(f,  given what is seen of them in noise, and the inverse of the latter (`prior.py`)
p)`
`whiten(r, p)`
`restrict(y)`     a less corrupted     `y`      `M y`             `y`          `y`             `M y`
                  operator's `y`, as
                  this one sees it
`noise(e)`        white noise `e` as    `e`      `M e`             `e`          `e`             `S^H F^-1 M e`
                  it lies in the
                  domain
`embed(d)`        domain -> where       `d`      `d`               `d`          `d`             `F S d`
                  noise is white
`extract(e)`      and back              `e`      `e`               `e`          `e`             `S^H F^-1 e`
`condition()`     channels shown to    none     `M`               none         none            `M`
                  the network
`missing()`       entries that are     none     `not M`           none         none            none
                  not observed at all
`whole()`         the same operators with nothing missing: what they share (masks alone change)
================  ===================  =======  ================  ===========  ==============  ================

(`seen` is the identity for blur because there the network models blurred images, and all of a blurred image is
observed.)
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from .prior import Shrinkage


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
        """`A x`: images `[n, C, H, W]` to noise-free observations `[n, ...]`; differentiable."""

    def adjoint(self, y: Tensor) -> Tensor:
        """`A^H y`: observations `[n, ...]` to images `[n, C, H, W]`, with `<A x, y> = <x, A^H y>`.

        Operators that are not linear have no adjoint; ask `linear_part()`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no adjoint")

    def to_domain(self, y: Tensor) -> Tensor:
        """The observation in the domain, `[n, C, h, w]`; the identity where it already lies there."""
        return y

    def from_domain(self, d: Tensor) -> Tensor:
        """What lies in the domain, as images `[n, C, H, W]`; the identity where the domain is the image grid."""
        return d

    def lift(self, d: Tensor) -> Tensor:
        """What the network, which works on the image grid, is given for `d`; the identity where the domain is one."""
        return d

    def project(self, x: Tensor) -> Tensor:
        """What the network's output means in the domain, `project(lift(d)) = d`; the identity as for `lift`."""
        return x

    def to_image(self, y: Tensor) -> Tensor:
        """The observation on the image grid, `[n, C, H, W]`; the identity where it already lies there."""
        return self.from_domain(self.to_domain(y))

    def seen(self, d: Tensor) -> Tensor:
        """The part of `d`, in the domain, that the observation determines; the identity by default."""
        return d

    def inverse(self, b: Tensor, shrinkage: Shrinkage) -> Tensor:
        """`T^{-1} b` (`Shrinkage`), where `b` `[n, C, h, w]` is seen; `b` itself unless `seen` is no projection."""
        return b

    def inverse_root(self, f: Tensor, shrinkage: Shrinkage) -> Tensor:
        """`T^{-1/2} f` of any `f`: larger by `sqrt(1 + 1/r)` where nothing is seen."""
        seen = self.seen(f)
        return f if seen is f else seen + (1 + 1 / shrinkage.ratio).sqrt() * (f - seen)

    def predicted(self, d: Tensor) -> Tensor:
        """What `d`, in the domain, says of the observation, where its noise is white; `seen(d)` by default."""
        return self.seen(d)

    def observed(self, y: Tensor) -> Tensor:
        """The observation there; `to_domain(y)` by default."""
        return self.to_domain(y)

    def measured(self, e: Tensor) -> Tensor:
        """White noise `e` there; `noise(e)` by default."""
        return self.noise(e)

    def whiten(self, residual: Tensor, shrinkage: Shrinkage) -> Tensor:
        """What is left of an observation there, over its deviation if it were of Gaussian images.

        That is `s / sqrt(1 + r)` where this operator sees it, and that of the images elsewhere.
        """
        seen = self.seen(residual)
        scaled = (1 + 1 / shrinkage.ratio).sqrt() * seen
        return (scaled if seen is residual else scaled + (residual - seen)) / shrinkage.variance.sqrt()

    def restrict(self, y: Tensor) -> Tensor:
        """What this operator would have measured, from the observation of a less corrupted one; identity by default."""
        return y

    def noise(self, e: Tensor) -> Tensor:
        """White noise `e` `[n, *noise_shape]` as it adds to the noise of `to_domain(y)`; `seen(e)` by default."""
        return self.seen(e)

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of white noise for a domain of `shape` `(C, h, w)`; the same by default."""
        return shape

    def noise_variance(self, d: Tensor) -> Tensor:
        """Variance of every entry of `noise(e)`, `[n, C, h, w]` like `d`; 1 where the domain is observed by default."""
        return self.seen(torch.ones_like(d))

    def embed(self, d: Tensor) -> Tensor:
        """`d` in the space where noise is white, `noise(embed(d)) = seen(d)`; the identity by default."""
        return d

    def extract(self, e: Tensor) -> Tensor:
        """The inverse of `embed`, whose adjoint it is; the identity by default."""
        return e

    def condition(self) -> Tensor | None:
        """Channels `[n, K, H, W]` that the network is shown beside the image, e.g. the mask; none by default."""
        return None

    def missing(self) -> Tensor | None:
        """Where in the domain nothing was observed, bool `[n, C, h, w]`; None where everything is, the default."""
        return None

    def whole(self) -> Self:
        """The same operators with nothing missing, `A x = M A_whole x`; the operator itself by default."""
        return self

    def linear_part(self) -> Operator:
        """The linear map that says what is lost; the operator itself unless a pointwise nonlinearity ends it."""
        return self

    def cleared(self, where: Tensor) -> Self:
        """The same operators, those of `where` (bool `[n]`) replaced by none at all: identity, no noise.

        By default only the noise is taken away; laws that allow a clean fraction have operators that do both.
        """
        return dataclasses.replace(self, sigma_n=self.sigma_n.masked_fill(where, 0.0))

    def augmented(self, move: Callable[[Tensor], Tensor]) -> Self:
        """The operators of measurements that were moved (flipped, turned) by `move`, a map of `[n, C, H, W]`.

        Only what tells pixels apart has to move with them: the identity by default, since a domain that is wholly
        observed is modelled as it is.
        """
        return self

    def parameters(self) -> dict[str, Tensor]:
        """The per-sample parameters, by name; each has leading dimension `n`."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value for name, value in fields if isinstance(value, Tensor)}

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return self.with_parameters({name: function(value) for name, value in self.parameters().items()})

    def select(self, index: Tensor | slice) -> Self:
        """The operators of some samples, in the given order."""
        return self._map(lambda value: value[index])

    def to(self, device: torch.device | str) -> Self:
        """The same operators on another device."""
        return self._map(lambda value: value.to(device))

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """The same kind of operators with other per-sample parameters, named as in `parameters()`."""
        return dataclasses.replace(self, **parameters)

    @staticmethod
    def concatenate(operators: Sequence[Operator]) -> Operator:
        """One batch of operators from several batches of the same law."""
        parts = [operator.parameters() for operator in operators]
        return operators[0].with_parameters({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def __len__(self) -> int:
        return len(self.sigma_n)


@dataclass(frozen=True)
class Identity(Operator):
    """`A x = x`: the operator of purely additive noise."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y
