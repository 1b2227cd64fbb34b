"""Blur: `y = k * x + sigma_n eps` with a kernel that is stated, drawn, or measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import field_validator, model_validator
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from ..core.errors import UserError
from ..core.settings import setting, wrong
from .bases import CompleteOperator
from .corruption import Loss
from .embedded import Embedded
from .kernels import check_kernel, check_odd, gaussian, motion, read_kernel
from .operator import Operator
from .traits import GaussianNoise, PartlyClean, WithoutGaps, untouched

FIXED = ("gaussian", "motion")
BOUNDARIES = {"reflect": "reflect", "circular": "circular", "zero": "constant"}


@dataclass(frozen=True)
class BlurOperator(CompleteOperator):
    """Convolution of every channel with the sample's kernel; `boundary` fills in what lies beyond the border.

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


class Blur(GaussianNoise, PartlyClean, WithoutGaps, kind="blur"):
    """Blurred images: the teacher learns blurred images; the student, through the same blur, sharp ones (RSD)."""

    lost = frozenset({Loss.SHARPNESS})
    kernel: str | Embedded = setting(
        "gaussian", "gaussian, motion, or a file (.npy or picture) with a measured point-spread function, odd sides"
    )
    size: int = setting(9, "side of a Gaussian or motion kernel, odd", unit="pixels", ge=1)
    std: float = setting(2.0, "of the Gaussian", unit="pixels", ge=1e-3)
    length: float | None = setting(None, "of the motion, at most size - 1 (the default)", unit="pixels", ge=0)
    angle: float | None = setting(
        None, "of the motion, 0 along rows; drawn for each sample by default", unit="degrees", ge=-360, le=360
    )
    normalise: bool = setting(True, "whether a kernel from a file is scaled to sum 1")
    boundary: Literal["reflect", "circular", "zero"] = setting(
        "reflect", "what lies beyond the border: reflect, circular or zero"
    )

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: int) -> int:
        check_odd((size, size))
        return size

    @model_validator(mode="before")
    @classmethod
    def _read_kernel(cls, data: Any) -> Any:
        """The description embeds a kernel from a file."""
        kernel = data.get("kernel") if isinstance(data, dict) else None
        if not isinstance(kernel, (str, Path)) or kernel in FIXED:
            return data
        try:
            return {**data, "kernel": Embedded(read_kernel(kernel, data.get("normalise", True) is not False))}
        except UserError as error:
            raise wrong("kernel", str(error)) from error

    @field_validator("kernel", mode="before")
    @classmethod
    def _check_kernel(cls, kernel: object) -> object:
        if isinstance(kernel, Mapping):
            kernel = Embedded.read(kernel)
        if isinstance(kernel, Embedded):
            check_kernel(kernel.array)
            return kernel if kernel.array.dtype == np.float32 else Embedded(kernel.array.astype(np.float32))
        if kernel not in FIXED:
            raise ValueError(f"must be gaussian, motion, or a file with the kernel, not {kernel!r}")
        return kernel

    @model_validator(mode="after")
    def _check_motion(self) -> Self:
        for name in ("length", "angle"):
            if getattr(self, name) is not None and self.kernel != "motion":
                raise wrong(name, "needs kernel: motion; remove it")
        if self.length is not None and self.length > self.size - 1:
            raise wrong("length", f"must be at most {self.size - 1}, the size minus 1, not {self.length:g}")
        return self

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the kernel."""
        return self.kernel.array.shape if isinstance(self.kernel, Embedded) else (self.size, self.size)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        if any(side > length for side, length in zip(self.sides, shape[1:], strict=True)):
            raise UserError(
                f"corruption.kernel: {' x '.join(map(str, self.sides))} pixels are more than the images' "
                f"{shape[1]} x {shape[2]}; use a smaller {'one' if isinstance(self.kernel, Embedded) else 'size'}"
            )
        sigma_n = self.draw_sigma_n(n, generator)
        operator = BlurOperator(sigma_n, self._kernels(n, generator), self.boundary)
        return self.partly_cleared(operator, generator)

    def operator_in_words(self) -> str:
        if isinstance(self.kernel, Embedded):
            return f"blur by a measured kernel of {' x '.join(map(str, self.sides))} pixels"
        if self.kernel == "gaussian":
            return f"Gaussian blur ({self.size} pixels, std {self.std:g})"
        angle = "any direction" if self.angle is None else f"{self.angle:g} degrees"
        return f"motion blur ({self._length:g} pixels, {angle})"

    @property
    def _length(self) -> float:
        return self.size - 1 if self.length is None else self.length

    def _kernels(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        if isinstance(self.kernel, Embedded):
            return torch.from_numpy(np.array(self.kernel.array)).to(device).expand(n, -1, -1)
        if self.kernel == "gaussian":
            return gaussian(self.size, self.std).float().to(device).expand(n, -1, -1)
        if self.angle is not None:
            angle_N = torch.full((n,), self.angle, device=device)
        else:
            angle_N = 180 * torch.rand(n, generator=generator, device=device)
        return motion(self.size, self._length, angle_N).float()
