r"""Chains of operators with one noise at the end: `y = M (B_k ... B_1 x + sigma_n eps)`.

The objective follows from the chain. Masks come last: a domain of which pixels are missing is learned by further
masking (Ambient Diffusion), and what lies before them, blur, downsampling, functions, is modelled as it is measured, so
the teacher learns the law of `B x` and the student undoes `B`. Noise is white where it arises, at the end, and photon
noise may take its place.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .corruption import Corruption, corruption_from
from .downsampling import Downsampling
from .noise import AdditiveNoise
from .operator import Operator
from .poisson import Poisson


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
        return self._modelled[-1].lift(d) if self._modelled else d

    def project(self, x: Tensor) -> Tensor:
        return self._modelled[-1].project(x) if self._modelled else x

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
            parts.append(part.with_parameters({"sigma_n": sigma_n} | _of_part(parameters, k)))
        return dataclasses.replace(self, sigma_n=sigma_n, parts=tuple(parts))


def _of_part(parameters: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    return {name.removeprefix(f"{k}."): value for name, value in parameters.items() if name.startswith(f"{k}.")}


@dataclass(frozen=True, kw_only=True)
class Compose(Corruption, kind="compose"):
    """A chain of corruptions with one noise at the end.

    Attributes:
        operators: descriptions of the parts, `[{kind: blur, std: 2}, {kind: mask, p: 0.6}]`, or their kinds alone,
            `[blur, mask]`, in the order in which they act on the image. Masks last; a part states no noise, but the
            last one before the masks may be of kind poisson.
        sigma_n, weights, clean_fraction: of the whole.
    """

    operators: tuple[Mapping[str, Any] | str | Corruption, ...] = ()

    def __post_init__(self) -> None:
        parts = [_part(k, description) for k, description in enumerate(self.operators)]
        _check_chain(parts)
        last = len(parts) - 1
        noisy = bool(self.sigma_n) if isinstance(self.sigma_n, (int, float)) else any(self.sigma_n)
        for k, part in enumerate(parts):
            if isinstance(part, Downsampling) and part.grid == "auto":
                grid = "image" if k == last and not noisy else "measurement"
                parts[k] = dataclasses.replace(part, grid=grid)
        object.__setattr__(self, "operators", tuple(parts))
        if self._photons and noisy:
            raise UserError(
                "corruption.sigma_n goes without saying where a part is of kind poisson; state its read_noise"
            )
        super().__post_init__()
        for part in parts:
            if self.clean_fraction and not part.allows_clean:
                raise UserError(f"corruption.clean_fraction: a part of kind {part.kind!r} leaves no image as it is")

    @property
    def parts(self) -> tuple[Corruption, ...]:
        """The parts as corruptions."""
        return self.operators  # type: ignore[return-value]

    @property
    def _modelled(self) -> tuple[Corruption, ...]:
        return tuple(part for part in self.parts if not part.is_mask)

    @property
    def _photons(self) -> Poisson | None:
        return next((part for part in self.parts if isinstance(part, Poisson)), None)

    @property
    def levels(self) -> tuple[float, ...]:
        return super().levels if self._photons is None else self._photons.levels

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.observation_shape(shape)
        return shape

    def domain_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for part in self._modelled[:-1]:
            shape = part.observation_shape(shape)
        return self._modelled[-1].domain_shape(shape) if self._modelled else shape

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        return shape[0] if len(self._modelled) < len(self.parts) else 0

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Chain:
        sigma_n, parts = self.draw_sigma_n(n, generator), []
        for part in self.parts:
            parts.append(dataclasses.replace(part.draw(n, shape, generator), sigma_n=sigma_n))
            shape = part.observation_shape(shape)
        return self.partly_cleared(self._chain(sigma_n, parts), generator)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> Chain:
        sigma_n, parts = parameters["sigma_n"], []
        for k, part in enumerate(self.parts):
            parts.append(part.rebuild({"sigma_n": sigma_n} | _of_part(parameters, k), shape))
            shape = part.observation_shape(shape)
        return self._chain(sigma_n, parts)

    def further(self, operator: Operator, generator: torch.Generator) -> Chain:
        assert isinstance(operator, Chain)
        parts = [law.further(part, generator) for law, part in zip(self.parts, operator.parts, strict=True)]
        return dataclasses.replace(operator, parts=tuple(parts))

    def corrupt(self, x: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        photons = self._photons
        if photons is None:
            return super().corrupt(x, operator, generator)
        assert isinstance(operator, Chain)
        for law, part in zip(self.parts, operator.parts, strict=True):
            x = law.corrupt(x, part, generator) if law is photons else part.apply(x)
        return x

    def describe(self) -> dict[str, Any]:
        described = super().describe() | {"operators": [_without_noise(part) for part in self.parts]}
        return {key: value for key, value in described.items() if key != "sigma_n" or self._photons is None}

    def _chain(self, sigma_n: Tensor, parts: Sequence[Operator]) -> Chain:
        return Chain(sigma_n, tuple(parts), sum(part.is_mask for part in self.parts))


def _without_noise(part: Corruption) -> dict[str, Any]:
    return {key: value for key, value in part.describe().items() if key != "sigma_n"}


def _part(k: int, description: Mapping[str, Any] | str | Corruption) -> Corruption:
    """Part `k` as a corruption. Raises UserError if it is none, or states noise of its own."""
    if isinstance(description, Corruption):
        part = description
    elif isinstance(description, (str, Mapping)):
        data = {"kind": description} if isinstance(description, str) else description
        try:
            part = corruption_from(data)
        except UserError as error:
            raise UserError(str(error).replace("corruption", f"corruption.operators[{k}]", 1)) from error
    else:
        raise UserError(f"corruption.operators[{k}] must be a kind or a mapping with one, not {description!r}")
    stated = part.sigma_n if isinstance(part.sigma_n, tuple) else (part.sigma_n,)
    if any(stated) or part.clean_fraction:
        raise UserError(
            f"corruption.operators[{k}]: noise and clean_fraction belong to the chain as a whole; state them beside "
            "operators"
        )
    return part


def _check_chain(parts: Sequence[Corruption]) -> None:
    """Raises UserError, saying why, for a chain of which no objective is known."""
    if not parts:
        raise UserError("corruption.operators is empty: list the parts, e.g. [blur, mask]")
    for before, part in itertools.pairwise(parts):
        if before.is_mask and not part.is_mask:
            raise UserError(
                f"corruption.operators: {part.kind} after mask is not supported: it mixes missing pixels with observed "
                "ones, so that no pixel of the measurement is wholly either, and further masking has no meaning; put "
                "mask last"
            )
        if isinstance(before, Poisson) and not part.is_mask:
            raise UserError(
                f"corruption.operators: {part.kind} after poisson is not supported: photons are counted at the end, "
                "and what follows would correlate their noise; put poisson last, or before mask"
            )
    for k, part in enumerate(parts):
        if isinstance(part, (AdditiveNoise, Compose)):
            raise UserError(
                f"corruption.operators[{k}]: kind {part.kind!r} is no operator; the noise of a chain is its sigma_n, "
                "and a chain in a chain is written as one list"
            )
