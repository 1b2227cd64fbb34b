r"""Chains of operators with one noise at the end: `y = M (B_k ... B_1 x + sigma_n eps)`.

The objective follows from the chain. Masks come last: a domain of which pixels are missing is learned by further
masking (Ambient Diffusion), and what lies before them, blur, downsampling, functions, is modelled as it is measured, so
the teacher learns the law of `B x` and the student undoes `B`. Noise is white where it arises, at the end, and photon
noise may take its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import UserCodeError, UserError
from .chain import Chain
from .corruption import Corruption, corruption_from
from .downsampling import Downsampling
from .noise import AdditiveNoise
from .operator import Operator, of_part
from .poisson import Poisson


@dataclass(frozen=True, kw_only=True)
class Compose(Corruption, kind="compose"):
    """A chain of corruptions with one noise at the end.

    Attributes:
        operators: descriptions of the parts, `[{kind: blur, std: 2}, {kind: mask, p: 0.6}]`, or their kinds alone,
            `[blur, mask]`, in the order in which they act on the image. Masks last; a part states no noise, but the
            last one before the masks may be of kind poisson.
        sigma_n, weights, clean_fraction: of the whole.
    """

    allows_clean: ClassVar[bool] = True
    operators: tuple[Mapping[str, Any] | str | Corruption, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.operators, (tuple, list)):
            raise UserError(
                f"corruption.operators must be a list of the parts, e.g. [blur, mask], not {self.operators!r}"
            )
        parts = [_part(k, description) for k, description in enumerate(self.operators)]
        _check_chain(parts)
        last = len(parts) - 1
        noisy = any(self.sigma_n) if isinstance(self.sigma_n, (tuple, list)) else bool(self.sigma_n)
        for k, part in enumerate(parts):
            if isinstance(part, Downsampling):
                parts[k] = _on_grid(part, k, on_images=k == last and not noisy)
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
        for k, part in enumerate(self.parts):
            with _naming(k):
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
        for k, part in enumerate(self.parts):
            with _naming(k):
                parts.append(dataclasses.replace(part.draw(n, shape, generator), sigma_n=sigma_n))
                shape = part.observation_shape(shape)
        return self.partly_cleared(self._chain(sigma_n, parts), generator)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> Chain:
        sigma_n, parts = parameters["sigma_n"], []
        for k, part in enumerate(self.parts):
            parts.append(part.rebuild({"sigma_n": sigma_n} | of_part(parameters, k), shape))
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
        with _naming(k):
            part = corruption_from({"kind": description} if isinstance(description, str) else description)
    else:
        raise UserError(f"corruption.operators[{k}] must be a kind or a mapping with one, not {description!r}")
    stated = part.sigma_n if isinstance(part.sigma_n, tuple) else (part.sigma_n,)
    if any(stated) or part.weights or part.clean_fraction:
        raise UserError(
            f"corruption.operators[{k}]: sigma_n, weights and clean_fraction belong to the chain as a whole; state "
            "them beside operators"
        )
    return part


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


def _on_grid(part: Downsampling, k: int, on_images: bool) -> Downsampling:
    """The part with its grid decided. Raises UserError for a stated one that cannot be."""
    if part.grid == "image" and not on_images:
        raise UserError(
            f"corruption.operators[{k}].grid image: only the last of a chain without noise has its domain there; "
            "leave grid out"
        )
    grid = {"auto": "image" if on_images else "measurement"}.get(part.grid, part.grid)
    return dataclasses.replace(part, grid=grid)


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
        if part.is_complex:
            raise UserError(
                f"corruption.operators[{k}]: kind {part.kind!r} stands alone: what is lost of it are frequencies, of "
                "complex images, and no chain with other operators has an objective"
            )
        if isinstance(part, (AdditiveNoise, Compose)):
            raise UserError(
                f"corruption.operators[{k}]: kind {part.kind!r} is no operator; the noise of a chain is its sigma_n, "
                "and a chain in a chain is written as one list"
            )
