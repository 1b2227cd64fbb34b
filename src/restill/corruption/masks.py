"""Inpainting: measurements that lack pixels, `y = M (x + sigma_n eps)`; masks drawn or read from files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..data import ImageSource, open_images
from ..errors import UserError
from ..tensors import on_grid
from .corruption import Corruption, number
from .embedded import Embedded
from .operator import Operator
from .patterns import PATTERNS, largest_rate

MOST_MASKS = 4096  # that a law keeps of those in files


@dataclass(frozen=True)
class MaskOperator(Operator):
    """`A x = M x` (Ambient Diffusion, section 3).

    Attributes:
        mask: True where a pixel was observed, bool `[n, C, H, W]`, or `[n, 1, H, W]` for all channels alike.
    """

    mask: Tensor

    def _masked(self, x: Tensor) -> Tensor:
        return on_grid(self.mask, x).to(x) * x

    def apply(self, x: Tensor) -> Tensor:
        return self._masked(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._masked(y)

    def to_domain(self, y: Tensor) -> Tensor:
        return self._masked(y)

    def seen(self, d: Tensor) -> Tensor:
        return self._masked(d)

    def restrict(self, y: Tensor) -> Tensor:
        return self._masked(y)

    def condition(self) -> Tensor:
        return self.mask

    def missing(self) -> Tensor:
        return ~self.mask

    def cleared(self, where: Tensor) -> MaskOperator:
        return dataclasses.replace(super().cleared(where), mask=self.mask | where[:, None, None, None])

    def augmented(self, move: Callable[[Tensor], Tensor]) -> MaskOperator:
        return dataclasses.replace(self, mask=move(self.mask))


@dataclass(frozen=True, kw_only=True)
class Mask(Corruption, kind="mask"):
    """Missing pixels. What the network is shown lacks a further share `delta`, so that it learns to fill them.

    Attributes:
        p: share of missing pixels, in [0, 1), or several of which each sample draws one.
        pattern: "pixels" (each by itself, the papers' random inpainting), "box", "centre-box" (the same pixels always:
            they are never learned), "stripes" (vertical), "dust" (round spots), or "files".
        size: width of stripes and diameter of spots, in pixels.
        per_channel: whether each channel has a mask of its own; otherwise one for all.
        delta: share of the observed pixels that a further mask takes away, in (0, 1): single pixels, or for boxes,
            stripes and spots a further one of these.
        masks: of pattern "files", a folder, archive or array file with masks of the images' size (0 is missing), of
            which each sample draws one; up to 4,096 are kept.
    """

    is_mask: ClassVar[bool] = True
    p: float | tuple[float, ...] = 0.6
    pattern: str = "pixels"
    size: int = 2
    per_channel: bool = False
    delta: float = 0.1
    masks: str | Mapping[str, Any] | Embedded | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.p, list):
            object.__setattr__(self, "p", tuple(self.p))
        for rate in self.rates:
            number("p", rate, 0, 1, below=True)
        number("delta", self.delta, 0, 1, below=True)
        if self.delta == 0:
            raise UserError("corruption.delta must lie above 0: without further masking nothing is learned of gaps")
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise UserError(f"corruption.size must be a whole number of pixels, at least 1, not {self.size!r}")
        if self.pattern not in (*PATTERNS, "files"):
            raise UserError(
                f"corruption.pattern {self.pattern!r} is not known: use one of {', '.join((*PATTERNS, 'files'))}"
            )
        if (self.pattern == "files") != (self.masks is not None):
            raise UserError("corruption.masks (a folder, archive or array file) goes with corruption.pattern files")
        object.__setattr__(self, "masks", _kept(self.masks))

    @property
    def rates(self) -> tuple[float, ...]:
        """All shares of missing pixels that may be drawn."""
        return self.p if isinstance(self.p, tuple) else (self.p,)

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The image's own shape. Raises UserError for a mask of another shape, or one that hides everything."""
        if isinstance(self.masks, Embedded):
            found = self.masks.array.shape[1:]
            if found[1:] != tuple(shape[1:]) or found[0] not in (1, shape[0]):
                raise UserError(f"corruption.masks: are of shape {list(found)}, the images of {list(shape)}")
        elif max(self.rates) >= largest_rate(self.pattern, (shape[0], shape[1], shape[2])):
            raise UserError(f"corruption.p {max(self.rates):g} hides every pixel of images {list(shape)}; lower it")
        return shape

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        """As many as the image has: a mask for each channel, alike or not (Ambient Diffusion)."""
        return shape[0]

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MaskOperator:
        self.observation_shape(shape)
        sigma_n = self.draw_sigma_n(n, generator)
        if isinstance(self.masks, Embedded):
            bank = torch.from_numpy(np.array(self.masks.array)).to(generator.device)
            mask = bank[torch.randint(len(bank), (n,), generator=generator, device=generator.device)]
        else:
            mask = self._pattern(self.pattern, self._draw_rate(n, generator), shape, generator)
        mask = mask.expand(-1, shape[0], -1, -1).contiguous()
        return self.partly_cleared(MaskOperator(sigma_n, mask), generator)

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> MaskOperator:
        return MaskOperator(parameters["sigma_n"], parameters["mask"])

    def further(self, operator: Operator, generator: torch.Generator) -> MaskOperator:
        assert isinstance(operator, MaskOperator)
        mask = operator.mask
        pattern = {"files": "pixels", "centre-box": "box"}.get(self.pattern, self.pattern)
        rate = torch.full((len(mask),), self.delta, device=generator.device)
        return dataclasses.replace(operator, mask=mask & self._pattern(pattern, rate, tuple(mask.shape[1:]), generator))

    def _draw_rate(self, n: int, generator: torch.Generator) -> Tensor:
        rates = torch.tensor(self.rates, device=generator.device)
        if len(rates) == 1:
            return rates.expand(n)
        return rates[torch.randint(len(rates), (n,), generator=generator, device=generator.device)]

    def _pattern(self, name: str, rate_N: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        channels, height, width = shape
        return PATTERNS[name](rate_N, (channels if self.per_channel else 1, height, width), self.size, generator)


def _kept(masks: str | Mapping[str, Any] | Embedded | None) -> Embedded | None:
    """Masks in plain data or from files, `[k, C, H, W]`, checked."""
    if isinstance(masks, (str, Path)):
        source = open_images(masks)
        chosen = np.linspace(0, len(source) - 1, min(len(source), MOST_MASKS)).round().astype(int)
        masks = Embedded(read_masks(source, str(masks))[chosen])
    elif isinstance(masks, Mapping):
        masks = Embedded.read(masks, "corruption.masks")
    if masks is not None and (masks.array.ndim != 4 or masks.array.dtype != bool):
        raise UserError(f"corruption.masks: must be of shape [k, C, H, W] and binary, not {list(masks.array.shape)}")
    if masks is not None:
        check_masks(masks.array, "corruption.masks")
    return masks


def read_masks(source: ImageSource, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """All masks of files, bool `[k, C, H, W]`, True where observed; colour files whose channels agree have one.

    Raises:
        UserError: values other than 0 and one other number, or a mask that hides everything.
    """
    found = np.stack(list(source))
    values = np.unique(found)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:4])
        raise UserError(
            f"{name}: masks must be binary, 0 where a pixel is missing and one other value, but hold {shown}"
            f"{', ...' if len(values) > 4 else ''}; save them as PNG, not as JPEG"
        )
    masks = found != 0
    if masks.shape[1] > 1 and (masks == masks[:, :1]).all():
        masks = masks[:, :1]
    check_masks(masks, name)
    return masks


def check_masks(masks: np.ndarray[Any, np.dtype[np.bool_]], name: str) -> None:
    """Raises UserError for a mask that hides everything."""
    empty = ~masks.reshape(len(masks), -1).any(axis=1)
    if empty.any():
        raise UserError(f"{name}: mask {int(np.flatnonzero(empty)[0])} hides everything; leave its image out")
