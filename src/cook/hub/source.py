"""A collection on the Hub as a Source: its shards fetched side by side into the client's cache, each checked there.

The client verifies no content: what comes is compared with the size and hash of the commit's file list, and what lies
in its cache too, every time. A copy that is damaged is removed and fetched again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import queue
import shlex
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cook.errors import SourceError
from cook.hub.client import Trouble, call, hashes, remove
from cook.hub.snapshot import File, Snapshot, resolve
from cook.sources import LAID_OUT, Listed, Shard, SourceWarning, in_order, layout, shard_at

if TYPE_CHECKING:
    from cook.progress import Progress

THREADS = 8  # files fetched at a time
LEAVE_S = 2.0  # seconds that an interrupt gives the client to remove what is half-fetched
T = TypeVar("T")


class _Brought(NamedTuple):
    """What became of a file that is needed."""

    found: Shard | None = None
    mended: str = ""  # in words
    error: SourceError | None = None


def open_hub(repo: str, revision: str | None, kept: Path | None) -> HubSource:
    """The collection in a repository, its revision resolved now. Raises SourceError."""
    source = HubSource(resolve(repo, revision, kept))
    if not source.names():
        raise SourceError(f"{repo}: holds no data set; {LAID_OUT}")
    return source


class HubSource:
    """A collection in a data set repository of the Hub, at one commit."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._data_sets = layout(snapshot.files)
        self._stopped = threading.Event()
        self._brought: dict[str, _Brought] = {}  # by path

    def provenance(self) -> dict[str, Any]:
        """See Source."""
        return {"kind": "hub", "id": self.snapshot.repo, "commit": self.snapshot.commit}

    def names(self) -> list[str]:
        """See Source."""
        return list(self._data_sets)

    def listed(self, data_set: str) -> list[Listed]:
        """See Source."""
        return [Listed(path, self.snapshot.files[path].size) for path in self._paths(data_set)]

    def shards(self, data_set: str) -> list[Shard]:
        """See Source."""
        self.fetch([data_set])
        paths = self._paths(data_set)
        shards = []
        for path in paths:
            if error := self._brought[path].error:
                raise error
            if found := self._brought[path].found:
                shards.append(found)
        if missing := len(paths) - len(shards):
            snapshot = self.snapshot
            pattern = f"{paths[0].rpartition('/')[0]}/*" if "/" in paths[0] else paths[0]
            raise SourceError(
                f"{data_set}: {missing} of its {len(paths)} shards of commit {snapshot.commit} are not in the "
                f"local cache, and {snapshot.away}; once online this fetches them:",
                f"  hf download {snapshot.repo} --repo-type dataset --revision {snapshot.commit} "
                f"--include {shlex.quote(pattern)}",
            )
        return shards

    def fetch(self, data_sets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source."""
        groups: dict[str, list[File]] = {}  # files of the same content after each other: they are one in the cache
        for data_set in data_sets:
            with contextlib.suppress(SourceError):  # told by `shards`
                for path in self._paths(data_set):
                    if path not in self._brought:
                        file = self.snapshot.files[path]
                        groups.setdefault(file.blob, []).append(file)
        lock = threading.Lock()

        def count(amount: int) -> None:
            with lock:
                if progress and amount:
                    progress("fetch", amount)

        if progress and groups:
            progress("fetch", 0, sum(file.size for files in groups.values() for file in files))

        def bring(files: list[File]) -> None:
            for file in files:
                try:
                    self._brought[file.path] = self._bring(file, count)
                except SourceError as exc:
                    self._brought[file.path] = _Brought(error=exc)

        _in_threads(bring, list(groups.values()), self._stopped)
        for brought in [self._brought[file.path] for files in groups.values() for file in files]:
            if brought.mended:
                warnings.warn(brought.mended, SourceWarning, stacklevel=3)

    def _paths(self, data_set: str) -> list[str]:
        return in_order(data_set, self._data_sets.get(data_set, ()))

    def _bring(self, file: File, count: Callable[[int], None]) -> _Brought:
        """A file, whole, in the client's cache. It is not `found` where it is not there and the Hub is not to be asked.

        Raises SourceError.
        """
        name = f"{self.snapshot.repo}: {file.path}"
        try:
            return self._cached_or_fetched(name, file, count)
        except Trouble as exc:
            raise SourceError(str(exc)) from exc
        except OSError as exc:
            raise SourceError(f"{name}: in the client's cache: {exc}") from exc

    def _cached_or_fetched(self, name: str, file: File, count: Callable[[int], None]) -> _Brought:
        """See _bring. Raises SourceError, Trouble, OSError."""
        from huggingface_hub import try_to_load_from_cache

        away, mended = self.snapshot.away, ""
        commit = self.snapshot.commit
        cached = try_to_load_from_cache(self.snapshot.repo, file.path, revision=commit, repo_type="dataset")
        if isinstance(cached, str):
            found = checked(Path(cached), file)
            if isinstance(found, Shard):
                count(file.size)
                return _Brought(found)
            damage = f"{name}: its copy in the cache was damaged ({found})"
            if away:
                raise SourceError(f"{damage}, and {away}; once online, run again to mend it")
            remove(Path(cached))
            mended = f"{damage}; it was removed and fetched again"
        if away:
            return _Brought(None)
        for _ in range(2):
            path = Path(call(lambda: self._download(file, bool(mended), count), self.snapshot.repo, file.path))
            found = checked(path, file)
            if isinstance(found, Shard):
                return _Brought(found, mended)
            remove(path)
        raise SourceError(
            f"{name}: twice the Hub sent what is not the file that it lists ({found}); removed; try again later"
        )

    def _download(self, file: File, force: bool, count: Callable[[int], None]) -> str:
        """Have the client fetch a file; `count` gets the bytes that came, and back those of a try that failed."""
        import huggingface_hub as hf
        from huggingface_hub.utils.tqdm import disable_progress_bars
        from tqdm import tqdm

        if self._stopped.is_set():
            raise Trouble("interrupted")
        got = 0

        class Counter(tqdm):  # type: ignore[type-arg]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                super().__init__(*args, **kwargs | {"disable": True})

            def update(self, n: float | None = 1) -> None:
                nonlocal got
                got += int(n or 0)
                count(int(n or 0))

        more: dict[str, Any] = {"tqdm_class": Counter}
        if "tqdm_class" not in inspect.signature(hf.hf_hub_download).parameters:  # of older clients
            more = {}
            disable_progress_bars()
        try:
            path = hf.hf_hub_download(
                self.snapshot.repo,
                file.path,
                repo_type="dataset",
                revision=self.snapshot.commit,
                force_download=force,
                **more,
            )
        except BaseException:
            count(-got)
            raise
        count(0 if more else file.size)
        return str(path)


def checked(path: Path, file: File) -> Shard | str:
    """A file as a shard, with its sha256, if it is the one listed; else what is wrong with it. Raises OSError."""
    shard = shard_at(path)  # before it is read: a change after that is seen
    if shard.size != file.size:
        return f"{shard.size:,} bytes, where the Hub lists {file.size:,}"
    sha256, sha1 = hashes(path, file.size, git=file.sha256 is None)
    if (sha1 == file.sha1) if file.sha256 is None else (sha256 == file.sha256):
        return dataclasses.replace(shard, sha256=sha256)
    return "other bytes than the Hub lists"


def _in_threads(work: Callable[[T], None], items: list[T], stopped: threading.Event) -> None:
    """Do work for each item by a few threads. An interrupt sets `stopped`, and waits for none of them long."""
    todo: queue.SimpleQueue[tuple[Future[None], T]] = queue.SimpleQueue()
    futures: list[Future[None]] = []
    for item in items:
        futures.append(Future())
        todo.put((futures[-1], item))

    def run() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                future, item = todo.get_nowait()
                if future.set_running_or_notify_cancel():
                    try:
                        work(item)
                        future.set_result(None)
                    except BaseException as exc:
                        future.set_exception(exc)

    threads = [threading.Thread(target=run, daemon=True, name="cook-fetch") for _ in items[:THREADS]]
    for thread in threads:
        thread.start()
    try:
        for future in futures:
            future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        stopped.set()
        _sever()
        for thread in threads:
            thread.join(LEAVE_S / len(threads))
        raise


def _sever() -> None:
    """Close the client's connections, where it has a way to: its downloads fail, and remove what they wrote."""
    from huggingface_hub import utils

    with contextlib.suppress(Exception):
        getattr(utils, "close_session", lambda: None)()
