"""Memory of the process: what is freed in one training step is kept for the next."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h; values are C ints.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory instead of returning it to the system; the process stays as large as it once was.

    Activations of a small network on the CPU are freed and asked for again in every step. By default glibc gives them
    back and the system hands out zeroed pages anew, thousands of page faults per step: a tenth of the time.

    Returns:
        Whether it was done; False where the C library is not glibc (nothing is changed then).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS)
