"""`open_masks`: files of masks as an `ImageSource`: one mask for all, or one for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from .arrays import Arrays, array_source, numpy_arrays
from .images import ImageSource, open_images


def open_masks(path: str | Path) -> ImageSource:
    """Masks of a folder or archive, of an `.npy` or `.npz` (the array `masks` if it has one), or of one picture.

    Arrays may be boolean, and `[H, W]` for a single mask. What is in the files is not looked at yet (`Binary`).

    Raises:
        UserError: nothing there, or nothing that can be read as images.
    """
    path = Path(path)
    if path.is_file() and path.name.lower().endswith(Arrays.suffixes):
        with numpy_arrays(str(path), path, alone="masks") as arrays:
            if "masks" in arrays:
                masks = arrays["masks"][()]
                masks = masks.astype(np.uint8) if masks.dtype == bool else masks
                return array_source(masks[None] if masks.ndim == 2 else masks, path.name)
    return open_images(path)


class Binary:
    """Reads masks one after another and sees to it that they hold 0 and one other number, the same in all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: set[float] = set()

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Where `mask` is not 0. Raises UserError for a third number."""
        self._values |= set(np.unique(mask).tolist())
        if len(self._values - {0}) > 1:
            some = sorted(self._values)
            shown = ", ".join(f"{value:g}" for value in some[:4]) + (", ..." if len(some) > 4 else "")
            raise UserError(
                f"{self.name}: masks must be binary, 0 where a pixel is missing and one other value, but hold {shown}; "
                "save them as PNG, not as JPEG"
            )
        return mask != 0
