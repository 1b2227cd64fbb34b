"""TIFF files as tifffile reads them; where it lacks the decompression, through Pillow if that gives the same numbers.

Pillow alone reads some flavours wrongly without a word: whole numbers of 32 bits wrap, channels are lost, white and
black are exchanged. So everything that is not among the few flavours of `_as_pillow` needs tifffile.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ..core.errors import UserError
from .entries import File
from .pictures import TURNED, opened_picture
from .reader import Format, Header, Image, ImageReader

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffPageSeries

_GREY = (0, 1)  # MinIsWhite and MinIsBlack: the numbers of the file in both
_RGB = 2
_ORIENTATION, _BITS, _FORMAT, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 274, 258, 339, 262, 277, 284, 338
_COLOURS = {3: "a palette", 4: "a mask of transparency", 5: "CMYK", 6: "YCbCr", 8: "CIELAB"}
_UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError, EOFError,
    RuntimeError, MemoryError, ImportError, struct.error, zlib.error,
)  # fmt: skip


class Tiffs(ImageReader, kind="tiff"):
    """One image, or a stack of pages that are alike. Palettes and colours other than RGB are refused."""

    suffixes = (".tif", ".tiff")

    def header(self, file: File) -> Header:
        with _pages(file) as pages:
            if pages is not None:
                return Header(pages.format, pages.count, remark=TURNED if pages.turned else None)
        with opened_picture(file.where, file.stream) as picture:
            return Header(_as_pillow(file.where, picture))

    def frames(self, file: File) -> Iterator[Image]:
        with _pages(file) as pages:
            if pages is not None:
                yield from pages.images(file.where)
                return
        with opened_picture(file.where, file.stream) as picture:
            form = _as_pillow(file.where, picture)
            inverted = picture.mode in ("1", "L") and _tag(picture, _PHOTOMETRIC) == (0,)
            pixels = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
        pixels = 255 - pixels if inverted else pixels
        yield pixels.reshape(*form.shape[1:], form.shape[0]).transpose(2, 0, 1)


@dataclass(frozen=True)
class _Pages:
    """The images of a file, each of `channels` pages, or one page with all channels.

    Attributes:
        format: of one image.
        pages: all pages, in order.
        order: index of the page of each image and channel, `[images, channels]`.
        turned: whether an orientation tag asks for another orientation.
    """

    format: Format
    pages: TiffPageSeries
    order: NDArray[np.intp]
    turned: bool

    @property
    def count(self) -> int:
        return len(self.order)

    def images(self, where: str) -> Iterator[Image]:
        for indices in self.order:
            with _understood(where):
                image = np.concatenate([_pixels(self.pages[int(k)]) for k in indices])
            yield image


def _pixels(page: Any) -> Image:
    """`[C, H, W]` of one page; bits become 0 and 255 as in other pictures."""
    pixels = page.asarray()
    pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    axes = page.keyframe.axes
    return pixels[None] if axes == "YX" else np.moveaxis(pixels, axes.index("S"), 0)


@contextmanager
def _understood(where: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: cannot be read as TIFF ({reason[:120]}); repair it, or save it again") from error


@contextmanager
def _pages(file: File) -> Iterator[_Pages | None]:
    """What tifffile finds in a file; None if it is missing or cannot decompress the file."""
    try:
        import tifffile
    except ImportError:
        yield None
        return
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is odd ends here, in one line, or is no harm
    file.stream.seek(0)
    with _understood(file.where):
        tiff = tifffile.TiffFile(file.stream, name=file.name, is_ome=False)
    with tiff:
        with _understood(file.where):
            series = tiff.series
            if not series:
                raise ValueError("no pages")
            first = series[0].keyframe
            found = _found(file.where, series) if _decodes(first) else None
        yield found


def _decodes(page: TiffPage) -> bool:
    """Whether tifffile decompresses a page; most ways need the package imagecodecs."""
    from tifffile import TIFF

    try:
        TIFF.DECOMPRESSORS[page.compression]
        TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        return False
    return True


def _found(where: str, series: list[TiffPageSeries]) -> _Pages:
    """The images of the only series. Raises UserError for anything but grey and RGB images in pages of their own."""
    pages, page = series[0], series[0].keyframe
    if len(series) > 1:
        found = ", ".join("x".join(map(str, some.shape)) for some in series[:3])
        raise UserError(f"{where}: holds pages that differ ({found}); save those of one kind in a file of their own")
    photometric, sizes, axes = int(page.photometric), pages.shape, str(pages.axes)
    if photometric not in (*_GREY, _RGB):
        raise UserError(f"{where}: has {_COLOURS.get(photometric, 'unusual colours')}; convert it to grey or RGB")
    leading = axes.removesuffix(page.axes)
    if page.axes not in ("YX", "YXS", "SYX") or leading + page.axes != axes or ("C" in leading and page.axes != "YX"):
        raise UserError(f"{where}: has axes {axes} of {list(sizes)}; save each image as a page, grey or RGB")
    lengths = sizes[: len(leading)]
    if len(pages) != math.prod(lengths):
        raise UserError(f"{where}: keeps {math.prod(lengths)} images in {len(pages)} pages; save each as a page")
    channels = lengths[leading.index("C")] if "C" in leading else 1
    order = np.arange(math.prod(lengths)).reshape(lengths)
    order = np.moveaxis(order, leading.index("C"), -1) if "C" in leading else order[..., None]
    sides = dict(zip(page.axes, map(int, page.shape), strict=True))
    form = Format((channels * sides.get("S", 1), sides["Y"], sides["X"]), _values(page))
    return _Pages(form, pages, order.reshape(-1, channels), page.tags.valueof(_ORIENTATION, 1) not in (0, 1))


def _values(page: TiffPage) -> str:
    """The type of the numbers, in the words of `Format`."""
    kinds = {"bool": "8-bit", "uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
    found = str(page.dtype)
    if found not in kinds and (page.dtype is None or page.dtype.kind not in "uif"):
        raise ValueError(f"numbers of type {found}")
    return f"{page.bitspersample}-bit" if found == "uint8" and page.bitspersample < 8 else kinds.get(found, found)


def _as_pillow(where: str, picture: PIL.Image.Image) -> Format:
    """The format of a file of which Pillow reads the numbers rightly. Raises UserError for any other."""
    mode, bits, samples = picture.mode, _tag(picture, _BITS, (1,)), _tag(picture, _SAMPLES, (1,))[0]
    kind = _tag(picture, _FORMAT, (1,) * samples)
    channels = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(mode)
    known = {"1": {1}, "I;16": {16}, "I;16B": {16}, "F": {32}}.get(mode, {8})
    right = channels == samples and set(bits) == known and set(kind) == {3 if mode == "F" else 1}
    right &= _tag(picture, _PLANAR, (1,)) == (1,) and _tag(picture, _ORIENTATION, (1,)) == (1,)
    right &= 1 not in _tag(picture, _EXTRA, (0,)) and not getattr(picture, "is_animated", False)  # 1: multiplied alpha
    right &= _tag(picture, _PHOTOMETRIC, (-1,))[0] in (0, 1, 2, 6)  # Pillow makes RGB of YCbCr
    if not right or channels is None:
        raise UserError(
            f"{where}: is a TIFF that Pillow does not read rightly ({mode}, {'+'.join(map(str, bits))} bits); pip "
            "install 'restill[formats]', and imagecodecs if it is compressed, or save it without compression"
        )
    return Format(
        (channels, picture.height, picture.width),
        {"F": "float", "I;16": "16-bit", "I;16B": "16-bit"}.get(mode, "8-bit"),
    )


def _tag(picture: PIL.Image.Image, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The values of a tag."""
    found = picture.tag_v2.get(tag, default)  # type: ignore[attr-defined]
    return found if isinstance(found, tuple) else (found,)
