"""Where a stage's work runs: in this process for small jobs, in a pool of processes for larger ones.

Both are standard `concurrent.futures` executors; whatever keeps that contract and pickles functions fits as well.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

POOL_BYTES = 48 << 20  # input below this is cooked in-process: a pool takes longer to start than it saves


def usable_cores() -> int:
    """The cores that this process may use, by affinity and by its control group's quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


class InProcess(Executor):
    """Runs each call at once, in this thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


@contextlib.contextmanager
def executor(jobs: int, size: int) -> Iterator[Executor]:
    """An executor for `size` bytes of input on `jobs` cores, for a with block.

    In-process, an engine's own threads use the cores; in a pool each process is one. Workers are spawned, never forked:
    an engine that has encoded hangs in a forked child.
    """
    if jobs == 1 or size < POOL_BYTES:
        # Read by splintr when its first batch is encoded; who set it already keeps what they set.
        os.environ.setdefault("RAYON_NUM_THREADS", str(jobs))
        with InProcess() as inside:
            yield inside
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker() -> None:
    """One thread a process; the terminal's Ctrl-C is for the parent, which ends its workers."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
