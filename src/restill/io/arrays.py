"""NumPy arrays as images: stacks in one `.npy` or `.npz`, and files of one image each. Pickles are never loaded."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from .pictures import Format
from .resize import resize_image
from .source import Image, ImageSource

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
MAX_CHANNELS = 4


def channel_axis(where: str, shape: tuple[int, ...], layout: Layout) -> int | None:
    """Which axis of an image's `shape` (without N) holds the channels: 0, 2, or None for a grey `[H, W]`.

    "auto" takes the one of the first and the last axis that is at most 4 long.

    Raises:
        UserError: not an image, or both or neither of the axes could be the channels (then state the layout).
    """
    if 0 in shape or len(shape) not in (2, 3):
        raise UserError(f"{where}: has image shape {list(shape)}, which is none of [H, W], [H, W, C], [C, H, W]")
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


def probe(where: str, stream: IO[bytes], layout: Layout) -> Format:
    """Format of an `.npy` file that holds one image, from its header. Raises UserError if it is none."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(where, error) from error
    _check_type(where, dtype)
    axis = channel_axis(where, shape, layout)
    return Format(_image_shape(shape, axis), "8-bit" if dtype == np.uint8 else str(dtype))


def decode(where: str, stream: IO[bytes], layout: Layout) -> Image:
    """One image `[C, H, W]` from an `.npy` file. Raises UserError if it is damaged or none."""
    try:
        array = np.load(stream, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(where, error) from error
    return _channels_first(array, channel_axis(where, array.shape, layout))


def array_source(
    array: NDArray[Any],
    name: str = "array",
    *,
    value_range: tuple[float, float] | None = None,
    labels: Sequence[int] | None = None,
    layout: Layout = "auto",
    resize: int | None = None,
) -> ImageSource:
    """Images from an array `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` of any real type, in physical units.

    Args:
        name: what messages and provenance call it.
        value_range: nominal range; by default (0, 255) for uint8 and None (the data decide) for others.
        labels: integers `[N]`, at least 0.
        layout: which axis is which; "auto" as in `channel_axis`.
        resize: see `resize_image`.

    Raises:
        UserError: wrong shape, type or labels, or an unclear layout.
    """
    _check_type(name, array.dtype)
    if array.ndim not in (3, 4) or not len(array):
        shapes = "[N, H, W], [N, H, W, C] or [N, C, H, W] with N > 0"
        raise UserError(f"{name}: has shape {list(array.shape)}; images must be {shapes}")
    axis = channel_axis(name, array.shape[1:], layout)

    def passes() -> Iterator[tuple[str, Image]]:
        for i in range(len(array)):
            image = _channels_first(array[i], axis)
            yield f"{name}: image {i}", image if resize is None else resize_image(image, resize)

    channels, height, width = _image_shape(array.shape[1:], axis)
    return ImageSource(
        name=name,
        shape=(channels, height, width) if resize is None else (channels, resize, resize),
        count=len(array),
        value_range=value_range or ((0.0, 255.0) if array.dtype == np.uint8 else None),
        labels=None if labels is None else _labels(name, np.asarray(labels), len(array)),
        classes=None,
        passes=passes,
    )


def open_array(path: Path, resize: int | None, layout: Layout) -> ImageSource:
    """Images of an `.npy` (memory-mapped) or `.npz` (`images`, `x`, `arr_0` or the only array; `labels` if there)."""
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if isinstance(loaded, np.ndarray):
            return array_source(loaded, path.name, layout=layout, resize=resize)
        with loaded:
            array = loaded[_images_key(path, loaded.files)]
            labels = loaded["labels"] if "labels" in loaded.files else None
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(str(path), error) from error
    return array_source(array, path.name, labels=labels, layout=layout, resize=resize)


def _images_key(path: Path, keys: list[str]) -> str:
    arrays = [key for key in keys if key != "labels"]
    for key in ("images", "x", "arr_0"):
        if key in arrays:
            return key
    if len(arrays) != 1:
        raise UserError(f"{path}: holds arrays {', '.join(keys) or 'none'}; name the one with the images 'images'")
    return arrays[0]


def _check_type(where: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "uif":
        raise UserError(f"{where}: holds numbers of type {dtype}; images must be real numbers, integer or float")


def _image_shape(shape: tuple[int, ...], axis: int | None) -> tuple[int, int, int]:
    channels = 1 if axis is None else shape[axis]
    height, width = (size for i, size in enumerate(shape) if i != axis)
    return channels, height, width


def _channels_first(image: NDArray[Any], axis: int | None) -> Image:
    return image[None] if axis is None else np.moveaxis(image, axis, 0)


def _labels(name: str, labels: NDArray[Any], count: int) -> tuple[int, ...]:
    if labels.shape != (count,) or labels.dtype.kind not in "ui" or labels.min() < 0:
        raise UserError(f"{name}: labels must be {count} integers from 0, not {labels.dtype} {list(labels.shape)}")
    return tuple(int(label) for label in labels)


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{where}: cannot be read as a plain NumPy array ({reason}); save it with numpy.save or savez")
