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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cook.core.errors import SourceError
from cook.read.answers import LEAST_BYTES, Asked
from cook.read.hub.client import Trouble, call, endpoint, hashes, remove, sever
from cook.read.hub.snapshot import File, Snapshot, resolve
from cook.read.source import (
    LAID_OUT,
    Listed,
    Shard,
    SourceWarning,
    Unread,
    in_order,
    layout,
    refuse_unread,
    shard_at,
    unread_files,
)
from cook.read.waiting import Watch

if TYPE_CHECKING:
    from cook.core.progress import Progress

THREADS = 8  # files fetched at a time


class _Brought(NamedTuple):
    """What became of a file that is needed."""

    found: Shard | None = None
    mended: str = ""  # in words
    error: SourceError | None = None


def open_hub(repo: str, revision: str | None, kept: Path | None, skip: bool = False) -> HubSource:
    """The collection in a repository, its revision resolved now. Raises SourceError."""
    watch = Watch(SourceWarning)
    source = HubSource(resolve(repo, revision, kept, watch), watch, skip)
    if not source.names():
        raise SourceError(f"{repo}: holds no dataset; {LAID_OUT}")
    return source


class HubSource:
    """A collection in a dataset repository of the Hub, at one commit."""

    def __init__(self, snapshot: Snapshot, watch: Watch, skip: bool = False) -> None:
        self.snapshot, self._skip = snapshot, skip
        self._watch = watch
        self._gave_up = ""  # why, in words
        self._datasets = layout(snapshot.files)
        self._stopped = threading.Event()
        self._brought: dict[str, _Brought] = {}  # by path

    def provenance(self) -> dict[str, Any]:
        """See Source."""
        return {"kind": "hub", "id": self.snapshot.repo, "commit": self.snapshot.commit}

    def names(self) -> list[str]:
        """See Source."""
        return list(self._datasets)

    def listed(self, dataset: str) -> list[Listed]:
        """See Source."""
        return [Listed(path, self.snapshot.files[path].size) for path in self._paths(dataset)]

    def shards(self, dataset: str) -> list[Shard]:
        """See Source."""
        self.fetch([dataset])
        paths = self._paths(dataset)
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
                f"{dataset}: {missing} of its {len(paths)} shards of commit {snapshot.commit} are not in the "
                f"local cache, and {snapshot.away}; once online this fetches them:",
                f"  hf download {snapshot.repo} --repo-type dataset --revision {snapshot.commit} "
                f"--include {shlex.quote(pattern)}",
            )
        return shards

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source."""
        groups: dict[str, list[File]] = {}  # files of the same content after each other: they are one in the cache
        for dataset in datasets:
            with contextlib.suppress(SourceError):  # told by `shards`
                for path in self._paths(dataset):
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

        self._watch.run(bring, list(groups.values()), THREADS, self._stop)
        needed = [file.path for files in groups.values() for file in files]
        for path in needed:
            if path not in self._brought:
                self._brought[path] = _Brought(error=SourceError(f"{self.snapshot.repo}: {path}: {self._gave_up}"))
        for brought in [self._brought[path] for path in needed]:
            if brought.mended:
                warnings.warn(brought.mended, SourceWarning, stacklevel=3)

    def _stop(self) -> None:
        self._gave_up = f"{self._watch.told()}; try again later: what is fetched is kept"
        self._stopped.set()
        sever(self._watch)

    def unread(self, dataset: str) -> list[Unread]:
        """See Source."""
        return unread_files(dataset, self.snapshot.files)

    def _paths(self, dataset: str) -> list[str]:
        if not self._skip:
            refuse_unread(dataset, self.unread(dataset), f"{self.snapshot.repo}: ")
        return in_order(dataset, self._datasets.get(dataset, ()))

    def _bring(self, file: File, count: Callable[[int], None]) -> _Brought:
        """A file, whole, in the client's cache. It is not `found` where it is not there and the Hub is not to be asked.

        Raises SourceError.
        """
        name = f"{self.snapshot.repo}: {file.path}"
        try:
            return self._cached_or_fetched(name, file, count)
        except Trouble as exc:
            raise SourceError(f"{name}: {self._gave_up}" if self._gave_up else str(exc)) from exc
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
            path = self._fetched(file, bool(mended), count)
            found = checked(path, file)
            if isinstance(found, Shard):
                self._watch.progress()
                return _Brought(found, mended)
            remove(path)
        raise SourceError(
            f"{name}: twice the Hub sent what is not the file that it lists ({found}); removed; try again later"
        )

    def _fetched(self, file: File, force: bool, count: Callable[[int], None]) -> Path:
        """A file as the client has fetched it. Raises Trouble."""
        limit, commit = max(file.size, LEAST_BYTES), self.snapshot.commit
        asked = Asked(self._watch, endpoint(), limit, is_file=True, commit=commit, etag=file.blob)
        return Path(call(lambda: self._download(file, force, count, asked), asked, self.snapshot.repo, file.path))

    def _download(self, file: File, force: bool, count: Callable[[int], None], asked: Asked) -> str:
        """Have the client fetch a file; `count` gets the bytes that came, and back those of a try that failed."""
        import huggingface_hub as hf
        from huggingface_hub.utils.tqdm import disable_progress_bars
        from tqdm import tqdm

        if self._stopped.is_set():
            raise Trouble(self._gave_up or "interrupted")
        got, watch = 0, self._watch

        class Counter(tqdm):  # type: ignore[type-arg]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs.pop("name", None)
                super().__init__(*args, **kwargs | {"disable": True})
                watch.waits(asked)  # a transfer begins, by which way ever

            def update(self, n: float | None = 1) -> None:
                nonlocal got
                got += int(n or 0)
                count(int(n or 0))
                watch.gets(int(n or 0))

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
