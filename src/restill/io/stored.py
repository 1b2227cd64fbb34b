"""`StoredArray`: an array in a file, whose header is checked at once and whose values are read row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.limits import LIMIT, check_size


class Array(Protocol):
    """An array in a file of any format, which is read when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, index: Any) -> Any: ...


class StoredArray:
    """An array in NumPy's format. Memory is taken for what is indexed alone: a row, or all of it.

    Args:
        where: for messages.
        opened: starts a new reading of the file from its beginning.
        size: bytes of the file.
        limit: megabytes that the array may take where it is read as a whole.

    Raises:
        ValueError: not such a file, of Python objects, or shorter than its header says.
        UserError: (on indexing) the whole is needed, and larger than `limit`.
    """

    def __init__(self, where: str, opened: Callable[[], IO[bytes]], size: int, limit: int = LIMIT) -> None:
        self._where, self._limit = where, limit
        self._kept: NDArray[Any] | None = None
        self._stream = opened()
        version = np.lib.format.read_magic(self._stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self._by_columns, self.dtype = read(self._stream)
        self._start = self._place = self._stream.tell()
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        if self.dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        if min((*self.shape, 0)) < 0 or self.nbytes > size - self._start:
            raise ValueError(f"its header says {list(self.shape)} of {self.dtype}, but the file is shorter")

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int) or self._by_columns or not 0 <= index < (*self.shape, 0)[0]:
            return self._whole()[index]
        size = self.nbytes // self.shape[0]
        self._move(self._start + index * size)
        row = np.frombuffer(self._read(size), self.dtype)
        return row.reshape(self.shape[1:])

    def _whole(self) -> NDArray[Any]:
        check_size(self._where, self.nbytes, self._limit, "the array")
        if self._kept is None:
            self._move(self._start)
            values = np.frombuffer(self._read(self.nbytes), self.dtype)
            self._kept = values.reshape(self.shape[::-1]).T if self._by_columns else values.reshape(self.shape)
        return self._kept

    def _move(self, place: int) -> None:
        """To a byte of the file; back in a compressed one costs reading it again."""
        if place != self._place:
            self._stream.seek(place)
            self._place = place

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        done, view = 0, memoryview(data)
        while done < size:
            some = self._stream.read(min(size - done, 1 << 24))
            if not some:
                raise EOFError("the file is cut off")
            view[done : done + len(some)] = some
            done += len(some)
        self._place += size
        return data
