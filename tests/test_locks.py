"""Locks end with their process, whole files replace whole files, and both work as Windows wants it."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from restill.core import files, locks
from restill.core.errors import UserError
from restill.core.files import replacing, write_text


class Msvcrt:
    """Locks of bytes as on Windows: of an open file, against every other one."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, handle: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1) and os.lseek(handle, 0, os.SEEK_CUR) >= 1 << 30
        about = os.fstat(handle)
        owner = self.held.setdefault((about.st_dev, about.st_ino), handle)
        if owner != handle and _is_open(owner):
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held[about.st_dev, about.st_ino] = handle


def _is_open(handle: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(handle)
        return True
    return False


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is different there, as far as Linux can show it: no flock, open files cannot be moved, removed or synced."""
    real_fsync, real_replace, real_unlink = os.fsync, Path.replace, Path.unlink
    fcntl = locks.fcntl

    def opened() -> set[tuple[int, int]]:
        found = (os.fstat(int(fd.name)) for fd in Path("/proc/self/fd").iterdir() if _is_open(int(fd.name)))
        return {(about.st_dev, about.st_ino) for about in found}

    def refused(path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            if path.is_file() and (about.st_dev, about.st_ino) in opened():
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

    def fsync(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_fsync(handle)

    def replace(self: Path, target: Path) -> Path:
        refused(self)
        refused(Path(target))
        return real_replace(self, target)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        refused(self)
        real_unlink(self, missing_ok)

    for where, name, value in ((os, "fsync", fsync), (Path, "replace", replace), (Path, "unlink", unlink)):
        monkeypatch.setattr(where, name, value)
    for name, value in (("fcntl", None), ("msvcrt", Msvcrt()), ("WINDOWS", True)):
        monkeypatch.setattr(locks, name, value)
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)


@pytest.fixture(params=["here", "windows"])
def system(request: pytest.FixtureRequest) -> None:
    if request.param == "windows":
        if not Path("/proc/self/fd").exists():
            pytest.skip("is simulated on Linux")
        request.getfixturevalue("windows")


def test_one_lock_at_a_time(system: None, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = locks.take(path)
    assert first is not None and locks.take(path) is None
    first.note("me, at length")
    first.note("me")
    assert locks.holder(path) == "me" and path.exists()
    first.release()
    assert not path.exists() and locks.holder(path) is None
    with locks.take(path) or pytest.fail() as second:
        second.note("you")
        assert locks.holder(path) == "you"
    assert not path.exists()


def test_a_file_without_a_holder_is_taken(system: None, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("of a killed process")
    assert locks.holder(tmp_path / "lock") is None
    assert locks.take(tmp_path / "lock") is not None


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
def test_a_lock_is_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        locks.take(tmp_path / "link")
    with pytest.raises(UserError, match="pipe: is not an ordinary file"):
        locks.take(tmp_path / "pipe")
    assert locks.holder(tmp_path / "pipe") is None and (tmp_path / "precious").read_text() == "mine"


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """`safetensors` would write but not read there."""
    with pytest.raises(UserError, match="is no path in UTF-8, and the format of the weights needs one"):
        write_text(tmp_path / "caf\udce9" / "file", "x")


def test_files_are_replaced_as_a_whole(system: None, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_text(path, "one")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    write_text(path, "two")
    assert path.read_text() == "two" and list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file(system: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as mine, replacing(path) as theirs:
        assert mine != theirs
        theirs.write_text("theirs")
        mine.write_text("mine")
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_used_again(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from restill.core.files import replacing\n"
    code += "with replacing(Path(sys.argv[1])) as file:\n    file.write_text('half of it, and long'); os._exit(9)"
    path = tmp_path / "file"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert [file.name for file in tmp_path.iterdir()] == [".file.tmp"]
    write_text(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_only_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").write_text("half")
    with replacing(tmp_path / "b") as temporary:
        temporary.write_text("whole")
        files.remove_temporaries(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_the_temporary_file_is_never_somebody_elses(tmp_path: Path, kind: str) -> None:
    (tmp_path / "precious").write_text("mine")
    trap = tmp_path / "to" / ".file.tmp"
    trap.parent.mkdir()
    {"link": lambda: trap.symlink_to(tmp_path / "precious"), "pipe": lambda: os.mkfifo(trap), "folder": trap.mkdir}[
        kind
    ]()
    write_text(tmp_path / "to" / "file", "new")
    assert (tmp_path / "to" / "file").read_text() == "new" and (tmp_path / "precious").read_text() == "mine"


def test_windows_waits_for_who_has_the_file_open(
    windows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner closes it after a moment; a program that keeps it open is named as the reason."""
    path = tmp_path / "report.html"
    write_text(path, "old")
    refusals, real = [0], Path.replace

    def replace(self: Path, target: Path) -> Any:
        refusals[0] += 1
        if refusals[0] < 4:
            raise PermissionError(errno.EACCES, "is being used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_text(path, "new")
    assert refusals == [4] and path.read_text() == "new"
    monkeypatch.setattr(locks, "_PATIENCE", 0.02)
    refusals[0] = -100
    with pytest.raises(UserError, match=r"report.html: cannot be written \(is being used by another process\)"):
        write_text(path, "newer")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
