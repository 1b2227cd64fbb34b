"""The corruption of real measurements as a person states it: whether it is known, and the size of the images.

The operator of each measurement has to be known. Either all measurements have the same one (a kernel, a factor, a
function), or they have masks, which come in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UserCodeError, UserError
from ..core.tensors import seeded
from ..corruption import Corruption, Loss, Operator, as_mapping, photons_of, reduction
from ..io import ImageSource, array_source
from .stated_noise import SigmaN

Shape = tuple[int, int, int]
_DRAWS = 32  # operators are compared to see whether all are the same


def stated(corruption: Mapping[str, Any] | None, sigma_n: SigmaN | None) -> tuple[dict[str, Any], SigmaN | None]:
    """A corruption without its noise, and the noise, which is stated beside the corruption or in it.

    Raises:
        UserError: noise that is stated twice, or keys that only make sense where measurements are made.
    """
    data = dict(corruption or {"kind": "noise"})
    for key in ("clean_fraction", "weights"):
        if data.pop(key, None):
            raise UserError(
                f"corruption.{key} is for simulated measurements; for real ones state sigma_n as a file with one "
                "number per image, 0 where there is no noise"
            )
    if sigma_n is not None and "sigma_n" in data:
        raise UserError("sigma_n is stated twice, by itself and in corruption; leave it out of corruption")
    return data, data.pop("sigma_n", sigma_n)


def measured_shape(corruption: Corruption, shape: Shape, image_size: tuple[int, int] | None) -> Shape:
    """`(C, H, W)` of the images whose measurements have this shape.

    Args:
        image_size: `(H, W)` of the images, where the corruption does not imply it.

    Raises:
        UserError: the corruption gives no measurement of this shape, or not from images of `image_size`.
    """
    factor = reduction(corruption)
    height, width = image_size or (shape[1] * factor, shape[2] * factor)
    unknown = image_size is None and corruption.loses(Loss.OWN_FUNCTION)
    try:
        found = corruption.shapes((shape[0], height, width)).observation
    except UserCodeError:
        if not unknown:
            raise
        found = ()
    if found != shape:
        more = "state the size of the images with --image-size H,W (data.image_size in a recipe)"
        raise UserError(
            f"corruption.kind {corruption.kind}: measures images of {height}x{width} as {list(found) or 'nothing'}, "
            f"but the files hold {list(shape)}; {more if unknown else 'another factor or image size is needed'}"
        )
    return shape[0], height, width


def operators(corruption: Corruption, image_shape: Shape, n: int) -> Operator:
    """`n` operators; all but their masks are the same (`check_known`)."""
    return corruption.draw(n, image_shape, seeded("import"))


def check_known(corruption: Corruption, image_shape: Shape, masked: bool) -> None:
    """Raises UserError if the operators are drawn at random, so that those of the measurements are not known.

    Args:
        masked: whether the masks are known.
    """
    drawn = operators(corruption, image_shape, _DRAWS).parameters()
    drawn.pop("sigma_n")
    if masked:
        drawn.pop(mask_key(corruption))
    random = [name for name, value in drawn.items() if not bool((value == value[:1]).all())]
    if random:
        name = random[0].rpartition(".")[2]
        remedy = {
            "mask": "give them with --masks (data.masks in a recipe)",
            "kernel": "state the angle, or give one measured kernel for all; a kernel for each measurement is not "
            "supported",
        }.get(name, "only one operator for all measurements is supported")
        raise UserError(
            f"corruption.kind {corruption.kind}: draws a {name} for each measurement, but real measurements have their "
            f"own; {remedy}"
        )


def the_mask(corruption: Corruption, image_shape: Shape) -> ImageSource:
    """The mask of a corruption that always draws the same one."""
    mask = operators(corruption, image_shape, 1).condition()
    assert mask is not None
    return array_source(mask.numpy().astype(np.uint8), "corruption.masks", layout="NCHW")


def mask_key(corruption: Corruption) -> str:
    """Name of the operators' parameter that holds the masks."""
    k = next(k for k, part in enumerate(corruption.parts) if part.loses(Loss.PIXELS))
    return "mask" if corruption.parts[k] is corruption else f"{k}.mask"


def keeps_constants(corruption: Corruption, image_shape: Shape) -> bool:
    """Whether an image of one value is measured as that value, so that zero may be moved as in images."""
    operator, photons, value = operators(corruption, image_shape, 1), photons_of(corruption), 0.5
    measured = operator.apply(torch.full((1, *image_shape), value))
    shown: Tensor = operator.restrict(torch.ones_like(measured)) != 0
    if photons is not None:  # undo the transform that stabilises their variance
        measured = operators(photons, image_shape, 1).from_domain(measured)
    return torch.allclose(measured[shown], torch.tensor(value), rtol=0, atol=1e-4)


def with_masks(description: Mapping[str, Any], masks: dict[str, Any]) -> dict[str, Any]:
    """The corruption of measurements that lack pixels; where it states no pattern, with these masks to draw from."""
    kind = description.get("kind")
    mask = {"pattern": "files", "masks": masks}
    if kind == "mask":
        stated = "p" in description or "pattern" in description
        return {**description, **({} if stated else mask)}
    mask = {"kind": "mask", **mask}
    if kind == "noise":
        return {**description, **mask}
    if kind != "compose":
        return {"kind": "compose", "operators": [description, mask]}
    parts = [as_mapping(part) for part in description.get("operators", ())]
    own = [k for k, part in enumerate(parts) if part.get("kind") == "mask"]
    if len(own) > 1:
        raise UserError("corruption.operators: masks from files need exactly one part of kind mask")
    if own:
        parts[own[0]] = with_masks(parts[own[0]], masks)
    return {**description, "operators": parts if own else [*parts, mask]}
