"""Ctrl-C: before anything is written it ends the process at once, afterwards it is a KeyboardInterrupt as ever.

Imports take seconds, and an exception in the middle of them can come out as any other, or be lost.
"""

from __future__ import annotations

import os
import signal
import threading

CODE = 130
_NOTHING_DONE = "restill: interrupted before anything was written\n"


class _State:
    at_once = False
    came = False


def end_at_once() -> None:
    """From now on Ctrl-C ends the process with one line and exit code 130; not where it is ignored, as in `nohup`."""
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _State.at_once = True
        signal.signal(signal.SIGINT, _interrupted)


def work_begins() -> None:
    """From now on there is something to finish or to clear away, and Ctrl-C raises KeyboardInterrupt."""
    _State.at_once = False


def came() -> bool:
    """Whether Ctrl-C was pressed since `work_begins`, whatever exception became of it."""
    return _State.came


def ignore() -> None:
    """From now on Ctrl-C does nothing: the process is about to end."""
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupted(number: int, frame: object) -> None:
    if _State.at_once:
        os.write(2, _NOTHING_DONE.encode())
        os._exit(CODE)
    _State.came = True
    raise KeyboardInterrupt
