r"""Operators: drawn, immutable, batched forward maps, and how an observation relates to what a network learns.

A measurement is :math:`y = A(x) + \sigma_n \epsilon` with :math:`\epsilon \sim N(0, I)`. An `Operator` is a batch of
`n` drawn maps :math:`A_1, \dots, A_n` together with the noise level of each. Objectives, samplers and distillation know
operators by the methods below alone. They speak of four spaces:

- *images*, `[n, C, H, W]`: what a generator draws, and the grid on which networks work;
- *observations*, `[n, ...]`: what a store keeps;
- the *white space*, `[n, ...]`: where the noise of the measurements is white, and residuals are compared;
- the *domain*, `[n, c, h, w]`: where the teacher denoises, because the measurements' distribution can be learned there.

An operator says only:

=================  =======================  =======  =======  ===========  ====================  ===============
method             meaning                  noise    mask     blur `k *`   downsampling          multi-coil MRI
=================  =======================  =======  =======  ===========  ====================  ===============
`apply(x)`         image -> observation     `x`      `M x`    `k * x`      `D x`                 `M F S x`
`adjoint(y)`       its adjoint (`Linear`)   `y`      `M y`    `k~ * y`     `D^T y`               `S^H F^-1 M y`
`restrict(y)`      what this operator sees  `y`      `M y`    `y`          `y`                   `M y`
                   of a less corrupted
                   observation
`condition()`      channels shown to the    none     `M`      none         none                  `M`
                   network
`observed(y)`      observation -> white     `y`      `M y`    `y`          `y`, without noise    `M y`
                   space                                                   `U y`
`embed(d)`         domain -> white space    `d`      `d`      `d`          `d`                   `F S d`
`extract(e)`       and back                 `e`      `e`      `e`          `e`                   `S^H F^-1 e`
`lift(d)`          domain -> network        `d`      `d`      `d`          `U d`, or `d`         `d`
`project(x)`       network -> domain        `x`      `x`      `x`          `D x`, or `x`         `x`
`from_domain(d)`   domain -> image          that is `lift(d)`, unless the operator is not linear
=================  =======================  =======  =======  ===========  ====================  ===============

Most operators share these lines, so `bases.py` has them in ready classes. An operator on the image grid says two
methods, whether it misses nothing (`CompleteOperator`) or misses pixels (`MaskingOperator`); any other one whose
observations are images says four (`PixelOperator`). An operator that is not linear is `Differentiable`. The parameter
that says what was observed is called `mask`, or `shown` names it.

Everything else is derived here and final: `seen`, `predicted`, `measured`, `noise`, `to_domain`, `to_image`, `missing`,
`whole`, `moved` and the parameters. (`seen` is the identity for blur because there the network models blurred images,
and all of a blurred image is observed.) `tests/test_corruption_laws.py` checks the laws that the methods must obey for
every operator in the list beside it; add yours there.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast, final

import torch
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError


@dataclass(frozen=True)
class Operator(ABC):
    r"""A batch of `n` drawn forward maps. Subclasses are frozen dataclasses, and abstract or final.

    Every field that is a tensor is a per-sample parameter with leading dimension `n`: it is what a store keeps. One
    field may be a tuple of operators, whose parameters are its own too. Fields of other types are shared by the batch.
    Device follows the parameters, dtype follows the input.

    Attributes:
        sigma_n: standard deviation of the additive white noise of each sample, in the units of the (normalised)
            observation, shape `[n]`; 0 where the sample has no noise.
        shown: names of the parameters that say what was observed, 1 or True where it was; others are ignored.
        white_domain: whether the white space is the domain (`WhiteInDomain`), so that `seen` is a projection.
    """

    shown: ClassVar[tuple[str, ...]] = ("mask",)
    white_domain: ClassVar[bool] = False
    sigma_n: Tensor

    # what an operator says

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """`A x`: images `[n, C, H, W]` to noise-free observations `[n, ...]`; differentiable."""

    @abstractmethod
    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The derivative of `apply` at images `x` in the direction `v`, `[n, ...]` (`Linear`, `Differentiable`)."""

    @abstractmethod
    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        """Its adjoint: observations `w` to images, `<jvp(x, v), w> = <v, vjp(x, w)>`."""

    @abstractmethod
    def observed(self, y: Tensor) -> Tensor:
        """The observation `[n, ...]` in the white space."""

    @abstractmethod
    def restrict(self, y: Tensor) -> Tensor:
        """What this operator would have measured, given the observation of a less corrupted one; a projection.

        Acts on observations and in the white space alike, which are one space unless nothing is missing.
        """

    @abstractmethod
    def condition(self) -> Tensor | None:
        """Channels `[n, K, h, w]` that the network is shown beside the image, e.g. the mask; None without any."""

    @abstractmethod
    def embed(self, d: Tensor) -> Tensor:
        """What lies in the domain, `[n, c, h, w]`, in the white space `[n, ...]`; an isometry."""

    @abstractmethod
    def extract(self, e: Tensor) -> Tensor:
        """The inverse of `embed` on its range, and its adjoint."""

    @abstractmethod
    def from_domain(self, d: Tensor) -> Tensor:
        """What lies in the domain, as images `[n, C, H, W]`."""

    @abstractmethod
    def lift(self, d: Tensor) -> Tensor:
        """What the network, which works on the image grid, is given for `d`: `[n, C, H, W]`; linear."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """What the network's output `[n, C, H, W]` means in the domain, `project(lift(d)) = d`; linear."""

    # what follows

    @final
    def to_domain(self, y: Tensor) -> Tensor:
        """The observation in the domain, `[n, c, h, w]`."""
        return self.extract(self.observed(y))

    @final
    def to_image(self, y: Tensor) -> Tensor:
        """The observation on the image grid, `[n, C, H, W]`."""
        return self.from_domain(self.to_domain(y))

    @final
    def predicted(self, d: Tensor) -> Tensor:
        """The observation that `d`, in the domain, predicts, in the white space."""
        return self.restrict(self.embed(d))

    @final
    def measured(self, e: Tensor) -> Tensor:
        """The part of white noise `e`, in the white space, that this operator measures."""
        return self.restrict(e)

    @final
    def noise(self, e: Tensor) -> Tensor:
        """White noise `e`, in the white space, as it adds to the noise of `to_domain(y)`, `[n, c, h, w]`."""
        return self.extract(self.restrict(e))

    @final
    def seen(self, d: Tensor) -> Tensor:
        """The part of `d`, in the domain, that the observation determines."""
        return self.extract(self.restrict(self.embed(d)))

    @final
    def missing(self, d: Tensor) -> Tensor | None:
        """Where nothing was observed of `d`, in the domain, bool like it.

        None if everything was observed, or if single pixels are neither observed nor missing (lines of k-space).
        """
        ones = torch.ones_like(d)
        shown = self.restrict(ones) if self.white_domain else ones
        return None if shown is ones else ~shown.bool()

    @final
    def whole(self) -> Self:
        """The same operators with nothing missing: `apply(x) = restrict(whole().apply(x))`."""
        return self._with_shown(torch.ones_like)

    @final
    def moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        """The operators of measurements that were moved (flipped, turned) by `move`, a map of `[n, C, H, W]`.

        Only parameters that distinguish pixels move with them; a fully observed domain is modelled unchanged.

        Raises:
            UserError: the measurements are not images, so they cannot be moved.
        """
        if not self.white_domain:
            raise UserError(
                f"teacher.augment must be 0: measurements by {type(self).__name__} cannot be flipped and turned like "
                "images"
            )
        return self._with_shown(move)

    def _with_shown(self, change: Callable[[Tensor], Tensor]) -> Self:
        parameters = self.parameters()
        named = {name: change(value) for name, value in parameters.items() if name.rpartition(".")[2] in self.shown}
        return self.with_parameters(parameters | named) if named else self

    # parameters

    @final
    def parameters(self) -> dict[str, Tensor]:
        """The per-sample parameters by name, each with leading dimension `n`.

        Parameters of part `k` of several are named `k.name`. The parts have no noise level of their own.
        """
        named = {name: value for name, value in self._fields() if isinstance(value, Tensor)}
        for k, part in enumerate(self._parts()):
            named |= {f"{k}.{name}": value for name, value in part.parameters().items() if name != "sigma_n"}
        return named

    @final
    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """The same kind of operators with other per-sample parameters, named as in `parameters()`."""
        changed: dict[str, object] = {name: value for name, value in parameters.items() if "." not in name}
        noise = {"sigma_n": parameters.get("sigma_n", self.sigma_n)}
        parts = tuple(part.with_parameters(noise | of_part(parameters, k)) for k, part in enumerate(self._parts()))
        changed |= {name: parts for name, value in self._fields() if _are_operators(value)}
        return dataclasses.replace(self, **changed)  # type: ignore[arg-type]

    def _fields(self) -> Iterator[tuple[str, object]]:
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))

    def _parts(self) -> tuple[Operator, ...]:
        return next((cast("tuple[Operator, ...]", value) for _, value in self._fields() if _are_operators(value)), ())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return self.with_parameters({name: function(value) for name, value in self.parameters().items()})

    @final
    def select(self, index: Tensor | slice) -> Self:
        """The operators of some samples, in the given order."""
        return self._map(lambda value: value[index])

    @final
    def to(self, device: torch.device | str) -> Self:
        """The same operators on another device."""
        return self._map(lambda value: value.to(device))

    @final
    @staticmethod
    def concatenate(operators: Sequence[Operator]) -> Operator:
        """One batch of operators from several batches of the same corruption."""
        parts = [operator.parameters() for operator in operators]
        return operators[0].with_parameters({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    @final
    def __len__(self) -> int:
        return len(self.sigma_n)


def _are_operators(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(part, Operator) for part in value)


def of_part(parameters: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """The parameters of part `k` of several, under their own names."""
    return {name.removeprefix(f"{k}."): value for name, value in parameters.items() if name.startswith(f"{k}.")}
