"""`ImageSource`: images as they lie in files, read in one ordered pass after another; `open_images` makes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from ..core.errors import UserError
from .entries import ARCHIVES, File, Layout, files
from .reader import Format, Header, Image, ImageReader


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

    def __len__(self) -> int:
        return self.count

    @property
    def num_classes(self) -> int:
        """0 without labels."""
        return max(self.labels) + 1 if self.labels else 0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Every image in order, float32 `[C, H, W]` in physical units; each call is a new pass.

        Raises:
            UserError: an image cannot be decoded, holds NaN or infinity, or is no longer what it was on opening;
                names the file, and the index within it.
        """
        done = 0
        for where, image in self.passes():
            if image.shape != self.shape or done == self.count:
                raise UserError(f"{where}: has changed since {self.name} was opened; start again")
            if image.dtype.kind == "f" and not (np.isfinite(image) | (self.gaps & np.isnan(image))).all():
                raise UserError(f"{where}: holds {'' if self.gaps else 'NaN or '}infinity; images must be finite")
            yield image.astype(np.float32)
            done += 1
        if done != self.count:
            raise UserError(f"{self.name}: has {done} images now but had {self.count} when it was opened; start again")


def open_images(path: str | Path, resize: int | None = None, layout: Layout = "auto") -> ImageSource:
    """Images of a folder (recursive), a .zip, a .tar (also .xz, .gz, .bz2), or of one file.

    Files are of any format that has an `ImageReader`: PNG, JPEG, TIFF, BMP, WebP, GIF, .npy, .npz and those of
    plug-ins; other files in a folder are ignored. An .npy in a folder is one image, or several if it has four axes; a
    single named .npy is a stack. Every header is read before this returns, so that a file of another size, number of
    channels or number type is reported before work begins; pixels are decoded while iterating. Where all images lie in
    two or more folders side by side, and the files say no classes, the folders are the classes.

    Args:
        resize: centre crop to a square and resize to this many pixels a side (`resize_image`).
        layout: which axis of an array is which; "auto" as in `channel_axis`. For arrays of one image each, the same
            names without the N.

    Raises:
        UserError: nothing there, nothing readable, or files that differ; names the first such file.
    """
    path = Path(path)
    if resize is not None and resize < 1:
        raise UserError(f"--resize must be at least 1 pixel, not {resize}")
    headers = _headers(path, resize, layout)
    form = headers[0][1].format
    labels, classes = _classes(headers)
    several = {name for name, header in headers if header.count > 1}

    def passes() -> Iterator[tuple[str, Image]]:
        for file in files(path, ImageReader.known_suffixes(), layout):
            for i, image in enumerate(_reader(file).frames(file)):
                where = f"{file.where}: image {i}" if file.name in several else file.where
                yield where, image if resize is None else resize_image(image, resize)

    nominal = (0.0, 255.0) if form.values == "8-bit" else None
    name = path.name if path.is_file() else path.resolve().name
    count = sum(header.count for _, header in headers)
    return ImageSource(name, form.shape, count, nominal, labels, classes, passes)


def _reader(file: File) -> ImageReader:
    reader = ImageReader.of(file.name)
    assert reader is not None  # files are looked for by the suffixes of the readers
    return reader


def _headers(path: Path, resize: int | None, layout: Layout) -> list[tuple[str, Header]]:
    """Name and header of every file, of one format after resizing. Raises UserError as `open_images`."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    known = ImageReader.known_suffixes()
    if path.is_file() and not path.name.lower().endswith((*ARCHIVES, *known)):
        raise UserError(f"{path}: is not a folder of images or one of {', '.join((*ARCHIVES, *known))}")
    headers: list[tuple[str, Header]] = []
    for file in files(path, known, layout):
        header = _reader(file).header(file)
        if resize is not None:
            shape = (header.format.shape[0], resize, resize)
            header = dataclasses.replace(header, format=header.format._replace(shape=shape))
        if headers and header.format != headers[0][1].format:
            raise UserError(f"{file.where}: {_unlike(header.format, headers)}")
        headers.append((file.name, header))
    if not headers:
        raise UserError(f"{path}: holds no images; looked for {', '.join(known)}")
    return headers


def _unlike(found: Format, before: Sequence[tuple[str, Header]]) -> str:
    name, first = before[0][0], before[0][1].format
    others = f"the {len(before)} before it are {first}" if len(before) > 1 else f"{name} is {first}"
    remedy = "convert or remove it; --resize N changes sizes only"
    if found.shape[1:] != first.shape[1:]:
        remedy = "--resize N crops and resizes all images to NxN"
    return f"is {found}, but {others}; make them alike ({remedy})"


def _classes(headers: Sequence[tuple[str, Header]]) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    """Labels and names of classes: what the files say, or folders side by side."""
    if all(header.labels is not None for _, header in headers):
        return tuple(label for _, header in headers for label in header.labels or ()), None
    folders = [PurePosixPath(name).parent for name, header in headers for _ in range(header.count)]
    side_by_side = len({folder.parent for folder in folders}) == 1
    classes = sorted({folder.name for folder in folders})
    if not side_by_side or len(classes) < 2 or PurePosixPath() in folders:
        return None, None
    number = {name: i for i, name in enumerate(classes)}
    return tuple(number[folder.name] for folder in folders), tuple(classes)


def resize_image(image: Image, size: int) -> Image:
    """The largest centred square of `[C, H, W]`, resized to `[C, size, size]`.

    8-bit images: Lanczos, rounded to 8 bits, as common benchmarks are made. All others: triangle filter with
    antialiasing in float32, which never leaves the range of the data. Nothing is resampled where the square already
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
    x = torch.from_numpy(square.astype(np.float32))[None]
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return torch.nn.functional.interpolate(x, (size, size), **options)[0].numpy()  # type: ignore[arg-type]
