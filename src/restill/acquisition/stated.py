"""The law of real measurements: what a person states of it, in the units of the files, and what the files add.

A measurement's own operator has to be known. It is the same for all measurements (a kernel, a factor, a function), or
it is a mask, and these come in files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserCodeError, UserError
from ..core.tensors import seeded
from ..corruption import (
    Corruption,
    Downsampling,
    Embedded,
    Loss,
    as_mapping,
    corruption_from,
    in_units,
    photons_of,
)
from ..io import ImageSource, array_source
from ..store.manifest import Normalisation
from .stated_noise import SigmaN, is_auto

_DRAWS = 32  # operators that are compared: are they the same for all?


@dataclass(frozen=True)
class Measured:
    """What is stated of measurements.

    Attributes:
        description: of the law, as in a recipe; without noise levels.
        normalised: whether photon noise is stated in normalised units, not in those of the files.
        shape: of one measurement, `(C, h, w)`.
        masked: whether each measurement has a mask of its own.
        image_size: of what was measured, `(H, W)`, where the law does not say it.
    """

    description: Mapping[str, Any]
    normalised: bool
    shape: tuple[int, int, int]
    masked: bool
    image_size: tuple[int, int] | None

    def corruption(
        self, levels: Mapping[str, Any], bank: NDArray[np.bool_] | None, units: Normalisation | None = None
    ) -> Corruption:
        """The law in normalised units.

        Args:
            levels: `sigma_n` and perhaps `weights`; empty for photon noise.
            bank: masks of the measurements, `[k, C, H, W]`, in place of which all are shown as long as it is None.
            units: of the files; None as long as they are not known.
        """
        description = dict(self.description)
        if self.masked:
            bank = np.ones((1, 1, *self.shape[1:]), dtype=bool) if bank is None else bank
            description = _with_masks(description, Embedded(bank).describe())
        if not self.normalised:
            description = in_units(description, *(() if units is None else (units.offset, units.scale)))
        return corruption_from({**description, **levels})

    def check(self, sigma_n: SigmaN | None) -> tuple[Corruption, tuple[int, int, int]]:
        """The law, as far as it is known before files are read, and `(C, H, W)` of the images.

        Raises:
            UserError: no such law, an operator that is not known, or noise that cannot be stated so.
        """
        law = self.corruption({}, None)
        image_shape = self._image_shape(law)
        _check_known(law, image_shape, self.masked)
        if law.loses(Loss.PHOTONS) and sigma_n is not None:
            raise UserError(
                f"sigma_n: kind {law.kind} derives it from gain and read_noise, which corruption states; remove sigma_n"
            )
        if is_auto(sigma_n) and law.loses(Loss.PIXELS):
            raise UserError(
                "sigma_n auto looks at whole images, but pixels are missing; state the noise level, e.g. as estimated "
                "from complete images of the same detector"
            )
        return law, image_shape

    def _image_shape(self, law: Corruption) -> tuple[int, int, int]:
        """`(C, H, W)` of the images of which these are measurements.

        Raises:
            UserError: the law measures no image as these are, or not one of `image_size`.
        """
        factor = math.prod(part.factor for part in law.parts if isinstance(part, Downsampling))
        height, width = self.image_size or (self.shape[1] * factor, self.shape[2] * factor)
        asked = self.image_size is None and law.loses(Loss.OWN_FUNCTION)
        try:
            found = law.shapes((self.shape[0], height, width)).observation
        except UserCodeError:
            if not asked:
                raise
            found = ()
        if found != self.shape:
            more = "state the size of the images with --image-size H,W (data.image_size in a recipe)"
            raise UserError(
                f"corruption.kind {law.kind}: measures images of {height}x{width} as {list(found) or 'nothing'}, but "
                f"the files hold {list(self.shape)}; {more if asked else 'another factor or image size is needed'}"
            )
        return self.shape[0], height, width


def stated(corruption: Mapping[str, Any] | None, sigma_n: SigmaN | None) -> tuple[dict[str, Any], SigmaN | None]:
    """What a person says of a law, and its noise, which stands beside the law or in it.

    Raises:
        UserError: noise that is stated twice, or keys that make no sense for measurements which are there already.
    """
    data = dict(corruption or {"kind": "noise"})
    for key in ("clean_fraction", "weights"):
        if data.pop(key, None):
            raise UserError(
                f"corruption.{key} is for making measurements; of real ones state the noise of each: sigma_n as a file "
                "with one number per image, 0 where there is none"
            )
    if sigma_n is not None and "sigma_n" in data:
        raise UserError("sigma_n is stated twice, by itself and in corruption; leave it out of corruption")
    return data, data.pop("sigma_n", sigma_n)


def the_mask(law: Corruption, image_shape: tuple[int, int, int]) -> ImageSource:
    """The one mask of a law that knows no other (`Measured.check`)."""
    mask = law.draw(1, image_shape, seeded("import")).condition()
    assert mask is not None
    return array_source(mask.numpy().astype(np.uint8), "corruption.masks", layout="NCHW")


def mask_key(law: Corruption) -> str:
    """Name of the parameter that holds the masks of a masked law's samples."""
    k = next(k for k, part in enumerate(law.parts) if part.loses(Loss.PIXELS))
    return "mask" if law.parts[k] is law else f"{k}.mask"


