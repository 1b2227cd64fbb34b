"""`ImageSource`: images as they lie in files, read in one ordered pass after another; `open_images` makes one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from ..core.errors import UserError, warn_of
from ..core.limits import LIMIT, check_size
from .entries import ARCHIVES, File, Layout, Place, files
from .names import shortened
from .reader import Format, Header, Image, ImageReader, exact

_EXACT = 2**53  # float64 holds all integers up to here


@dataclass(frozen=True)
class ImageSource:
    """Images in physical units: the numbers as they lie in the files. Iterating decodes one image at a time.

    Attributes:
        name: base name of the file or folder, for provenance; no absolute path.
        shape: `(C, H, W)` of every image.
        count: number of images.
        value_range: nominal range of the number type, (0, 255) for 8 bit; None where the data decide (16 bit, float).
        labels: class of each image, 0, 1, ...; None if the images have no classes.
        classes: names of the classes, where they have names.
        gaps: whether NaN is a value that is missing, and not a mistake.
        files: name and number of images of every file of a folder or archive, in order; None where one file or array
            holds all.
        passes: starts a new ordered pass over (where the image lies, for messages; the image `[C, H, W]`).
    """

    name: str
    shape: tuple[int, int, int]
    count: int
    value_range: tuple[float, float] | None
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    passes: Callable[[], Iterator[tuple[str, Image]]]
    gaps: bool = False
    files: tuple[tuple[str, int], ...] | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def num_classes(self) -> int:
        """0 without labels."""
        return max(self.labels) + 1 if self.labels else 0

    def __iter__(self) -> Iterator[NDArray[np.floating[Any]]]:
        """Every image in order, `[C, H, W]` in physical units; each call is a new pass.

        Numbers are float32 where that holds all of the files' type exactly (up to 16 bits, float32), else float64.

        Raises:
            UserError: an image cannot be decoded, holds NaN, infinity or integers that float64 rounds, or is no longer
                what it was on opening; names the file, and the index within it.
        """
        done = 0
        for where, image in self.passes():
            if image.shape != self.shape or done == self.count:
                raise UserError(f"{where}: has changed since {self.name} was opened; start again")
            if image.dtype.kind == "f" and not (np.isfinite(image) | (self.gaps & np.isnan(image))).all():
                raise UserError(f"{where}: holds {'' if self.gaps else 'NaN or '}infinity; images must be finite")
            if image.dtype.kind in "ui" and image.dtype.itemsize == 8 and _beyond(image):
                raise UserError(f"{where}: holds integers beyond 2^53, which would be rounded; subtract an offset")
            yield image.astype(exact(image.dtype))
            done += 1
        if done != self.count:
            raise UserError(f"{self.name}: has {done} images now but had {self.count} when it was opened; start again")


def check_side(resize: int | None) -> None:
    """Raises UserError if images cannot be resized to so many pixels a side."""
    if resize is not None and resize < 1:
        raise UserError(f"--resize must be at least 1 pixel, not {resize}")


def _beyond(image: Image) -> bool:
    return int(image.max()) > _EXACT or int(image.min()) < -_EXACT


def open_images(
    path: str | Path, resize: int | None = None, layout: Layout = "auto", limit: int = LIMIT
) -> ImageSource:
    """Images of a folder (recursive), a .zip, a .tar (also .xz, .gz, .bz2), or of one file.

    Files are of any format that has an `ImageReader`: PNG, JPEG, TIFF, BMP, WebP, GIF, .npy, .npz and those of
    plug-ins; other files in a folder are ignored. They come in the natural order of their names (img2 before img10). An
    .npy in a folder is one image, or several if it has four axes; a single named .npy is a stack. Every header is read
    before this returns, so that a file of another size, number of channels or number type is reported before work
    begins; pixels are decoded while iterating. Where all images lie in two or more folders side by side, and the files
    say no classes, the folders are the classes.

    Args:
        resize: centre crop to a square and resize to this many pixels a side (`resize_image`).
        layout: which axis of an array is which; "auto" as in `channel_axis`. For arrays of one image each, the same
            names without the N.
        limit: megabytes of memory that one image may take (`check_size`).

    Raises:
        UserError: nothing there, nothing readable, files that differ, or too large ones; names the first such file.
    """
    path = Path(path)
    check_side(resize)
    place = Place(path, ImageReader.known_suffixes(), layout, limit)
    read = _headers(place, resize)
    headers = sorted(read, key=lambda pair: place.key(pair[0]))
    order = None if headers == read else [name for name, _ in headers]
    labels, classes = _classes(headers)
    several = {name for name, header in headers if header.count > 1}

    def passes() -> Iterator[tuple[str, Image]]:
        for file in files(place, order):
            for i, image in enumerate(_reader(file).frames(file)):
                where = f"{file.where}: image {i}" if file.name in several else file.where
                yield where, image if resize is None else resize_image(image, resize)

    form = headers[0][1].format
    named = path.is_dir() or path.name.lower().endswith(ARCHIVES)
    return ImageSource(
        name=path.name if path.is_file() else path.resolve().name,
        shape=form.shape,
        count=sum(header.count for _, header in headers),
        value_range=(0.0, 255.0) if form.values == "8-bit" else None,
        labels=labels,
        classes=classes,
        passes=passes,
        files=tuple((name, header.count) for name, header in headers) if named else None,
    )


def _reader(file: File) -> ImageReader:
    reader = ImageReader.of(file.name)
    assert reader is not None  # files are looked for by the suffixes of the readers
    return reader


def _headers(place: Place, resize: int | None) -> list[tuple[str, Header]]:
    """Name and header of every file, of one format after resizing. Raises UserError as `open_images`."""
    path, known = place.path, place.suffixes
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file() and not path.name.lower().endswith((*ARCHIVES, *known)):
        raise UserError(f"{path}: is not a folder of images or one of {', '.join((*ARCHIVES, *known))}")
    headers: dict[str, Header] = {}
    remarks: dict[str, list[str]] = {}
    first: tuple[str, Header] | None = None
    for file in files(place):
        if file.name in headers:
            raise UserError(f"{path}: holds {shortened(file.name)} twice; make the archive again")
        header = _header(file, resize)
        first = first or (file.name, header)
        if header.format != first[1].format:
            raise UserError(f"{file.where}: {_unlike(header.format, first, len(headers))}")
        if header.remark is not None:
            remarks.setdefault(header.remark, []).append(file.where)
        headers[file.name] = dataclasses.replace(header, format=first[1].format)  # one object for all, to save memory
    if not headers:
        raise UserError(f"{path}: holds no images; looked for {', '.join(known)}")
    for remark, where in remarks.items():
        warn_of(f"{where[0]}{f' (as {len(where) - 1:,} more)' if len(where) > 1 else ''}: {remark}")
    return list(headers.items())


def _header(file: File, resize: int | None) -> Header:
    """The header of a file after resizing. Raises UserError if an image would take too much memory."""
    header = _reader(file).header(file)
    form = header.format
    check_size(file.where, form.nbytes, file.limit, "an image")
    if resize is not None:
        form = form._replace(shape=(form.shape[0], resize, resize))
    check_size(file.where, 8 * math.prod(form.shape), file.limit, "an image")  # as float64, while it is normalised
    return dataclasses.replace(header, format=form)


def _unlike(found: Format, one: tuple[str, Header], count: int) -> str:
    """What is unlike the `count` files before, of which `one` is the first."""
    name, first = one[0], one[1].format
    others = f"the {count} before it are {first}" if count > 1 else f"{name} is {first}"
    remedy = "convert or remove it; --resize N changes sizes only"
    if found.shape[1:] != first.shape[1:]:
        remedy = "--resize N crops and resizes all images to NxN"
    return f"is {found}, but {others}; make them alike ({remedy})"


def _classes(headers: Sequence[tuple[str, Header]]) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    """Labels and names of classes: what the files say, or folders side by side."""
    if all(header.labels is not None for _, header in headers):
        return tuple(label for _, header in headers for label in header.labels or ()), None
    folders = [PurePosixPath(name).parent for name, _ in headers]
    side_by_side = len({folder.parent for folder in folders}) == 1
    classes = sorted({folder.name for folder in folders})
    if not side_by_side or len(classes) < 2 or PurePosixPath() in folders:
        return None, None
    number = {name: i for i, name in enumerate(classes)}
    labels = ((number[folder.name],) * header.count for folder, (_, header) in zip(folders, headers, strict=True))
    return tuple(itertools.chain.from_iterable(labels)), tuple(classes)


def resize_image(image: Image, size: int) -> Image:
    """The largest centred square of `[C, H, W]`, resized to `[C, size, size]`.

    8-bit images: Lanczos, rounded to 8 bits, as common benchmarks are made. All others: triangle filter with
    antialiasing, which never leaves the range of the data. Nothing is resampled where the square already
    has the size. Resampling correlates noise and makes it smaller: a stated sigma_n must be that of the resized images.
    """
    _, height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side]
    if side == size:
        return square
    if image.dtype == np.uint8:
        # channel by channel, because Pillow would multiply colours by an alpha channel
        planes = (PIL.Image.fromarray(plane).resize((size, size), PIL.Image.Resampling.LANCZOS) for plane in square)
        return np.stack([np.asarray(plane) for plane in planes])
    x = torch.from_numpy(square.astype(exact(image.dtype)))[None]
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return torch.nn.functional.interpolate(x, (size, size), **options)[0].numpy()  # type: ignore[arg-type]
