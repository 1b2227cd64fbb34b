"""`open_masks`: files of masks as an `ImageSource`: one mask for all, or one for each image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.limits import LIMIT
from .arrays import Arrays, array_source, numpy_arrays
from .images import ImageSource, open_images
from .reader import Image
from .stored import Array


def open_masks(path: str | Path, limit: int = LIMIT) -> ImageSource:
    """Masks of a folder or archive, of an `.npy` or `.npz` (the array `masks` if it has one), or of one picture.

    Arrays may be boolean, and `[H, W]` for a single mask. Whether they are binary is checked later (`binary_masks`).

    Raises:
        UserError: nothing there, or nothing that can be read as images.
    """
    path = Path(path)
    if path.is_file() and path.name.lower().endswith(Arrays.suffixes):
        with numpy_arrays(str(path), path, "masks", limit) as arrays:
            if "masks" in arrays:
                return _of_array(path, limit, _Masks(arrays["masks"]))
    return open_images(path, limit=limit)


class _Masks:
    """An array of masks as a stack of numbers: one mask has no axis for their number, and masks may be boolean."""

    def __init__(self, array: Array) -> None:
        self._array, self._single = array, len(array.shape) == 2
        self.shape = (1, *array.shape) if self._single else array.shape
        self.dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype

    def __getitem__(self, index: Any) -> Any:
        return self._array[() if self._single else index].astype(self.dtype)


def _of_array(path: Path, limit: int, masks: Array) -> ImageSource:
    """Masks of an array, which are read again in each pass."""
    source = array_source(masks, path.name)

    def passes() -> Iterator[tuple[str, Image]]:
        with numpy_arrays(str(path), path, "masks", limit) as arrays:
            yield from array_source(_Masks(arrays["masks"]), path.name).passes()

    return dataclasses.replace(source, passes=passes)


def binary_masks(source: ImageSource, name: str | None = None) -> Iterator[NDArray[np.bool_]]:
    """Where each mask is not 0, `[C, H, W]`. Raises UserError unless all hold 0 and one other number, the same in all.

    Args:
        name: for messages; that of the source by default.
    """
    values: set[float] = set()
    for mask in source:
        values |= set(np.unique(mask).tolist())
        if len(values - {0}) > 1:
            some = sorted(values)
            shown = ", ".join(f"{value:g}" for value in some[:4]) + (", ..." if len(some) > 4 else "")
            raise UserError(
                f"{name or source.name}: masks must be binary, 0 where a pixel is missing and one other value, but "
                f"hold {shown}; save them as PNG, not as JPEG"
            )
        yield mask != 0
