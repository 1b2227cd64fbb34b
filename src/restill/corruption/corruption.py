"""Corruptions: the laws that draw operators and noise, as immutable plain data."""

from __future__ import annotations

import dataclasses
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.kinds import Pluggable, kinds, member
from ..core.tensors import right_broadcast
from .clean import cleared
from .embedded import Embedded
from .operator import Operator

OperatorT = TypeVar("OperatorT", bound=Operator)
_OWN = ("blur", "compose", "downsampling", "function", "mask", "mri", "noise", "poisson")  # each in a file of its name


@dataclass(frozen=True, kw_only=True)
class Corruption(Pluggable, ABC, family="corruption", builtin={kind: f"{__package__}.{kind}" for kind in _OWN}):
    r"""The law of :math:`y = A(x) + \sigma_n \epsilon`: draws operators, noise levels and noise.

    Subclasses are frozen dataclasses whose fields are plain data, declared as
    `class RandomMask(Corruption, kind="mask")`. The `kind` is the name under which recipes and store manifests refer
    to the class (`core/kinds.py`).

    Attributes:
        sigma_n: noise standard deviation in the units of the normalised data ([-1, 1] for images), one number or
            several levels from which each sample draws one.
        weights: relative frequencies of the levels in `sigma_n`; equal by default. A share `f` of noise-free samples
            is `sigma_n=(0, s), weights=(f, 1 - f)`.
        clean_fraction: share of samples that are not corrupted at all: no operator, no noise. Only of kinds that say
            so (`allows_clean`): their `draw` ends in `partly_cleared`, and `untouched` knows their operators.
    """

    allows_clean: ClassVar[bool] = False
    is_mask: ClassVar[bool] = False
    is_complex: ClassVar[bool] = False
    """whether images are complex: channels are real and imaginary parts in turn"""
    sigma_n: float | tuple[float, ...] = 0.0
    weights: tuple[float, ...] | None = None
    clean_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sigma_n", "weights"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        values = [*_numbers("sigma_n", self.levels), *_numbers("weights", self.weights or ())]
        if any(not math.isfinite(v) or v < 0 for v in values):
            raise UserError(f"corruption.sigma_n and weights must be finite and at least 0, not {values}")
        if not self.levels:
            raise UserError("corruption.sigma_n is an empty list; state one level, or several")
        if self.weights is not None and (len(self.weights) != len(self.levels) or sum(self.weights) <= 0):
            raise UserError(
                f"corruption.weights must hold one weight for each of the {len(self.levels)} sigma_n, not all 0; it is "
                f"{list(self.weights)}"
            )
        number("clean_fraction", self.clean_fraction, 0, 1)
        if self.clean_fraction and not self.allows_clean:
            raise UserError(
                f"corruption.clean_fraction: no clean image can be among measurements of kind {self.kind!r} (they are "
                "other quantities, lie on another grid, or its class does not draw any); leave it out"
            )

    @property
    def levels(self) -> tuple[float, ...]:
        """All noise levels that may be drawn."""
        return self.sigma_n if isinstance(self.sigma_n, tuple) else (self.sigma_n,)

    @property
    def sigma_max(self) -> float:
        """The largest noise level: where a truncated sampler stops."""
        return max(self.levels)

    @abstractmethod
    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        """`n` operators for images of `shape` `(C, H, W)`, on the generator's device."""

    @abstractmethod
    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> Operator:
        """The operators of images of `shape` whose `parameters()` these are, as read from a store."""

    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """More corrupted operators, drawn given `operator`, for objectives that need them; the same by default."""
        return operator

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        r""":math:`y = A(x) + \sigma_n \epsilon` (RSD, eq. 1) for images `[n, C, H, W]`; 0 where nothing is measured."""
        clean = operator.apply(x)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        return operator.restrict(clean + right_broadcast(operator.sigma_n.to(clean), clean) * noise)

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one observation of an image of `shape`; the same by default.

        Raises:
            UserError: images of that shape cannot be measured so.
        """
        return shape

    def domain_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape `(C, h, w)` of the domain for images of `shape`, where the teacher denoises; the same by default."""
        return shape

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the space where noise is white, for images of `shape`; the domain by default."""
        return self.domain_shape(shape)

    def partly_cleared(self, operator: OperatorT, generator: torch.Generator) -> OperatorT:
        """The drawn operators, a share `clean_fraction` of them replaced by none."""
        if not self.clean_fraction:
            return operator
        uniform = torch.rand(len(operator), generator=generator, device=generator.device)
        return cleared(operator, uniform < self.clean_fraction)

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        """Number of channels of `Operator.condition()` for images of `shape`; none by default."""
        return 0

    def draw_sigma_n(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise levels of `n` samples, float32 `[n]`, on the generator's device."""
        levels = torch.tensor(self.levels, dtype=torch.float32, device=generator.device)
        if len(levels) == 1:
            return levels.expand(n).clone()
        weights = torch.tensor(self.weights or (1.0,) * len(levels), dtype=torch.float64, device=generator.device)
        return levels[torch.multinomial(weights, n, replacement=True, generator=generator)]

    def describe(self) -> dict[str, Any]:
        """Plain data that `corruption_from` turns back into an equal object; JSON and YAML keep it as it is."""
        data: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name == "sigma_n":
                data[field.name] = plain(value)
        return data


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """The values. Raises UserError, naming `corruption.NAME`, unless they are a tuple of numbers."""
    for value in values if isinstance(values, tuple) else (None,):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found = value if isinstance(values, tuple) else values
            raise UserError(f"corruption.{name} must be a number or a list of numbers, not {found!r}")
    return tuple(values)


