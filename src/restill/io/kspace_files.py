"""Files that hold k-space, as named arrays that are read when they are indexed: HDF5, `.npy`, `.npz`. No pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError

HDF5 = (".h5", ".hdf5")
ARRAYS = (".npy", ".npz")
_ERRORS = (OSError, ValueError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)


class Array(Protocol):
    """What arrays of all these files have."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, index: Any) -> Any: ...


class _Member:
    """An array of an `.npz`, known by its header and read as a whole when it is first indexed."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._array: NDArray[Any] | None = None
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
            self.shape, self.dtype = npy_header(stream)

    def __getitem__(self, index: Any) -> Any:
        if self._array is None:
            with np.load(self._path, allow_pickle=False) as loaded:
                self._array = loaded[self._key]
        return self._array[index]


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an `.npy` file. Raises ValueError, OSError or EOFError if it is none."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


@contextmanager
def opened(path: Path, alone: str = "kspace") -> Iterator[Mapping[str, Array]]:
    """The arrays of a file by name; that of an `.npy` file is called `alone`.

    Raises:
        UserError: the file cannot be read, on opening or while it is open, or h5py is not installed.
    """
    try:
        if path.suffix.lower() in HDF5:
            h5py = _h5py(path)
            with h5py.File(path, "r") as file:
                yield {key: file[key] for key in file if isinstance(file.get(key), h5py.Dataset)}
        elif path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            yield {name: _Member(path, name) for name in names}
        else:
            yield {alone: np.load(path, mmap_mode="r", allow_pickle=False)}
    except _ERRORS as error:
        kind = "HDF5" if path.suffix.lower() in HDF5 else "a plain NumPy array"
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as {kind} ({reason}); copy it again, it may be truncated") from error


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: HDF5 is read with h5py, which is missing: pip install 'restill[mri]'") from error
    return h5py


def files_of(path: Path) -> list[Path]:
    """The files of k-space at `path`: itself, or those of a folder (recursive, sorted), HDF5 if there is any.

    Raises:
        UserError: nothing there, or nothing of these kinds.
    """
    if path.is_dir():
        visible = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
        for suffixes in (HDF5, ARRAYS):
            if found := [file for file in visible if file.suffix.lower() in suffixes]:
                return found
    elif path.is_file() and path.suffix.lower() in (*HDF5, *ARRAYS):
        return [path]
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder")
    raise UserError(f"{path}: holds no k-space; looked for {', '.join((*HDF5, *ARRAYS))}")


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def is_kspace(path: str | Path) -> bool:
    """Whether `path` is to be imported as k-space and not as images, from names and headers alone.

    It is if it is HDF5, a folder with any HDF5 in it, an `.npy` of complex numbers, an `.npz` with `kspace` or complex
    numbers, or a folder whose first `.npy` or `.npz` is one of these. What cannot be read is not k-space.
    """
    path = Path(path)
    try:
        first = files_of(path)[0]
        if first.suffix.lower() in HDF5:
            return True
        with opened(first, alone="array") as arrays:
            return "kspace" in arrays or any(array.dtype.kind == "c" for array in arrays.values())
    except UserError:
        return False
