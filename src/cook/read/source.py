"""Where shards come from: a local folder, the bundled sample, or the Hub (see `read.hub`).

A source lays datasets out as DATASET/shard/*.jsonl, each shard plain or compressed (.gz, .zst). Shards are read in
bytewise order of their decompressed names.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cook.core.catalog import is_safe
from cook.core.errors import CookWarning, OutputExists, SourceError, unreadable
from cook.core.escapes import encodable
from cook.read.lines import SUFFIXES, shard_name

if TYPE_CHECKING:
    from cook.core.progress import Progress

SAMPLE = "sample"
LAID_OUT = "a source is laid out DATASET/shard/*.jsonl"


class SourceWarning(CookWarning):
    """A source holds what is not read, or its copy on this machine had to be mended or may be old."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a dataset."""

    name: str  # the file's name, compression suffix included
    path: Path
    size: int  # bytes, as they lie there
    modified: int  # nanoseconds
    sha256: str | None = None  # of its bytes, where they were read to check them

    def changed(self) -> bool:
        """Whether the file is another than when it was listed. Raises SourceError if it is gone."""
        try:
            now = self.path.stat()
        except OSError as exc:
            raise unreadable(self.path, exc) from exc
        return (now.st_size, now.st_mtime_ns) != (self.size, self.modified)


class Listed(NamedTuple):
    """A shard as it is listed, which need not be on this machine."""

    place: str  # its path: here, or in the repository
    size: int  # bytes


class Source(Protocol):
    """A collection of datasets that can be read."""

    def names(self) -> list[str]:
        """The datasets held, in bytewise order. Raises SourceError."""
        ...

    def listed(self, dataset: str) -> list[Listed]:
        """The shards of a dataset in the order that they are read in; nothing is fetched. Raises SourceError."""
        ...

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """Bring the shards of datasets to this machine, side by side. What fails is told when `shards` asks for it."""
        ...

    def shards(self, dataset: str) -> list[Shard]:
        """The shards of a dataset, fetched if need be, in the order that they are read in. Raises SourceError."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What the manifest keeps of the source: its kind, id and commit; never a path of this machine."""
        ...


