"""Where shards come from: a local folder or the bundled sample.

A source lays data sets out as DATASET/shard/*.jsonl, each shard plain or compressed (.gz, .zst). Shards are read in
bytewise order of their decompressed names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

from cook.catalog import is_safe
from cook.errors import SourceError
from cook.load import SUFFIXES, shard_name, unreadable

SAMPLE = "sample"
HUB = "hub"
COLLECTION = "instruction-pretrain/ft-instruction-synthesizer-collection"


class SourceWarning(UserWarning):
    """A source holds what is not read."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a data set."""

    name: str  # the file's name, compression suffix included
    path: Path
    size: int  # bytes, as they lie there
    modified: int  # nanoseconds

    def changed(self) -> bool:
        """Whether the file is another than when it was listed. Raises SourceError if it is gone."""
        try:
            now = self.path.stat()
        except OSError as exc:
            raise unreadable(self.path, exc) from exc
        return (now.st_size, now.st_mtime_ns) != (self.size, self.modified)


@dataclasses.dataclass(frozen=True)
class Source:
    """A collection of data sets that can be read: a folder, and what the manifest says of it."""

    kind: str  # "local" or "sample"
    root: Path
    follow_links: bool = True
    """Whether to read what lies outside of `root`."""

    def _refuse_outside(self, path: Path) -> None:
        real = path.resolve()
        if not any(home and real.is_relative_to(home) for home in (self.root.resolve(), _blobs(self.root))):
            raise SourceError(
                f"{path}: leads out of the source folder, to {real}; if that is meant, pass --follow-links"
            )

    def provenance(self) -> dict[str, Any]:
        """What the manifest keeps: never a path of this machine."""
        return {"kind": self.kind}

    def names(self) -> list[str]:
        """The data sets held, in bytewise order."""
        try:
            found = [entry.name for entry in os.scandir(self.root) if (Path(entry.path) / "shard").is_dir()]
        except OSError as exc:
            raise SourceError(f"{self.root}: cannot be read: {exc.strerror or exc}") from exc
        return sorted((name for name in found if is_safe(name)), key=str.encode)

    def shards(self, data_set: str) -> list[Shard]:
        """The shards of a data set, in the order that they are read in. Raises SourceError."""
        folder = self.root / data_set / "shard"
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: (os.fsencode(shard_name(entry.name)), entry.name))
            shards = [
                Shard(entry.name, Path(entry.path), entry.stat().st_size, entry.stat().st_mtime_ns)
                for entry in entries
                if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
            ]
        except OSError as exc:
            raise SourceError(f"{folder}: cannot be read: {exc.strerror or exc}") from exc
        if not self.follow_links:
            for shard in shards:
                self._refuse_outside(shard.path)
        unread = [e.name for e in entries if not e.name.startswith(".") and not e.name.endswith(SUFFIXES)]
        if shards and unread:
            warnings.warn(f"{folder}: not read, by their names: {', '.join(unread[:5])}", SourceWarning, stacklevel=2)
        if not shards:
            raise SourceError(f"{folder}: holds no shard; a shard's name ends in {', '.join(SUFFIXES)}")
        for one, other in itertools.pairwise(shards):
            if shard_name(one.name) == shard_name(other.name):
                raise SourceError(f"{folder}: {one.name} and {other.name} are the same shard twice; remove one")
        return shards


def _blobs(root: Path) -> Path | None:
    """Where a snapshot in the Hugging Face cache has its files: REPO/snapshots/COMMIT/… links to REPO/blobs/…."""
    real = root.resolve()
    return next((folder.parent / "blobs" for folder in real.parents if folder.name == "snapshots"), None)


def open_source(name: str, follow_links: bool = False) -> Source:
    """The source that a recipe names. Raises SourceError.

    Links that lead out of a folder are refused unless `follow_links`: a collection from elsewhere could name any file.
    """
    if name == SAMPLE:
        return Source(SAMPLE, Path(str(resources.files("cook") / SAMPLE)))
    if name == HUB:
        raise SourceError(
            "source hub: fetching from the Hub is not built yet. Pass --source sample for the bundled sample, or "
            f"fetch the collection once and pass its folder:\n  hf download {COLLECTION} --repo-type dataset "
            "--local-dir collection\n  cook … --source collection"
        )
    root = Path(name).expanduser()
    if not root.is_dir():
        raise SourceError(f"{name}: no such folder; a source is a folder laid out DATASET/shard/*.jsonl, or {SAMPLE}")
    source = Source("local", root, follow_links)
    if not source.names():
        raise SourceError(f"{name}: holds no data set; a source is laid out DATASET/shard/*.jsonl")
    return source


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises SourceError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise unreadable(path, exc) from exc
