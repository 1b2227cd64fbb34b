"""Keep the memory that one training step frees for the next step."""

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
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS)
