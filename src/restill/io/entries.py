"""Files of a folder, a zip or a tar, or a single file, in one pass. Nothing is extracted under a name of its own."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from types import MappingProxyType
from typing import IO, Any, Final, Literal, NamedTuple, cast

from ..core.errors import UserError
from ..core.limits import LIMIT, allowance, check_size
from ..core.reading import opened
from .names import natural, stem

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
TARS = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz")
ARCHIVES = (".zip", *TARS)
_DECOMPRESS: Final[Mapping[bytes, Callable[..., Any]]] = MappingProxyType(
    {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}
)  # by the first two bytes
_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, RuntimeError, ValueError,
    OverflowError, MemoryError, NotImplementedError,
)  # fmt: skip


class File(NamedTuple):
    """A file to be read, on disk or in an archive.

    Attributes:
        where: what messages call it.
        name: its place within the folder or archive.
        stream: its bytes, seekable, valid until the next file is asked for.
        path: where it lies on disk; None in an archive.
        alone: whether the user named this file, and not its folder or archive.
        layout: which axis of an array is which, as a person stated it.
        limit: megabytes of memory that an image, or an array that is read whole, may take (`check_size`).
    """

    where: str
    name: str
    stream: IO[bytes]
    path: Path | None = None
    alone: bool = False
    layout: Layout = "auto"
    limit: int = LIMIT


class Place(NamedTuple):
    """A folder, archive or file, and which of its files are wanted: those whose names end in one of `suffixes`."""

    path: Path
    suffixes: tuple[str, ...]
    layout: Layout = "auto"
    limit: int = LIMIT

    def key(self, name: str) -> tuple[Any, str]:
        """To sort by: names in natural order, suffixes last, so that images and their masks come in one order."""
        return natural(stem(name, self.suffixes)), name

    def wanted(self, name: str) -> bool:
        """By its suffix; hidden files and folders are not."""
        return name.lower().endswith(self.suffixes) and not _hidden(PurePosixPath(name))


def files(place: Place, order: Sequence[str] | None = None) -> Iterator[File]:
    """The wanted files at a place.

    Folders and zips come in natural order. A tar comes in its own order, since a compressed one can only be read from
    its beginning on, or in `order`: then a compressed one is first unpacked to a temporary file without a name.

    Raises:
        UserError: the archive or a file in it cannot be read or is too large, or a file is no regular file.
    """
    path = place.path
    if path.is_dir():
        for name in sorted((file.relative_to(path).as_posix() for file in inside(path)), key=place.key):
            if name.lower().endswith(place.suffixes):
                yield from _on_disk(place, path / name, name, alone=False)
    elif path.name.lower().endswith(ARCHIVES):
        for name, stream in _unpacked(place, order):
            yield File(str(path / name), name, stream, layout=place.layout, limit=place.limit)
    elif path.name.lower().endswith(place.suffixes):
        yield from _on_disk(place, path, path.name, alone=True)


def inside(folder: Path) -> Iterator[Path]:
    """All files in a folder and the folders in it, but no hidden ones, in no order."""
    return (file for file in folder.rglob("*") if not file.is_dir() and not _hidden(file.relative_to(folder)))


def _hidden(name: PurePath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.parts)


def _on_disk(place: Place, path: Path, name: str, *, alone: bool) -> Iterator[File]:
    with opened(path) as stream:
        yield File(str(path), name, stream, path, alone, place.layout, place.limit)


def _unpacked(place: Place, order: Sequence[str] | None) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and content. Raises UserError if the archive is damaged, or would take too much memory."""
    path = place.path
    kind = "tar" if path.name.lower().endswith(TARS) else "zip"
    with opened(path) as file:
        try:
            yield from _zip(place, file) if kind == "zip" else _tar(place, file, order)
        except _ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path}: is not a readable {kind} archive ({reason[:120]})") from error


def _zip(place: Place, file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    most = allowance(file.seek(0, io.SEEK_END), place.limit)
    with zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if place.wanted(info.filename)]
        _check_total(place, sum(info.file_size for info in infos), most)
        for info in sorted(infos, key=lambda info: place.key(info.filename)):
            check_size(str(place.path / info.filename), info.file_size, place.limit)
            yield info.filename, io.BytesIO(archive.read(info))


def _check_total(place: Place, total: int, most: int) -> None:
    if total > most:
        raise UserError(
            f"{place.path}: takes {total / 1e6:,.0f} MB unpacked, more than 100 times its size; raise the limit of "
            f"{place.limit} MB with --limit, if it is not a trap"
        )


def _tar(place: Place, file: IO[bytes], order: Sequence[str] | None) -> Iterator[tuple[str, IO[bytes]]]:
    content = _Counted(place, file)
    if order is None:
        with tarfile.open(fileobj=cast(IO[bytes], content), mode="r|") as archive:
            for member in archive:
                if (stream := _content(place, archive, member)) is not None:
                    yield member.name, stream
        return
    with _seekable(content) as seekable, tarfile.open(fileobj=seekable, mode="r:") as archive:
        members = {member.name: member for member in archive}
        for name in order:
            stream = _content(place, archive, members[name]) if name in members else None
            if stream is None:
                raise UserError(f"{place.path / name}: has changed since it was opened; start again")
            yield name, stream


def _content(place: Place, archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """The bytes of a wanted file."""
    if not place.wanted(member.name) or member.isdir():
        return None
    where = str(place.path / member.name)
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None:
        raise UserError(f"{where}: is a link or a device in the archive; pack the files themselves (tar --dereference)")
    check_size(where, member.size, place.limit)
    return io.BytesIO(stream.read())


class _Counted(io.RawIOBase):
    """The content of a tar, decompressed. Raises UserError once it is suspiciously much."""

    def __init__(self, place: Place, file: IO[bytes]) -> None:
        self._place = place
        self._most = allowance(file.seek(0, io.SEEK_END), place.limit)
        file.seek(0)
        decompress = _DECOMPRESS.get(file.read(2), lambda file: file)
        file.seek(0)
        self.plain: IO[bytes] = decompress(file)
        self.is_compressed = self.plain is not file
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.plain.read(len(buffer))
        self._read += len(data)
        _check_total(self._place, self._read, self._most)
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _seekable(content: _Counted) -> Iterator[IO[bytes]]:
    """The content of a tar as a file for any order; a temporary one, which has no name, if it is compressed."""
    if not content.is_compressed:
        yield content.plain
        return
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(cast(IO[bytes], content), file, 1 << 20)
        file.seek(0)
        yield file
