"""Traits that most corruptions share: noise levels, white Gaussian noise, clean images among the measurements, no gaps.

A corruption of your own derives from `CustomCorruption`, and from `WithoutGaps` unless something is missing:

    class Haze(CustomCorruption, WithoutGaps, kind="haze"):
        depth: float = 1.0

        def draw(self, n, shape, generator):
            return HazeOperator(self.draw_sigma_n(n, generator), self.depth)
"""

from __future__ import annotations

import functools
from typing import Annotated, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.settings import Limits, OneOrSeveral, Several, setting, wrong
from ..core.tensors import right_broadcast
from .corruption import Corruption
from .operator import Operator
from .words import by_keys

NOT_NEGATIVE = Limits(ge=0)
OperatorT = TypeVar("OperatorT", bound=Operator)


def with_noise(x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
    r""":math:`y = A(x) + \sigma_n \epsilon` (RSD, eq. 1) for images `[n, C, H, W]`; 0 where nothing is measured."""
    clean = operator.apply(x)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    return operator.restrict(clean + right_broadcast(operator.sigma_n.to(clean), clean) * noise)


class WithoutGaps(Corruption):
    """Nothing is missing from the domain, so `further` takes nothing away."""

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        return operator


class NoiseLevels(Corruption):
    """Stated noise levels."""

    sigma_n: Annotated[OneOrSeveral, NOT_NEGATIVE] = setting(
        0.0, "standard deviation of the noise, or a list from which each sample draws one", unit="of [-1, 1]"
    )
    weights: Several[Annotated[float, Field(ge=0)]] | None = setting(
        None, "relative frequencies of the levels in sigma_n; equal by default"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        count = len(self.stated_levels)
        if self.weights is not None and (len(self.weights) != count or sum(self.weights) <= 0):
            raise wrong(
                "weights",
                f"must hold one weight for each of the {count} sigma_n, not all 0; it is {list(self.weights)}",
            )
        return self

    @property
    def stated_levels(self) -> tuple[float, ...]:
        """`sigma_n`, one level or several."""
        return self.sigma_n if isinstance(self.sigma_n, tuple) else (self.sigma_n,)

    def draw_sigma_n(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise levels of `n` samples, float32 `[n]`, on the generator's device."""
        levels = torch.tensor(self.levels, dtype=torch.float32, device=generator.device)
        if len(levels) == 1:
            return levels.expand(n).clone()
        weights = torch.tensor(self.weights or (1.0,) * len(levels), dtype=torch.float64, device=generator.device)
        return levels[torch.multinomial(weights, n, replacement=True, generator=generator)]


class GaussianNoise(NoiseLevels):
    """White Gaussian noise of the stated levels on what the operator measures."""

    @property
    def levels(self) -> tuple[float, ...]:
        return self.stated_levels

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        return with_noise(x, operator, generator)


@functools.singledispatch
def untouched(operator: Operator) -> Operator:
    """Operators of the same kind that change nothing and have no noise; by default those with nothing missing."""
    parameters = operator.whole().parameters()
    return operator.with_parameters(parameters | {"sigma_n": torch.zeros_like(operator.sigma_n)})


def cleared(operator: OperatorT, where: Tensor) -> OperatorT:
    """The same operators, but `untouched` ones where `where`, bool `[n]`, is True."""
    nothing = untouched(operator).parameters()
    parameters = operator.parameters()
    return operator.with_parameters(
        {name: torch.where(right_broadcast(where, value), nothing[name], value) for name, value in parameters.items()}
    )


class PartlyClean(NoiseLevels):
    """Clean images may be among the measurements: `draw` ends in `partly_cleared`, `untouched` knows the operators."""

    clean_fraction: float = setting(
        0.0, "share of samples that are not corrupted at all: no operator, no noise", ge=0, le=1
    )

    def partly_cleared(self, operator: Operator, generator: torch.Generator) -> Operator:
        """The drawn operators, with a share `clean_fraction` of them replaced by `untouched` ones."""
        if not self.clean_fraction:
            return operator
        uniform = torch.rand(len(operator), generator=generator, device=generator.device)
        return cleared(operator, uniform < self.clean_fraction)


class CustomCorruption(GaussianNoise):
    """A corruption of your own, with Gaussian noise; reports describe it by its keys.

    It says `draw`. Where pixels are missing, it also says `further` and `lost = frozenset({Loss.PIXELS})`; otherwise it
    is `WithoutGaps`.
    """

    def operator_in_words(self) -> str:
        return by_keys(self.describe())
