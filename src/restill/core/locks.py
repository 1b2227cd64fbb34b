"""Locks of the operating system on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

from . import interruption
from .errors import UserError

fcntl: Any = None
msvcrt: Any = None
try:
    import fcntl
except ImportError:  # Windows
    with contextlib.suppress(ImportError):
        import msvcrt

WINDOWS = os.name == "nt"
_NEW = os.O_RDWR | os.O_CREAT
# Never through a link, and never waiting for the other end of a pipe: a folder may come from somebody else.
_SAFELY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_FAR = 1 << 30  # Windows locks bytes even against reading, so the locked one lies beyond all content
_ATTEMPTS, _PAUSE = 5, 0.01  # `holder` locks for a moment
_PATIENCE = 2.0  # seconds, for virus scanners and indexers of Windows, which open new files


@final
class Lock:
    """A file that this process alone works on, until the `with` block is left or the process ends.

    The file is removed at the end of the block, unless it has been renamed.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle, self._there = path, handle, True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def note(self, text: str, durable: bool = False) -> None:
        """Replace the content of the file, if `durable` through to the disk. Raises OSError."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text.encode())
        if durable:
            os.fsync(self._handle)

    def rename(self, path: Path) -> None:
        """Move the file over `path`, which nobody sees missing meanwhile. Raises OSError."""
        if WINDOWS:  # refuses to rename what is open
            self._close()
        moved(self.path, path)
        self._there = False
        self._close()

    def release(self) -> None:
        """Remove the file, if it is still there, and end the lock. Idempotent."""
        if WINDOWS:
            self._close()
        if self._there:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._there = False
        self._close()

    def _close(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.close(self._handle)
        self._handle = -1


def take(path: Path) -> Lock | None:
    """A lock on the file at `path`, which is made if it is not there; None if another process has it.

    Raises:
        OSError: it cannot be made or opened, e.g. in a folder that is read-only, or where it is a link.
        UserError: it is no ordinary file, or the path is not UTF-8.
    """
    interruption.work_begins()
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise UserError(f"{path}: is no path in UTF-8, and the format of the weights needs one; choose another folder")
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        handle = os.open(path, _NEW | _SAFELY, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(f"{path}: is not an ordinary file; remove it")
            if _locked(handle, shared=False) and _is_at(path, handle):
                return Lock(path, handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    return None


def holder(path: Path) -> str | None:
    """What the process that holds the file at `path` noted in it; None where none does."""
    try:
        handle = os.open(path, os.O_RDONLY | _SAFELY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode) or _locked(handle, shared=True):
            return None
        return os.read(handle, 1 << 16).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(handle)


def moved(source: Path, target: Path) -> None:
    """Rename `source` over `target`. Windows refuses while a third program has one of them open: that is waited for."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _locked(handle: int, shared: bool) -> bool:
    """Lock an open file. False if another process has it; a file system without locks notices none."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    elif msvcrt is not None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Whether an open file is still the one at `path`: its last holder may have removed or renamed it meanwhile."""
    try:
        there, ours = path.lstat(), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
