"""`open_images`: a folder, an archive or an array file as an `ImageSource`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from ..core.errors import UserError
from . import arrays, pictures
from .arrays import Layout, open_array
from .entries import TAR_SUFFIXES, entries, is_tar
from .pictures import Format
from .resize import resize_image
from .source import Image, ImageSource

_SUFFIXES = (*pictures.SUFFIXES, ".npy")


def open_images(path: str | Path, resize: int | None = None, layout: Layout = "auto") -> ImageSource:
    """Images of a folder (recursive), a .zip, a .tar (also .xz, .gz, .bz2), an .npy or an .npz.

    Folders and archives hold PNG, JPEG, TIFF, BMP, WebP or GIF files, or .npy files of one image each; other files
    in them are not looked at. Every header is read before this returns, so that a file of another size, number of
    channels or number type is reported before work begins; pixels are decoded while iterating. Where all images lie
    in two or more folders side by side, the folders are the classes, in sorted order.

    Args:
        resize: centre crop to a square and resize to this many pixels a side (`resize_image`).
        layout: which axis of an array is which; "auto" as in `channel_axis`. For .npy files of one image each, the
            same names without the N.

    Raises:
        UserError: nothing there, nothing readable, or files that differ; names the first such file.
    """
    path = Path(path)
    if resize is not None and resize < 1:
        raise UserError(f"--resize must be at least 1 pixel, not {resize}")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        return open_array(path, resize, layout)
    if path.is_file() and not (is_tar(path) or path.suffix.lower() == ".zip"):
        known = ", ".join((".zip", *TAR_SUFFIXES, ".npy", ".npz"))
        raise UserError(f"{path}: is not a folder of images or one of {known}")
    return _open_files(path, resize, layout)


def _open_files(path: Path, resize: int | None, layout: Layout) -> ImageSource:
    names: list[str] = []
    first: Format | None = None
    for name, stream in entries(path, _SUFFIXES):
        found = _probe(f"{path / name}", stream, layout)
        if resize is not None:
            found = Format((found.shape[0], resize, resize), found.values)
        if first is not None and found != first:
            others = f"the {len(names)} before it are {first}" if len(names) > 1 else f"{names[0]} is {first}"
            raise UserError(f"{path / name}: is {found}, but {others}; make them alike ({_remedy(found, first)})")
        first = first or found
        names.append(name)
    if first is None:
        raise UserError(f"{path}: holds no images; looked for {', '.join(_SUFFIXES)}")
    labels, classes = _classes(names)

    def passes() -> Iterator[tuple[str, Image]]:
        for name, stream in entries(path, _SUFFIXES):
            image = _decode(f"{path / name}", stream, layout)
            yield f"{path / name}", image if resize is None else resize_image(image, resize)

    nominal = (0.0, 255.0) if first.values == "8-bit" else None
    return ImageSource(path.resolve().name, first.shape, len(names), nominal, labels, classes, passes)


def _remedy(found: Format, first: Format) -> str:
    if found.shape[1:] != first.shape[1:]:
        return "--resize N crops and resizes all images to NxN"
    return "convert or remove it; --resize N changes sizes only"


def _probe(where: str, stream: IO[bytes], layout: Layout) -> Format:
    return arrays.probe(where, stream, layout) if where.lower().endswith(".npy") else pictures.probe(where, stream)


def _decode(where: str, stream: IO[bytes], layout: Layout) -> Image:
    return arrays.decode(where, stream, layout) if where.lower().endswith(".npy") else pictures.decode(where, stream)


def _classes(names: Sequence[str]) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    folders = [PurePosixPath(name).parent for name in names]
    side_by_side = len({folder.parent for folder in folders}) == 1
    classes = sorted({folder.name for folder in folders})
    if not side_by_side or len(classes) < 2 or PurePosixPath() in folders:
        return None, None
    number = {name: i for i, name in enumerate(classes)}
    return tuple(number[folder.name] for folder in folders), tuple(classes)
