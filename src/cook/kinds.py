"""The kinds of what lies in a folder with a manifest, in words; and, where a command does not read one, which does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cook.errors import OutputError
from cook.store import manifest

SEQUENCES = (None, manifest.MIX)  # kinds that hold sequences
NAMES: Mapping[str | None, str] = {
    None: "a data set",
    manifest.MIX: "a mix",
    manifest.EXPORT: "an export, for a trainer",
    manifest.CORPUS: "a corpus as text",
    manifest.PROMPTS: "what `cook prompts` keeps beside a file of prompts",
    manifest.PARSE: "a data set that `cook parse` wrote",
}
INSTEAD: Mapping[str | None, str] = {
    manifest.EXPORT: "pass what it was made from",
    manifest.CORPUS: "`cook show` shows its texts, `cook.load` opens them, and `cook verify` checks them",
    manifest.PROMPTS: "the file beside it holds the prompts, a line each, and `cook verify` checks both",
    manifest.PARSE: "`cook verify` checks it, and its shards are cooked with `cook -s COLLECTION -d NAME`",
}


def refused(folder: Path, kind: str | None, why: str = "which holds no sequences") -> OutputError:
    """The error for a folder of a kind that a command does not read."""
    return OutputError(f"{folder}: is {NAMES[kind]}, {why}: {INSTEAD[kind]}")
