"""Picture files (PNG, JPEG, TIFF, BMP, WebP, GIF), through Pillow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import PIL.Image

from ..core.errors import UserError
from .entries import File
from .reader import Format, Header, Image, ImageReader

_CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1}
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, PIL.Image.DecompressionBombError,
)  # fmt: skip


class Pictures(ImageReader, kind="pictures"):
    """One image per file. Refuses animated and multi-page files, and files that Pillow would reduce to 8 bits."""

    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")

    def header(self, file: File) -> Header:
        with _opened(file.where, file.stream) as picture:
            return Header(_format(file.where, picture))

    def frames(self, file: File) -> Iterator[Image]:
        yield decode(file.where, file.stream)


def decode(where: str, stream: IO[bytes]) -> Image:
    """Pixels `[C, H, W]` in the number type of the file; palettes become RGB. Orientation tags are not applied.

    Raises:
        UserError: not a picture or not a supported one (`Pictures`), or its pixels are damaged or cut off.
    """
    with _opened(where, stream) as picture:
        channels, *_ = _format(where, picture).shape
        converted = picture.convert({"P": "RGB", "1": "L"}.get(picture.mode, picture.mode))
        return np.asarray(converted).reshape(picture.height, picture.width, channels).transpose(2, 0, 1)


@contextmanager
def _opened(where: str, stream: IO[bytes]) -> Iterator[PIL.Image.Image]:
    try:
        with PIL.Image.open(stream) as picture:
            yield picture
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: cannot be read as an image ({reason}); repair or remove it") from error


def _format(where: str, picture: PIL.Image.Image) -> Format:
    mode = picture.mode
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{where}: holds {frames} frames or pages; one image per file is needed")
    if mode not in _CHANNELS:
        raise UserError(f"{where}: has colour mode {mode}; convert it to grey, RGB or RGBA")
    wide = mode.startswith("I;16")
    # Pillow opens 16-bit colour as 8-bit RGB and drops the low byte; only the decoder's arguments tell
    if not wide and mode not in ("I", "F") and any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ())):
        raise UserError(f"{where}: has 16-bit colour, which Pillow cuts to 8 bits; save it as .npy or as 16-bit grey")
    values = "16-bit" if wide else {"I": "32-bit", "F": "float"}.get(mode, "8-bit")
    return Format((_CHANNELS[mode], picture.height, picture.width), values)
