"""Readers of foreign files, one class for each format. A new format is one such class, also in a user's plug-in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from ..core.kinds import Pluggable
from ..core.kspace_layout import Axes
from ..core.limits import LIMIT
from .entries import File

Image = NDArray[np.generic]
"""One image `[C, H, W]` in the number type of its file."""


class Format(NamedTuple):
    """Properties that all files of a source share: `[C, H, W]` and the type of the numbers."""

    shape: tuple[int, int, int]
    values: str  # "8-bit", "16-bit", "32-bit", "float", or a NumPy type

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        bits, is_integer, _ = self.values.partition("-bit")
        size = -(-int(bits) // 8) if is_integer else np.dtype("f4" if bits == "float" else bits).itemsize
        return math.prod(self.shape) * size

    def __str__(self) -> str:
        channels, height, width = self.shape
        return f"{channels} channel{'s' * (channels > 1)} of {height}x{width}, {self.values}"


def exact(numbers: np.dtype[Any]) -> type[np.floating[Any]]:
    """float32 where it holds every number of a type, else float64: large numbers may carry a small signal."""
    return np.float32 if np.can_cast(numbers, np.float32) else np.float64


@dataclass(frozen=True)
class Header:
    """What a file holds: `count` images of one format, and their classes, 0, 1, ..., if the file says them.

    `remark` continues "the file ..." where a person should know something odd about it.
    """

    format: Format
    count: int = 1
    labels: tuple[int, ...] | None = None
    remark: str | None = None


class KspaceSlice(NamedTuple):
    """One slice of k-space.

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


class Reader(Pluggable, ABC, family="reader"):
    """A file format; `suffixes` are the file extensions, in lower case."""

    suffixes: ClassVar[tuple[str, ...]]

    @classmethod
    def known(cls) -> list[type[Self]]:
        """All readers of this sort, those of plug-ins before restill's own."""
        return [member for member in reversed(cls._members.values()) if issubclass(member, cls)]

    @classmethod
    def known_suffixes(cls) -> tuple[str, ...]:
        """File extensions of all formats that can be read."""
        return tuple(dict.fromkeys(suffix for reader in cls.known() for suffix in reader.suffixes))

    @classmethod
    def of(cls, name: str) -> Self | None:
        """The reader of a file, by its extension; None if there is none."""
        return next((reader() for reader in cls.known() if name.lower().endswith(reader.suffixes)), None)


class ImageReader(Reader):
    """A format that holds images; constructed without arguments.

    Both methods raise `UserError`, which names `file.where`, for a bad file.
    """

    @abstractmethod
    def header(self, file: File) -> Header:
        """What the file holds, as far as possible without reading the images."""

    @abstractmethod
    def frames(self, file: File) -> Iterator[Image]:
        """Every image of the file, `[C, H, W]` as the header says, in the units of the file."""


class KspaceReader(Reader):
    """A format that holds multi-coil k-space, centred as in fastMRI, phase encoding along the last axis.

    All methods raise `UserError`, which names the path, for a bad file.

    Attributes:
        of_maps: whether to read coil sensitivities instead of k-space.
        axes: the axes of arrays as the user states them (`Axes`); None where the file says it.
        limit: megabytes that a slice may take in memory.
    """

    def __init__(self, of_maps: bool = False, axes: Axes | None = None, limit: int = LIMIT) -> None:
        self.of_maps, self.axes, self.limit = of_maps, axes, limit

    @abstractmethod
    def holds(self, path: Path) -> bool:
        """Whether the file is k-space, and not images in a format of the same suffix, by a look at its header."""

    @abstractmethod
    def header(self, path: Path) -> tuple[int, int, int, int]:
        """`(slices, coils, H, W)`."""

    @abstractmethod
    def slices(self, path: Path) -> Iterator[KspaceSlice]:
        """Every slice, read one at a time."""
