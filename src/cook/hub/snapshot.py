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
from typing import NamedTuple
from urllib.parse import quote

import orjson

from cook import cache
from cook.errors import SourceError
from cook.hub.client import Trouble, call, is_offline
from cook.sources import SourceWarning

MAIN = "main"


class File(NamedTuple):
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
    """A data set repository at one commit."""

    repo: str
    commit: str
    files: dict[str, File]  # by path
    away: str
    """Why the Hub is not to be asked; empty if it can be."""


def resolve(repo: str, revision: str | None, kept: Path | None) -> Snapshot:
    """The snapshot that a revision is now: from the Hub, or as `kept`, cook's cache, has it if that cannot be asked.

    A commit whose list is kept needs no request. Raises SourceError.
    """
    records = _Records(kept and kept / "hub" / f"datasets--{repo.replace('/', '--')}")
    name = revision or MAIN
    offline = "HF_HUB_OFFLINE is set" if is_offline() else ""
    if re.fullmatch(r"[0-9a-f]{40}", name) and (files := records.tree(name)) is not None:
        return Snapshot(repo, name, files, offline)
    if offline:
        _, found = records.last(repo, name, offline)
        if found is None:
            raise SourceError(
                f"{repo}: HF_HUB_OFFLINE is set, and "
                + (
                    f"the files of revision {name} are not known"
                    if kept
                    else "without cook's cache its files are not known"
                )
                + "; once online, run the same again without HF_HUB_OFFLINE: it fetches and keeps what it needs"
            )
        return found
    try:
        return _ask(repo, name, records)
    except Trouble as exc:
        when, found = records.last(repo, name, "the Hub cannot be asked") if exc.temporary else ("", None)
        if found is None:
            hint = "; a folder that is here, or `sample`, is named by --source" if exc.unreached else ""
            raise SourceError(f"{exc}{hint}") from exc
        told = f"{exc}\n{repo}: going on with commit {found.commit} from the cache, which {name} was on {when}"
        warnings.warn(told.replace("\n", "; "), SourceWarning, stacklevel=2)
        return found


def address(repo: str, revision: str | None) -> str:
    """What --source calls a repository."""
    return f"hf://datasets/{repo}" + (f"@{revision}" if revision else "")


def _ask(repo: str, name: str, records: _Records) -> Snapshot:
    """The commit of a revision and its files, from the Hub. Raises Trouble."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()

    def commit_of() -> str:
        # With no timeout the client would wait for an answer for ever.
        return str(api.dataset_info(repo, revision=name, timeout=constants.HF_HUB_ETAG_TIMEOUT).sha)

    def list_files() -> dict[str, File]:
        listed = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        rows = [row for row in listed if isinstance(row, RepoFile)]
        return {row.path: File(row.path, row.size, row.blob_id, row.lfs.sha256 if row.lfs else None) for row in rows}

    commit = call(commit_of, repo, revision=name)
    files = records.tree(commit)
    if files is None:
        files = call(list_files, repo, revision=commit)
        records.keep_tree(commit, files)
    records.keep_last(name, commit)  # after its tree: a name that is kept leads to a list that is
    return Snapshot(repo, commit, files, "")


@dataclasses.dataclass(frozen=True)
class _Records:
    """What is kept of one repository; nothing where there is no cache."""

    folder: Path | None

    def tree(self, commit: str) -> dict[str, File] | None:
        """The files of a commit; None if they are not known."""
        data = cache.look(self.folder / "trees" / f"{commit}.json") if self.folder else None
        return None if data is None else {row[0]: File(*row) for row in orjson.loads(data)}

    def keep_tree(self, commit: str, files: dict[str, File]) -> None:
        """Keep the files of a commit."""
        if self.folder:
            cache.keep(self.folder / "trees" / f"{commit}.json", orjson.dumps([list(file) for file in files.values()]))

    def last(self, repo: str, name: str, away: str) -> tuple[str, Snapshot | None]:
        """The day on which a name was last resolved, and what it was; None if that is not known."""
        data = cache.look(self._ref(name)) if self.folder else None
        if data is None:
            return "", None
        ref = orjson.loads(data)
        files = self.tree(ref["commit"])
        return ref["day"], None if files is None else Snapshot(repo, ref["commit"], files, away)

    def keep_last(self, name: str, commit: str) -> None:
        """Keep which commit a name is today."""
        if self.folder:
            today = datetime.datetime.now(datetime.UTC).date().isoformat()
            cache.keep(self._ref(name), orjson.dumps({"commit": commit, "day": today}))

    def _ref(self, name: str) -> Path:
        assert self.folder
        return self.folder / "refs" / f"{quote(name, safe='')}.json"
