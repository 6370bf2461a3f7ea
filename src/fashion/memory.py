"""Memory that training frees is kept for its next step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""


def keep_freed_memory() -> bool:
    """Ask the C library not to give freed memory back to the system; whether it does as asked.

    A step's activations are tens of megabytes, which glibc maps anew each time: the system then fills them with
    zeros, page by page, nearly a third of the time of training on a CPU (docs/experiments.md).  The process
    keeps the memory of its largest step until it ends.  Other C libraries have no such setting, and are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, -1))
