"""NumPy arrays, in memory and in `.npy` and `.npz` files, as images. Pickles are never loaded."""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import UserError
from ..core.limits import LIMIT
from ..core.reading import opened
from .entries import File, Layout
from .images import ImageSource, resize_image
from .reader import Format, Header, Image, ImageReader
from .stored import Array, StoredArray

MAX_CHANNELS = 4
_MOST_CLASSES = 1 << 20
_ERRORS = (
    OSError, ValueError, TypeError, EOFError, KeyError, IndexError, AttributeError, RuntimeError, NotImplementedError,
    OverflowError, MemoryError, SyntaxError, struct.error, tokenize.TokenError, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile,
)  # fmt: skip


@contextmanager
def reading(where: object, kind: str = "a plain NumPy array") -> Iterator[None]:
    """Turn errors of reading arrays, on opening and later, into a UserError that names the file."""
    try:
        yield
    except _ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{where}: cannot be read as {kind} ({reason}); copy or save it again") from error


@contextmanager
def numpy_arrays(
    where: str, source: Path | IO[bytes], alone: str, limit: int = LIMIT
) -> Iterator[Mapping[str, StoredArray]]:
    """The arrays of an `.npz` by name, or the array of an `.npy` file, named `alone`; values are read when indexed.

    Args:
        limit: megabytes that an array may take that is read as a whole.

    Raises:
        UserError: what is read, here or inside the `with` block, is damaged.
    """
    with opened(source) if isinstance(source, Path) else nullcontext(source) as stream, reading(where):
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                yield dict(_members(where, archive, limit))
        else:
            size = stream.seek(0, io.SEEK_END)
            yield {alone: StoredArray(where, partial(_from_its_beginning, stream), size, limit)}


def _members(where: str, archive: zipfile.ZipFile, limit: int) -> Iterator[tuple[str, StoredArray]]:
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            yield (
                info.filename.removesuffix(".npy"),
                StoredArray(where, partial(archive.open, info), info.file_size, limit),
            )