def layout(paths: Iterable[str]) -> dict[str, list[str]]:
    """The datasets of a collection by the paths of its files, each with those that may be its shards.

    Three forms are known: DATASET/shard/*.jsonl, DATASET/*.jsonl and DATASET.jsonl, plain or compressed. Other files
    are no part of it.

    >>> layout(["squad/shard/1.jsonl", "squad/shard/0.jsonl.gz", "mine.jsonl", "QED/notes.txt", "README.md"])
    {'mine': ['mine.jsonl'], 'squad': ['squad/shard/1.jsonl', 'squad/shard/0.jsonl.gz']}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        folders, _, file = path.rpartition("/")
        if not file.endswith(SUFFIXES) or file.startswith("."):
            continue
        name = folders.removesuffix("/shard") if folders else shard_name(file).removesuffix(".jsonl")
        if is_safe(name):
            found.setdefault(name, []).append(path)
    return {name: found[name] for name in sorted(found, key=str.encode)}


def in_order(dataset: str, paths: Iterable[str]) -> list[str]:
    """The shards of a dataset in the order that they are read in: bytewise, by their decompressed names.

    Raises SourceError where there are none, where two are the same shard, or where two forms are mixed.
    """
    ordered = sorted(paths, key=lambda path: (os.fsencode(shard_name(path)), path))
    if not ordered:
        raise SourceError(f"{dataset}: holds no shard; a shard's name ends in {', '.join(SUFFIXES)}")
    if odd := next((path for path in ordered if not encodable(path)), None):
        raise SourceError(f"{dataset}: {odd}: the shard's name is not UTF-8; rename it")
    if len({path.rpartition("/")[0] for path in ordered}) > 1:
        raise SourceError(f"{dataset}: its shards lie in two places, {ordered[0]} and {ordered[-1]}; remove one")
    for one, other in itertools.pairwise(ordered):
        if shard_name(one) == shard_name(other):
            raise SourceError(f"{one} and {other} are the same shard twice; remove one")
    return ordered


@dataclasses.dataclass(frozen=True)
class Folder:
    """A collection in a folder of this machine. One layout or another; see `layout`."""

    kind: str  # "local" or "sample"
    root: Path
    follow_links: bool = True
    """Whether to read what lies outside of `root`."""

    def provenance(self) -> dict[str, Any]:
        """See Source."""
        return {"kind": self.kind}

    def names(self) -> list[str]:
        """See Source."""
        paths = self._paths("*")
        bare = {path.removesuffix("/shard/") for path in paths if path.endswith("/shard/")}
        return sorted({*layout(paths), *bare}, key=str.encode)

    def listed(self, dataset: str) -> list[Listed]:
        """See Source."""
        return [Listed(str(shard.path), shard.size) for shard in self.shards(dataset)]

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source: they are here."""

    def shards(self, dataset: str) -> list[Shard]:
        """See Source."""
        paths = in_order(dataset, layout(self._paths(dataset)).get(dataset, ()))
        if not self.follow_links:
            for path in paths:
                self._refuse_outside(self.root / path)
        try:
            return [shard_at(self.root / path) for path in paths]
        except OSError as exc:
            raise unreadable(exc.filename, exc) from exc

    def _paths(self, dataset: str) -> list[str]:
        """The files that may be shards of a dataset, or of all ("*"), and folders for them; relative to the root."""
        try:
            with os.scandir(self.root) as entries:
                top = [e for e in entries if dataset in ("*", e.name, shard_name(e.name).removesuffix(".jsonl"))]
            found = [entry.name for entry in top if entry.is_file()]
            for entry in top:
                if entry.is_dir() and is_safe(entry.name):
                    found += self._files(entry.name)
                    if (self.root / entry.name / "shard").is_dir():
                        found.append(f"{entry.name}/shard/")
                        found += self._files(f"{entry.name}/shard", warns=dataset != "*")
        except OSError as exc:
            raise SourceError(f"{exc.filename or self.root}: cannot be read: {exc.strerror or exc}") from exc
        return found

    def _files(self, folder: str, warns: bool = False) -> list[str]:
        with os.scandir(self.root / folder) as entries:
            names = sorted((entry.name, entry.is_file()) for entry in entries if not entry.name.startswith("."))
        unread = [name for name, is_file in names if not (is_file and name.endswith(SUFFIXES))]
        if warns and unread and len(unread) < len(names):
            told = f"{self.root / folder}: not read, by their names: {', '.join(unread[:5])}"
            warnings.warn(told, SourceWarning, stacklevel=5)
        return [f"{folder}/{name}" for name, is_file in names if is_file]

    def _refuse_outside(self, path: Path) -> None:
        real = path.resolve()
        if not any(home and real.is_relative_to(home) for home in (self.root.resolve(), _blobs(self.root))):
            raise SourceError(
                f"{path}: leads out of the source folder, to {real}; if that is meant, pass --follow-links"
            )


def refuse_inside(source: Source, root: Path) -> None:
    """Raise OutputExists for a place in a dataset of the source, where results would be read as shards."""
    if not isinstance(source, Folder):
        return
    real, home = root.resolve(), source.root.resolve()
    if real != home and real.is_relative_to(home) and real.relative_to(home).parts[0] in source.names():
        raise OutputExists(f"{root}: lies in a dataset that is read, {source.root}: choose another place")


def shard_at(path: Path, name: str | None = None) -> Shard:
    """A shard as it lies there now. Raises OSError."""
    found = path.stat()
    return Shard(name or path.name, path, found.st_size, found.st_mtime_ns)


def _blobs(root: Path) -> Path | None:
    """Where a snapshot in the Hugging Face cache has its files: REPO/snapshots/COMMIT/… links to REPO/blobs/…."""
    real = root.resolve()
    return next((folder.parent / "blobs" for folder in real.parents if folder.name == "snapshots"), None)
