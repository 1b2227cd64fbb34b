"""Files in a folder, a zip or a tar as named byte streams, in one ordered pass. Nothing is extracted to disk."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from ..core.errors import UserError

TAR_SUFFIXES = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz")


def is_tar(path: Path) -> bool:
    """Whether the name says that this is a tar archive, compressed or not."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def entries(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """(name inside `path`, seekable stream) of each file that ends in one of `suffixes`; hidden files are left out.

    Folders and zips come in the sorted order of their names, tars in their own order, because a compressed tar can
    only be read from its beginning on. A stream is valid until the next one is asked for.

    Raises:
        UserError: the archive or a file in it cannot be read.
    """
    if path.is_dir():
        return _folder(path, suffixes)
    return _tar(path, suffixes) if is_tar(path) else _zip(path, suffixes)


def _wanted(name: str, suffixes: Sequence[str]) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts if part != ".")
    return name.lower().endswith(tuple(suffixes)) and not hidden


def _folder(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    names = (file.relative_to(path).as_posix() for file in path.rglob("*"))
    for name in sorted(name for name in names if _wanted(name, suffixes)):
        if (path / name).is_dir():
            continue
        try:
            stream = (path / name).open("rb")
        except OSError as error:
            raise UserError(f"{path / name}: cannot be read ({error.strerror})") from error
        with stream:
            yield name, stream


def _zip(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(name for name in archive.namelist() if _wanted(name, suffixes)):
                yield name, io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path}: is not a readable zip archive ({error})") from error


def _tar(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.isfile() and _wanted(member.name, suffixes):
                    stream = archive.extractfile(member)
                    assert stream is not None  # a regular file always has one
                    yield member.name, io.BytesIO(stream.read())
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: is not a readable tar archive ({error})") from error
