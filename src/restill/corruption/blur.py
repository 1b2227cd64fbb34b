"""Blur: `y = k * x + sigma_n eps` with a kernel that is stated, drawn, or measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.errors import UserError
from .bases import CompleteOperator
from .clean import untouched
from .corruption import Corruption, flag, number, one_of, whole
from .embedded import Embedded
from .kernels import check_kernel, check_odd, gaussian, motion, read_kernel

BOUNDARIES = {"reflect": "reflect", "circular": "circular", "zero": "constant"}


@dataclass(frozen=True)
class BlurOperator(CompleteOperator):
    """Convolution of every channel with the sample's kernel; what lies beyond the border is filled in by `boundary`.

    Attributes:
        kernel: float32 `[n, kh, kw]`, odd sides.
        boundary: "reflect" (without repeating the border pixel), "circular" or "zero".
    """

    kernel: Tensor
    boundary: str = "reflect"

    def apply(self, x: Tensor) -> Tensor:
        n, channels, _, _ = x.shape
        height, width = self.kernel.shape[1:]
        padded = functional.pad(
            x, (width // 2, width // 2, height // 2, height // 2), BOUNDARIES[self.boundary]
        )  # fmt: skip
        weight = self.kernel.to(x).flip(1, 2)[:, None].expand(-1, channels, -1, -1)  # conv2d correlates
        out = functional.conv2d(
            padded.reshape(1, n * channels, *padded.shape[2:]),
            weight.reshape(-1, 1, height, width),
            groups=n * channels,
        )
        return out.view(n, channels, *out.shape[2:])

    def adjoint(self, y: Tensor) -> Tensor:
        x: Tensor = torch.func.vjp(self.apply, torch.zeros_like(y))[1](y)[0]
        return x


@untouched.register
def _(operator: BlurOperator) -> BlurOperator:
    height, width = operator.kernel.shape[1:]
    kernel = torch.zeros_like(operator.kernel)
    kernel[:, height // 2, width // 2] = 1
    return dataclasses.replace(operator, sigma_n=torch.zeros_like(operator.sigma_n), kernel=kernel)


@dataclass(frozen=True, kw_only=True)
class Blur(Corruption, kind="blur"):
    """Blurred images: the teacher learns blurred images; the student, through the same blur, sharp ones (RSD).

    Attributes:
        kernel: "gaussian", "motion", or a file (.npy or picture) with a measured point-spread function, odd sides.
        size: side of a Gaussian or motion kernel in pixels, odd.
        std: of the Gaussian, in pixels.
        length: of the motion, in pixels, at most `size - 1`; by default that.
        angle: of the motion in degrees, 0 along rows; by default one is drawn for each sample.
        normalise: whether a kernel from a file is scaled to sum 1.
        boundary: "reflect", "circular" or "zero".
    """

    allows_clean: ClassVar[bool] = True
    fixed: ClassVar[tuple[str, ...]] = ("gaussian", "motion")
    kernel: str | Mapping[str, Any] | Embedded = "gaussian"
    size: int = 9
    std: float = 2.0
    length: float | None = None
    angle: float | None = None
    normalise: bool = True
    boundary: str = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("size", self.size, 1, " of pixels")
        check_odd((self.size, self.size), "corruption.size")
        number("std", self.std, 1e-3)
        for name, low, high in (("length", 0, self.size - 1), ("angle", -360, 360)):
            value = getattr(self, name)
            if value is not None:
                number(name, value, low, high)
                if self.kernel != "motion":
                    raise UserError(f"corruption.{name} goes with corruption.kernel motion; leave it out")
        flag("normalise", self.normalise)
        one_of("boundary", self.boundary, BOUNDARIES)
        object.__setattr__(self, "kernel", self._kept_kernel())

    def _kept_kernel(self) -> str | Embedded:
        """One of the names `fixed`, or a kernel in plain data or from a file, checked."""
        if isinstance(self.kernel, (str, Path)):
            if self.kernel in self.fixed:
                return str(self.kernel)
            return Embedded(read_kernel(self.kernel, self.normalise))
        if isinstance(self.kernel, Mapping):
            kernel = Embedded.read(self.kernel, "corruption.kernel")
        elif isinstance(self.kernel, Embedded):
            kernel = self.kernel
        else:
            raise UserError(
                f"corruption.kernel must be gaussian, motion, or a file with the kernel, not {self.kernel!r}"
            )
        check_kernel(kernel.array, "corruption.kernel")
        return kernel if kernel.array.dtype == np.float32 else Embedded(kernel.array.astype(np.float32))

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the kernel."""
        return self.kernel.array.shape if isinstance(self.kernel, Embedded) else (self.size, self.size)

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The image's own shape. Raises UserError for a kernel that is larger than the image."""
        if any(side > length for side, length in zip(self.sides, shape[1:], strict=True)):
            raise UserError(
                f"corruption.kernel: {' x '.join(map(str, self.sides))} pixels are more than the images' "
                f"{shape[1]} x {shape[2]}; use a smaller {'one' if isinstance(self.kernel, Embedded) else 'size'}"
            )
        return shape

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> BlurOperator:
        self.observation_shape(shape)
        sigma_n = self.draw_sigma_n(n, generator)
        operator = BlurOperator(sigma_n, self._kernels(n, generator), self.boundary)
        return self.partly_cleared(operator, generator)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> BlurOperator:
        return BlurOperator(parameters["sigma_n"], parameters["kernel"], self.boundary)

    def _kernels(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        if isinstance(self.kernel, Embedded):
            return torch.from_numpy(np.array(self.kernel.array)).to(device).expand(n, -1, -1)
        if self.kernel == "gaussian":
            return gaussian(self.size, self.std).float().to(device).expand(n, -1, -1)
        length = self.size - 1 if self.length is None else self.length
        if self.angle is not None:
            angle_N = torch.full((n,), float(self.angle), device=device)
        else:
            angle_N = 180 * torch.rand(n, generator=generator, device=device)
        return motion(self.size, length, angle_N).float()
