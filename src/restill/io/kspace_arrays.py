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
from ..core.kspace_layout import Axes
from ..core.limits import check_size
from .arrays import Arrays, numpy_arrays, reading
from .hdf5_datasets import datasets
from .reader import KspaceReader, KspaceSlice
from .stored import Array

MAPS = ("maps", "sensitivity_maps")
MOST_COILS = 64
_AXES = "[slices, coils, height, width]"
_SINGLE = "reconstruction_esc"  # "emulated single coil": only fastMRI's files of one coil hold it


class KspaceArrays(KspaceReader):
    """Files of named arrays.

    They hold `kspace`, complex `[slices, coils, H, W]`; `mask` `[W]`, `[H, W]`, or with slices first, and `maps` or
    `sensitivity_maps`, complex `[slices, coils, H, W]` or `[coils, H, W]`, if they are there; other arrays
    are ignored. K-space of other axes needs to be told which they are, but for fastMRI's single-coil files: they hold
    `reconstruction_esc`, and their three axes are slices of one coil.
    """

    @abstractmethod
    def arrays(self, path: Path, alone: str = "kspace") -> AbstractContextManager[Mapping[str, Array]]:
        """The arrays of a file by name, to be read inside the `with` block; a single unnamed one is called `alone`."""

    @property
    def _keys(self) -> tuple[str, ...]:
        """Names of the array that is read, the first found of them."""
        return MAPS if self.of_maps else ("kspace",)

    def _found(self, path: Path, arrays: Mapping[str, Array]) -> _Found:
        key = next((key for key in self._keys if key in arrays), None)
        if key is None:
            wanted = " or ".join(f"'{key}'" for key in self._keys)
            raise UserError(f"{path}: has no {wanted} but {listed(arrays)}; give the array of {_AXES} that name")
        if self.of_maps:
            return _Found(_stack(path, arrays, key, _axes_of_maps(arrays[key], self.axes), self.limit))
        axes: Axes | None = "slices,height,width" if self.axes is None and _SINGLE in arrays else self.axes
        kspace = _stack(path, arrays, key, axes, self.limit)
        mask = _mask_shape(arrays["mask"], kspace.shape, path) if "mask" in arrays else None
        name = next((name for name in MAPS if name in arrays), None)
        if name is None:
            return _Found(kspace, mask)
        maps = _stack(path, arrays, name, _axes_of_maps(arrays[name], kspace.axes), self.limit)
        if maps.shape[1:] != kspace.shape[1:] or maps.shape[0] not in (1, kspace.shape[0]):
            raise UserError(
                f"{path}: {name} are {list(maps.shape)}, but k-space is {list(kspace.shape)}; give both the same shape"
            )
        return _Found(kspace, mask, maps)

    def header(self, path: Path) -> tuple[int, int, int, int]:
        with self.arrays(path, self._keys[0]) as arrays:
            return self._found(path, arrays).shape

    def slices(self, path: Path) -> Iterator[KspaceSlice]:
        with self.arrays(path, self._keys[0]) as arrays:
            found = self._found(path, arrays)
            for i in range(found.shape[0]):
                yield _slice(path, arrays, found, i)


class ComplexArrays(KspaceArrays, kind="complex-arrays"):
    """`.npy`, k-space alone, and `.npz`."""

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
            yield datasets(str(path), file, self.limit)


class _Stack(NamedTuple):
    """An array of slices in a file: its name, its axes, and `(slices, coils, H, W)`."""

    key: str
    axes: Axes
    shape: tuple[int, int, int, int]

    def slice(self, arrays: Mapping[str, Array], i: int) -> NDArray[np.complex64]:
        """Slice `i`, complex64 `[coils, H, W]`; the only one where there is one for all."""
        array = arrays[self.key]
        some = array[i % self.shape[0]] if self.axes.startswith("slices") else array[()]
        with np.errstate(over="ignore"):  # becomes infinity, which is refused where it was measured
            return np.asarray(some, dtype=np.complex64).reshape(self.shape[1:])


class _Found(NamedTuple):
    """Where in a file k-space lies, and its maps if any; shape `(1 or slices, 1 or H, W)` of its mask if any."""

    kspace: _Stack
    mask: tuple[int, ...] | None = None
    maps: _Stack | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.kspace.shape


def listed(arrays: Mapping[str, Array]) -> str:
    """Names of arrays, for messages."""
    return ", ".join(sorted(arrays)) or "no arrays"


def _stack(path: Path, arrays: Mapping[str, Array], key: str, axes: Axes | None, limit: int) -> _Stack:
    """An array with its axes, as stated or as it has four. Raises UserError for others, and what is no k-space."""
    where, array = f"{path}: {key}", arrays[key]
    shape = [int(size) for size in array.shape]
    if array.dtype.kind != "c":
        raise UserError(f"{where} holds {array.dtype} {shape}; it must be complex numbers {_AXES}")
    if axes is None:
        axes = _axes_of(where, shape)
    names = axes.split(",")
    if len(names) != len(shape) or 0 in shape:
        raise UserError(f"{where} has shape {shape}; expected [{', '.join(names)}], 1 coil where there is only one")
    sizes = dict(zip(names, shape, strict=True))
    slices, coils, height, width = (sizes.get(name, 1) for name in ("slices", "coils", "height", "width"))
    if coils > min(MOST_COILS, height, width):
        raise UserError(
            f"{where} has shape {shape}, which would be {coils} coils of {height}x{width}; "
            f"expected {_AXES}: move the axes (numpy.moveaxis)"
        )
    check_size(where, array.dtype.itemsize * coils * height * width, limit, "a slice")
    return _Stack(key, axes, (slices, coils, height, width))


def _axes_of(where: str, shape: list[int]) -> Axes:
    """The axes of an array of k-space whose file does not say them: only four are clear."""
    if len(shape) == 3:
        raise UserError(
            f"{where} has shape {shape}: {shape[0]} slices of one coil, or one slice of {shape[0]} coils? Say --axes "
            "slices,height,width or --axes coils,height,width (data.axes in a recipe)"
        )
    if len(shape) == 2:
        raise UserError(f"{where} has shape {shape}; for one slice of one coil say --axes height,width (data.axes)")
    return "slices,coils,height,width"


def _axes_of_maps(array: Array, axes: Axes | None) -> Axes:
    """The axes of maps beside k-space of `axes`: three are coils of one slice, unless there is one coil only."""
    count = len(array.shape)
    if axes in ("slices,height,width", "height,width") and count == axes.count(",") + 1:
        return axes
    return "coils,height,width" if count == 3 else "slices,coils,height,width"


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
    if found == (slices, width) and slices == height > 1:  # lines of each slice, or points of all?
        if tuple(array.shape[:2]) != (slices, 1):
            raise UserError(
                f"{path}: mask {list(array.shape)} may be lines of {slices} slices, or points of {height} rows; give "
                f"it as [{slices}, 1, {width}] or [{slices}, {height}, {width}]"
            )
        return slices, 1, width
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
        maps = found.maps.slice(arrays, i)
    return KspaceSlice(where, found.kspace.slice(arrays, i), mask, maps)


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
            "centred (--shift kspace where its centre lies at the corner), with phase encoding along the last axis"
        )
