"""Picture files (PNG, JPEG, TIFF, BMP, WebP, GIF) as arrays, through Pillow."""

from __future__ import annotations

import struct
import zlib
from typing import IO, NamedTuple

import numpy as np
import PIL.Image

from ..core.errors import UserError
from .source import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")

_CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1}
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, PIL.Image.DecompressionBombError,
)  # fmt: skip


class Format(NamedTuple):
    """What must be the same in all files of a source: `[C, H, W]` and the type of the numbers."""

    shape: tuple[int, int, int]
    values: str  # "8-bit", "16-bit", "32-bit", "float", or a NumPy type

    def __str__(self) -> str:
        channels, height, width = self.shape
        return f"{channels} channel{'s' * (channels > 1)} of {height}x{width}, {self.values}"


def probe(where: str, stream: IO[bytes]) -> Format:
    """Format of a picture, from its header alone.

    Raises:
        UserError: not a picture, animated, or of a kind that Pillow would reduce to 8 bits in silence.
    """
    try:
        with PIL.Image.open(stream) as picture:
            return _format(where, picture)
    except _UNREADABLE as error:
        raise _unreadable(where, error) from error


def decode(where: str, stream: IO[bytes]) -> Image:
    """Pixels `[C, H, W]` in the number type of the file; palettes become RGB. Orientation tags are not applied.

    Raises:
        UserError: as `probe`, or the pixels are damaged or cut off.
    """
    try:
        with PIL.Image.open(stream) as picture:
            channels, *_ = _format(where, picture).shape
            converted = picture.convert({"P": "RGB", "1": "L"}.get(picture.mode, picture.mode))
            return np.asarray(converted).reshape(picture.height, picture.width, channels).transpose(2, 0, 1)
    except _UNREADABLE as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{where}: cannot be read as an image ({reason or type(error).__name__}); repair or remove it")


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
