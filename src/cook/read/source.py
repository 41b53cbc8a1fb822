"""Where shards come from: a local folder, the bundled sample, or the Hub (see `read.hub`).

A source lays datasets out as DATASET/shard/*.jsonl, each shard plain or compressed (.gz, .zst). Shards are read in
bytewise order of their decompressed names. What lies among them and could be data (a link that leads nowhere, another
suffix, a folder below) is an error, or left out and recorded; the rest (a README) is named in a warning.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cook.core.catalog import is_dataset_name
from cook.core.errors import ARCHIVE, PACKED_OTHERWISE, TABLE, CookWarning, OutputExists, SourceError, read_error
from cook.core.escapes import is_encodable
from cook.read.lines import SUFFIXES, dataset_name, is_shard_name, shard_name

if TYPE_CHECKING:
    from cook.core.progress import Progress

SAMPLE = "sample"
LAYOUT_HINT = "a source is laid out DATASET/shard/*.jsonl"
# Endings of files that could be data, and what makes shards of them.
ARRAY_TO_LINES_HINT = "`jq -c '.[]' FILE > FILE.jsonl` makes shards of an array"
UNSUPPORTED_SUFFIXES = {
    **dict.fromkeys((".json", ".json.gz", ".json.zst"), f"is JSON, not JSON lines: {ARRAY_TO_LINES_HINT}"),
    **dict.fromkeys((".bz2", ".xz", ".lz4", ".br"), PACKED_OTHERWISE),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z"), ARCHIVE),
}  # fmt: skip
# And words between the dots of a name: of what is packed, or not whole, or a copy.
AMONG = {
    **dict.fromkeys(("tar", "zip", "rar", "warc"), ARCHIVE),
    **dict.fromkeys(("parquet", "arrow", "feather", "orc", "csv", "tsv", "avro", "xls", "xlsx", "h5", "hdf5"), TABLE),
    **dict.fromkeys(("npy", "npz", "pkl", "pickle", "msgpack", "sqlite", "sqlite3"), TABLE),
    **dict.fromkeys(
        ("jsonl", "ndjson", "jsonlines", "ldjson", "jl"), f"has not a shard's name, which ends in {', '.join(SUFFIXES)}"
    ),
    **dict.fromkeys(("json", "json5", "geojson"), f"is JSON, not JSON lines: {ARRAY_TO_LINES_HINT}"),
}
METADATA_NAMES = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)  # the Hub's own, of no data
MAX_NAMED = 5


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

    def has_changed(self) -> bool:
        """Whether the file is another than when it was listed. Raises SourceError if it is gone."""
        try:
            now = self.path.stat()
        except OSError as exc:
            raise read_error(self.path, exc) from exc
        return (now.st_size, now.st_mtime_ns) != (self.size, self.modified)


class ListedShard(NamedTuple):
    """A shard as it is listed, which need not be on this machine."""

    path: str  # its path: here, or in the repository
    size: int  # bytes


class UnreadFile(NamedTuple):
    """What lies among a dataset's shards, could be data, and is not read."""

    path: str  # relative to the source
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class Source(Protocol):
    """A collection of datasets that can be read."""

    def unread(self, dataset: str) -> list[UnreadFile]:
        """What could be data of a dataset, and is not read. Raises SourceError."""
        ...

    def names(self) -> list[str]:
        """The datasets held, in bytewise order. Raises SourceError."""
        ...

    def listed(self, dataset: str) -> list[ListedShard]:
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


def group_by_dataset(paths: Iterable[str]) -> dict[str, list[str]]:
    """The datasets of a collection by the paths of its files, each with those that may be its shards.

    Three forms are known: DATASET/shard/*.jsonl, DATASET/*.jsonl and DATASET.jsonl, plain or compressed. Other files
    are no part of it.

    >>> group_by_dataset(["squad/shard/1.jsonl", "squad/shard/0.jsonl.gz", "mine.jsonl", "QED/notes.txt", "README.md"])
    {'mine': ['mine.jsonl'], 'squad': ['squad/shard/1.jsonl', 'squad/shard/0.jsonl.gz']}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        folders, _, file = path.rpartition("/")
        if not is_shard_name(file) or file.startswith("."):
            continue
        name = folders.removesuffix("/shard") if folders else dataset_name(file)
        if is_dataset_name(name):
            found.setdefault(name, []).append(path)
    return {name: found[name] for name in sorted(found, key=str.encode)}


def unread_reason(name: str) -> str:
    """Why a file of this name is not read, if it is no shard's and could be data; else ""."""
    lower = name.lower()
    if lower in METADATA_NAMES or is_shard_name(name):
        return ""
    ends = next((why for suffix, why in UNSUPPORTED_SUFFIXES.items() if lower.endswith(suffix)), "")
    words = re.findall(r"[a-z0-9]+", lower.partition(".")[2])
    return ends or next((AMONG[word] for word in words if word in AMONG), "")


