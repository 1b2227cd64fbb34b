"""What is printed: names and texts from files may hold what steers a terminal, and are shown instead of obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

LONGEST: Final = 300  # characters of a message, with the name of the program
_CUT = " ... "


def visible(text: str) -> str:
    r"""A text in which every character shows: escapes of terminals, and other invisible ones, as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, most: int = LONGEST) -> str:
    """A text as one line of at most `most` visible characters; what is too long loses its middle."""
    line = visible(" ".join(text[: 100 * most].split()))  # no more than that is worth looking at
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - len(_CUT)]}{_CUT}{line[-end:]}"


class Shown:
    """Something for rich to print, without what steers a terminal."""

    def __init__(self, what: RenderableType) -> None:
        self.what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self.what, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console(**options: Any) -> Console:
    """A console that takes texts as they are: brackets and colons in them are no markup and no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)
