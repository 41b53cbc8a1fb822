"""The workers of a Dask cluster as an executor; a check that they fit; what it means when they are lost.

Needs the extra `cluster`. What a worker that dies was at work on is done again by another: a job writes its files under
names of its own and then renames them, so that doing it twice, even at once, gives the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import platform
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cook.core import owned
from cook.core.errors import ClusterError, CookError, CookWarning, first_lines, install_hint, name_some, write_error
from cook.executors.local import ClusterLost

try:
    import distributed
    from distributed.scheduler import KilledWorker
except ImportError as exc:
    raise ClusterError(f"executor: dask needs another package; {install_hint('cluster')}") from exc

if TYPE_CHECKING:
    from cook.core.recipe import Recipe

# What bytes, pickles and ids depend on: alike on the client and on every worker.
CHECKED_PACKAGES = (
    "instruct-cook", "numpy", "orjson", "pyarrow", "zstandard", "splintr-rs", "tokenizers", "fastokens", "distributed",
)  # fmt: skip
CONNECT_TIMEOUT = 60.0  # seconds that a worker is waited for, and storage to show what another machine wrote
PAUSE_POLL, PAUSE_WARN, PAUSE_TIMEOUT = 2.0, 30.0, 300.0  # seconds in which all workers are paused and no job ends
JOBS_PER_THREAD = (
    4  # jobs of a dataset submitted ahead for each thread of the cluster, so that none waits for the client
)
MAX_IN_FLIGHT = 3000  # of a dataset, three of which are at work: the scheduler never knows of 10,000


class ClusterWarning(CookWarning):
    """A cluster works, but not as it should."""


@dataclasses.dataclass(frozen=True)
class WorkerRequirements:
    """What a worker must have, whenever it joined; picklable."""

    versions: tuple[tuple[str, str | None], ...]
    folders: tuple[str, ...] = ()
    """They must be there."""


class _ExpectedFile(NamedTuple):
    path: str
    size: int | None = None
    """Bytes, if they must be so many."""


class Cluster(Executor):
    """The standard contract over a Dask client, with errors of this package.

    (What `Client.get_executor()` gives never settles a future whose result is on its way when the scheduler is lost.)
    """

    def __init__(self, client: distributed.Client) -> None:
        self.client = client
        self.address: str = client.scheduler.address
        self.requirements = WorkerRequirements(_versions())
        self._tasks: dict[Future[Any], distributed.Future] = {}
        self._lock = threading.Lock()
        self._threads, self._threads_checked_at = 0, -60.0
        self._jobs_ended, self._pause_failure = 0, ""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        outcome: Future[Any] = Future()
        try:
            # Two jobs are never one (pure), and an error is of the data (retries).
            task = self.client.submit(_run_job, self.requirements, fn, *args, pure=False, retries=0, **kwargs)
            with self._lock:
                self._tasks[outcome] = task
            outcome.add_done_callback(self._release)
            self.client.loop.add_callback(self._complete, task, outcome)
        except Exception as exc:  # whatever a client that is closed or closing raises
            raise ClusterLost(self._lost_message()) from exc
        return outcome

    def _release(self, outcome: Future[Any]) -> None:
        """Dask keeps a result for as long as someone here has its future."""
        with self._lock:
            task = self._tasks.pop(outcome)
            self._jobs_ended += 1
        if outcome.cancelled() and task.status == "pending":
            with contextlib.suppress(Exception):  # lost, and so cancelled
                task.cancel()

    async def _complete(self, task: distributed.Future, outcome: Future[Any]) -> None:
        result, error = None, None
        try:
            result = await self.client.gather(task, asynchronous=True)
        except (Exception, asyncio.CancelledError) as exc:
            error = _job_error(exc) if task.status == "error" else ClusterLost(self._lost_message())
        if not outcome.set_running_or_notify_cancel():
            return
        if error is None:
            outcome.set_result(result)
        else:
            outcome.set_exception(error)

    def watch(self, stop: threading.Event) -> None:
        """Until `stop`, end work that cannot go on: every worker is paused, and for long none ended a job."""
        since, done, warned = time.monotonic(), -1, False
        while not stop.wait(PAUSE_POLL):
            paused = self._paused_workers()
            if not paused or done != self._jobs_ended:
                since, done, warned = time.monotonic(), self._jobs_ended, False
                continue
            waited = time.monotonic() - since
            message = (
                f"{name_some(paused)}: paused by Dask for lack of memory, and no other worker runs: give workers more "
                "memory (--memory-limit) or start others"
            )
            if waited > PAUSE_TIMEOUT:
                self._pause_failure = f"{message}. No job ended within {waited:.0f} s; run again to go on where it was"
                with self._lock:
                    tasks = list(self._tasks.values())
                with contextlib.suppress(Exception):  # lost, and so cancelled
                    self.client.cancel(tasks, force=True)
                return
            if waited > PAUSE_WARN and not warned:
                warned = True
                warnings.warn(
                    f"{message}; waiting for {PAUSE_TIMEOUT - waited:.0f} s more", ClusterWarning, stacklevel=2
                )

    def _paused_workers(self) -> list[str]:
        """The workers, if work waits and each of them is paused."""
        if not self._tasks:
            return []
        with contextlib.suppress(Exception):  # what is lost is told of where work is
            workers = self.client.sync(self.client.scheduler.identity)["workers"]
            if workers and all(worker["status"] == "paused" for worker in workers.values()):
                return sorted(workers)
        return []

    def _lost_message(self) -> str:
        return self._pause_failure or (
            f"{self.address}: the scheduler was lost, or it dropped the work; run again, once it is there, to go on "
            "where it was"
        )

    @property
    def threads(self) -> int:
        """The threads of all workers, as they are now, or were some seconds ago."""
        if time.monotonic() - self._threads_checked_at > 10:
            with contextlib.suppress(Exception):  # what is lost is told of where work is
                self._threads = sum(self.client.nthreads().values())
            self._threads_checked_at = time.monotonic()
        return self._threads

    @property
    def max_in_flight(self) -> int:
        """How many jobs of a dataset to submit ahead of the one awaited."""
        return min(MAX_IN_FLIGHT, max(16, JOBS_PER_THREAD * self.threads))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor. What a worker has begun cannot be stopped: it comes to an end there, and harms nothing."""
        with self._lock:
            tasks = dict(self._tasks)
        if cancel_futures:
            with contextlib.suppress(Exception):  # lost, and so cancelled
                self.client.cancel(list(tasks.values()))  # at once, and not one by one
            for outcome in tasks:
                outcome.cancel()
        if wait:
            wait_for(tasks)

    def check_workers(self, write_folders: list[Path], read_files: list[tuple[Path, int | None]]) -> None:
        """Raise ClusterError unless each worker has the same packages, and sees these folders and files.

        Each worker writes a file into each of the folders, after one that this process put there; it is read here. A
        file to read comes with its size in bytes, where it must have that.
        """
        sizes = [_ExpectedFile(str(path), size) for path, size in read_files]
        # Folders of a run come and go: who joins later must have those that they lie in.
        lasting = [next(above for above in folder.parents if above.is_dir()) for folder in write_folders]
        self.requirements = dataclasses.replace(
            self.requirements, folders=tuple(sorted({str(folder) for folder in lasting}))
        )
        token = uuid.uuid4().hex
        marks = [folder / f"check-{token}.tmp" for folder in write_folders]
        try:
            for mark in marks:
                owned.refuse_link(mark.parent, "its work")
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(token)
            self._check_each_worker(token, marks, sizes)
        except OSError as exc:
            raise write_error(exc.filename or write_folders[0], exc) from exc
        finally:
            for mark in marks:
                for left in mark.parent.glob(f"check-{token}*.tmp"):
                    left.unlink(missing_ok=True)

    def _check_each_worker(self, token: str, marks: list[Path], sizes: list[_ExpectedFile]) -> None:
        reports = self.client.run(
            _inspect_worker, self.requirements, token, [str(mark) for mark in marks], sizes, on_error="return"
        )
        problems, crowded = [], []
        for address, report in sorted(reports.items()):
            if not isinstance(report, _WorkerReport):
                problems.append(f"{address}: cannot run cook: {report!r}; install the same one there as here")
                continue
            place = f"worker {address} on {report.host}"
            problems += [f"{place}: {problem}" for problem in report.problems]
            if report.problems:
                continue
            if report.threads > 1:
                crowded.append(f"{place} has {report.threads} threads")
            for mark in marks:
                if not _wait_for_content(mark.with_name(f"check-{token}-{report.name}.tmp"), str(report.name)):
                    problems.append(
                        f"{place}: what it writes into {mark.parent} does not appear on {socket.gethostname()}"
                    )
        if problems:
            raise ClusterError(*first_lines(problems), REQUIREMENTS_HINT)
        if crowded:
            warnings.warn(
                f"{crowded[0]}{f', and {len(crowded) - 1} more have several' if len(crowded) > 1 else ''}: half of the "
                "work holds Python's lock, so that workers of one thread each are faster: --nworkers N --nthreads 1",
                ClusterWarning,
                stacklevel=2,
            )


