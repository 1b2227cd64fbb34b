"""Files that are replaced as a whole: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError
from .locks import Lock, holder, take


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed over `path` on success, removed on any error.

    What a killed process left there is used again, so that the same command leaves nothing behind.

    Raises:
        UserError: the disk is full or the folder cannot be written to; the old file stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as lock:
            yield lock.path
            with lock.path.open("r+b") as file:  # Windows does not sync a file that is open for reading only
                os.fsync(file.fileno())
            lock.rename(path)
    except OSError as error:
        raise cannot_write(path, error, "the old file, if any, is unchanged") from error


def _temporary(path: Path) -> Lock:
    """The first name beside `path` that no living process writes to. Raises OSError."""
    for k in itertools.count():
        name = path.with_name(f".{path.name}.{k}.tmp" if k else f".{path.name}.tmp")
        if name.is_symlink() or (name.exists() and not (name.is_file() or name.is_dir())):
            name.unlink()  # a link or a pipe of somebody's, which must not be written to
        try:
            lock = None if name.is_dir() else take(name)
        except PermissionError:  # another person's
            if not name.exists():
                raise
            continue
        if lock is not None:
            os.truncate(name, 0)
            return lock
    raise AssertionError


def cannot_write(path: Path, error: OSError, consequence: str) -> UserError:
    """What to say where the operating system does not write to `path`."""
    return UserError(f"{path}: cannot be written ({error.strerror or error}); {consequence}")


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link but not what it leads to, if there is one. Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable, on systems and file systems that can do so."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that `replacing` left in `folder` when its process was killed.

    Those that a living process writes to stay, and those that cannot be removed, which do no harm.
    """
    for file in folder.glob(".*.tmp"):
        if holder(file) is None:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically. Raises ValueError for NaN and infinity, which JSON cannot hold."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
