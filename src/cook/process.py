"""What cook sets in a process of its own: the command's, and its workers'; never in one that only imports it.

And how workers begin. Forked they share what is imported, and are there at once; but a child of a process with several
threads may wait for ever for a lock that one of those held, and an engine that has encoded hangs in its children. So
only the command forks, on Linux, while it is one thread and has no engine; else workers are spawned.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

ENGINES = {"splintr", "fastokens", "tokenizers"}  # modules

_this = SimpleNamespace(own=False)


def settle() -> None:
    """Before numpy is imported: none of its threads for matrices, which spin for 0.1 s; and garbage is looked for less.

    Of what stands for entries nothing refers to itself: Python's collector would go through all of it in vain.
    """
    _this.own = True
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000, 20, 100)


def give_memory_back() -> None:
    """Have the allocator give what is over 4 MB back to the system when it is freed, where it is glibc's."""
    import ctypes

    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (malloc.h): left alone they grow with use
            mallopt(setting, 4 << 20)


def start_method() -> str:
    """How workers of this process are to begin, for `multiprocessing.get_context`."""
    if not _this.own or sys.platform != "linux" or ENGINES & sys.modules.keys():
        return "spawn"
    import cook.dataset  # noqa: F401 - for all of them

    return "fork" if len(list(Path("/proc/self/task").iterdir())) == 1 else "spawn"