REQUIREMENTS_HINT = (
    "Every worker needs the same packages as this machine, and the source, the output and the cache (--cache DIR; with "
    "--no-cache tokens lie beside the output) on storage that all of them share, at the same paths"
)


class _Client(distributed.Client):  # type: ignore[misc]
    """Is closed where that is said, and nowhere else: one that could not start would wait at its end for ever."""

    def __del__(self) -> None:
        pass


@contextlib.contextmanager
def connect_cluster(recipe: Recipe) -> Iterator[Cluster]:
    """The cluster that a recipe names, with at least one worker, for a with block. Raises ClusterError."""
    where = recipe.scheduler or recipe.scheduler_file
    with _loggers_silenced():
        client = _connect(recipe, str(where))
        try:
            try:
                client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
            except Exception as exc:
                raise ClusterError(
                    f"{where}: no worker joined the scheduler within {CONNECT_TIMEOUT:.0f} s, or all are paused for "
                    "memory; start some"
                ) from exc
            cluster, stop = Cluster(client), threading.Event()
            watcher = threading.Thread(target=cluster.watch, args=(stop,), name="cook-watch", daemon=True)
            watcher.start()
            try:
                yield cluster
            finally:
                stop.set()
                watcher.join()
        finally:
            with contextlib.suppress(Exception):  # an error while closing changes no result
                client.close(timeout=2)


