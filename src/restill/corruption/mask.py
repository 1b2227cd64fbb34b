"""Inpainting: measurements that lack pixels, `y = M (x + sigma_n eps)`; masks drawn or read from files."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import ValidationInfo, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from ..core.errors import UserError
from ..core.settings import Limits, OneOrSeveral, setting, wrong
from .bases import MaskingOperator
from .corruption import Loss
from .embedded import MOST, Embedded
from .operator import Operator
from .patterns import PATTERNS, bounds
from .traits import GaussianNoise, PartlyClean
from .words import percent

if TYPE_CHECKING:
    from ..io import ImageSource

MOST_MASKS = 4096  # kept of those in files


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


Pattern = Literal["pixels", "box", "centre-box", "stripes", "dust", "files"]
_OF_PIXELS = {"box": "a box of {} of the pixels", "centre-box": "a box of {} of the pixels in the middle of each image"}


class Mask(GaussianNoise, PartlyClean, kind="mask"):
    """Missing pixels. The network's input lacks a further share `delta`, so that it learns to fill them."""

    lost = frozenset({Loss.PIXELS})
    p: Annotated[OneOrSeveral, Limits(ge=0, lt=1)] = setting(
        0.6, "share of missing pixels, or a list from which each sample draws one"
    )
    pattern: Pattern = setting(
        "pixels",
        "pixels (independent of each other, the papers' random inpainting), box, centre-box (always the same pixels, "
        "which are never learned), stripes (vertical), dust (round spots), or files",
    )
    size: int = setting(2, "width of stripes and diameter of spots", unit="pixels", ge=1)
    per_channel: bool = setting(False, "whether each channel has a mask of its own")
    delta: float = setting(
        0.1,
        "share of the observed pixels that a further mask hides: single pixels, or for boxes, stripes and spots "
        "another one of these",
        gt=0,
        lt=1,
    )
    masks: Embedded | None = setting(
        None,
        "for pattern: files, a folder, archive or array file with masks of the images' size, 0 where a pixel is "
        "missing; each sample draws one; up to 4,096 are kept",
    )

    @field_validator("masks", mode="before")
    @classmethod
    def _read_masks(cls, masks: object, info: ValidationInfo) -> object:
        if masks is not None and info.data.get("pattern", "files") != "files":
            raise ValueError("needs pattern: files; remove masks, or state that pattern")
        if isinstance(masks, (int, float)):
            raise ValueError(f"must be a folder, archive or array file, not {masks!r}")
        return masks_from(masks) if isinstance(masks, (str, Path)) else masks

    @model_validator(mode="after")
    def _check_masks(self) -> Self:
        if self.masks is None:
            if self.pattern == "files":
                raise wrong("masks", "is missing: pattern files needs a folder, archive or array file with masks")
            return self
        if self.masks.array.ndim != 4 or self.masks.array.dtype != bool or 0 in self.masks.array.shape:
            raise wrong("masks", f"must be booleans of shape [k, C, H, W], not {self.masks!r}")
        if (empty := first_empty(self.masks.array)) is not None:
            raise wrong("masks", f"mask {empty} hides everything; leave its image out")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """All shares of missing pixels that may be drawn."""
        return self.p if isinstance(self.p, tuple) else (self.p,)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Operator:
        self._check_shape(shape)
        sigma_n = self.draw_sigma_n(n, generator)
        if self.masks is not None:
            mask = self.masks.drawn(n, generator)
        else:
            mask = self._drawn(self.pattern, self._draw_rate(n, generator), shape, generator)
        mask = mask.expand(-1, shape[0], -1, -1).contiguous()
        return self.partly_cleared(MaskOperator(sigma_n, mask), generator)

    def further(self, operator: Operator, generator: torch.Generator) -> MaskOperator:
        assert isinstance(operator, MaskOperator)
        mask = operator.mask
        pattern = {"files": "pixels", "centre-box": "box"}.get(self.pattern, self.pattern)
        rate = torch.full((len(mask),), self.delta, device=generator.device)
        return dataclasses.replace(operator, mask=mask & self._drawn(pattern, rate, tuple(mask.shape[1:]), generator))

    def operator_in_words(self) -> str:
        if self.masks is not None:
            count, share = len(self.masks.array), percent(1 - float(self.masks.array.mean()))
            return f"{share} of the pixels missing ({count:,} mask{'s' if count > 1 else ''} from files)"
        rates = " or ".join(percent(rate) for rate in self.rates)
        lost = _OF_PIXELS.get(self.pattern, "{} of the pixels").format(rates)
        how = {"stripes": f"stripes {self.size} wide", "dust": f"spots of {self.size}"}.get(self.pattern)
        notes = [*([how] if how else []), *(["each channel by itself"] if self.per_channel else [])]
        return f"{lost} missing ({', '.join(notes)})" if notes else f"{lost} missing"

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises UserError for a mask of another shape, or one that hides everything."""
        if self.masks is not None:
            found = self.masks.array.shape[1:]
            if found[1:] != tuple(shape[1:]) or found[0] not in (1, shape[0]):
                raise UserError(
                    f"corruption.masks: have shape {list(found)}, but the measurements have {list(shape)}; give masks "
                    f"of {shape[1]} x {shape[2]} pixels with one channel{f' or {shape[0]}' * (shape[0] > 1)}"
                )
            return
        low, high = bounds(self.pattern, (shape[0], shape[1], shape[2]))
        if max(self.rates) >= high:
            raise UserError(f"corruption.p {max(self.rates):g} hides every pixel of images {list(shape)}; lower it")
        if not low < self.delta < high:
            what = "every pixel" if self.delta >= high else "less than a pixel"
            raise UserError(
                f"corruption.delta {self.delta:g} of pattern {self.pattern} takes {what} of images {list(shape)} away; "
                f"choose one between {low:.2g} and {high:.2g}"
            )

    def _draw_rate(self, n: int, generator: torch.Generator) -> Tensor:
        rates = torch.tensor(self.rates, device=generator.device)
        if len(rates) == 1:
            return rates.expand(n)
        return rates[torch.randint(len(rates), (n,), generator=generator, device=generator.device)]

    def _drawn(self, name: str, rate_N: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        channels, height, width = shape
        return PATTERNS[name](rate_N, (channels if self.per_channel else 1, height, width), self.size, generator)


def masks_from(path: str | Path) -> Embedded:
    """Masks in files as a corruption keeps them. Raises ValueError, which names the file, if it holds no masks."""
    from ..io import open_masks

    try:
        source = open_masks(path)
        return Embedded(read_masks(source, str(path))[chosen_masks(len(source), source.shape)])
    except UserError as error:
        raise ValueError(str(error)) from error


def chosen_masks(count: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which of `count` masks of `shape` a corruption keeps: all, or as many as it can hold, evenly spread."""
    most = min(MOST_MASKS, max(1, MOST["bool"] // math.prod(shape)))
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def read_masks(source: ImageSource, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """All masks of files, bool `[k, C, H, W]`, True where observed; colour files whose channels agree have one.

    Raises:
        UserError: values other than 0 and one other number, or a mask that hides everything.
    """
    from ..io import binary_masks

    masks = np.stack(list(binary_masks(source, name)))
    if masks.shape[1] > 1 and (masks == masks[:, :1]).all():
        masks = masks[:, :1]
    if (empty := first_empty(masks)) is not None:
        raise UserError(f"{name}: mask {empty} hides everything; leave its image out")
    return masks


def first_empty(masks: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    """Index of the first mask that hides everything; None without one."""
    empty = ~masks.reshape(len(masks), -1).any(axis=1)
    return int(np.flatnonzero(empty)[0]) if empty.any() else None
