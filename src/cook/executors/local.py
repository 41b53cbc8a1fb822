"""Where a stage's work runs: threads of this process for small jobs, a pool of processes for larger ones, or a cluster.

All are standard `concurrent.futures` executors that do picklable functions of one job; nothing else knows which it is.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from importlib import import_module
from multiprocessing import connection
from typing import Any, TypeVar

from cook.core.errors import ClusterError, CookError
from cook.executors import process

POOL_BYTES = 16 << 20  # input below this is cooked in-process: a pool takes longer to start than it saves
SPAWN_COST_FACTOR = 3  # and so many times as long, where it is spawned
TERMINATION_SIGNALS = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGALRM,
}  # what the command ends by, in its own way
SHUTDOWN_TIMEOUT = 1.0  # seconds that ended workers are waited for
WATCHING = 0.5  # seconds after which workers that have begun are watched
DEFAULT_IN_FLIGHT = 16  # jobs of a dataset that are submitted ahead of the one awaited, where the executor does not say
logger = logging.getLogger(__name__)
J = TypeVar("J")
T = TypeVar("T")


class ClusterLost(BrokenExecutor):
    """A job was lost with the cluster it ran on; the text says how, and what to do."""


class SynchronousExecutor(Executor):
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
def local_executor(jobs: int, size: int, preload: Sequence[str] = ()) -> Iterator[Executor]:
    """An executor for `size` bytes of input on `jobs` cores, for a with block.

    One job runs in this thread. A small input is cooked by threads of this process: what takes time (engines, Parquet,
    hashes) lets others run. A larger one by as many processes, which begin to start at once, and import the modules
    named in `preload` while they have no work yet.
    """
    daemonic = multiprocessing.current_process().daemon  # which may have no children
    method = process.worker_start_method(preload) if jobs > 1 and size >= POOL_BYTES and not daemonic else ""
    if process.inherits_engines():
        if daemonic:
            raise CookError(
                "this process was forked, as a daemon, of one in which cook had run: engines' threads are not in it, "
                "and encoding would wait for ever. Start it with multiprocessing.get_context('spawn')"
            )
        method = "spawn"
    elif not method or (method == "spawn" and size < SPAWN_COST_FACTOR * POOL_BYTES):
        logger.info("jobs: %d, as threads of this process (%s bytes are few)", jobs, f"{size:,}")
        process.note_engine_use()
        # Read by splintr when its first batch is encoded; who set it already keeps what they set.
        os.environ.setdefault("RAYON_NUM_THREADS", str(jobs))
        with (
            SynchronousExecutor() if jobs == 1 else ThreadPoolExecutor(jobs, "cook") as threads,
            cancel_on_error(threads),
        ):
            yield threads
        return
    logger.info("jobs: %d processes (%s bytes)", jobs, f"{size:,}")
    process.limit_memory_retention()
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context(method), _start_worker, (preload,))
    with pool, cancel_on_error(pool):
        # When one dies meanwhile, the pool closes what another is just being started with; who has work is told.
        with contextlib.suppress(BrokenExecutor, OSError, ValueError), _signals_blocked():
            for _ in range(jobs):
                pool.submit(int)  # a worker is started when there is work, and none to do it
        with _watched(pool):
            yield pool
        if getattr(pool, "_broken", False):
            _end_workers(pool)  # the pool waits for a worker that was just being started when another died


def ordered_results(
    pool: Executor, work: Callable[[J], T], jobs: Iterable[tuple[int, J]]
) -> Generator[tuple[tuple[int, J], T], None, None]:
    """Each job with its result, in the order of the jobs.

    At most DEFAULT_IN_FLIGHT jobs are submitted ahead, so `jobs` may be a generator.

    When the caller stops, those not begun are cancelled and the rest awaited.
    """
    in_flight: deque[tuple[tuple[int, Any], Future[T]]] = deque()
    todo = iter(jobs)
    try:
        while True:
            for job in itertools.islice(
                todo, max(0, getattr(pool, "max_in_flight", DEFAULT_IN_FLIGHT) - len(in_flight))
            ):
                try:
                    in_flight.append((job, pool.submit(work, job[1])))
                except (BrokenExecutor, OSError, ValueError) as exc:
                    if not isinstance(exc, BrokenExecutor) and not getattr(pool, "_broken", False):
                        raise
                    raise _worker_error(job[1], exc) from exc
            if not in_flight:
                return
            job, future = in_flight.popleft()
            try:
                result = future.result()
            except (BrokenExecutor, CancelledError) as exc:
                raise _worker_error(job[1], exc) from exc
            del future
            yield job, result
    finally:
        wait([future for _, future in in_flight if not future.cancel()])


def _worker_error(job: Any, exc: Exception) -> CookError:
    if isinstance(exc, ClusterLost):
        return ClusterError(f"{exc} (it was lost at {job})")
    return CookError(
        f"a worker process died, killed or out of memory, at the earliest at work on {job}. Run again to go on where "
        "it was, with fewer --jobs if memory is short. (A script must call run under `if __name__ == '__main__':`.)"
    )


@contextlib.contextmanager
def dataset_threads(jobs: int) -> Iterator[Executor]:
    """An executor for the threads that each see a dataset through: three, so that no core waits for one."""
    with (
        SynchronousExecutor() if jobs == 1 else ThreadPoolExecutor(3, "cook-dataset") as threads,
        cancel_on_error(threads),
    ):
        yield threads


@contextlib.contextmanager
def cancel_on_error(pool: Executor) -> Iterator[None]:
    """For a with block: when it is left by an error, what has not begun is dropped, and worker processes are ended."""
    try:
        yield
    except BaseException:
        _end_workers(pool)
        manager = getattr(pool, "_executor_manager_thread", None)
        pool.shutdown(wait=False, cancel_futures=True)
        if manager:  # else Python wakes it at its end, at times while it closes what it is woken by
            manager.join(SHUTDOWN_TIMEOUT)
        raise


@contextlib.contextmanager
def _watched(pool: Executor) -> Iterator[None]:
    """For a with block: a worker that dies in the middle of a result breaks the pool, which reads for its rest."""
    stopped, stop = multiprocessing.Pipe(duplex=False)

    def watch() -> None:
        found: list[Any] = []
        while not found:  # more workers may begin
            workers = list((getattr(pool, "_processes", None) or {}).values())
            found = connection.wait([stopped, *(worker.sentinel for worker in workers)], WATCHING)
        if stopped not in found and not connection.wait([stopped], SHUTDOWN_TIMEOUT):
            _end_workers(pool)  # it may know by now, which does no harm

    watcher = threading.Thread(target=watch, name="cook-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.close()
        watcher.join()
        stopped.close()


def _end_workers(pool: Executor) -> None:
    """One that ends in the middle of a result would leave the pool reading: no one else may seem to write the rest."""
    with contextlib.suppress(AttributeError, OSError):
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
    for worker in list((getattr(pool, "_processes", None) or {}).values()):
        worker.terminate()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """For a with block in which workers begin: signals come after it, and to them once they know what to do then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(preload: Sequence[str]) -> None:
    """One thread a process, memory given back; the terminal's Ctrl-C is for the parent, which ends its workers."""
    process.configure_process()
    os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    process.limit_memory_retention()
    for ending in TERMINATION_SIGNALS:
        signal.signal(ending, signal.SIG_IGN if ending == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION_SIGNALS)  # see _signals_wait
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for module in preload:
        import_module(module)


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing: they wait for its end, and end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