def _from_its_beginning(stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    return stream


class Arrays(ImageReader, kind="arrays"):
    """`.npy` (one image if it lies in a folder, a stack if the file itself is named) and `.npz`.

    An `.npz` holds a stack called `images`, `x` or `arr_0`, or no other array, and perhaps `labels`.
    """

    suffixes = (".npy", ".npz")

    def header(self, file: File) -> Header:
        with numpy_arrays(file.where, file.stream, "images", file.limit) as arrays:
            array, stacked = _images_of(file, arrays)
            count = array.shape[0] if stacked else 1
            labels = _labels(file.where, arrays["labels"], count) if "labels" in arrays else None
            return Header(_format(file.where, array, file.layout, stacked), count, labels)

    def frames(self, file: File) -> Iterator[Image]:
        with numpy_arrays(file.where, file.stream, "images", file.limit) as arrays:
            array, stacked = _images_of(file, arrays)
            yield from _frames(file.where, array, file.layout, stacked)


def channel_axis(where: str, shape: tuple[int, ...], layout: Layout) -> int | None:
    """Which axis of an image's `shape` (without N) holds the channels: 0, 2, or None for a grey `[H, W]`.

    "auto" takes the first or the last axis, if only one of them is at most 4 long.

    Raises:
        UserError: not an image, or both or neither of the axes could be the channels (then state the layout).
    """
    if 0 in shape or len(shape) not in (2, 3):
        raise UserError(f"{where}: has image shape {list(shape)}; expected [H, W], [H, W, C] or [C, H, W]")
    if layout != "auto":
        if (len(shape) == 2) != (layout == "NHW"):
            raise UserError(f"{where}: has image shape {list(shape)}, which does not fit layout {layout}")
        return {"NHW": None, "NHWC": 2, "NCHW": 0}[layout]
    first, last = shape[0] <= MAX_CHANNELS, shape[-1] <= MAX_CHANNELS
    if len(shape) == 2 and not last:
        return None
    if len(shape) == 2 or first == last:
        raise UserError(f"{where}: image shape {list(shape)} has no clear channel axis; state layout NHW, NHWC or NCHW")
    return 0 if first else 2


def array_source(
    array: Array,
    name: str = "array",
    *,
    value_range: tuple[float, float] | None = None,
    labels: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    layout: Layout = "auto",
    resize: int | None = None,
) -> ImageSource:
    """Images from an array `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` of any real type, in physical units.

    Args:
        name: what messages and provenance call it.
        value_range: nominal range; by default (0, 255) for uint8 and None (the data decide) for others.
        labels: integers `[N]`, at least 0.
        classes: names of the classes.
        layout: which axis is which; "auto" as in `channel_axis`.
        resize: see `resize_image`.

    Raises:
        UserError: wrong shape, type or labels, or an unclear layout.
    """
    (channels, height, width), _ = _format(name, array, layout, stacked=True)

    def passes() -> Iterator[tuple[str, Image]]:
        for i, image in enumerate(_frames(name, array, layout, stacked=True)):
            yield f"{name}: image {i}", image if resize is None else resize_image(image, resize)

    return ImageSource(
        name=name,
        shape=(channels, height, width) if resize is None else (channels, resize, resize),
        count=array.shape[0],
        value_range=value_range or ((0.0, 255.0) if array.dtype == np.uint8 else None),
        labels=None if labels is None else _labels(name, np.asarray(labels), array.shape[0]),
        classes=None if classes is None else tuple(classes),
        passes=passes,
    )


def _images_of(file: File, arrays: Mapping[str, Array]) -> tuple[Array, bool]:
    """The array with the images, and whether it is a stack of them."""
    some = [key for key in arrays if key != "labels"]
    key = next((key for key in ("images", "x", "arr_0") if key in some), some[0] if len(some) == 1 else None)
    if key is None:
        raise UserError(
            f"{file.where}: holds arrays {', '.join(arrays) or 'none'}; name the one with the images 'images'"
        )
    array = arrays[key]
    axes = len(array.shape)
    named = file.alone or file.name.lower().endswith(".npz")
    return array, named or axes == 4 or (axes == 3 and file.layout == "NHW")


def _format(where: str, array: Array, layout: Layout, stacked: bool) -> Format:
    if array.dtype.kind not in "uif":
        raise UserError(f"{where}: holds numbers of type {array.dtype}; images must be real numbers, integer or float")
    if stacked and (len(array.shape) not in (3, 4) or not array.shape[0]):
        shapes = "[N, H, W], [N, H, W, C] or [N, C, H, W] with N > 0"
        raise UserError(f"{where}: has shape {list(array.shape)}; images must be {shapes}")
    shape = array.shape[1:] if stacked else array.shape
    axis = channel_axis(where, shape, layout)
    height, width = (size for i, size in enumerate(shape) if i != axis)
    channels = 1 if axis is None else shape[axis]
    return Format((channels, height, width), "8-bit" if array.dtype == np.uint8 else str(array.dtype))


def _frames(where: str, array: Array, layout: Layout, stacked: bool) -> Iterator[Image]:
    axis = channel_axis(where, array.shape[1:] if stacked else array.shape, layout)
    for i in range(array.shape[0] if stacked else 1):
        image = array[i] if stacked else array[()]
        yield image[None] if axis is None else np.moveaxis(image, axis, 0)


def _labels(where: str, labels: Array, count: int) -> tuple[int, ...]:
    if labels.shape != (count,) or labels.dtype.kind not in "ui":
        raise UserError(f"{where}: labels must be {count} integers from 0, not {labels.dtype} {list(labels.shape)}")
    found = labels[()]
    if found.min() < 0 or found.max() >= _MOST_CLASSES:
        raise UserError(f"{where}: labels must be {count} integers from 0 to {_MOST_CLASSES - 1}")
    return tuple(found.tolist())
