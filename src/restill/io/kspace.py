"""`open_kspace`: multi-coil k-space of foreign files, slice by slice, in the units of the files.

Centred, as in fastMRI: the zero frequency lies at `H // 2`, `W // 2`. Phase encoding runs along the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.kspace_layout import Axes, Shift
from ..core.limits import LIMIT, check_size
from ..core.reading import check_regular
from .entries import inside
from .kspace_arrays import KspaceArrays, binary, listed
from .kspace_shift import shifted
from .names import Files, natural
from .reader import KspaceReader, KspaceSlice


class KspaceFile(NamedTuple):
    """A file and what its header says: `shape` is `(slices, coils, H, W)`."""

    path: Path
    reader: KspaceReader
    shape: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.shape[2:]


@dataclass(frozen=True)
class KspaceSource:
    """Slices of k-space in the order of the files; each iteration reads them again, one at a time.

    Attributes:
        name: base name of the file or folder, for provenance; no absolute path.
        files: their headers.
        shift: what lies half a size off in the files, and is moved to the middle (`shifted`).
        folder: that the files lie in; None for a single file.
    """

    name: str
    files: tuple[KspaceFile, ...]
    shift: tuple[Shift, ...] = ()
    folder: Path | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """`(H, W)`, the smallest of all files."""
        return min(file.size[0] for file in self.files), min(file.size[1] for file in self.files)

    @property
    def coils(self) -> int:
        """Number of coils of the file that has the fewest."""
        return min(file.shape[1] for file in self.files)

    def __len__(self) -> int:
        return sum(file.shape[0] for file in self.files)

    @property
    def named(self) -> Files | None:
        """Names of the files in their folder and numbers of their slices; None where there is one file alone."""
        if self.folder is None:
            return None
        return [(file.path.relative_to(self.folder).as_posix(), file.shape[0]) for file in self.files]

    def check_alike(self) -> None:
        """All slices have one size. Raises UserError that names the first file of another."""
        first = self.files[0]
        for file in self.files:
            if file.size != first.size:
                found, others = (f"{height}x{width}" for height, width in (file.size, first.size))
                raise UserError(
                    f"{file.path}: k-space is {found}, but that of {first.path.name} is {others}; make them alike with "
                    "a crop (--crop H,W, data.crop in a recipe)"
                )

    def __iter__(self) -> Iterator[KspaceSlice]:
        """Every slice. Raises UserError if a slice cannot be read, or its mask lacks the centre or measures nothing."""
        for file in self.files:
            for item in file.reader.slices(file.path):
                if item.kspace.shape != file.shape[1:]:
                    raise UserError(f"{item.where}: has changed since it was opened; start again")
                yield shifted(item, self.shift) if self.shift else item


def open_kspace(path: str | Path, axes: Axes | None = None, limit: int = LIMIT) -> KspaceSource:
    """K-space of one file, or of a folder (recursive, in natural order) of files of one format, HDF5 if there is any.

    Files are of any format that has a `KspaceReader`: HDF5, `.npy`, `.npz` (`KspaceArrays`) and those of plug-ins. All
    headers are read before this returns, and slices while iterating.

    Args:
        limit: megabytes that a slice may take in memory.
        axes: of the arrays; needed where they have three, which may be slices of one coil or coils of one slice.

    Raises:
        UserError: nothing there, no k-space in a file, other shapes and types, or axes that are not clear; names the
            file.
    """
    return _source(Path(path), axes, limit)


def open_maps(path: str | Path, axes: Axes | None = None, limit: int = LIMIT) -> KspaceSource:
    """Coil sensitivity maps of such files (`maps` or `sensitivity_maps`), as slices whose `kspace` they are.

    Three axes are coils of one slice, unless `axes` are those of slices of one coil.
    """
    return _source(Path(path), axes, limit, of_maps=True)


def _source(path: Path, axes: Axes | None, limit: int, of_maps: bool = False) -> KspaceSource:
    found = _files(path, of_maps, axes, limit)
    for file, _ in found:
        check_regular(file)
    files = tuple(KspaceFile(file, reader, reader.header(file)) for file, reader in found)
    return KspaceSource(path.resolve().name, files, folder=path if path.is_dir() else None)


def open_mask(path: str | Path) -> NDArray[np.bool_]:
    """One sampling mask for all slices, bool `[1, W]` or `[H, W]`: an `.npy`, or `mask`, `masks` or the only array.

    Raises:
        UserError: no such file, or no mask in it.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; for k-space, give one file with one mask [width] or [height, width]")
    _files(path)
    reader = KspaceArrays.of(path.name)
    if reader is None:
        raise UserError(f"{path}: holds no mask; looked for {', '.join(KspaceArrays.known_suffixes())}")
    with reader.arrays(path, "mask") as arrays:
        keys = [key for key in ("mask", "masks") if key in arrays] or list(arrays)
        if not keys or (keys[0] not in ("mask", "masks") and len(keys) > 1):
            raise UserError(f"{path}: holds {listed(arrays)}; name the one with the mask 'mask'")
        array = arrays[keys[0]]
        check_size(str(path), math.prod(array.shape) * array.dtype.itemsize, what="the mask")
        mask = binary(np.asarray(array[()]), str(path)).squeeze()
    if mask.ndim not in (1, 2):
        raise UserError(f"{path}: mask has shape {list(mask.shape)}; give [width] or [height, width]")
    return np.atleast_2d(mask)


def is_kspace(path: str | Path) -> bool:
    """Whether `path` is to be imported as k-space and not as images, from names and headers alone.

    K-space is HDF5, a folder with any HDF5 in it, an `.npy` of complex numbers, an `.npz` with `kspace` or complex
    numbers, or a folder whose first `.npy` or `.npz` is one of these. Unreadable files are not k-space.
    """
    try:
        file, reader = _files(Path(path))[0]
    except UserError:
        return False
    return reader.holds(file)


def _files(
    path: Path, of_maps: bool = False, axes: Axes | None = None, limit: int = LIMIT
) -> list[tuple[Path, KspaceReader]]:
    """The files of k-space at `path`: itself, or all in a folder, in natural order, of the first reader with any.

    Raises:
        UserError: nothing there, or nothing of these kinds.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    files = (
        [path] if path.is_file() else sorted(inside(path), key=lambda file: natural(file.relative_to(path).as_posix()))
    )
    for reader in KspaceReader.known():
        if some := [
            (file, reader(of_maps, axes, limit)) for file in files if file.name.lower().endswith(reader.suffixes)
        ]:
            return some
    raise UserError(f"{path}: holds no k-space; looked for {', '.join(KspaceReader.known_suffixes())}")
