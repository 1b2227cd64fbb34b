"""The datasets of a stranger's HDF5 file: nothing outside the file is read, and no more than it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core.errors import UserError
from ..core.limits import LIMIT, MEGABYTE, check_size
from .stored import Array

_RATIO = 1100  # deflate packs a constant a thousand times; nothing packs better


def datasets(where: str, file: Any, limit: int = LIMIT) -> Mapping[str, Array]:
    """The datasets of an open `h5py.File` by name; links, groups and text beside them are left alone until asked for.

    Args:
        where: for messages.
        limit: megabytes that a chunk of a dataset, which is unpacked at once, may take.
    """
    return _Datasets(where, file, limit)


class _Datasets(Mapping[str, Array]):
    def __init__(self, where: str, file: Any, limit: int) -> None:
        self._where, self._file, self._limit = where, file, limit
        self._names = [name for name in file if _is_array(file, name)]

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        where = f"{self._where}: {name}"
        if _leaves(self._file, name):
            raise UserError(f"{where} is a link to somewhere else; copy the data into the file (h5repack, h5copy)")
        found = self._file[name]
        _check_inside(where, found)
        _check_sizes(where, found, self._limit)
        return found


def _is_array(file: Any, name: str) -> bool:
    """Whether an entry is a dataset, or a link that was not followed and may be one."""
    import h5py

    return _leaves(file, name) or isinstance(file.get(name), h5py.Dataset)


def _leaves(file: Any, name: str) -> bool:
    """Whether an entry is not in the file itself, or lies behind a name that may lead out of it."""
    import h5py

    return not isinstance(file.get(name, getlink=True), h5py.HardLink)


def _check_inside(where: str, dataset: Any) -> None:
    """Raises UserError if the values lie in other files: external storage, or a virtual dataset."""
    if dataset.external or dataset.is_virtual:
        raise UserError(f"{where} takes its values from other files; write them into this one (h5repack)")


def _check_sizes(where: str, dataset: Any, limit: int) -> None:
    """Raises UserError if there are no values, or more than the file can hold or than may be read at once."""
    if dataset.shape is None:
        raise UserError(f"{where} is empty, without a shape; write the array again")
    size = dataset.dtype.itemsize
    claimed, stored = math.prod(dataset.shape) * size, dataset.id.get_storage_size()
    if claimed > max(MEGABYTE, _RATIO * stored):
        raise UserError(
            f"{where} has shape {list(dataset.shape)}, which is {claimed / MEGABYTE:,.3g} MB, but the file holds "
            f"{stored:,} bytes of it; copy or save it again"
        )
    if dataset.chunks is not None:
        check_size(where, math.prod(dataset.chunks) * size, limit, "a chunk")
