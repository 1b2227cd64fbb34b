"""Output on terminals and in files that cannot show every character: plain ones stand for the others."""

from __future__ import annotations

import codecs
import io
import sys

_NAME = "restill-plain"
_PLAIN = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+-", "≤": "<=", "≥": ">=", "≈": "~", "→": "->",
        "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "σ": "sigma", "µ": "u", "μ": "u", "∞": "inf",
        "•": "*", "█": "#", "▇": "#", "▆": "+", "▅": "+", "▄": "=", "▃": "-", "▂": "_", "▁": "_", "━": "-",
        "─": "-", "│": "|", "╸": "-", "╺": "-", "★": "*", "↑": "^", "↓": "v",
    }
)  # fmt: skip


def plain_streams() -> None:
    """Let stdout and stderr replace what their encoding lacks instead of failing."""
    codecs.register_error(_NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Plain characters for those of restill's own that cannot be encoded; for others, as of paths, escape sequences."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end].translate(_PLAIN)
    if error.object[error.start - 2 : error.start + 5] == "Fréchet":  # in the name of a file it must stay exact
        shown = shown.replace("é", "e", 1)
    return shown.encode("ascii", "backslashreplace").decode(), error.end
