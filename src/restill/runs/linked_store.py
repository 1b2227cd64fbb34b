"""A run on a store that lies elsewhere: a link leads there, or where links are forbidden a file that says where."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..core.errors import UserError
from ..core.files import cannot_write, write_text
from ..core.locks import moved
from ..core.reading import read_text

_SAYS = "store: "


def link_store(place: Path, store: Path) -> None:
    """Let `place` in a run lead to a store; what led elsewhere before is replaced. Raises UserError."""
    store, temporary = store.resolve(), place.with_name(f".{place.name}.tmp")
    try:
        target: str | Path = os.path.relpath(store, place.parent.resolve())
    except ValueError:  # on another drive of Windows
        target = store
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        moved(temporary, place)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if place.is_dir() and not place.is_symlink():
            raise cannot_write(place, error, "it is a folder") from error
        write_text(place, f"{_SAYS}{target}\n")


def linked_store(place: Path, source: str | None) -> Path:
    """Where the store of a run lies.

    Args:
        place: the folder, the link or the file in the run.
        source: where the recipe says that it lies; this counts where the run was moved, so that the link leads nowhere.

    Returns:
        `place` itself, if it is a folder or leads to one, or if nothing is known of another place.
    """
    found: Path | None = None
    if place.is_file():
        with suppress(UserError):
            text = read_text(place)
            found = place.parent / text[len(_SAYS) :].strip() if text.startswith(_SAYS) else None
    elif place.exists() or not place.is_symlink():
        return place
    for other in (found, None if source is None else Path(source)):
        if other is not None and other.is_dir():
            return other
    return place


def check_reachable(place: Path) -> None:
    """Raises UserError where `place` leads to a store that is not there any more."""
    if (place.is_symlink() or place.is_file()) and not place.is_dir():
        where = f"leads to {place.readlink()}" if place.is_symlink() else "says where the store lies"
        raise UserError(
            f"{place}: {where}, but no store is there; move it back, or name its new place with `restill run` and "
            "--set data.source=PATH"
        )