def unread_files(dataset: str, paths: Iterable[str], odd: Collection[str] = ()) -> list[UnreadFile]:
    """What could be data of a dataset and is not read, by the paths of a collection's files.

    Those in `odd` could be, whatever their name.

    >>> unread_files("d", ["d/a.jsonl", "d/b.json", "d/train/c.jsonl", "d/README.md"])[1]
    UnreadFile(path='d/train/c.jsonl', why='lies in a folder below: move it to d/shard')
    """
    found = []
    for path in sorted(paths):
        below = path.removeprefix(f"{dataset}/")
        folder, _, name = below.rpartition("/")
        if below == path or any(part.startswith(".") for part in below.split("/")):
            continue
        if folder in ("", "shard"):
            why = "" if is_shard_name(name) else unread_reason(name)
        else:
            could_be_data = is_shard_name(name) or unread_reason(name) or path in odd
            why = f"lies in a folder below: move it to {dataset}/shard" if could_be_data else ""
        if why:
            found.append(UnreadFile(path, why))
    return found


def refuse_unread(dataset: str, found: list[UnreadFile], root: str = "") -> None:
    """Raise SourceError where anything that could be data is not read."""
    if found:
        more = f"… and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
        raise SourceError(
            *(f"{root}{each}" for each in found[:MAX_NAMED]),
            *([more] if more else []),
            f"{dataset}: {len(found)} of its files cannot be read (--on-error skip leaves them out, and records them)",
        )


def ordered_shards(dataset: str, paths: Iterable[str]) -> list[str]:
    """The shards of a dataset in the order that they are read in: bytewise, by their decompressed names.

    Raises SourceError where there are none, where two are the same shard, or where two forms are mixed.
    """
    ordered = sorted(paths, key=lambda path: (os.fsencode(shard_name(path)), path))
    if not ordered:
        raise SourceError(f"{dataset}: holds no shard; a shard's name ends in {', '.join(SUFFIXES)}")
    if odd := next((path for path in ordered if not is_encodable(path)), None):
        raise SourceError(f"{dataset}: {odd}: the shard's name is not UTF-8; rename it")
    if len({path.rpartition("/")[0] for path in ordered}) > 1:
        raise SourceError(f"{dataset}: its shards lie in two places, {ordered[0]} and {ordered[-1]}; remove one")
    for one, other in itertools.pairwise(ordered):
        if shard_name(one) == shard_name(other):
            raise SourceError(f"{one} and {other} are the same shard twice; remove one")
    return ordered


