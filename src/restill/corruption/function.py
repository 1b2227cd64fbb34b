"""Operators given as Python functions: any linear map of images, with its adjoint or without.

A store, a recipe or a network folder only names the operator. Its code runs only if a person names the file on the
command line (`--operator ct.py`) or calls `register_operator`; loading never runs it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import field_validator
from torch import Tensor

from ..core.errors import UserCodeError, UserError
from ..core.kinds import Pluggable
from ..core.plugins import run_file
from ..core.settings import setting
from .bases import MeasurementOperator
from .corruption import Loss, drawn_once
from .traits import GaussianNoise, WithoutGaps

_ITERATIONS = 30  # of conjugate gradients
_PRECISION = 1e-10  # of squares
_Map = Callable[[Tensor], Tensor]


class Functions(NamedTuple):
    """A linear map of images `[n, C, H, W]` to measurements `[n, C, h, w]`, and its adjoint (by autograd if None)."""

    apply: _Map
    adjoint: _Map | None


_FUNCTIONS: dict[str, Functions] = {}


def register_operator(name: str, apply: _Map, adjoint: _Map | None = None) -> None:
    """Make a linear operator known as `corruption: {kind: function, name: NAME}`.

    Args:
        apply: images `[n, C, H, W]` to measurements `[n, C, h, w]`, linear, of any float dtype; differentiable by
            autograd unless `adjoint` is given.
        adjoint: measurements to images; it is the gradient of `apply`, which then may leave torch (for numpy, a library
            of projectors). By autograd where it is not given.

    Raises:
        UserError: no name, or not functions.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"the name of an operator must be a word, not {name!r}")
    for what, function in (("apply", apply), ("adjoint", adjoint or apply)):
        if not callable(function):
            raise UserError(f"operator {name!r}: {what} must be a function of tensors, not {function!r}")
    _FUNCTIONS[name] = Functions(apply, adjoint)
    _check_functions.cache_clear()
    drawn_once.cache_clear()


def load_operator(path: str | Path) -> str:
    """Run a Python file that defines `apply` and perhaps `adjoint`, and register them under the file's name.

    Returns:
        The name. A file without `apply` may define classes of its own instead (`class X(Corruption, kind=...)`).

    Raises:
        UserError: no such file, not a Python file, or it defines neither.
        UserCodeError: it raises; with its own traceback.
    """
    path, module = Path(path), run_file(path)
    if hasattr(module, "apply"):
        register_operator(path.stem, module.apply, getattr(module, "adjoint", None))
    elif not any(isinstance(value, type) and issubclass(value, Pluggable) for value in vars(module).values()):
        raise UserError(f"{path}: defines neither a function apply(x) nor a class with a kind")
    return path.stem


@dataclass(frozen=True)
class FunctionOperator(MeasurementOperator):
    """The linear map of a user's functions, the same for all samples.

    Attributes:
        name: as it was registered.
        shape: of an image, `(C, H, W)`.
    """

    name: str
    shape: tuple[int, ...]

    def apply(self, x: Tensor) -> Tensor:
        if _functions(self.name).adjoint is None:
            return self._apply(x)
        y: Tensor = _Pair.apply(x, self._apply, self._adjoint)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        if _functions(self.name).adjoint is None:
            x: Tensor = torch.func.vjp(self._apply, y.new_zeros(len(y), *self.shape))[1](y)[0]
        else:
            x = _Pair.apply(y, self._adjoint, self._apply)
        return x

    def _apply(self, x: Tensor) -> Tensor:
        """The user's `apply`, checked."""
        try:
            y = _functions(self.name).apply(x)
        except Exception as error:
            raise UserCodeError(f"operator {self.name!r}: apply raises {_in_words(error)}") from error
        if not isinstance(y, Tensor) or y.ndim != 4 or y.shape[:2] != x.shape[:2] or y.dtype != x.dtype:
            found = f"{y.dtype} {list(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise UserError(
                f"operator {self.name!r}: apply of {x.dtype} {list(x.shape)} returned {found}; it must keep "
                f"the dtype and return [{len(x)}, {x.shape[1]}, height, width]"
            )
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        """The user's `adjoint`, checked."""
        adjoint = _functions(self.name).adjoint
        assert adjoint is not None
        try:
            x = adjoint(y)
        except Exception as error:
            raise UserCodeError(f"operator {self.name!r}: adjoint raises {_in_words(error)}") from error
        if not isinstance(x, Tensor) or tuple(x.shape) != (len(y), *self.shape) or x.dtype != y.dtype:
            found = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise UserError(
                f"operator {self.name!r}: adjoint returned {found} instead of {y.dtype} {[len(y), *self.shape]}"
            )
        return x

    def lift(self, d: Tensor) -> Tensor:
        """The least-squares image of least norm for the measurement `d`, `A^+ d`; differentiable."""
        image: Tensor = _PseudoInverse.apply(d, self)
        return image

    def project(self, x: Tensor) -> Tensor:
        return self.apply(x)

    def solve(self, x: Tensor) -> Tensor:
        """`(A^T A)^+ x` for images in the range of `A^T`, by conjugate gradients."""
        residual, direction, solution = x, x, torch.zeros_like(x)
        energy = start = _dot(x, x)
        tiny = torch.finfo(x.dtype).tiny
        for _ in range(_ITERATIONS):
            image = self.adjoint(self.apply(direction))
            active = (energy > _PRECISION * start).to(x)  # what is left is rounding
            step = active * energy / _dot(direction, image).clamp_min(tiny)
            solution, residual = solution + step * direction, residual - step * image
            before, energy = energy, _dot(residual, residual)
            direction = residual + energy / before.clamp_min(tiny) * direction
        return solution


