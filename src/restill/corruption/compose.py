r"""Chains of operators with one noise at the end: `y = M (B_k ... B_1 x + sigma_n eps)`.

The objective follows from the chain. Masks come last, since missing pixels are learned by further masking (Ambient
Diffusion). Blur, downsampling and functions before them are modelled as measured: the teacher learns the distribution
of `B x`, and the student undoes `B`. Noise arises at the end, where it is white; photon noise may take its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import ValidationInfo, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserCodeError, UserError
from ..core.kinds import OfKind
from ..core.settings import Several, setting, wrong
from .chain import Chain
from .corruption import Corruption, Loss
from .downsampling import Downsampling
from .noise import AdditiveNoise
from .operator import Operator
from .poisson import Poisson, photons_of
from .traits import PartlyClean, with_noise

_OF_THE_WHOLE = ("sigma_n", "weights", "clean_fraction")


class Compose(PartlyClean, kind="compose"):
    """A chain of corruptions with one noise at the end; `sigma_n`, `weights` and `clean_fraction` are the chain's."""

    operators: Several[Annotated[Corruption, OfKind(Corruption)]] = setting(
        ...,
        "the parts in the order in which they act on the image, e.g. [{kind: blur, std: 2}, {kind: mask, p: 0.6}], "
        "or their kinds alone, [blur, mask]; masks come last; the last part before the masks may be of kind poisson",
    )

    @field_validator("operators")
    @classmethod
    def _check_parts(cls, parts: tuple[Corruption, ...], info: ValidationInfo) -> tuple[Corruption, ...]:
        _check_chain(parts)
        noisy = _states_noise(info.data.get("sigma_n", 0.0))
        last = len(parts) - 1
        return tuple(_with_grid(part, k, k == last and not noisy) for k, part in enumerate(parts))

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self._photons is not None and _states_noise(self.sigma_n):
            raise wrong("sigma_n", "a part of kind poisson derives it from gain and read_noise; remove sigma_n")
        for part in self.operators if self.clean_fraction else ():
            if not isinstance(part, PartlyClean):
                reason = f"a part of kind {part.kind} cannot leave images clean; remove clean_fraction"
                raise wrong("clean_fraction", reason)
        return self

    @property
    def _photons(self) -> Poisson | None:
        return photons_of(self)

    @property
    def levels(self) -> tuple[float, ...]:
        return self.stated_levels if self._photons is None else self._photons.levels

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        sigma_n, parts = self.draw_sigma_n(n, generator), []
        for k, part in enumerate(self.operators):
            with _naming(k):
                parts.append(dataclasses.replace(part.draw(n, shape, generator), sigma_n=sigma_n))
                shape = part.shapes(shape).observation
        masks = sum(_is_mask(part) for part in self.operators)
        return self.partly_cleared(Chain(sigma_n, tuple(parts), masks), generator)

    def further(self, operator: Operator, generator: torch.Generator) -> Chain:
        assert isinstance(operator, Chain)
        both = zip(self.operators, operator.parts, strict=True)
        return dataclasses.replace(operator, parts=tuple(part.further(drawn, generator) for part, drawn in both))

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        if self._photons is None:
            return with_noise(x, operator, generator)
        assert isinstance(operator, Chain)
        for part, drawn in zip(self.operators, operator.parts, strict=True):
            x = part.corrupt(x, drawn, generator) if part is self._photons else drawn.apply(x)
        return x

    def operator_in_words(self) -> str:
        return ", then ".join(part.operator_in_words() for part in self.operators)


def _states_noise(sigma_n: float | tuple[float, ...]) -> bool:
    return any(sigma_n) if isinstance(sigma_n, tuple) else bool(sigma_n)


def _is_mask(part: Corruption) -> bool:
    return part.loses(Loss.PIXELS)


@contextlib.contextmanager
def _naming(k: int) -> Iterator[None]:
    """Messages about a part name it."""
    try:
        yield
    except UserCodeError:  # the user's own code, with its own name and cause
        raise
    except UserError as error:
        message, part = str(error), f"corruption.operators[{k}]"
        own = re.match(r"corruption\b(?=[. ])", message)
        raise UserError(part + message[own.end() :] if own else f"{part}: {message}") from error


def _with_grid(part: Corruption, k: int, on_images: bool) -> Corruption:
    """The part; downsampling gets its grid decided. Refuses a stated grid that is impossible."""
    if not isinstance(part, Downsampling):
        return part
    if part.grid == "image" and not on_images:
        raise wrong(
            f"{k}.grid", "image: only the last part of a chain without noise is denoised on the image grid; remove grid"
        )
    if part.grid != "auto":
        return part
    return part.model_copy(update={"grid": "image" if on_images else "measurement"})


def _check_chain(parts: tuple[Corruption, ...]) -> None:
    """Raises an error with the reason for a chain that has no known objective."""
    if not parts:
        raise ValueError("is empty: list the parts, e.g. [blur, mask]")
    for before, part in itertools.pairwise(parts):
        if _is_mask(before) and not _is_mask(part):
            raise ValueError(
                f"{part.kind} after mask is not supported: it mixes missing pixels with observed ones, and further "
                "masking needs pixels that are either missing or observed; put mask last"
            )
        if before.loses(Loss.PHOTONS) and not _is_mask(part):
            raise ValueError(
                f"{part.kind} after poisson is not supported: photons are counted at the end, and a later operator "
                "would correlate their noise; put poisson last, or before mask"
            )
    for k, part in enumerate(parts):
        _check_part(k, part)


def _check_part(k: int, part: Corruption) -> None:
    stated = {name: value for name, value in part.describe().items() if name in _OF_THE_WHOLE}
    if any(value != 0.0 for value in stated.values()):
        raise wrong(
            str(k), "sigma_n, weights and clean_fraction belong to the chain as a whole; state them beside operators"
        )
    if part.is_complex:
        raise wrong(
            str(k),
            f"kind {part.kind} cannot be part of a chain: it loses frequencies of complex images, and such a chain "
            "has no objective",
        )
    if isinstance(part, (AdditiveNoise, Compose)):
        raise wrong(
            str(k),
            f"kind {part.kind} cannot be part of a chain; state the noise of a chain as its sigma_n, and a chain in a "
            "chain as one list",
        )
