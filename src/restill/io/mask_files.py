"""`open_masks`: files of masks as an `ImageSource`: one mask for all, or one for each image."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from . import pictures
from .arrays import array_source
from .images import open_images
from .source import ImageSource


def open_masks(path: str | Path) -> ImageSource:
    """Masks of a folder or archive, of an `.npy` or `.npz` (the array `masks` if it has one), or of one picture.

    Arrays may be boolean, and `[H, W]` for a single mask. What is in the files is not looked at yet (`Binary`).

    Raises:
        UserError: nothing there, or nothing that can be read as images.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        array = _array(path)
        if array is not None:
            return array_source(array[None] if array.ndim == 2 else array, path.name)
    if path.is_file() and path.suffix.lower() in pictures.SUFFIXES:
        with path.open("rb") as stream:
            return array_source(pictures.decode(str(path), stream)[None], path.name, layout="NCHW")
    return open_images(path)


def _array(path: Path) -> NDArray[Any] | None:
    """The masks in an array file; None where `open_images` finds them, or what is wrong with the file, by itself."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                if "masks" not in loaded.files:
                    return None
                loaded = loaded["masks"]
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile):
        return None
    return loaded.astype(np.uint8) if loaded.dtype == bool else loaded


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