def _connect(recipe: Recipe, where: str) -> _Client:
    """A client of the scheduler. Raises ClusterError."""
    if recipe.scheduler_file and not Path(recipe.scheduler_file).is_file():
        raise ClusterError(f"{where}: no such file: start the scheduler with --scheduler-file {where}")
    if recipe.scheduler_file and not Path(recipe.scheduler_file).stat().st_size:
        raise ClusterError(f"{where}: is empty: the scheduler has not written its address yet, or could not")
    given = {"tls_ca_file": recipe.tls_ca, "tls_client_cert": recipe.tls_cert, "tls_client_key": recipe.tls_key}
    tls = {name: value for name, value in given.items() if value is not None}
    try:
        return _Client(
            recipe.scheduler,
            scheduler_file=recipe.scheduler_file,
            security=distributed.Security(require_encryption=True, **tls) if tls else None,
            set_as_default=False,
            name="cook",
        )
    # A wrong address, file or certificate raises many types (OSError, ValueError, TypeError, …).
    except Exception as exc:
        raise ClusterError(f"{where}: the scheduler cannot be reached: {exc}") from exc


def describe_cluster(cluster: Cluster) -> str:
    """Where the work goes, for people."""
    workers = len(cluster.client.nthreads())
    dashboard = cluster.client.dashboard_link
    return (
        f"{workers:,} {'worker' if workers == 1 else 'workers'} ({cluster.threads:,} threads) of {cluster.address}"
        + (f"; dashboard {dashboard}" if dashboard else "")
    )


