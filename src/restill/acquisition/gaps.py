"""Measurements that lack pixels, as images with NaN where one is missing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.progress import Advance, silent
from ..corruption.mask import chosen_masks
from ..io import ImageSource, Pairing, binary_masks, check_partners, exact, open_masks
from .settings import DataSettings

Masks = ImageSource | Literal["nan"]
"""One mask for each image or one for all, 0 where a pixel is missing; or "nan" where missing pixels are NaN."""


def masks_from(data: DataSettings) -> Masks | None:
    """The stated masks of images: `nan`, or the files that hold them (`open_masks`).

    Raises:
        UserError: no masks there, or images to be resized, which would mix missing pixels with observed ones.
    """
    if data.masks is not None and data.resize is not None:
        raise UserError("images with masks cannot be resized: that would mix missing pixels with observed ones")
    return "nan" if data.masks == "nan" else None if data.masks is None else open_masks(data.masks, data.limit)


def with_gaps(source: ImageSource, masks: Masks, pairing: Pairing = "name") -> ImageSource:
    """The same images, with NaN where a pixel is missing.

    Args:
        masks: "nan" where they hold NaN already; else one mask for each image, or one for all: 0 where a pixel is
            missing, of one channel or as many as the images have.
        pairing: how masks and images that belong together are found (`check_partners`).

    Raises:
        UserError: masks of another number or size, or that do not pair; while iterating, masks that are not binary, or
            hide everything.
    """
    if isinstance(masks, ImageSource):
        _check_shape(source, masks)
        if len(masks) > 1 and pairing == "name":
            check_partners(source, masks, "masks")
        return _masked(source, masks)

    def passes() -> Iterator[tuple[str, NDArray[Any]]]:
        for where, image in source.passes():
            if image.dtype.kind == "f" and np.isnan(image).all():
                raise UserError(f"{where}: every value is NaN; leave the image out")
            yield where, image

    return dataclasses.replace(source, passes=passes, gaps=True)


def _masked(source: ImageSource, masks: ImageSource) -> ImageSource:
    def passes() -> Iterator[tuple[str, NDArray[Any]]]:
        read = binary_masks(masks)
        shown = itertools.repeat(next(read)) if len(masks) == 1 else read
        for (where, image), mask in zip(source.passes(), shown, strict=False):  # each counts its own
            if mask.shape[0] not in (1, source.shape[0]):
                mask = _of_one_channel(masks.name, mask)
            if not mask.any():
                raise UserError(f"{masks.name}: the mask of {where} hides everything; leave the image out")
            kept = exact(image.dtype)
            yield where, np.where(mask, image.astype(kept), kept(np.nan))

    return dataclasses.replace(source, passes=passes, gaps=True)


def _check_shape(source: ImageSource, masks: ImageSource) -> None:
    if len(masks) not in (1, len(source)):
        raise UserError(
            f"{masks.name}: holds {len(masks):,} masks for the {len(source):,} images of {source.name}; give one for "
            "each, named like it, or one for all"
        )
    if masks.shape[1:] != source.shape[1:]:
        of_masks, of_images = (f"{height}x{width}" for height, width in (masks.shape[1:], source.shape[1:]))
        raise UserError(f"{masks.name}: masks have {of_masks} pixels, but the images of {source.name} have {of_images}")


def _of_one_channel(name: str, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask saved as a colour picture for images of another number of channels."""
    if (mask != mask[:1]).any():
        raise UserError(
            f"{name}: masks have {len(mask)} different channels; give them one channel, or as many as the images"
        )
    return mask[:1]


def masks_of(source: ImageSource, advance: Advance = silent) -> NDArray[np.bool_]:
    """Masks of images of `with_gaps`, bool `[k, C or 1, H, W]`: as many as a corruption keeps, or one if all are alike.

    Raises:
        UserError: nothing is missing.
    """
    chosen = set(chosen_masks(len(source), source.shape).tolist())
    kept, complete = [], True
    for i, image in enumerate(source):
        mask = ~np.isnan(image)
        complete = complete and bool(mask.all())
        if i in chosen:
            kept.append(mask)
        advance(done=1)
    if complete:
        raise UserError(f"{source.name}: no pixel is masked or NaN; import it without --masks")
    bank = np.stack(kept)
    if (bank == bank[:1]).all():
        bank = bank[:1]
    return bank[:, :1] if (bank == bank[:, :1]).all() else bank
