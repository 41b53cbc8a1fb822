"""What cook sets in a process of its own: the command's, and its workers'; never in one that only imports it."""

from __future__ import annotations

import contextlib
import gc
import os


def settle() -> None:
    """Before numpy is imported: none of its threads for matrices, which spin for 0.1 s; and garbage is looked for less.

    Of what stands for entries nothing refers to itself: Python's collector would go through all of it in vain.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000, 20, 100)


def give_memory_back() -> None:
    """Have the allocator give what is over 4 MB back to the system when it is freed, where it is glibc's."""
    import ctypes

    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (malloc.h): left alone they grow with use
            mallopt(setting, 4 << 20)
