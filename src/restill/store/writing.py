"""The folder beside a store while it is being written, and who is writing it."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from ..core.errors import UserError

WRITER_FILE = "writer.json"
_THIS_PROCESS = uuid.uuid4().hex  # tells this process from a dead one with the same id, as in a restarted container


class Writer(NamedTuple):
    """The process that began a folder, and whether it still runs."""

    pid: int | None
    alive: bool


def writing_path(store: Path) -> Path:
    """Where the store at `store` lies until it is complete."""
    return store.with_name(f"{store.name}.writing")


def sign(folder: Path) -> None:
    """Leave in `folder` who is writing it. Raises OSError."""
    signature = {"pid": os.getpid(), "started": time.time(), "process": _THIS_PROCESS}
    (folder / WRITER_FILE).write_text(json.dumps(signature), encoding="utf-8")


def writer_of(folder: Path) -> Writer:
    """Who began `folder`; a folder without a readable signature was left behind at its very beginning."""
    try:
        signature = json.loads((folder / WRITER_FILE).read_text(encoding="utf-8"))
        pid = int(signature["pid"])
        process = signature.get("process")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Writer(None, alive=False)
    if pid == os.getpid():
        return Writer(pid, alive=process == _THIS_PROCESS)
    return Writer(pid, alive=_runs(pid))


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere signal 0 does more than ask
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def check_free(store: Path) -> None:
    """Nothing is at the path `store`, and no living process is writing it.

    Raises:
        UserError: otherwise; a store is never overwritten.
    """
    if store.exists() or store.is_symlink():
        raise UserError(f"{store}: exists already and is never overwritten; remove it or choose another path")
    folder = writing_path(store)
    writer = writer_of(folder)
    if writer.alive:
        raise UserError(
            f"{store}: is being written by process {writer.pid}; wait for it, or remove {folder} if that is not restill"
        )
