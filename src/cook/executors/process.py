"""What cook sets in a process of its own: the command's, and its workers'; never in one that only imports it.

And how workers begin. Forked they share what is imported, with a vocabulary that was loaded `start_in_background`, and
are there at once; but a child of a process with several threads may wait for ever for a lock that one of those held, as
it does when an engine that encodes in threads was in use. So only the command forks, on Linux, while it is one thread
for the system, too, and has none of the engines that start some; else workers are spawned.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace

THREADED_ENGINES = {"fastokens", "tokenizers"}  # modules; splintr starts threads when it is given much to encode

THREAD_EXIT_WAITS = (0, 0.0002, 0.001, 0.005, 0.02)  # seconds

_state = SimpleNamespace(own=False, background_threads=[], engines_pid=0)


def configure_process() -> None:
    """Before numpy is imported: none of its threads for matrices, which spin for 0.1 s; and garbage is looked for less.

    Of what stands for entries nothing refers to itself: Python's collector would go through all of it in vain.
    """
    _state.own = True
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000, 20, 100)


def limit_memory_retention() -> None:
    """Have the allocator give what is over 32 MB back to the system when it is freed, where it is glibc's."""
    import ctypes

    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (malloc.h): left alone they grow with use
            mallopt(setting, 32 << 20)


def start_in_background(work: Callable[[], object]) -> None:
    """Begin work in a thread, beside this one's; what goes wrong comes up where its result is asked for."""

    def quiet() -> None:
        with contextlib.suppress(BaseException):
            work()

    _state.background_threads.append(threading.Thread(target=quiet))
    _state.background_threads[-1].start()


def worker_start_method(preload: Sequence[str] = ()) -> str:
    """How workers of this process are to begin, for `multiprocessing.get_context`.

    Before they are forked the modules named in `preload` are imported, once for all of them.
    """
    if not _state.own or sys.platform != "linux" or THREADED_ENGINES & sys.modules.keys():
        return "spawn"
    for module in preload:
        import_module(module)
    for thread in _state.background_threads:
        thread.join()
    for wait in THREAD_EXIT_WAITS:  # a thread that Python has done with is the system's for a moment more
        time.sleep(wait)
        if len(os.listdir("/proc/self/task")) == 1:
            return "fork"
    return "spawn"


def note_engine_use() -> None:
    """Note that engines encode in this process, and so may start threads."""
    _state.engines_pid = os.getpid()


def inherits_engines() -> bool:
    """Whether this process was forked of one in which engines encode: their threads are not in it, yet waited for."""
    return _state.engines_pid not in (0, os.getpid())


def usable_cores() -> int:
    """The cores that this process may use, by affinity and by its control group's quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores
