"""Inpainting: measurements that lack pixels, `y = M (x + sigma_n eps)`; masks drawn or read from files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UserError
from ..io import Binary, ImageSource, open_masks
from .bases import MaskingOperator
from .corruption import Corruption, flag, number, one_of, whole
from .embedded import MOST, Embedded
from .operator import Operator
from .patterns import PATTERNS, bounds

MOST_MASKS = 4096  # that a law keeps of those in files


@dataclass(frozen=True)
class MaskOperator(MaskingOperator):
    """`A x = M x` (Ambient Diffusion, section 3).

    Attributes:
        mask: True where a pixel was observed, bool `[n, C, H, W]`, or `[n, 1, H, W]` for all channels alike.
    """

    mask: Tensor

    def restrict(self, y: Tensor) -> Tensor:
        return self.mask.to(y) * y

    def condition(self) -> Tensor:
        return self.mask


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

    allows_clean: ClassVar[bool] = True
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
        if not self.rates:
            raise UserError("corruption.p is an empty list; state the share of missing pixels, or several")
        for rate in self.rates:
            number("p", rate, 0, 1, below=True)
        number("delta", self.delta, 0, 1, below=True)
        if self.delta == 0:
            raise UserError("corruption.delta must lie above 0: without further masking nothing is learned of gaps")
        whole("size", self.size, 1, " of pixels")
        one_of("pattern", self.pattern, (*PATTERNS, "files"))
        flag("per_channel", self.per_channel)
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
                raise UserError(
                    f"corruption.masks: are of shape {list(found)}, what they mask of {list(shape)}; make the masks of "
                    f"{shape[1]} x {shape[2]} pixels with one channel{f' or {shape[0]}' * (shape[0] > 1)}"
                )
            return shape
        low, high = bounds(self.pattern, (shape[0], shape[1], shape[2]))
        if max(self.rates) >= high:
            raise UserError(f"corruption.p {max(self.rates):g} hides every pixel of images {list(shape)}; lower it")
        if not low < self.delta < high:
            what = "every pixel" if self.delta >= high else "less than a pixel"
            raise UserError(
                f"corruption.delta {self.delta:g} of pattern {self.pattern} takes {what} of images {list(shape)} away; "
                f"choose one between {low:.2g} and {high:.2g}"
            )
        return shape

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        """As many as the image has: a mask for each channel, alike or not (Ambient Diffusion)."""
        return shape[0]

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MaskOperator:
        self.observation_shape(shape)
        sigma_n = self.draw_sigma_n(n, generator)
        if isinstance(self.masks, Embedded):
            mask = self.masks.drawn(n, generator)
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
        source = open_masks(masks)
        chosen = chosen_masks(len(source), source.shape)
        masks = Embedded(read_masks(source, str(masks))[chosen])
    elif isinstance(masks, Mapping):
        masks = Embedded.read(masks, "corruption.masks")
    if masks is None:
        return None
    if not isinstance(masks, Embedded):
        raise UserError(f"corruption.masks must be a folder, archive or array file, not {masks!r}")
    if masks.array.ndim != 4 or masks.array.dtype != bool or 0 in masks.array.shape:
        raise UserError(f"corruption.masks: must be booleans of shape [k, C, H, W], not {masks!r}")
    check_masks(masks.array, "corruption.masks")
    return masks


def chosen_masks(count: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which of `count` masks of `shape` a law keeps: all, or as many as it can hold, evenly spread."""
    most = min(MOST_MASKS, max(1, MOST["bool"] // math.prod(shape)))
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def read_masks(source: ImageSource, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """All masks of files, bool `[k, C, H, W]`, True where observed; colour files whose channels agree have one.

    Raises:
        UserError: values other than 0 and one other number, or a mask that hides everything.
    """
    binary = Binary(name)
    masks = np.stack([binary(mask) for mask in source])
    if masks.shape[1] > 1 and (masks == masks[:, :1]).all():
        masks = masks[:, :1]
    check_masks(masks, name)
    return masks


def check_masks(masks: np.ndarray[Any, np.dtype[np.bool_]], name: str) -> None:
    """Raises UserError for a mask that hides everything."""
    empty = ~masks.reshape(len(masks), -1).any(axis=1)
    if empty.any():
        raise UserError(f"{name}: mask {int(np.flatnonzero(empty)[0])} hides everything; leave its image out")
