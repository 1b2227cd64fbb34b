"""Output on terminals and in files that cannot show every character: plain ones stand for the others."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_NAME = "restill-plain"
_PLAIN = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+-", "≤": "<=", "≥": ">=", "≈": "~", "→": "->",
        "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "σ": "sigma", "µ": "u", "μ": "u", "∞": "inf",
        "•": "*", "█": "#", "▇": "#", "▆": "+", "▅": "+", "▄": "=", "▃": "-", "▂": "_", "▁": "_", "━": "-",
        "─": "-", "│": "|", "╸": "-", "╺": "-",
    }
)  # fmt: skip


def plain_streams() -> None:
    """Let stdout and stderr replace what their encoding lacks instead of failing."""
    codecs.register_error(_NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Plain characters that resemble those that cannot be encoded; an escape sequence for one that none resembles."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return letters.encode("ascii", "backslashreplace").decode(), error.end