def parameters_of(law: Corruption, image_shape: tuple[int, int, int], n: int) -> dict[str, Tensor]:
    """Parameters of `n` operators, of which all but the masks are the same (`Measured.check`)."""
    return law.draw(n, image_shape, seeded("import")).parameters()


def _check_known(law: Corruption, image_shape: tuple[int, int, int], masked: bool) -> None:
    """Raises UserError if the operator of a measurement is drawn at random, so that its own is not known."""
    drawn = parameters_of(law, image_shape, _DRAWS)
    drawn.pop("sigma_n")
    if masked:
        drawn.pop(mask_key(law))
    random = [name for name, value in drawn.items() if not bool((value == value[:1]).all())]
    if random:
        name = random[0].rpartition(".")[2]
        remedy = {
            "mask": "give them with --masks (data.masks in a recipe)",
            "kernel": "state the angle, or measure a kernel for all; kernels of single measurements are not supported",
        }.get(name, "only operators that are the same for all are supported")
        raise UserError(
            f"corruption.kind {law.kind}: draws a {name} for each measurement, but real ones have their own; {remedy}"
        )


def keeps_constants(law: Corruption, image_shape: tuple[int, int, int]) -> bool:
    """Whether an image of one value is measured as that value, so that zero may be moved as in images."""
    operator, photons, value = law.draw(1, image_shape, seeded("import")), photons_of(law), 0.5
    measured = operator.apply(torch.full((1, *image_shape), value))
    shown = operator.restrict(torch.ones_like(measured)) != 0
    if photons is not None:  # which bend the scale of values
        measured = photons.draw(1, image_shape, seeded("import")).from_domain(measured)
    return torch.allclose(measured[shown], torch.tensor(value), rtol=0, atol=1e-4)


def _with_masks(description: dict[str, Any], masks: dict[str, Any]) -> dict[str, Any]:
    """The law of measurements that lack pixels; where no pattern is stated, with these masks to draw from."""
    kind = description.get("kind")
    if kind == "mask":
        drawn = "p" in description or "pattern" in description
        return description if drawn else {**description, "pattern": "files", "masks": masks}
    mask = {"kind": "mask", "pattern": "files", "masks": masks}
    if kind == "noise":
        return {**description, **mask}
    if kind != "compose":
        return {"kind": "compose", "operators": [description, mask]}
    parts = [as_mapping(part) for part in description.get("operators", ())]
    own = [k for k, part in enumerate(parts) if part.get("kind") == "mask"]
    if len(own) > 1:
        raise UserError("corruption.operators: masks from files go with one part of kind mask")
    if own:
        parts[own[0]] = _with_masks(parts[own[0]], masks)
    return {**description, "operators": parts if own else [*parts, mask]}
