"""`open_kspace`: multi-coil k-space of foreign files, slice by slice, in the units of the files.

Centred, as in fastMRI: the zero frequency lies at `H // 2`, `W // 2`. Phase encoding runs along the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from .kspace_files import Array, files_of, opened

MOST_COILS = 64
_MAPS = ("maps", "sensitivity_maps")
_AXES = "[slices, coils, height, width]"


class KspaceSlice(NamedTuple):
    """One slice.

    Attributes:
        where: file and index, for messages.
        kspace: complex64 `[coils, H, W]`, centred.
        mask: what the file says was measured, bool `[1, W]` for lines or `[H, W]`; None if it says nothing.
        maps: coil sensitivities of the file, complex64 `[coils, H, W]`; None if it has none.
    """

    where: str
    kspace: NDArray[np.complex64]
    mask: NDArray[np.bool_] | None
    maps: NDArray[np.complex64] | None


@dataclass(frozen=True)
class KspaceFile:
    """What the header of a file says: `shape` is `(slices, coils, H, W)`; None or shape of its mask and its maps."""

    path: Path
    key: str
    shape: tuple[int, int, int, int]
    mask: tuple[int, ...] | None
    maps: str | None

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.shape[2:]


@dataclass(frozen=True)
class KspaceSource:
    """Slices of k-space; iterating reads one at a time, in the order of the files, and each time anew.

    Attributes:
        name: base name of the file or folder, for provenance; no absolute path.
        files: their headers.
    """

    name: str
    files: tuple[KspaceFile, ...]

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
        """Every slice. Raises UserError if one cannot be read or its mask measures nothing, or no centre."""
        for file in self.files:
            with opened(file.path, file.key) as arrays:
                for i in range(file.shape[0]):
                    yield _slice(file, arrays, i)


def open_kspace(path: str | Path) -> KspaceSource:
    """K-space of an HDF5 file, a folder of them (recursive, sorted), an `.npy`, an `.npz`, or a folder of these.

    HDF5 as of fastMRI, and `.npz`: `kspace`, complex `[slices, coils, H, W]`; `mask` `[W]`, `[H, W]`, or with slices
    first, and `maps` or `sensitivity_maps`, complex `[slices, coils, H, W]` or `[coils, H, W]`, if they are there;
    nothing else is looked at. An `.npy` is k-space alone. In `.npy` and `.npz` k-space may be `[coils, H, W]` of one
    slice. All headers are read before this returns, and slices while iterating.

    Raises:
        UserError: nothing there, no k-space in a file, or shapes and types that are none of these; names the file.
    """
    return _open(Path(path), ("kspace",))


def open_maps(path: str | Path) -> KspaceSource:
    """Coil sensitivity maps of such files, in the place of `KspaceSlice.kspace`: `maps` or `sensitivity_maps`."""
    return _open(Path(path), _MAPS)


def open_mask(path: str | Path) -> NDArray[np.bool_]:
    """One sampling mask for all slices, bool `[1, W]` or `[H, W]`: an `.npy`, or `mask`, `masks` or the only array.

    Raises:
        UserError: no such file, or no mask in it.
    """
    path = Path(path)
    files = files_of(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; of k-space, give one file with one mask [width] or [height, width]")
    with opened(files[0], "mask") as arrays:
        keys = [key for key in ("mask", "masks") if key in arrays] or list(arrays)
        if not keys or (keys[0] not in ("mask", "masks") and len(keys) > 1):
            raise UserError(f"{path}: holds {_listed(arrays)}; name the one with the mask 'mask'")
        mask = _binary(np.asarray(arrays[keys[0]][()]), str(path)).squeeze()
    if mask.ndim not in (1, 2):
        raise UserError(f"{path}: mask has shape {list(mask.shape)}; give [width] or [height, width]")
    return np.atleast_2d(mask)


def check_mask(mask: NDArray[np.bool_], where: str) -> None:
    """Raises UserError if a mask `[1, W]` or `[H, W]` measures nothing, or not the zero frequency."""
    if not mask.any():
        raise UserError(f"{where}: the mask measures nothing; leave the slice out, or give its mask (--masks)")
    height, width = mask.shape
    if not mask[height // 2, width // 2]:
        raise UserError(
            f"{where}: the centre of k-space, at {width // 2} of {width} lines, was not measured; k-space must be "
            "centred (numpy.fft.fftshift), with phase encoding along the last axis"
        )


def _open(path: Path, keys: tuple[str, ...]) -> KspaceSource:
    return KspaceSource(path.resolve().name, tuple(_header(file, keys) for file in files_of(path)))


def _header(path: Path, keys: tuple[str, ...]) -> KspaceFile:
    with opened(path, keys[0]) as arrays:
        key = next((key for key in keys if key in arrays), None)
        if key is None:
            wanted = " or ".join(f"'{key}'" for key in keys)
            raise UserError(f"{path}: has no {wanted} but {_listed(arrays)}; name the array of {_AXES} so")
        shape = _shape(arrays[key], f"{path}: {key}", of_one=path.suffix.lower() in (".npy", ".npz") or key in _MAPS)
        maps = next((name for name in _MAPS if name in arrays), None) if key == "kspace" else None
        if maps is not None:
            found = _shape(arrays[maps], f"{path}: {maps}", of_one=True)
            if found[1:] != shape[1:] or found[0] not in (1, shape[0]):
                raise UserError(f"{path}: {maps} are {list(found)}, but k-space is {list(shape)}; give them alike")
        mask = _mask_shape(arrays["mask"], shape, path) if key == "kspace" and "mask" in arrays else None
    return KspaceFile(path, key, shape, mask, maps)


def _listed(arrays: Mapping[str, Array]) -> str:
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


def _slice(file: KspaceFile, arrays: Mapping[str, Array], i: int) -> KspaceSlice:
    where = f"{file.path}: slice {i}" if file.shape[0] > 1 else str(file.path)
    mask = maps = None
    if file.mask is not None:
        stored = arrays["mask"]
        per_slice = file.mask[0] > 1 and stored.shape[0] == file.mask[0]
        mask = _binary(np.asarray(stored[i] if per_slice else stored[()]), where)
        mask = mask.reshape((1 if per_slice else file.mask[0], *file.mask[1:]))[0 if per_slice else i % file.mask[0]]
        check_mask(mask, where)
    if file.maps is not None:
        maps = _of_slice(arrays[file.maps], i)
    kspace = _of_slice(arrays[file.key], i)
    if kspace.shape != file.shape[1:]:
        raise UserError(f"{where}: has changed since it was opened; start again")
    return KspaceSlice(where, kspace, mask, maps)


def _of_slice(array: Array, i: int) -> NDArray[np.complex64]:
    """Slice `i`; the only one where there is no axis of slices, or just one slice for all."""
    some = array[()] if len(array.shape) == 3 else array[i % array.shape[0]]
    return np.asarray(some, dtype=np.complex64)


def _binary(mask: NDArray[Any], where: str) -> NDArray[np.bool_]:
    """Where `mask` is not 0. Raises UserError if it holds more than 0 and one other number."""
    if mask.dtype.kind not in "buif" or len(set(np.unique(mask).tolist()) - {0}) > 1:
        raise UserError(f"{where}: mask holds more than 0 (not measured) and one other number, or no numbers at all")
    return np.asarray(mask != 0)
