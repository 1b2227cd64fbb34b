"""Corruptions: what draws operators and noise, as immutable plain data that describe themselves."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor

from ..core.errors import UserError
from ..core.kinds import Described, described, kinds
from ..core.settings import wrong
from .embedded import Embedded
from .operator import Operator
from .words import in_words

_FILES = ("blur", "compose", "downsampling", "function", "mask", "noise", "poisson")
_OWN = {**{kind: f"{__package__}.{kind}" for kind in _FILES}, "mri": f"{__package__}.mri.corruption"}


class Loss(Enum):
    """What an image loses by a corruption, apart from noise; reports and checks ask for this, not for kinds."""

    PIXELS = "pixels"
    FREQUENCIES = "frequencies"
    RESOLUTION = "resolution"
    SHARPNESS = "sharpness"
    PHOTONS = "photons"
    OWN_FUNCTION = "a function of the user's"


class Shapes(NamedTuple):
    """Shapes of one sample that belong to images of shape `(C, H, W)`.

    Attributes:
        observation: a measurement.
        domain: `(c, h, w)`, where the teacher denoises.
        white: the space in which the noise is white.
        condition: number of channels of `Operator.condition()`, 0 without one.
    """

    observation: tuple[int, ...]
    domain: tuple[int, ...]
    white: tuple[int, ...]
    condition: int


class Corruption(Described, ABC, family="corruption", builtin=_OWN):
    r"""What happened to the images, :math:`y = A(x) + \sigma_n \epsilon`: draws operators, noise levels and noise.

    A kind is a class whose fields are plain data, `class Haze(CustomCorruption, WithoutGaps, kind="haze")`. It says
    `draw`, and inherits the rest from the abstract classes of `traits.py`. What follows from its operators is derived
    here.

    Attributes:
        lost: what an image loses.
        is_complex: whether images are complex: channels are real and imaginary parts in turn.
    """

    section = "corruption"
    lost: ClassVar[frozenset[Loss]] = frozenset()
    is_complex: ClassVar[bool] = False

    @property
    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """All noise levels that may be drawn, in the units of the normalised data ([-1, 1] for images)."""

    @abstractmethod
    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        """`n` operators for images of `shape` `(C, H, W)`, on the generator's device.

        Raises:
            UserError: images of that shape cannot be measured so.
        """

    @abstractmethod
    def further(self, operator: Operator, generator: torch.Generator) -> Operator:
        """Further corrupted operators, drawn given `operator`, to learn gaps from; `operator` itself without gaps."""

    @abstractmethod
    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        """Measurements of images `[n, C, H, W]`; 0 where nothing is measured."""

    @abstractmethod
    def operator_in_words(self) -> str:
        """What an image loses beside Gaussian noise, in a phrase; empty if nothing."""

    @property
    def sigma_max(self) -> float:
        """The largest noise level: where a truncated sampler stops."""
        return max(self.levels)

    @property
    def parts(self) -> tuple[Corruption, ...]:
        """The corruptions that this one chains, in the order in which they act; itself if it is not a chain."""
        values = (getattr(self, name) for name in type(self).model_fields)
        inner = [part for value in values if isinstance(value, tuple) for part in value if isinstance(part, Corruption)]
        return tuple(inner) or (self,)

    def loses(self, *losses: Loss) -> bool:
        """Whether an image loses any of these."""
        return any(part.lost & set(losses) for part in self.parts)

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the user's functions in it, which `--operator NAME.py` loads."""
        return tuple(part.describe()["name"] for part in self.parts if Loss.OWN_FUNCTION in part.lost)

    def in_words(self) -> str:
        """The corruption in a phrase, e.g. `60% of the pixels missing and noise 0.2`."""
        return in_words(self.operator_in_words(), self.describe())

    def template(self, shape: tuple[int, ...]) -> Operator:
        """A fixed operator for images of `shape` `(C, H, W)`; it has what all operators share.

        Raises:
            UserError: images of that shape cannot be measured so.
        """
        return _known(self, shape)[0]

    def shapes(self, shape: tuple[int, ...]) -> Shapes:
        """What goes with images of `shape` `(C, H, W)`; raises UserError as `template`."""
        return _known(self, shape)[1]

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> Operator:
        """The operators of images of `shape` with these `parameters()`, as read from a store.

        Raises:
            UserError: operators of this kind have other parameters.
        """
        operator = self.template(shape)
        expected = operator.parameters().keys()
        if parameters.keys() != expected:
            raise UserError(
                f"corruption.kind {self.kind}: its operators have the parameters {', '.join(sorted(expected))}, not "
                f"{', '.join(sorted(parameters))}"
            )
        return operator.with_parameters(parameters)

    def describe(self) -> dict[str, Any]:
        """Plain data that `corruption_from` turns back into an equal object; JSON and YAML keep it as it is."""
        data: dict[str, Any] = {"kind": self.kind}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.get_default() or (name == "sigma_n" and not self.loses(Loss.PHOTONS)):
                data[name] = _plain(value)
        return data

    @model_validator(mode="before")
    @classmethod
    def _of_other_kinds(cls, data: Any) -> Any:
        """Keys that most kinds have, but not this one: ignored if 0 or empty, otherwise refused with the reason."""
        absent = _OF_MOST.keys() - cls.model_fields.keys() if isinstance(data, dict) else set()
        for key in sorted(absent & data.keys()):
            if data[key]:
                raise wrong(key, _OF_MOST[key].format(kind=cls.kind))
        return {key: value for key, value in data.items() if key not in absent} if absent else data


@functools.singledispatch
def reduction(corruption: Corruption) -> int:
    """Factor by which the sides of a measurement are shorter than those of the image."""
    return math.prod(reduction(part) for part in corruption.parts if part is not corruption)


_OF_MOST = {
    "sigma_n": "kind {kind} derives sigma_n from gain and read_noise; remove sigma_n",
    "clean_fraction": "measurements of kind {kind} cannot be clean images; remove clean_fraction",
}


def _plain(value: Any) -> Any:
    """A field of a corruption as plain data; the noise of a part is that of the whole."""
    if isinstance(value, Embedded):
        return value.describe()
    if isinstance(value, Corruption):
        return {key: part for key, part in value.describe().items() if key != "sigma_n"}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


@functools.lru_cache(maxsize=16)
def drawn_once(corruption: Corruption, shape: tuple[int, ...]) -> tuple[Operator, Shapes]:
    """An operator of `corruption` for images of `shape`, on the CPU, and the shapes that it leads to."""
    with torch.device("cpu"):
        operator = corruption.draw(1, shape, torch.Generator().manual_seed(0))
        observation = operator.apply(torch.zeros(1, *shape))
        domain = operator.to_domain(observation)
        white, condition = operator.embed(domain), operator.condition()
    sizes = [tuple(each.shape[1:]) for each in (observation, domain, white)]
    return operator, Shapes(sizes[0], sizes[1], sizes[2], 0 if condition is None else condition.shape[1])


def _known(corruption: Corruption, shape: tuple[int, ...]) -> tuple[Operator, Shapes]:
    try:
        hash(corruption)
    except TypeError:  # a field of the user's, such as a list
        return drawn_once.__wrapped__(corruption, tuple(shape))
    return drawn_once(corruption, tuple(shape))


def corruption_kinds() -> list[str]:
    """The kinds known at this moment: those of restill and those of imported user code."""
    return kinds(Corruption)


def corruption_from(description: object) -> Corruption:
    """The corruption that `describe()` describes.

    Raises:
        UserError: unknown kind, unknown key (names the nearest known one), or impossible values.
    """
    return described(Corruption, description)