@dataclasses.dataclass(frozen=True)
class Folder:
    """A collection in a folder of this machine. One layout or another; see `group_by_dataset`."""

    kind: str  # "local" or "sample"
    root: Path
    follow_links: bool = True
    """Whether to read what lies outside of `root`."""
    skip: bool = False
    """Whether to go on without what could be data and is not read."""

    def provenance(self) -> dict[str, Any]:
        """See Source."""
        return {"kind": self.kind}

    def names(self) -> list[str]:
        """See Source: those that cannot be read among them."""
        found, odd, beside = set[str](), list[str](), list[str]()
        for entry in self._scan(""):
            name = entry.name
            if name.startswith("."):
                continue
            if _resolves_to(entry, folder=True):
                try:
                    below = {each.name for each in self._scan(name)}
                except SourceError:  # told by `shards`
                    below = {"shard"}
                if "shard" not in below and not any(map(is_shard_name, below)):
                    continue
            elif is_shard_name(name):
                name = dataset_name(name)
            elif _resolves_to(entry) or "." in name:
                if why := unread_reason(name):
                    beside.append(f"{name}: {why}")
                continue
            if is_dataset_name(name):
                found.add(name)
            else:
                odd.append(name)
        if odd:
            message = (
                f"{self.root}: no dataset can have these names, and they are left out: {', '.join(sorted(odd)[:5])}"
            )
            warnings.warn(message, SourceWarning, stacklevel=1)
        if beside:
            message = f"{self.root}: not read: {'; '.join(sorted(beside)[:MAX_NAMED])}"
            warnings.warn(message, SourceWarning, stacklevel=1)
        return sorted(found, key=str.encode)

    def listed(self, dataset: str) -> list[ListedShard]:
        """See Source."""
        return [ListedShard(str(shard.path), shard.size) for shard in self.shards(dataset)]

    def fetch(self, datasets: Iterable[str], progress: Progress | None = None) -> None:
        """See Source: they are here."""

    def shards(self, dataset: str) -> list[Shard]:
        """See Source."""
        paths, unread, others = self._scan_dataset(dataset)
        if not self.skip:
            refuse_unread(dataset, unread, f"{self.root}/")
        if others:
            message = f"{self.root / dataset}: not read, by their names: {', '.join(others[:MAX_NAMED])}"
            warnings.warn(message, SourceWarning, stacklevel=2)
        paths = ordered_shards(dataset, paths)
        if not self.follow_links:
            for path in paths:
                self._refuse_outside(self.root / path)
        try:
            return [shard_at(self.root / path) for path in paths]
        except OSError as exc:
            raise read_error(exc.filename, exc) from exc

    def unread(self, dataset: str) -> list[UnreadFile]:
        """See Source."""
        return self._scan_dataset(dataset)[1]

    def _scan_dataset(self, dataset: str) -> tuple[list[str], list[UnreadFile], list[str]]:
        """What lies in a dataset: its shards; what could be data, and is not read; other files. Relative to the root.

        Raises SourceError.
        """
        shards, unread, others = list[str](), list[UnreadFile](), list[str]()
        for entry in self._scan(""):
            is_single_file = is_shard_name(entry.name) and dataset_name(entry.name) == dataset
            if (is_single_file or (entry.name == dataset and not _resolves_to(entry))) and not _resolves_to(
                entry, folder=True
            ):
                self._classify(entry, entry.name, shards, unread)
        folders = [folder for folder in (dataset, f"{dataset}/shard") if (self.root / folder).is_dir()]
        for folder in folders:
            entries = sorted(self._scan(folder), key=lambda entry: entry.name)
            made_by_cook = any(entry.name == "cook.json" for entry in entries)
            for entry in entries:
                if entry.name.startswith(".") or (made_by_cook and entry.name in PARSE_OUTPUT_NAMES):
                    continue
                path = f"{folder}/{entry.name}"
                if _resolves_to(entry, folder=True) and not is_shard_name(entry.name):
                    if path not in folders:
                        unread += unread_files(dataset, *self._files_below(path))
                elif is_shard_name(entry.name) or not _resolves_to(entry):
                    self._classify(entry, path, shards, unread)
                elif why := unread_reason(entry.name):
                    unread.append(UnreadFile(path, why))
                else:
                    others.append(entry.name)
        return shards, unread, others

    def _classify(self, entry: os.DirEntry[str], path: str, shards: list[str], unread: list[UnreadFile]) -> None:
        """Put what has a shard's name with those that can be read, or not."""
        if _resolves_to(entry):
            shards.append(path)
        elif _resolves_to(entry, folder=True):
            unread.append(UnreadFile(path, "has a shard's name and is a folder: move what is in it up"))
        elif entry.is_symlink() and not os.path.exists(entry.path):
            why = f"is a link that leads nowhere, to {os.readlink(entry.path)}: fetch what it stands for, or remove it"
            unread.append(UnreadFile(path, why))
        else:
            unread.append(UnreadFile(path, "is no file: a pipe or a device is not read"))

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        place = self.root / folder
        try:
            with os.scandir(place) as entries:
                return list(entries)
        except OSError as exc:
            raise SourceError(f"{exc.filename or place}: cannot be read: {exc.strerror or exc}") from exc

    def _files_below(self, folder: str) -> tuple[list[str], set[str]]:
        """All files under a folder, and of them those that are none: pipes, and links to folders or to nothing."""
        found, odd = list[str](), set[str]()
        for place, folders, names in os.walk(self.root / folder):
            links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # and are not followed
            for path in (os.path.join(place, name) for name in (*links, *names)):
                found.append(os.path.relpath(path, self.root))
                if not os.path.isfile(path):
                    odd.add(found[-1])
        return found, odd

    def _refuse_outside(self, path: Path) -> None:
        real = path.resolve()
        if not any(home and real.is_relative_to(home) for home in (self.root.resolve(), _blobs_folder(self.root))):
            raise SourceError(
                f"{path}: leads out of the source folder, to {real}; if that is meant, pass --follow-links"
            )


PARSE_OUTPUT_NAMES = ("cook.json", "left-out")  # what `cook parse` writes beside shards


def _resolves_to(entry: os.DirEntry[str], folder: bool = False) -> bool:
    """Whether this is, or leads to, a file; or a folder. What leads nowhere, or in a circle, is neither."""
    try:
        return entry.is_dir() if folder else entry.is_file()
    except OSError:
        return False


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


def _blobs_folder(root: Path) -> Path | None:
    """Where a snapshot in the Hugging Face cache has its files: REPO/snapshots/COMMIT/… links to REPO/blobs/…."""
    real = root.resolve()
    return next((folder.parent / "blobs" for folder in real.parents if folder.name == "snapshots"), None)
