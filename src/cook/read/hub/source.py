"""A collection on the Hub as a Source: its shards fetched side by side into the client's cache, each checked there.

The client verifies no content: what comes is compared with the size and hash of the commit's file list, and what lies
in its cache too, every time. A copy that is damaged is removed and fetched again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import shlex
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cook.core.errors import SourceError
from cook.read.answers import MIN_BODY_LIMIT, ServerQuery
from cook.read.hub.client import HubError, close_connections, endpoint, file_hashes, remove_cached, with_retries
from cook.read.hub.snapshot import HubFile, Snapshot, resolve_snapshot
from cook.read.source import LAYOUT_HINT, RemoteSource, Shard, SourceWarning, shard_at
from cook.read.waiting import StallWatch

if TYPE_CHECKING:
    from cook.core.progress import Progress

THREADS = 8  # files fetched at a time


class _FetchedFile(NamedTuple):
    """What became of a file that is needed."""

    shard: Shard | None = None
    repaired: str = ""  # in words
    error: SourceError | None = None


def open_hub(repo: str, revision: str | None, cache_folder: Path | None, skip: bool = False) -> HubSource:
    """The collection in a repository, its revision resolved now. Raises SourceError."""
    watch = StallWatch(SourceWarning)
    source = HubSource(resolve_snapshot(repo, revision, cache_folder, watch), watch, skip)
    if not source.names():
        raise SourceError(f"{repo}: holds no dataset; {LAYOUT_HINT}")
    return source


class HubSource(RemoteSource):
    """A collection in a dataset repository of the Hub, at one commit."""

    def __init__(self, snapshot: Snapshot, watch: StallWatch, skip: bool = False) -> None:
        self.snapshot, self.skip = snapshot, skip
        self._watch = watch
        self._stall_message = ""  # why, in words
        self._stopped = threading.Event()
        self._fetched_files: dict[str, _FetchedFile] = {}  # by path

    def __str__(self) -> str:
        return self.snapshot.repo

    @property
    def _files(self) -> Mapping[str, Any]:
        return self.snapshot.files

    def provenance(self) -> dict[str, Any]:
        """See Source."""
        return {"kind": "hub", "id": self.snapshot.repo, "commit": self.snapshot.commit}

    def shards(self, dataset: str) -> list[Shard]:
        """See Source."""
        self.fetch([dataset])
        paths = self._paths(dataset)
        shards = []
        for path in paths:
            if error := self._fetched_files[path].error:
                raise error
            if found := self._fetched_files[path].shard:
                shards.append(found)
        if missing := len(paths) - len(shards):
            snapshot = self.snapshot
            pattern = f"{paths[0].rpartition('/')[0]}/*" if "/" in paths[0] else paths[0]
            raise SourceError(
                f"{dataset}: {missing} of its {len(paths)} shards of commit {snapshot.commit} are not in the "
                f"local cache, and {snapshot.offline_reason}; once online this fetches them:",
                f"  hf download {snapshot.repo} --repo-type dataset --revision {snapshot.commit} "
                f"--include {shlex.quote(pattern)}",
            )
        return shards

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source."""
        groups: dict[str, list[HubFile]] = {}  # files of the same content after each other: they are one in the cache
        for dataset in datasets:
            with contextlib.suppress(SourceError):  # told by `shards`
                for path in self._paths(dataset):
                    if path not in self._fetched_files:
                        file = self.snapshot.files[path]
                        groups.setdefault(file.blob, []).append(file)
        lock = threading.Lock()

        def count(amount: int) -> None:
            with lock:
                if progress and amount:
                    progress("fetch", amount)

        if progress and groups:
            progress("fetch", 0, sum(file.size for files in groups.values() for file in files))

        def fetch_group(files: list[HubFile]) -> None:
            for file in files:
                try:
                    self._fetched_files[file.path] = self._fetch_file(file, count)
                except SourceError as exc:
                    self._fetched_files[file.path] = _FetchedFile(error=exc)

        self._watch.run(fetch_group, list(groups.values()), THREADS, self._stop)
        needed = [file.path for files in groups.values() for file in files]
        for path in needed:
            if path not in self._fetched_files:
                self._fetched_files[path] = _FetchedFile(
                    error=SourceError(f"{self.snapshot.repo}: {path}: {self._stall_message}")
                )
        for fetched in [self._fetched_files[path] for path in needed]:
            if fetched.repaired:
                warnings.warn(fetched.repaired, SourceWarning, stacklevel=3)

    def _stop(self) -> None:
        self._stall_message = f"{self._watch.stall_message()}; try again later: what is fetched is kept"
        self._stopped.set()
        close_connections(self._watch)

    def _fetch_file(self, file: HubFile, count: Callable[[int], None]) -> _FetchedFile:
        """A file, whole, in the client's cache. It is not `shard` where it is not there and the Hub is not to be asked.

        Raises SourceError.
        """
        name = f"{self.snapshot.repo}: {file.path}"
        try:
            return self._cached_or_fetched(name, file, count)
        except HubError as exc:
            raise SourceError(f"{name}: {self._stall_message}" if self._stall_message else str(exc)) from exc
        except OSError as exc:
            raise SourceError(f"{name}: in the client's cache: {exc}") from exc

    def _cached_or_fetched(self, name: str, file: HubFile, count: Callable[[int], None]) -> _FetchedFile:
        """See _bring. Raises SourceError, Trouble, OSError."""
        from huggingface_hub import try_to_load_from_cache

        offline_reason, repaired = self.snapshot.offline_reason, ""
        commit = self.snapshot.commit
        cached = try_to_load_from_cache(self.snapshot.repo, file.path, revision=commit, repo_type="dataset")
        if isinstance(cached, str):
            found = check_file(Path(cached), file)
            if isinstance(found, Shard):
                count(file.size)
                return _FetchedFile(found)
            damage = f"{name}: its copy in the cache was damaged ({found})"
            if offline_reason:
                raise SourceError(f"{damage}, and {offline_reason}; once online, run again to repair it")
            remove_cached(Path(cached))
            repaired = f"{damage}; it was removed and fetched again"
        if offline_reason:
            return _FetchedFile(None)
        for _ in range(2):
            path = self._request_file(file, bool(repaired), count)
            found = check_file(path, file)
            if isinstance(found, Shard):
                self._watch.note_progress()
                return _FetchedFile(found, repaired)
            remove_cached(path)
        raise SourceError(
            f"{name}: twice the Hub sent what is not the file that it lists ({found}); removed; try again later"
        )

    def _request_file(self, file: HubFile, force: bool, count: Callable[[int], None]) -> Path:
        """A file as the client has fetched it. Raises Trouble."""
        limit, commit = max(file.size, MIN_BODY_LIMIT), self.snapshot.commit
        query = ServerQuery(self._watch, endpoint(), limit, is_file=True, commit=commit, etag=file.blob)
        return Path(
            with_retries(lambda: self._download(file, force, count, query), query, self.snapshot.repo, file.path)
        )

    def _download(self, file: HubFile, force: bool, count: Callable[[int], None], query: ServerQuery) -> str:
        """Have the client fetch a file; `count` gets the bytes that came, and back those of a try that failed."""
        import huggingface_hub as hf
        from huggingface_hub.utils.tqdm import disable_progress_bars
        from tqdm import tqdm

        if self._stopped.is_set():
            raise HubError(self._stall_message or "interrupted")
        got, watch = 0, self._watch

        class Counter(tqdm):  # type: ignore[type-arg]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                super().__init__(*args, **kwargs | {"disable": True})
                watch.expect_response(query)  # a transfer begins, by which way ever

            def update(self, n: float | None = 1) -> None:
                nonlocal got
                got += int(n or 0)
                count(int(n or 0))
                watch.note_bytes(int(n or 0))

        progress_options: dict[str, Any] = {"tqdm_class": Counter}
        if "tqdm_class" not in inspect.signature(hf.hf_hub_download).parameters:  # of older clients
            progress_options = {}
            disable_progress_bars()
        try:
            path = hf.hf_hub_download(
                self.snapshot.repo,
                file.path,
                repo_type="dataset",
                revision=self.snapshot.commit,
                force_download=force,
                **progress_options,
            )
        except BaseException:
            count(-got)
            raise
        count(0 if progress_options else file.size)
        return str(path)


def check_file(path: Path, file: HubFile) -> Shard | str:
    """A file as a shard, with its sha256, if it is the one listed; else what is wrong with it. Raises OSError."""
    shard = shard_at(path)  # before it is read: a change after that is seen
    if shard.size != file.size:
        return f"{shard.size:,} bytes, where the Hub lists {file.size:,}"
    sha256, sha1 = file_hashes(path, file.size, git=file.sha256 is None)
    if (sha1 == file.sha1) if file.sha256 is None else (sha256 == file.sha256):
        return dataclasses.replace(shard, sha256=sha256)
    return "other bytes than the Hub lists"
