"""A collection in a dataset repository of ModelScope, read through its own client (the extra `modelscope`).

The client's cache and environment variables hold: MODELSCOPE_ENDPOINT, MODELSCOPE_CACHE, MODELSCOPE_API_TOKEN (or what
`ms login` keeps in MODELSCOPE_HOME), and those of its retries. It tries again what is temporary, goes on with a file
that was cut, and fetches one again that came damaged. What it says of that becomes a SourceWarning; every error of its
becomes a SourceError that says what to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cook.core.errors import CookError, SourceError, install_hint
from cook.core.files import sha256_of
from cook.read import transport
from cook.read.answers import (
    MAX_LIST_BYTES,
    MIN_BODY_LIMIT,
    ListedFile,
    ResponseRejected,
    ServerQuery,
    check_listing,
    escape_and_shorten,
    host,
)
from cook.read.source import RemoteSource, Shard, SourceWarning, group_by_dataset, shard_at
from cook.read.waiting import ServerStalled, StallWatch

if TYPE_CHECKING:
    from cook.core.progress import Progress

SOURCE_KIND = "modelscope"
MODELSCOPE_COLLECTION = "AI-ModelScope/ft-instruction-synthesizer-collection"
DEFAULT_REVISION = "master"  # the default branch of every repository there
LISTING_RETRY_DELAYS = (
    2.0,
    8.0,
)  # seconds before a listing that failed is asked for again, after the client's own attempts
T = TypeVar("T")
_ADDRESS = re.compile(r"modelscope://datasets/(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*(?:/\w[\w.-]*)*))?")


@dataclasses.dataclass(frozen=True)
class _RemoteFile:
    """What the server says of a file."""

    size: int
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class ModelScopeSource(RemoteSource):
    """A collection in a dataset repository of ModelScope. Only the shards that are asked for are fetched."""

    repo: str  # OWNER/NAME
    revision: str = DEFAULT_REVISION  # branch, tag or commit
    skip: bool = dataclasses.field(default=False, repr=False)
    """Whether to go on without what could be data and is not read."""
    _shards_by_path: dict[str, Shard] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    _queries: dict[str, ServerQuery] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def provenance(self) -> dict[str, Any]:
        """See Source. The server names no commit for a branch: the sha256 of each shard is the manifest's to say."""
        return {"kind": SOURCE_KIND, "id": self.repo, "revision": self.revision}

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source; one file after the other, so that an interrupt ends it at once."""
        datasets = list(datasets)
        paths = [path for dataset in datasets for path in self._datasets.get(dataset, ())]
        if progress:
            progress("fetch", 0, sum(self._files[path].size for path in paths if path not in self._shards_by_path))
        for dataset in datasets:
            with contextlib.suppress(SourceError):  # told by `shards`, which tries again
                for path in self._paths(dataset):
                    if path not in self._shards_by_path:
                        self._shards_by_path[path] = self._fetch_shard(path)
                        if progress:
                            progress("fetch", self._shards_by_path[path].size)

    def shards(self, dataset: str) -> list[Shard]:
        """See Source."""
        return [self._shards_by_path.get(path) or self._fetch_shard(path) for path in self._paths(dataset)]

    @functools.cached_property
    def _api(self) -> Any:
        """The client. Raises SourceError if it is not installed."""
        # A handler that is there before the client is keeps it from writing its log to standard error.
        log = logging.getLogger("modelscope_hub")
        if not any(isinstance(handler, _ClientLogHandler) for handler in log.handlers):
            log.addHandler(_ClientLogHandler(logging.WARNING))
        try:
            import modelscope_hub

            download: Any = import_module("modelscope_hub._download")
        except ImportError as exc:
            raise SourceError(
                f"source modelscope: needs ModelScope's client, which is not installed ({exc}):",
                f"  {install_hint('modelscope')}",
            ) from exc
        # Its bars are shown on a terminal alone; it has no setting for that.
        if not isinstance(download.tqdm, functools.partial):
            download.tqdm = functools.partial(download.tqdm, disable=None)
        with self._client_errors():
            api = modelscope_hub.HubApi()
        for session in (api.legacy._session, api.legacy._read_session):
            transport.guard_session(session, lambda: self._queries.get("now"))
        return api

    def _ask(self, question: Callable[[], T], path: str = "", limit: int = MAX_LIST_BYTES) -> T:
        """What the client answers: in time, and held against the forms of `answers`. Raises SourceError.

        It asks in a thread that is left alone where it takes too long; what that asks then is refused.
        """
        with self._client_errors(path):
            watch = self._watch
            query = self._queries["now"] = ServerQuery(watch, self._endpoint, limit, is_file=bool(path), etags=False)
            try:
                return watch.ask(question, query.stop, lambda: query.refusal is not None)
            except Exception as exc:
                if query.refusal and not isinstance(exc, CookError):
                    raise query.refusal from exc
                raise
            finally:
                watch.response_done(query)

    @functools.cached_property
    def _watch(self) -> StallWatch:
        return StallWatch(SourceWarning)

    @functools.cached_property
    def _files(self) -> dict[str, _RemoteFile]:
        """The files of the repository at the revision, by path."""
        for wait in (*LISTING_RETRY_DELAYS, None):
            try:
                found, left_out = self._ask(self._list_files)
            except SourceError as exc:
                if wait is None or wait > self._watch.seconds_left() or not getattr(exc.__cause__, "retryable", False):
                    raise
                time.sleep(wait)
            else:
                break
        if left_out:
            warnings.warn(f"{self}: {left_out}", SourceWarning, stacklevel=3)
        if not found:
            raise SourceError(
                f"{self}: lists no file: the repository is empty, or has no such revision; see {self._page}"
            )
        return found

    def _list_files(self) -> tuple[dict[str, _RemoteFile], str]:
        """The files as the server lists them now, and which were left out, in words."""
        found: list[tuple[ListedFile, _RemoteFile]] = []
        # Not `list_repo_files`: it takes a page that failed with status 200 for the end of the listing.
        for _, rows, failure in self._api.legacy.iter_dataset_file_pages(self.repo, self.revision):
            if failure is not None:
                raise failure
            if odd := next((row for row in rows if not isinstance(row, dict)), None):
                raise ResponseRejected(
                    f"{host(self._endpoint)} lists {escape_and_shorten(repr(odd), 80)}, which is no file"
                )
            found += [_parse_row(row) for row in rows if row.get("Type") != "tree"]
        return check_listing(found, host(self._endpoint))

    @functools.cached_property
    def _datasets(self) -> dict[str, list[str]]:
        found = group_by_dataset(self._files)
        if not found:
            raise SourceError(f"{self}: holds no dataset; a source is laid out DATASET/shard/*.jsonl; see {self._page}")
        return found

    def _fetch_shard(self, path: str) -> Shard:
        """A shard, from the client's cache or fetched, of the size and sha256 that the server states."""
        file = self._files[path]
        with self._client_errors(path):
            cached = self._cached(path)
            if cached is not None and not _is_intact(cached, file):
                self._require_in_cache(cached)
                message = f"{cached}: is damaged, or older than the repository; fetched again"
                warnings.warn(message, SourceWarning, stacklevel=3)
                cached = None  # the client removes it, as it knows size and sha256 too
            if cached is None:
                cached = self._ask(lambda: self._download(path, file), path, max(file.size, MIN_BODY_LIMIT))
                self._watch.note_progress()
                if not _is_intact(cached, file):
                    self._require_in_cache(cached).unlink(missing_ok=True)
                    raise SourceError(f"{cached}: is not what was fetched into it; is the disk sound? Run again")
            return shard_at(cached)

    def _download(self, path: str, file: _RemoteFile) -> Path:
        return Path(
            self._api.download_file(
                self.repo,
                "dataset",
                path,
                revision=self.revision,
                expected_sha256=file.sha256,
                file_size=file.size,
            )
        )

    def _cached(self, path: str) -> Path | None:
        from modelscope_hub.errors import CacheNotFound

        try:
            found = self._api.download_file(self.repo, "dataset", path, revision=self.revision, local_files_only=True)
        except CacheNotFound:
            return None
        return Path(found)

    def _require_in_cache(self, path: Path) -> Path:
        """A path of the client's cache, which may be written and removed; raises SourceError for one that leads out."""
        cache = Path(self._api._config.cache_dir).resolve()
        if not path.resolve().is_relative_to(cache):
            raise SourceError(f"{path}: leads out of ModelScope's cache; remove the link, or set MODELSCOPE_CACHE")
        return path

    @contextlib.contextmanager
    def _client_errors(self, path: str = "") -> Iterator[None]:
        """Turn every error of the client into a SourceError that says what to do. path: what is fetched, if a file."""
        try:
            yield
        except CookError:
            raise
        except Exception as exc:  # the client lets through errors of requests, of sockets and of the disk
            raise SourceError(f"{f'{self}: {path}' if path else self}: {self._advice(exc)}") from exc

    def _advice(self, exc: Exception) -> str:
        """What went wrong, and what to do about it."""
        from modelscope_hub import errors

        login = "set MODELSCOPE_API_TOKEN, or run `ms login`"
        match exc:
            case errors.NotExistError():
                message = (
                    f"no such dataset repository, revision or file on ModelScope, or a private one: "
                    f"check {self._page}; for a private one {login}; "
                    "for the international site set MODELSCOPE_ENDPOINT=https://www.modelscope.ai"
                )
            case errors.AuthenticationError():
                message = f"ModelScope does not know who asks, or not that token ({_reason(exc)}); {login}"
            case errors.PermissionDeniedError():
                message = f"is private or gated; ask for access at {self._page}, then {login}"
            case errors.FileIntegrityError():
                message = (
                    f"came damaged, more than once ({_reason(exc)}); it is not kept. Run again later; if it stays so, "
                    "the repository's file and its listing disagree: tell its owner"
                )
            case errors.RateLimitError():
                message = f"ModelScope allows no more requests for now ({_reason(exc)}); wait, run again: {RESUME_HINT}"
            case errors.ServerError():
                message = f"ModelScope fails ({_reason(exc)}); run again later: {RESUME_HINT}"
            case errors.NetworkError() | ConnectionError() | TimeoutError():
                message = (
                    f"ModelScope cannot be reached at {self._endpoint} ({_reason(exc)}); check the network and "
                    f"MODELSCOPE_ENDPOINT, and run again: {RESUME_HINT}{self._cached_folder_hint()}"
                )
            case ServerStalled():
                message = f"{exc}; run again later: {RESUME_HINT}"
            case ResponseRejected():
                message = str(exc)
            case errors.CacheError() | OSError():
                message = f"cannot be stored ({_reason(exc)}); MODELSCOPE_CACHE and MODELSCOPE_HOME name other folders"
            case _:
                message = f"cannot be fetched ({_reason(exc)}); run again: {RESUME_HINT}"
        return message

    def _cached_folder_hint(self) -> str:
        """The folder with what was fetched before, as a source that needs no network; "" if there is none."""
        try:
            found = self._api.download_repo(self.repo, "dataset", revision=self.revision, local_files_only=True)
        except Exception:  # said while another error is
            return ""
        return f"; what was fetched before, as it is: --source {found}"

    @property
    def _endpoint(self) -> str:
        return str(self._api.legacy.endpoint)

    @property
    def _page(self) -> str:
        return f"{self._endpoint}/datasets/{self.repo}"

    def __str__(self) -> str:
        return self.repo if self.revision == DEFAULT_REVISION else f"{self.repo}@{self.revision}"


