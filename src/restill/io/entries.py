"""Files of a folder, a zip or a tar, or a single file, in one ordered pass. Nothing is extracted to disk."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Literal, NamedTuple

from ..core.errors import UserError

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
TARS = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz")
ARCHIVES = (".zip", *TARS)
_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, RuntimeError,
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
    """

    where: str
    name: str
    stream: IO[bytes]
    path: Path | None = None
    alone: bool = False
    layout: Layout = "auto"


def files(path: Path, suffixes: Sequence[str], layout: Layout = "auto") -> Iterator[File]:
    """The file at `path`, or all files of a folder, zip or tar whose names end in one of `suffixes`; no hidden ones.

    Folders and zips come in the sorted order of their names, tars in their own order, because a compressed tar can
    only be read from its beginning on.

    Raises:
        UserError: the archive or a file in it cannot be read.
    """
    if path.is_dir():
        names = sorted(file.relative_to(path).as_posix() for file in inside(path))
        for name in names:
            if name.lower().endswith(tuple(suffixes)):
                yield from _on_disk(path / name, name, alone=False, layout=layout)
    elif path.name.lower().endswith(ARCHIVES):
        unpacked = _tar if path.name.lower().endswith(TARS) else _zip
        for name, stream in unpacked(path, suffixes):
            yield File(str(path / name), name, stream, layout=layout)
    elif path.name.lower().endswith(tuple(suffixes)):
        yield from _on_disk(path, path.name, alone=True, layout=layout)


def inside(folder: Path) -> Iterator[Path]:
    """All files in a folder and the folders in it, but no hidden ones, in no order."""
    return (file for file in folder.rglob("*") if not file.is_dir() and not _hidden(file.relative_to(folder)))


def _hidden(name: PurePath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.parts)


def _wanted(name: str, suffixes: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(suffixes)) and not _hidden(PurePosixPath(name))


def _on_disk(path: Path, name: str, *, alone: bool, layout: Layout) -> Iterator[File]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    with stream:
        yield File(str(path), name, stream, path, alone, layout)


def _zip(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    with _readable(path, "zip"), zipfile.ZipFile(path) as archive:
        for name in sorted(name for name in archive.namelist() if _wanted(name, suffixes)):
            yield name, io.BytesIO(archive.read(name))


def _tar(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    with _readable(path, "tar"), tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and _wanted(member.name, suffixes):
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file always has one
                yield member.name, io.BytesIO(stream.read())


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise UserError(f"{path}: is not a readable {kind} archive ({error})") from error
