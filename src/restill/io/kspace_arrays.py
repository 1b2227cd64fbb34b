"""K-space as named arrays: fastMRI's HDF5 files, and complex NumPy arrays of the same names and axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from .arrays import Array, Arrays, numpy_arrays, reading
from .reader import KspaceReader, KspaceSlice

MAPS = ("maps", "sensitivity_maps")
MOST_COILS = 64
_AXES = "[slices, coils, height, width]"


class KspaceArrays(KspaceReader):
    """Files of named arrays.

    They hold `kspace`, complex `[slices, coils, H, W]`; `mask` `[W]`, `[H, W]`, or with slices first, and `maps` or
    `sensitivity_maps`, complex `[slices, coils, H, W]` or `[coils, H, W]`, if they are there; other arrays
    are ignored.
    """

    @abstractmethod
    def arrays(self, path: Path, alone: str = "kspace") -> AbstractContextManager[Mapping[str, Array]]:
        """The arrays of a file by name, to be read inside the `with` block; a single unnamed one is called `alone`."""

    @property
    def _keys(self) -> tuple[str, ...]:
        """Names of the array that is read, the first found of them."""
        return MAPS if self.of_maps else ("kspace",)

    def header(self, path: Path) -> tuple[int, int, int, int]:
        with self.arrays(path, self._keys[0]) as arrays:
            return _found(path, arrays, self._keys).shape

    def slices(self, path: Path) -> Iterator[KspaceSlice]:
        with self.arrays(path, self._keys[0]) as arrays:
            found = _found(path, arrays, self._keys)
            for i in range(found.shape[0]):
                yield _slice(path, arrays, found, i)


class ComplexArrays(KspaceArrays, kind="complex-arrays"):
    """`.npy`, k-space alone, and `.npz`; k-space may be `[coils, H, W]` of one slice."""

    suffixes = Arrays.suffixes

    def holds(self, path: Path) -> bool:
        try:
            with self.arrays(path, alone="array") as arrays:
                return "kspace" in arrays or any(array.dtype.kind == "c" for array in arrays.values())
        except UserError:
            return False

    def arrays(self, path: Path, alone: str = "kspace") -> AbstractContextManager[Mapping[str, Array]]:
        return numpy_arrays(str(path), path, alone)


class Hdf5(KspaceArrays, kind="hdf5"):  # the last of restill's own: a folder with HDF5 is a folder of HDF5
    """HDF5 as in fastMRI. Raises UserError also if h5py is not installed."""

    suffixes = (".h5", ".hdf5")

    def holds(self, path: Path) -> bool:
        return True

    @contextmanager
    def arrays(self, path: Path, alone: str = "kspace") -> Iterator[Mapping[str, Array]]:
        try:
            import h5py
        except ImportError as error:
            raise UserError(f"{path}: HDF5 is read with h5py, which is missing: pip install 'restill[mri]'") from error
        with reading(path, "HDF5"), h5py.File(path, "r") as file:
            yield {key: file[key] for key in file if isinstance(file.get(key), h5py.Dataset)}


class _Found(NamedTuple):
    """Where in a file k-space lies, and its maps if any; shape `(1 or slices, 1 or H, W)` of its mask if any."""

    key: str
    shape: tuple[int, int, int, int]
    mask: tuple[int, ...] | None
    maps: str | None


def _found(path: Path, arrays: Mapping[str, Array], keys: tuple[str, ...]) -> _Found:
    key = next((key for key in keys if key in arrays), None)
    if key is None:
        wanted = " or ".join(f"'{key}'" for key in keys)
        raise UserError(f"{path}: has no {wanted} but {listed(arrays)}; give the array of {_AXES} that name")
    of_one = path.name.lower().endswith(Arrays.suffixes) or key in MAPS
    shape = _shape(arrays[key], f"{path}: {key}", of_one)
    if key != "kspace":
        return _Found(key, shape, None, None)
    maps = next((name for name in MAPS if name in arrays), None)
    if maps is not None:
        found = _shape(arrays[maps], f"{path}: {maps}", of_one=True)
        if found[1:] != shape[1:] or found[0] not in (1, shape[0]):
            raise UserError(f"{path}: {maps} are {list(found)}, but k-space is {list(shape)}; give both the same shape")
    return _Found(key, shape, _mask_shape(arrays["mask"], shape, path) if "mask" in arrays else None, maps)


def listed(arrays: Mapping[str, Array]) -> str:
    """Names of arrays, for messages."""
    return ", ".join(sorted(arrays)) or "no arrays"


def _shape(array: Array, where: str, of_one: bool) -> tuple[int, int, int, int]:
    """`(slices, coils, H, W)`. Raises UserError if that is none."""
    shape = tuple(int(size) for size in array.shape)
    if array.dtype.kind != "c":
        raise UserError(f"{where} holds {array.dtype} {list(shape)}; it must be complex numbers {_AXES}")
    if len(shape) == 3 and of_one:
        shape = (1, *shape)
    if len(shape) != 4 or 0 in shape:
        raise UserError(f"{where} has shape {list(array.shape)}; expected {_AXES}, 1 coil where there is only one")
    slices, coils, height, width = shape
    if coils > min(MOST_COILS, height, width):
        raise UserError(
            f"{where} has shape {list(array.shape)}, which would be {coils} coils of {height}x{width}; "
            f"expected {_AXES}: move the axes (numpy.moveaxis)"
        )
    return slices, coils, height, width


def _mask_shape(array: Array, shape: tuple[int, int, int, int], path: Path) -> tuple[int, ...]:
    """Shape `(1 or slices, 1 or H, W)` of a mask. Raises UserError if it does not fit k-space of `shape`."""
    slices, _, height, width = shape
    found = tuple(size for size in array.shape if size != 1)
    fitting = {
        (width,): (1, 1, width),
        (slices, width): (slices, 1, width),
        (slices, height, width): (slices, height, width),
        (height, width): (1, height, width),
    }
    if found not in fitting:
        raise UserError(
            f"{path}: mask has shape {list(array.shape)}, but k-space is {list(shape)}; expected [{width}], "
            f"[{height}, {width}], or these for each of {slices} slices"
        )
    return fitting[found]


def _slice(path: Path, arrays: Mapping[str, Array], found: _Found, i: int) -> KspaceSlice:
    where = f"{path}: slice {i}" if found.shape[0] > 1 else str(path)
    mask = maps = None
    if found.mask is not None:
        stored = arrays["mask"]
        per_slice = found.mask[0] > 1 and stored.shape[0] == found.mask[0]
        mask = binary(np.asarray(stored[i] if per_slice else stored[()]), where)
        mask = mask.reshape((1 if per_slice else found.mask[0], *found.mask[1:]))[0 if per_slice else i % found.mask[0]]
        check_mask(mask, where)
    if found.maps is not None:
        maps = _of_slice(arrays[found.maps], i)
    return KspaceSlice(where, _of_slice(arrays[found.key], i), mask, maps)


def _of_slice(array: Array, i: int) -> NDArray[np.complex64]:
    """Slice `i`; the only one where there is no axis of slices, or just one slice for all."""
    some = array[()] if len(array.shape) == 3 else array[i % array.shape[0]]
    with np.errstate(over="ignore"):  # becomes infinity, which is refused where it was measured
        return np.asarray(some, dtype=np.complex64)


def binary(mask: NDArray[Any], where: str) -> NDArray[np.bool_]:
    """Where `mask` is not 0. Raises UserError if it holds more than 0 and one other number."""
    if mask.dtype.kind not in "buif" or len(set(np.unique(mask).tolist()) - {0}) > 1:
        raise UserError(f"{where}: mask must hold nothing but 0 (not measured) and one other number")
    return np.asarray(mask != 0)


def check_mask(mask: NDArray[np.bool_], where: str) -> None:
    """Raises UserError if a mask `[1, W]` or `[H, W]` measures nothing or lacks the zero frequency."""
    if not mask.any():
        raise UserError(f"{where}: the mask measures nothing; leave the slice out, or give its mask (--masks)")
    height, width = mask.shape
    if not mask[height // 2, width // 2]:
        raise UserError(
            f"{where}: the centre of k-space, at {width // 2} of {width} lines, was not measured; k-space must be "
            "centred (numpy.fft.fftshift), with phase encoding along the last axis"
        )
