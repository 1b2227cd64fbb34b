"""Reading what somebody else may have made: regular files alone are opened, and plain data are shallow and small.

A pipe would keep a command waiting for ever, and a device has no end. Python's own readers follow text as deep and make
numbers as long as it says. So every file that restill reads is opened here, or checked here before a library opens it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from .errors import UserError

MOST_TEXT: Final = 128 << 20  # bytes of a text file; a manifest may hold the coil maps of a corruption
MOST_VALUES: Final = 1_000_000  # numbers, words, lists and mappings in one text
DEEPEST: Final = 50  # lists and mappings within each other
MOST_IN_IMAGE: Final = 1 << 25  # numbers; 5,792 pixels a side in grey
LARGEST: Final = 2**63  # whole numbers lie below it, as those of tensors do

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_NOT_UNDERSTOOD = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError, EOFError, OSError,
)  # fmt: skip


def check_regular(path: Path) -> None:
    """Look at a path before a library opens it.

    Raises:
        UserError: there is no file, or it is a folder, a pipe, a socket or a device.
    """
    _regular(path, _status(path))


def opened(path: Path) -> BinaryIO:
    """A regular file, open for reading bytes. Raises UserError as `check_regular`, or if it may not be read."""
    check_regular(path)  # to open a device can already do something
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    file = os.fdopen(handle, "rb")
    try:
        _regular(path, os.fstat(handle))  # it may have been replaced in between
    except UserError:
        file.close()
        raise
    return file


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """The content of a text file (UTF-8) of at most `most` bytes. Raises UserError, which names the file."""
    with opened(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(content) > most:
        raise UserError(f"{path}: is larger than {most / 2**20:.3g} MiB, the most that restill reads of such a file")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 ({error})") from error


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError, which names the file, if it is missing or is not JSON as restill writes it."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: is not readable JSON ({error})") from error


def parse_json(text: str) -> Any:
    """Plain data from JSON. Raises ValueError for anything else, and where `check_plain` does."""
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    try:
        data = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    check_plain(data)
    return data


def check_plain(data: Any) -> None:
    """Look through plain data.

    Raises:
        ValueError: lists and mappings that are nested deeper than `DEEPEST`, whole numbers that no tensor holds, keys
            that are no text, or text that cannot be written again.
    """
    level, depth = [data], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
                _check_keys(value)
            elif isinstance(value, list):
                inner += value
            else:
                _check_value(value)
        level, depth = inner, depth + 1


def _check_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} must be a text")


def _check_value(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the text {value[:20]!a} is not valid Unicode") from None
    elif isinstance(value, int) and not -LARGEST < value < LARGEST:
        raise ValueError(f"a whole number has {len(str(abs(value)))} digits; the largest is {LARGEST - 1}")


def _whole(digits: str) -> int:
    """A whole number. Python refuses one of some thousands of digits with advice that helps no user."""
    if len(digits) > 20:
        raise ValueError(f"a whole number has {len(digits):,} digits; the largest is {LARGEST - 1}")
    return int(digits)


def check_size(shape: Sequence[int]) -> None:
    """Raises ValueError where an image of a shape that a file claims would hold more than `MOST_IN_IMAGE` numbers."""
    if math.prod(shape) > MOST_IN_IMAGE:
        sides = " x ".join(map(str, shape))
        raise ValueError(f"an image of {sides} is larger than {MOST_IN_IMAGE:,} numbers, the most that restill reads")


@contextmanager
def understood(path: Path, what: str) -> Iterator[None]:
    """While the content of a file is interpreted: whatever does not fit becomes one line that names the file.

    Args:
        what: what the file should be, with an article, e.g. "a log of restill".

    Raises:
        UserError: instead of the errors that wrong types, missing keys and impossible values cause.
    """
    try:
        yield
    except _NOT_UNDERSTOOD as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise UserError(f"{path}: is not {what} ({' '.join(reason.split())})") from error


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content. Raises UserError as `opened`."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):  # `hashlib.file_digest` needs Python 3.11
            digest.update(block)
    return digest.hexdigest()


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a ValueError for a name that holds a zero
        raise _unreadable(path, error) from error


def _regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a folder; a file is needed here")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UserError(f"{path}: is {kind}; restill reads regular files only")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")
