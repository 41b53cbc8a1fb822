"""The files of a tokenizer by its Hub id."""

from __future__ import annotations

import warnings
from pathlib import Path

from cook.core.errors import CookWarning, TokenizerError
from cook.read.answers import TOKENIZER_BYTES, Asked, is_commit
from cook.read.hub.client import (
    MISSING,
    UNCACHED,
    Trouble,
    blob_of,
    call,
    endpoint,
    hashes,
    in_time,
    is_offline,
    remove,
)
from cook.read.waiting import Watch

FILES = ("tokenizer.json", "tokenizer_config.json")
OPTIONAL = ("special_tokens_map.json", "chat_template.jinja")  # they may name control tokens; many lack them


class HubWarning(CookWarning):
    """A file in the client's cache had to be mended, or is not there and cannot be fetched."""


def tokenizer_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a model repository, fetched or from the client's cache; None if the repository lacks it.

    Raises TokenizerError.
    """
    import huggingface_hub as hf
    from huggingface_hub import errors

    def ask() -> Path | None:
        try:
            found = Path(hf.hf_hub_download(repo, file, revision=revision))
            if not is_whole(found):
                told = f"{repo}: {file}: its copy in the cache is damaged"
                if is_offline():
                    raise TokenizerError(f"{told}, and HF_HUB_OFFLINE is set; once online, run again to mend it")
                remove(found)
                found = Path(hf.hf_hub_download(repo, file, revision=revision, force_download=True))
                if not is_whole(found):
                    remove(found)
                    raise TokenizerError(f"{told}; so is what the Hub sent, and was removed; try again later")
                warnings.warn(f"{told}; it was removed and fetched again", HubWarning, stacklevel=4)
            return found
        except errors.LocalEntryNotFoundError:
            # The client says this whenever it cannot ask the Hub, whatever the cause, and lacks it in its cache. That
            # a repository lacks a file is in the cache too, but only this call tells: by what is no path and not None.
            if not isinstance(hf.try_to_load_from_cache(repo, file, revision=revision), str | None):
                return None
            raise
        except errors.EntryNotFoundError:
            return None

    watch = Watch(HubWarning)
    commit = revision if is_commit(revision) else None
    asked = Asked(watch, endpoint(), TOKENIZER_BYTES, is_file=True, commit=commit)
    try:
        return in_time(lambda: call(ask, asked, repo, file, revision), watch, f"{repo}: {file}")
    except Trouble as exc:
        told = str(exc)
        if MISSING in told:
            told += f", or pass ./{repo} for a folder"
        elif exc.temporary or UNCACHED in told:
            files = " ".join(FILES) if file in FILES else file
            told += f"; once online, `hf download {repo} {files}` puts it into the Hub client's cache"
        if not Path(repo).exists():
            told += f" (no folder {repo} is here, so that it was taken for a Hub id)"
        raise TokenizerError(told) from exc


def beside(repo: str, commit: str | None) -> list[Path | None]:
    """The tokenizer_config.json of a commit, and each of OPTIONAL; None for what the repository lacks.

    Offline, one of OPTIONAL that the cache lacks counts as absent, with a warning. Raises TokenizerError.
    """
    import huggingface_hub as hf

    asked = [file for file in OPTIONAL if not is_offline() or hf.try_to_load_from_cache(repo, file, revision=commit)]
    if left := [file for file in OPTIONAL if file not in asked]:
        told = f"{repo}: not in the Hub client's cache, and HF_HUB_OFFLINE is set: {', '.join(left)}"
        warnings.warn(f"{told}. A token that only this names is not taken as special", HubWarning, stacklevel=4)
    found = {file: tokenizer_file(repo, file, commit) for file in (FILES[1], *asked)}
    return [found.get(file) for file in (FILES[1], *OPTIONAL)]


def is_whole(path: Path) -> bool:
    """Whether a file of the client's cache is what it was fetched as: its content is named for its hash."""
    content = blob_of(path)
    try:
        return not is_commit(content.name) or content.name in hashes(content, content.stat().st_size)
    except OSError as exc:
        raise TokenizerError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def commit_of(path: Path) -> str | None:
    """The commit that a file of the client's cache is of: REPO/snapshots/COMMIT/FILE; None where it does not lie so."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None