RESUME_HINT = "what is fetched is kept"


def open_modelscope(name: str, skip: bool = False) -> ModelScopeSource:
    """The source of that name: modelscope, or modelscope://datasets/OWNER/NAME[@REVISION]. Raises SourceError.

    >>> open_modelscope("modelscope://datasets/me/my.data@v1.0")
    ModelScopeSource(repo='me/my.data', revision='v1.0')
    """
    if name == SOURCE_KIND:
        return ModelScopeSource(MODELSCOPE_COLLECTION, skip=skip)
    match = _ADDRESS.fullmatch(name)
    if not match:
        raise SourceError(f"{name}: is no address there; write modelscope://datasets/OWNER/NAME or …/NAME@REVISION")
    return ModelScopeSource(match[1], match[2] or DEFAULT_REVISION, skip)


class _ClientLogHandler(logging.Handler):
    """Makes a warning of what the client logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        warnings.warn(
            f"ModelScope: {escape_and_shorten((record.getMessage().splitlines() or [''])[0])}",
            SourceWarning,
            stacklevel=2,
        )


def _parse_row(row: dict[str, Any]) -> tuple[ListedFile, _RemoteFile]:
    """A row of a listing. The server leaves the sha256 empty where it has none."""
    path, size, sha256 = row.get("Path"), row.get("Size"), row.get("Sha256") or None
    if isinstance(sha256, str):
        sha256 = sha256.lower()
    return ListedFile(path, size, (sha256,)), _RemoteFile(size, sha256)  # type: ignore[arg-type] # `sound` sees to it


def _is_intact(path: Path, file: _RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    return file.sha256 is None or sha256_of(path) == file.sha256


def _reason(exc: Exception) -> str:
    """The first line of what caused an error, as deep as it is told in English; else the error's type."""
    found = type(exc).__name__
    seen: list[BaseException] = []  # a chain may run in a circle: libraries raise an error again that they kept
    cause: BaseException | None = exc
    while cause is not None and cause not in seen:
        seen.append(cause)
        line = str(cause).partition("\n")[0].strip()
        if line and line.isascii():
            found = line
            if getattr(cause, "status_code", None):  # the server's own words
                break
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return escape_and_shorten(found)