class _Pair(torch.autograd.Function):
    """A linear map whose gradient is its stated adjoint; neither needs autograd, so both may leave torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: _Map, back: _Map) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Pair.apply(gradient, ctx.back, ctx.there), None, None


class _PseudoInverse(torch.autograd.Function):
    """`A^+ d = (A^T A)^+ A^T d`; its transpose is `A (A^T A)^+`."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, operator: FunctionOperator) -> Tensor:
        ctx.operator = operator
        return operator.solve(operator.adjoint(d))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        operator: FunctionOperator = ctx.operator
        seen = operator.solve(operator.adjoint(operator.apply(gradient)))  # without the null space
        return operator.apply(operator.solve(seen)), None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)[:, None, None, None]


def _in_words(error: BaseException) -> str:
    """Type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _functions(name: str) -> Functions:
    if name not in _FUNCTIONS:
        known = f" (known: {', '.join(sorted(_FUNCTIONS))})" if _FUNCTIONS else ""
        raise UserError(
            f"operator {name!r} is a Python function that is not loaded{known}; name its file with --operator {name}.py"
        )
    return _FUNCTIONS[name]


@functools.lru_cache(maxsize=64)
def _check_functions(name: str, shape: tuple[int, ...]) -> None:
    """Raises UserError, as `Function.draw` says, if the functions `name` fail on images of `shape`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=generator)
    operator, kept = FunctionOperator(torch.zeros(2), name, shape), x.clone()
    y = operator.apply(x)
    scale = float(y.abs().max())

    def differ(a: Tensor, b: Tensor) -> bool:
        return not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale)

    if not torch.equal(x, kept):
        raise UserError(f"operator {name!r}: apply changes its argument in place; work on a copy, x.clone()")
    if not math.isfinite(scale) or scale == 0:
        raise UserError(f"operator {name!r}: apply returns only {scale:g} for random images; it must measure something")
    if differ(operator.apply(2 * x + x.flip(0)), 2 * y + y.flip(0)):
        raise UserError(
            f"operator {name!r}: apply is not linear: apply(a x + b z) must be a apply(x) + b apply(z); leave noise, "
            "offsets and clipping out of it"
        )
    if differ(operator.apply(x[:1]), y[:1]):
        raise UserError(f"operator {name!r}: apply mixes the images of a batch; each must be measured by itself")
    v = torch.randn(y.shape, generator=generator)
    ours, theirs = float((y * v).sum()), float((x * operator.adjoint(v)).sum())
    if abs(ours - theirs) > 1e-3 * float(y.norm() * v.norm()):
        raise UserError(
            f"operator {name!r}: adjoint is not the adjoint of apply: the sum of apply(x) * v is {ours:.4g}, that of x "
            f"* adjoint(v) is {theirs:.4g}; leave adjoint out to use autograd"
        )


class Function(GaussianNoise, WithoutGaps, kind="function"):
    """Measurements by a linear operator of the user's own, e.g. a CT projector; the teacher denoises measurements."""

    lost = frozenset({Loss.OWN_FUNCTION})
    name: str = setting(..., "name of the Python file that --operator loads, without .py", min_length=1)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name.endswith(".py"):
            raise ValueError(f"{name!r}: remove .py, name {Path(name).stem}")
        return name

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> FunctionOperator:
        """Raises UserError if `apply` fails, is not linear, mixes images, or `adjoint` is not its adjoint."""
        _check_functions(self.name, tuple(shape))
        return FunctionOperator(self.draw_sigma_n(n, generator), self.name, tuple(shape))

    def operator_in_words(self) -> str:
        return f"the operator {self.name!r}"
