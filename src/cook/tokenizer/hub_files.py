"""The files of a tokenizer by its Hub id."""

from __future__ import annotations

import warnings
from pathlib import Path

from cook.core.errors import CookWarning, TokenizerError
from cook.read.answers import MAX_TOKENIZER_BYTES, ServerQuery, is_commit
from cook.read.hub.client import (
    MISSING_REPO_MESSAGE,
    UNCACHED_MESSAGE,
    HubError,
    blob_of,
    endpoint,
    file_hashes,
    is_offline,
    remove_cached,
    with_retries,
    with_timeout,
)
from cook.read.waiting import StallWatch

REQUIRED_FILES = ("tokenizer.json", "tokenizer_config.json")
OPTIONAL_FILES = ("special_tokens_map.json", "chat_template.jinja")  # they may name control tokens; many lack them


class HubWarning(CookWarning):
    """A file in the client's cache had to be mended, or is not there and cannot be fetched."""


def fetch_tokenizer_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a model repository, fetched or from the client's cache; None if the repository lacks it.

    Raises TokenizerError.
    """
    watch = StallWatch(HubWarning)
    commit = revision if is_commit(revision) else None
    query = ServerQuery(watch, endpoint(), MAX_TOKENIZER_BYTES, is_file=True, commit=commit)

    def fetch() -> Path | None:
        return with_retries(lambda: _fetch_intact(repo, file, revision), query, repo, file, revision)

    try:
        return with_timeout(fetch, watch, f"{repo}: {file}")
    except HubError as exc:
        message = str(exc)
        if MISSING_REPO_MESSAGE in message:
            message += f", or pass ./{repo} for a folder"
        elif exc.temporary or UNCACHED_MESSAGE in message:
            files = " ".join(REQUIRED_FILES) if file in REQUIRED_FILES else file
            message += f"; once online, `hf download {repo} {files}` puts it into the Hub client's cache"
        if not Path(repo).exists():
            message += f" (no folder {repo} is here, so that it was taken for a Hub id)"
        raise TokenizerError(message) from exc


def _fetch_intact(repo: str, file: str, revision: str | None) -> Path | None:
    """See `fetch_tokenizer_file`; a damaged copy is removed and fetched once more. Raises the client's errors too."""
    import huggingface_hub as hf
    from huggingface_hub import errors

    try:
        found = Path(hf.hf_hub_download(repo, file, revision=revision))
        if not is_intact(found):
            message = f"{repo}: {file}: its copy in the cache is damaged"
            if is_offline():
                raise TokenizerError(f"{message}, and HF_HUB_OFFLINE is set; once online, run again to repair it")
            remove_cached(found)
            found = Path(hf.hf_hub_download(repo, file, revision=revision, force_download=True))
            if not is_intact(found):
                remove_cached(found)
                raise TokenizerError(f"{message}; the Hub sent a damaged one too, which was removed; try again later")
            warnings.warn(f"{message}; it was removed and fetched again", HubWarning, stacklevel=4)
        return found
    except errors.LocalEntryNotFoundError:
        # The client raises this whenever it cannot ask the Hub. Its cache also records that a repository lacks a
        # file; then this call returns neither a path nor None.
        if not isinstance(hf.try_to_load_from_cache(repo, file, revision=revision), str | None):
            return None
        raise
    except errors.EntryNotFoundError:
        return None


def fetch_config_files(repo: str, commit: str | None) -> list[Path | None]:
    """The tokenizer_config.json of a commit, and each of OPTIONAL_FILES; None for what the repository lacks.

    Offline, one of OPTIONAL_FILES that the cache lacks counts as absent, with a warning. Raises TokenizerError.
    """
    import huggingface_hub as hf

    wanted = [
        file for file in OPTIONAL_FILES if not is_offline() or hf.try_to_load_from_cache(repo, file, revision=commit)
    ]
    if left := [file for file in OPTIONAL_FILES if file not in wanted]:
        message = f"{repo}: not in the Hub client's cache, and HF_HUB_OFFLINE is set: {', '.join(left)}"
        warnings.warn(f"{message}. A token that only this names is not taken as special", HubWarning, stacklevel=4)
    found = {file: fetch_tokenizer_file(repo, file, commit) for file in (REQUIRED_FILES[1], *wanted)}
    return [found.get(file) for file in (REQUIRED_FILES[1], *OPTIONAL_FILES)]


def is_intact(path: Path) -> bool:
    """Whether a file of the client's cache is what it was fetched as: its content is named for its hash."""
    content = blob_of(path)
    try:
        return not is_commit(content.name) or content.name in file_hashes(content, content.stat().st_size)
    except OSError as exc:
        raise TokenizerError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def commit_of(path: Path) -> str | None:
    """The commit that a file of the client's cache is of: REPO/snapshots/COMMIT/FILE; None where it does not lie so."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None
