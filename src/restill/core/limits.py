"""What a file from a stranger may cost: sizes are checked before memory is taken for them."""

from __future__ import annotations

from typing import Final

from .errors import UserError

LIMIT: Final = 256
"""Megabytes that one image, one file of an archive, or an array that must be read whole may take in memory."""

MEGABYTE: Final = 1_000_000
RATIO: Final = 100  # times its own size that the files of an archive may take together; photographs reach 2, masks 50


def check_size(where: str, nbytes: int, limit: int = LIMIT, what: str = "it") -> None:
    """Raises UserError, which names the file, if `what` would take more than `limit` megabytes in memory."""
    if nbytes > limit * MEGABYTE:
        needed = -(-nbytes // MEGABYTE)
        said = f"{needed:,} MB" if needed < 10**9 else f"{needed:.1e} MB"
        remedy = f"raise it with --limit {needed}" if needed < 10**6 else "this is no image"
        raise UserError(f"{where}: {what} would take {said} in memory, more than the limit of {limit:,} MB; {remedy}")


def allowance(size: int, limit: int) -> int:
    """Bytes that all files of an archive of `size` bytes may take together."""
    return max(limit * MEGABYTE, RATIO * size)