LOGGERS = ("distributed", *(f"distributed.{of}" for of in ("client", "core", "comm", "batched")), "tornado", "asyncio")


@contextlib.contextmanager
def _loggers_silenced() -> Iterator[None]:
    """What the client would log of a cluster that is lost is told once, by the error."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        gc.collect()  # what broke off says so when it is let go
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _job_error(error: BaseException) -> BaseException:
    """What a job ended with, in words of this package; what it raised on purpose stays as it is."""
    if isinstance(error, CookError):
        return error
    if isinstance(error, KilledWorker):
        return ClusterLost(
            f"{error.allowed_failures + 1} workers died at one job, one after the other, the last one "
            f"{error.last_worker.address}: most likely their memory is too little (its log says more). Run again to go "
            "on where it was"
        )
    if isinstance(error, ImportError):
        return ClusterError(f"a worker cannot run cook: {error}; install the same one there as here")
    return error


# On the workers


@dataclasses.dataclass(frozen=True)
class _WorkerReport:
    """What a worker says of itself."""

    host: str
    name: str
    threads: int
    problems: list[str]


def _versions() -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = [("Python", ".".join(platform.python_version_tuple()[:2]))]
    for package in CHECKED_PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, None))
    return tuple(found)


def _version_problems(requirements: WorkerRequirements) -> list[str]:
    return [
        f"has {package} {here or 'not'}, and the client {wanted or 'not'}"
        for (package, here), (_, wanted) in zip(_versions(), requirements.versions, strict=True)
        if here != wanted
    ]


def _inspect_worker(
    requirements: WorkerRequirements,
    token: str,
    marks: list[str],
    sizes: list[_ExpectedFile],
    dask_worker: distributed.Worker,
) -> _WorkerReport:
    """Look at this worker: packages, folders, files. Dask puts in the last argument."""
    name = uuid.uuid4().hex
    problems = _version_problems(requirements)
    for mark in map(Path, marks):
        if not _wait_for_content(mark, token):
            problems.append(f"does not see what the client writes into {mark.parent}")
            continue
        try:
            mark.with_name(f"check-{token}-{name}.tmp").write_text(name)
        except OSError as exc:
            problems.append(f"{mark.parent}: cannot be written there: {exc.strerror}")
    for path, size in sizes:
        try:
            found = os.stat(path).st_size
        except OSError as exc:
            problems.append(f"{path}: cannot be read there: {exc.strerror}")
            continue
        if size is not None and found != size:
            problems.append(f"{path}: has {found:,} bytes there, and {size:,} on the client")
    return _WorkerReport(socket.gethostname(), name, dask_worker.state.nthreads, problems)


STORAGE_TIMEOUT = 5.0  # seconds that a network's storage may keep from one machine what another wrote


def _wait_for_content(path: Path, text: str) -> bool:
    """Whether a file has this text, now or soon; where its folder is not there it never will."""
    deadline = time.monotonic() + STORAGE_TIMEOUT
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                return True
        if time.monotonic() > deadline or not path.parent.is_dir():
            return False
        time.sleep(0.1)


def _run_job(requirements: WorkerRequirements, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """A job, on a worker that was looked at, or joined since."""
    _prepare_worker(requirements)
    return fn(*args, **kwargs)


@functools.lru_cache(4)
def _prepare_worker(requirements: WorkerRequirements) -> None:
    """Once a process: raise ClusterError if it does not fit; as many threads for engines as Dask has work on."""
    # Read by engines when their first batch is encoded; with one thread for all, those of Dask would wait in line.
    threads = str(distributed.get_worker().state.nthreads)
    for name in ("RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS"):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    missing_folders = [f"does not see {folder}" for folder in requirements.folders if not Path(folder).is_dir()]
    if problems := [*_version_problems(requirements), *missing_folders]:
        raise ClusterError(*(f"worker on {socket.gethostname()}: {said}" for said in problems), REQUIREMENTS_HINT)
