"""Picture files (PNG, JPEG, BMP, WebP, GIF), through Pillow, which keeps the numbers of the file or is not used."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import PIL.Image

from ..core.errors import UserError
from ..core.limits import LIMIT, check_size
from .entries import File
from .reader import Format, Header, Image, ImageReader

_CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1}
_WIDE = ("RGB;16B", "RGBA;16B")  # Pillow decodes these with one byte of each number
_ORIENTATION = 274
TURNED = "has an orientation tag, which is not applied: images are read as they lie in the files, and so must masks"
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    MemoryError, struct.error, zlib.error, PIL.Image.DecompressionBombError,
)  # fmt: skip


class Pictures(ImageReader, kind="pictures"):
    """One image per file. Refuses animations, and files that Pillow would change, as colours of 16 bits with alpha."""

    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")

    def header(self, file: File) -> Header:
        with opened_picture(file.where, file.stream) as picture:
            return Header(_format(file.where, picture), remark=TURNED if _turned(picture) else None)

    def frames(self, file: File) -> Iterator[Image]:
        yield decode(file.where, file.stream, file.limit)


def decode(where: str, stream: IO[bytes], limit: int = LIMIT) -> Image:
    """Pixels `[C, H, W]` in the number type of the file; palettes become RGB, or RGBA where some are transparent.

    Orientation tags are not applied: numbers, noise and masks lie as the file has them, as in tifffile and imageio.

    Raises:
        UserError: not a picture or not a supported one (`Pictures`), its pixels are damaged or cut off, or it would
            take more than `limit` megabytes.
    """
    with opened_picture(where, stream) as picture:
        form = _format(where, picture)
        check_size(where, form.nbytes, limit, "the image")
        rawmode = _rawmode(picture)
        pixels = np.asarray(picture.convert(_target(picture)))
    if rawmode in _WIDE:
        with opened_picture(where, stream) as picture:  # the other byte, by the name of the other order of bytes
            tile = picture.tile[0]  # type: ignore[attr-defined]
            picture.tile = [(*tile[:3], rawmode.replace("16B", "16L"))]  # type: ignore[attr-defined]
            pixels = pixels.astype(np.uint16) << 8 | np.asarray(picture)
    return pixels.reshape(*form.shape[1:], form.shape[0]).transpose(2, 0, 1)


@contextmanager
def opened_picture(where: str, stream: IO[bytes]) -> Iterator[PIL.Image.Image]:
    """A picture whose header is read. Raises UserError, here or in the `with` block, if it is damaged."""
    most, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None  # whoever decodes checks the size
    try:
        stream.seek(0)
        with PIL.Image.open(stream) as picture:
            yield picture
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: cannot be read as an image ({reason[:120]}); repair or remove it") from error
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = most


def _turned(picture: PIL.Image.Image) -> bool:
    """Whether the picture is to be shown turned; asked of what lies before the pixels, for Pillow may decode them."""
    return "exif" in picture.info and picture.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _rawmode(picture: PIL.Image.Image) -> str:
    """How Pillow's decoder is told to unpack the numbers of a file."""
    tiles = getattr(picture, "tile", ())
    arguments = tiles[0][3] if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments and arguments[0])


def _target(picture: PIL.Image.Image) -> str:
    """The mode to convert to."""
    if picture.mode == "P":
        return "RGBA" if "transparency" in picture.info else "RGB"
    return "L" if picture.mode == "1" else picture.mode


def _format(where: str, picture: PIL.Image.Image) -> Format:
    mode, rawmode = picture.mode, _rawmode(picture)
    if getattr(picture, "is_animated", False):
        raise UserError(f"{where}: holds several frames or pages; one image per file is needed")
    if mode not in _CHANNELS:
        raise UserError(f"{where}: has colour mode {mode}; convert it to grey, RGB or RGBA")
    size = (_CHANNELS[_target(picture)], picture.height, picture.width)
    if mode.startswith("I;16") or rawmode in _WIDE:
        return Format(size, "16-bit")
    if ";16" in rawmode and mode not in ("I", "F") and not rawmode.startswith("BGR"):
        raise UserError(f"{where}: has 16 bits in a form that Pillow cuts to 8; save it as TIFF or .npy")
    return Format(size, {"I": "32-bit", "F": "float"}.get(mode, "8-bit"))
