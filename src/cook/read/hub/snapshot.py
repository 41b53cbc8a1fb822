"""What a collection on the Hub holds: its revision resolved to a commit once, and the list of that commit's files.

    CACHE/hub/datasets--OWNER--NAME/trees/COMMIT.json   path, size and hashes of each file; never changes
    CACHE/hub/datasets--OWNER--NAME/refs/REVISION.json  the commit that a name was last, and when

The client keeps files but not, for all versions, which there are, and it verifies none of them. With these lists a
cached collection is known to be complete and whole: with no network, and after a fetch that was killed.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from cook.core import cache
from cook.core.errors import SourceError
from cook.read.answers import (
    ListedFile,
    ResponseRejected,
    ServerQuery,
    check_listing,
    escape_and_shorten,
    host,
    is_commit,
    is_path,
    is_size,
)
from cook.read.hub.client import HubError, endpoint, is_offline, with_retries, with_timeout
from cook.read.source import SourceWarning
from cook.read.waiting import StallWatch

MAIN = "main"


class HubFile(NamedTuple):
    """A file of a commit, as the Hub lists it."""

    path: str
    size: int
    sha1: str  # of git's blob; of a file in LFS, that of its pointer
    sha256: str | None  # of a file in LFS

    @property
    def blob(self) -> str:
        """What the client's cache calls its content."""
        return self.sha256 or self.sha1


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A dataset repository at one commit."""

    repo: str
    commit: str
    files: dict[str, HubFile]  # by path
    offline_reason: str
    """Why the Hub is not to be asked; empty if it can be."""


def resolve_snapshot(repo: str, revision: str | None, cache_folder: Path | None, watch: StallWatch) -> Snapshot:
    """The snapshot that a revision names now: from the Hub, or from cook's cache if the Hub cannot be reached.

    A commit whose list is kept needs no request. Raises SourceError.
    """
    records = _Records(cache_folder and cache_folder / "hub" / f"datasets--{repo.replace('/', '--')}")
    name = revision or MAIN
    offline = "HF_HUB_OFFLINE is set" if is_offline() else ""
    if is_commit(name) and (files := records.tree(name)) is not None:
        return Snapshot(repo, name, files, offline)
    if offline:
        _, found = records.last_known(repo, name, offline)
        if found is None:
            raise SourceError(
                f"{repo}: HF_HUB_OFFLINE is set, and "
                + (
                    f"the files of revision {name} are not known"
                    if cache_folder
                    else "without cook's cache its files are not known"
                )
                + "; once online, run the same again without HF_HUB_OFFLINE: it fetches and keeps what it needs"
            )
        return found
    try:
        return with_timeout(lambda: _resolve_online(repo, name, records, watch), watch, repo)
    except HubError as exc:
        when, found = records.last_known(repo, name, "the Hub cannot be asked") if exc.temporary else ("", None)
        if found is None:
            hint = "; a folder that is here, or `sample`, is named by --source" if exc.no_connection else ""
            raise SourceError(f"{exc}{hint}") from exc
        message = f"{exc}\n{repo}: going on with commit {found.commit} from the cache, which {name} was on {when}"
        warnings.warn(message.replace("\n", "; "), SourceWarning, stacklevel=2)
        return found


def _resolve_online(repo: str, name: str, records: _Records, watch: StallWatch) -> Snapshot:
    """The commit of a revision and its files, from the Hub. Raises Trouble."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    api, who = HfApi(), host(endpoint())

    def commit_of() -> str:
        found = api.dataset_info(repo, revision=name, timeout=constants.HF_HUB_ETAG_TIMEOUT).sha
        if not isinstance(found, str) or not is_commit(found):
            raise ResponseRejected(
                f"{who} says that {name} is the commit {escape_and_shorten(repr(found), 80)}, which is none"
            )
        if is_commit(name) and found != name:
            raise ResponseRejected(f"{who} answers of commit {found}, where {name} was asked for")
        return found

    def list_files() -> tuple[dict[str, HubFile], str]:
        listed = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        files = (
            HubFile(row.path, row.size, row.blob_id, row.lfs.sha256 if row.lfs else None)
            for row in listed
            if isinstance(row, RepoFile)
        )
        rows = ((ListedFile(file.path, file.size, (file.sha1 or "", file.sha256)), file) for file in files)
        return check_listing(rows, who)

    commit = with_retries(commit_of, ServerQuery(watch, endpoint()), repo, revision=name)
    files = records.tree(commit)
    if files is None:
        files, left_out = with_retries(list_files, ServerQuery(watch, endpoint()), repo, revision=commit)
        if left_out:
            warnings.warn(f"{repo}: {left_out}", SourceWarning, stacklevel=2)
        records.remember_tree(commit, files)
    records.remember(name, commit)  # after its tree: a name that is kept leads to a list that is
    return Snapshot(repo, commit, files, "")


@dataclasses.dataclass(frozen=True)
class _Records:
    """What is kept of one repository; nothing where there is no cache. What is read is held against the same forms."""

    folder: Path | None

    def tree(self, commit: str) -> dict[str, HubFile] | None:
        """The files of a commit; None if they are not known."""
        data = cache.get(self.folder / "trees" / f"{commit}.json") if self.folder and is_commit(commit) else None
        rows = None if data is None else _parse_record(data)
        if not isinstance(rows, list) or not all(map(_is_file, rows)):
            return None
        return {row[0]: HubFile(*row) for row in rows}

    def remember_tree(self, commit: str, files: dict[str, HubFile]) -> None:
        """Keep the files of a commit."""
        if self.folder:
            cache.put(self.folder / "trees" / f"{commit}.json", orjson.dumps([list(file) for file in files.values()]))

    def last_known(self, repo: str, name: str, offline_reason: str) -> tuple[str, Snapshot | None]:
        """The day on which a name was last resolved, and what it was; None if that is not known."""
        data = cache.get(self._ref(name)) if self.folder else None
        if data is None:
            return "", None
        ref = _parse_record(data)
        if not isinstance(ref, dict) or not re.fullmatch(r"\d{4}-\d\d-\d\d", str(ref.get("day"))):
            return "", None
        files = self.tree(str(ref.get("commit")))
        return ref["day"], None if files is None else Snapshot(repo, ref["commit"], files, offline_reason)

    def remember(self, name: str, commit: str) -> None:
        """Keep which commit a name is today."""
        if self.folder:
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            cache.put(self._ref(name), orjson.dumps({"commit": commit, "day": today}))

    def _ref(self, name: str) -> Path:
        assert self.folder
        return self.folder / "refs" / f"{quote(name, safe='')}.json"


def _parse_record(data: bytes) -> Any:
    """A record; None if it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _is_file(row: Any) -> bool:
    """Whether a row of a record is a File."""
    if not isinstance(row, list) or len(row) != len(HubFile._fields):
        return False
    path, size, sha1, sha256 = row
    return is_path(path) and is_size(size) and is_commit(sha1) and (sha256 is None or is_commit(sha256))
