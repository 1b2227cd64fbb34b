"""Multi-coil MRI: undersampled k-space of complex images, drawn or as it was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from ...core.errors import UserError
from ...core.settings import Limits, OneOrSeveral, setting, wrong
from ..corruption import Loss
from ..embedded import Embedded
from ..operator import Operator
from ..traits import GaussianNoise
from .lines import PATTERNS, fewer
from .maps import BANK, birdcage, refined
from .operator import MriOperator

MOST_MASKS = 4096  # kept of measured ones


class Mri(GaussianNoise, kind="mri"):
    """Undersampled Cartesian k-space of several coils (RSD, section 4.3; Ambient MRI, section 3).

    `sigma_n` is that of the real and of the imaginary part of each k-space sample, for images of magnitude up to 1.
    The network's input lacks further lines: a measurement of acceleration R is shown at R + delta.
    """

    lost = frozenset({Loss.FREQUENCIES})
    is_complex = True
    acceleration: Annotated[OneOrSeveral, Limits(ge=1)] = setting(
        4.0, "R, the width divided by the number of measured lines, or a list from which each sample draws one"
    )
    acs: int = setting(4, "centre lines that are always measured and never hidden", unit="lines", ge=1)
    delta: float = setting(
        1.0,
        "acceleration that the further mask adds, 1 in the papers; a larger value leaves the teacher more lines to "
        "learn from, but shows it fewer",
        gt=0,
    )
    pattern: Literal["random", "equispaced", "files"] = setting(
        "random", "random or equispaced lines, or files for masks of measurements"
    )
    coils: int = setting(4, "number of (virtual) coils", ge=1)
    maps: Literal["birdcage"] | Embedded = setting(
        "birdcage", "birdcage, a ring of coils rotated at random, or coarse maps of measurements, as import writes them"
    )
    masks: Embedded | None = setting(
        None, "for pattern: files, the masks from which each sample draws one, as import writes them"
    )

    @field_validator("maps", mode="before")
    @classmethod
    def _read_maps(cls, maps: object) -> object:
        if isinstance(maps, Mapping):
            return Embedded.read(maps)
        if maps != "birdcage" and not isinstance(maps, Embedded):
            raise ValueError(f"must be birdcage, or maps as import writes them, not {maps!r}")
        return maps

    @model_validator(mode="after")
    def _check_banks(self) -> Self:
        if self.pattern == "files" and self.masks is None:
            raise wrong("masks", "is missing, but pattern: files needs it; `restill import` writes both")
        if self.pattern != "files" and self.masks is not None:
            raise wrong("masks", "needs pattern: files; remove masks, or state that pattern")
        found: tuple[int, ...] = self.maps.array.shape if isinstance(self.maps, Embedded) else (1, self.coils, 1, 1, 2)
        if len(found) != 5 or found[1] != self.coils or found[-1] != 2 or math.prod(found) > BANK:
            raise wrong(
                "maps", f"must be [k, {self.coils} coils, h, w, 2], at most {BANK:,} numbers, not {list(found)}"
            )
        return self

    @property
    def accelerations(self) -> tuple[float, ...]:
        """All accelerations that may be drawn."""
        return self.acceleration if isinstance(self.acceleration, tuple) else (self.acceleration,)

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MriOperator:
        self._check_shape(shape)
        sigma_n, mask = self.draw_sigma_n(n, generator), self._draw_mask(n, shape[2], generator)
        return MriOperator(sigma_n, mask, self._draw_maps(n, shape[1], shape[2], generator))

    def further(self, operator: Operator, generator: torch.Generator) -> MriOperator:
        assert isinstance(operator, MriOperator)
        return dataclasses.replace(operator, mask=fewer(operator.mask, self.acs, self.delta, generator))

    def operator_in_words(self) -> str:
        coils = f"k-space of {self.coils} coil{'s' if self.coils > 1 else ''}"
        if self.pattern == "files":
            return f"undersampled {coils} (masks of measurements)"
        if max(self.accelerations) == 1:
            return f"fully sampled {coils}"
        rates = " or ".join(f"{rate:g}-fold" for rate in self.accelerations)
        return f"{rates} undersampled {coils} ({self.pattern} lines, always with the {self.acs} in the centre)"

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises UserError for images that are not complex, or too narrow."""
        if len(shape) != 3 or shape[0] != 2:
            raise UserError(f"corruption.kind mri: needs complex images [2, H, W], not {list(shape)}")
        if self.masks is not None:
            found = self.masks.array.shape
            if len(found) != 4 or found[1] != 1 or found[2] not in (1, shape[1]) or found[3] != shape[2]:
                raise UserError(
                    f"corruption.masks: have shape {list(found)}; images {list(shape)} need [k, 1, 1 or {shape[1]}, "
                    f"{shape[2]}]"
                )
        elif max(self.accelerations) * self.acs >= shape[2]:
            raise UserError(
                f"corruption.acs {self.acs} of {shape[2]} lines leaves no other line at acceleration "
                f"{max(self.accelerations):g}, so no other line is learned; state fewer than "
                f"{shape[2] / max(self.accelerations):g}"
            )

    def _draw_mask(self, n: int, width: int, generator: torch.Generator) -> Tensor:
        if self.masks is not None:
            return self.masks.drawn(n, generator)
        rates = torch.tensor(self.accelerations, device=generator.device)
        chosen = torch.randint(len(rates), (n,), generator=generator, device=generator.device)
        return PATTERNS[self.pattern](rates[chosen], width, self.acs, generator)

    def _draw_maps(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.maps, Embedded):
            return refined(self.maps.drawn(n, generator), height, width)
        rotation = torch.rand(n, generator=generator, device=generator.device) * (2 * math.pi)
        return birdcage(rotation, self.coils, height, width)