def plain(value: Any) -> Any:
    """A field of a corruption as plain data."""
    if isinstance(value, Embedded):
        return value.describe()
    return list(value) if isinstance(value, tuple) else value


def number(name: str, value: Any, low: float, high: float = math.inf, *, below: bool = False) -> None:
    """Raises UserError, naming `corruption.NAME`, unless `value` is a number from `low` to (or `below`) `high`."""
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and low <= value
    if not ok or not (value < high or (value == high and not below)):
        limits = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}{')' if below else ']'}"
        raise UserError(f"corruption.{name} must be a number {limits}, not {value!r}")


def whole(name: str, value: Any, low: int, what: str) -> None:
    """Raises UserError, naming `corruption.NAME`, unless `value` is a whole number (of `what`), at least `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"corruption.{name} must be a whole number{what}, at least {low}, not {value!r}")


def one_of(name: str, value: Any, known: Iterable[str]) -> None:
    """Raises UserError, naming `corruption.NAME`, unless `value` is one of the words `known`."""
    if value not in (words := list(known)):
        raise UserError(f"corruption.{name} {value!r} is not known: use one of {', '.join(words)}")


def flag(name: str, value: Any) -> None:
    """Raises UserError, naming `corruption.NAME`, unless `value` is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"corruption.{name} must be true or false, not {value!r}")


def corruption_kinds() -> list[str]:
    """The kinds known at this moment: those of restill and those of imported user code."""
    return kinds(Corruption)


def corruption_from(description: Mapping[str, Any]) -> Corruption:
    """The corruption that `describe()` describes.

    Raises:
        UserError: unknown kind, unknown key (names the nearest known one), or impossible values.
    """
    if not isinstance(description, Mapping):
        raise UserError(f"corruption must be keys and values with a kind, e.g. {{kind: noise}}, not {description!r}")
    data = dict(description)
    kind = data.pop("kind", None)
    law = member(Corruption, kind)
    if law is None:
        raise UserError(
            f"corruption.kind {kind!r} is not known: use one of {', '.join(corruption_kinds())}, "
            "or import the module that defines it first"
        )
    known = {field.name for field in dataclasses.fields(law)}
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise UserError(f"corruption.{key} is not a key of corruption {kind!r}: did you mean {near[0]!r}?")
    arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    try:
        return law(**arguments)
    except TypeError as error:
        raise UserError(f"corruption {kind!r}: {error}") from error
