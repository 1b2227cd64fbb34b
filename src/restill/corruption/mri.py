"""The law of multi-coil MRI: undersampled k-space of complex images, drawn or as it was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import UserError
from .coil_maps import BANK, birdcage, refined
from .corruption import Corruption, number, one_of, whole
from .embedded import Embedded
from .mri_lines import PATTERNS, fewer
from .mri_operator import MriOperator
from .operator import Operator

MOST_MASKS = 4096  # that a law keeps of measured ones


@dataclass(frozen=True, kw_only=True)
class Mri(Corruption, kind="mri"):
    """Undersampled Cartesian k-space of several coils (RSD, section 4.3; Ambient MRI, section 3).

    What the network is shown lacks further lines: a measurement of acceleration R is shown at R + delta.

    Attributes:
        sigma_n: of the real and of the imaginary part of each sample of k-space, where images have magnitudes up to 1.
        acceleration: R, the width over the number of measured lines, at least 1, or several of which each sample draws
            one.
        acs: centre lines that are always measured and never taken away.
        delta: what the further mask adds to the acceleration, above 0; 1 in the papers. More of it leaves the teacher
            more lines to learn from, and shows it less.
        pattern: "random" or "equispaced" lines, or "files" for masks of measurements.
        coils: number of (virtual) coils.
        maps: "birdcage", a ring of coils rotated at random, or coarse maps of measurements `[k, coils, h, w, 2]`.
        masks: of pattern "files", of which each sample draws one, bool `[k, 1, 1 or H, W]`.
    """

    is_complex: ClassVar[bool] = True
    acceleration: float | tuple[float, ...] = 4.0
    acs: int = 4
    delta: float = 1.0
    pattern: str = "random"
    coils: int = 4
    maps: str | Mapping[str, Any] | Embedded = "birdcage"
    masks: Mapping[str, Any] | Embedded | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.acceleration, list):
            object.__setattr__(self, "acceleration", tuple(self.acceleration))
        if not self.accelerations:
            raise UserError("corruption.acceleration is an empty list; state one, or several")
        for acceleration in self.accelerations:
            number("acceleration", acceleration, 1, math.inf)
        whole("acs", self.acs, 1, " of centre lines")
        number("delta", self.delta, 0)
        if self.delta == 0:
            raise UserError(
                "corruption.delta must lie above 0: without further masks nothing is learned of other lines"
            )
        whole("coils", self.coils, 1, "")
        one_of("pattern", self.pattern, (*PATTERNS, "files"))
        for name in ("maps", "masks"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, Embedded.read(value, f"corruption.{name}"))
        if (self.pattern == "files") != isinstance(self.masks, Embedded):
            raise UserError("corruption.pattern files goes with corruption.masks, as `restill import` writes both")
        self._check_maps()

    def _check_maps(self) -> None:
        if isinstance(self.maps, str):
            one_of("maps", self.maps, ("birdcage",))
            return
        found: tuple[int, ...] = self.maps.array.shape if isinstance(self.maps, Embedded) else ()
        if len(found) != 5 or found[1] != self.coils or found[-1] != 2 or math.prod(found) > BANK:
            raise UserError(
                f"corruption.maps must be [k, {self.coils} coils, h, w, 2], at most {BANK:,} numbers, not {list(found)}"
            )

    @property
    def accelerations(self) -> tuple[float, ...]:
        """All accelerations that may be drawn."""
        return self.acceleration if isinstance(self.acceleration, tuple) else (self.acceleration,)

    def observation_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(2 coils, H, W)`. Raises UserError for images that are not complex, or too narrow."""
        if len(shape) != 3 or shape[0] != 2:
            raise UserError(f"corruption.kind mri: measures complex images [2, H, W], not {list(shape)}")
        if isinstance(self.masks, Embedded):
            found = self.masks.array.shape
            if len(found) != 4 or found[1] != 1 or found[2] not in (1, shape[1]) or found[3] != shape[2]:
                raise UserError(
                    f"corruption.masks: are of shape {list(found)}; images {list(shape)} need [k, 1, 1 or {shape[1]}, "
                    f"{shape[2]}]"
                )
        elif max(self.accelerations) * self.acs >= shape[2]:
            raise UserError(
                f"corruption.acs {self.acs} of {shape[2]} lines leaves acceleration {max(self.accelerations):g} no "
                f"other line, so that none is ever learned; state fewer than {shape[2] / max(self.accelerations):g}"
            )
        return (2 * self.coils, *shape[1:])

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.observation_shape(shape)

    def condition_channels(self, shape: tuple[int, ...]) -> int:
        """The mask, as often as an image has channels (Ambient MRI)."""
        return 2

    def draw(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> MriOperator:
        self.observation_shape(shape)
        sigma_n, mask = self.draw_sigma_n(n, generator), self._draw_mask(n, shape[2], generator)
        return MriOperator(sigma_n, mask, self._draw_maps(n, shape[1], shape[2], generator))

    def rebuild(self, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> MriOperator:
        return MriOperator(parameters["sigma_n"], parameters["mask"], parameters["maps"])

    def further(self, operator: Operator, generator: torch.Generator) -> MriOperator:
        assert isinstance(operator, MriOperator)
        return dataclasses.replace(operator, mask=fewer(operator.mask, self.acs, self.delta, generator))

    def _draw_mask(self, n: int, width: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.masks, Embedded):
            return self.masks.drawn(n, generator)
        rates = torch.tensor(self.accelerations, device=generator.device)
        chosen = torch.randint(len(rates), (n,), generator=generator, device=generator.device)
        return PATTERNS[self.pattern](rates[chosen], width, self.acs, generator)

    def _draw_maps(self, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        if isinstance(self.maps, Embedded):
            return refined(self.maps.drawn(n, generator), height, width)
        rotation = torch.rand(n, generator=generator, device=generator.device) * (2 * math.pi)
        return birdcage(rotation, self.coils, height, width)
