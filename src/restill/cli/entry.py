"""The entry point. What takes time to import is imported once Ctrl-C ends in one line."""

from __future__ import annotations

import sys

from ..core import interruption
from .plain import plain_streams


def main() -> None:
    """Run a command: exit code 0, 2 for the user's mistake, 1 for a failure, 130 after Ctrl-C."""
    interruption.end_at_once()
    plain_streams()
    from .app import _run_app

    try:
        code = _run_app(sys.argv[1:])
    except KeyboardInterrupt:  # once more, while the first was reported
        code = interruption.CODE
    interruption.ignore()
    sys.exit(code)
