"""How freed memory is used again: kept by a training, returned while files are read in blocks."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h; values are C ints.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of returning it to the system. The process never shrinks again.

    On the CPU, every training step of a small network allocates the same activations. By default glibc returns them to
    the system after each step, and the page faults of the next step cost a tenth of the time.

    Returns:
        True if glibc accepted the settings; False, without any change, if the C library is not glibc.
    """
    return _told(_SETTINGS)


def return_freed_memory() -> bool:
    """Tell glibc to take blocks of a megabyte and more from the system and to return them when they are freed.

    By default it raises this size as such blocks are freed, and places them between small ones that stay. Where data
    stream through memory in blocks of several sizes, the process then grows with the number of blocks.

    Returns:
        as `keep_freed_memory`.
    """
    return _told(((_MMAP_THRESHOLD, 1 << 20),))


def _told(settings: tuple[tuple[int, int], ...]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in settings)
