"""A cooked dataset or a mix, opened again: refused unless its manifest is whole and its files are those it names."""

from __future__ import annotations

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.errors import CookWarning, OutputError, SourceError, name_some, refuse_empty
from cook.core.files import sha256_of
from cook.store import kinds, manifest
from cook.store.columns import SEQUENCE_COLUMNS
from cook.store.kinds import SIDECAR_SUFFIX, Kind, wrong_kind_error
from cook.store.read import read_columns, read_datasets
from cook.store.staging import backup_path

Ints = npt.NDArray[np.int32]


class Sequence(NamedTuple):
    """One row. The first three are as long as the sequence, the next as there are examples in it."""

    input_ids: Ints
    labels: Ints
    loss_mask: npt.NDArray[np.int8]
    seq_lengths: Ints
    source_shard: Ints
    source_line: Ints
    dataset: str


@dataclasses.dataclass(frozen=True)
class Cooked:
    """A dataset, a mix or an export on disk whose files are known to be those of its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return kinds.kind_of(self.manifest)

    @property
    def mixed(self) -> bool:
        """Whether it is a mix."""
        return self.kind.name == kinds.MIX

    @property
    def name(self) -> str:
        """The dataset's name; for a mix or an export, the name of its folder."""
        return str(self.manifest.get("dataset", self.folder.resolve().name))

    @property
    def splits(self) -> list[str]:
        """Its splits, in the order of its files."""
        return list(dict.fromkeys(str(row["split"]) for row in self.files()))

    def files(self, split: str | None = None) -> list[dict[str, Any]]:
        """The manifest's rows of the files of a split, or of all splits."""
        return [row for row in self.manifest["outputs"] if "split" in row and split in (None, row["split"])]

    def sequences(self, split: str = "train") -> Iterator[Sequence]:
        """Its sequences, in order; memory holds one row group. Raises OutputError."""
        if self.kind.content != "sequences":
            raise wrong_kind_error(self.folder, self.kind)
        for output in self.files(split):
            path = self.folder / output["name"]
            names = read_datasets(path) if self.mixed else itertools.repeat([])
            for columns, named in zip(read_columns(path), names, strict=False):
                flat = [columns[name] for name in SEQUENCE_COLUMNS]
                for row in range(len(flat[0][1]) - 1):
                    fields: list[Any] = [values[offsets[row] : offsets[row + 1]] for values, offsets in flat]
                    fields.append(named[row] if self.mixed else self.manifest["dataset"])
                    yield Sequence(*fields)


def read_cooked(folder: str | os.PathLike[str], hashes: bool = True) -> Cooked:
    """Open the folder of a dataset, a mix or an export, after checking each file's size, and its sha256 if `hashes`.

    Raises OutputError, naming what is missing or damaged.
    """
    refuse_empty(folder=folder)
    folder = Path(folder)
    if not folder.exists() and backup_path(folder.parent, folder.name).exists():
        folder = backup_path(folder.parent, folder.name)  # a kill between two renames left the older result there
    found = manifest.read_manifest(folder)
    paths = [folder / row["name"] for row in found["outputs"]]
    faults = [file_fault(path, row, hashes) for path, row in zip(paths, found["outputs"], strict=True)]
    if any(faults):
        raise OutputError(*(f"{path}: {fault}" for path, fault in zip(paths, faults, strict=True) if fault))
    return Cooked(folder, found)


def file_fault(path: Path, row: Mapping[str, Any], hashes: bool = True) -> str:
    """What is wrong with a file by its row in the manifest: its size, and its sha256 if `hashes`; "" if nothing is."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            return "is a folder; expected a file"
        if size != row["bytes"]:
            return f"has {size:,} bytes; expected {row['bytes']:,} by its manifest"
        if not hashes or (digest := sha256_of(path)) == row["sha256"]:
            return ""
    except FileNotFoundError:
        return "is missing"
    except (OSError, SourceError) as exc:
        return f"cannot be read: {exc}"
    return f"its sha256 is {digest}; expected {row['sha256']} by its manifest"


class DepthWarning(CookWarning):
    """Results lie deeper than is looked at."""


def cooked_folders(path: Path) -> list[Path]:
    """The folder of a dataset or of a mix; or, of a ROOT, those in it. Raises OutputError where nothing is cooked."""
    if not path.exists() and backup_path(path.parent, path.name).exists():
        return [backup_path(path.parent, path.name)]  # a kill between two renames left the older result there
    if (path / manifest.MANIFEST_NAME).exists():
        return [path]
    if path.is_file() and (Path(f"{path}{SIDECAR_SUFFIX}") / manifest.MANIFEST_NAME).exists():  # a file of prompts
        return [Path(f"{path}{SIDECAR_SUFFIX}")]
    found = sorted(
        (each.parent for each in path.glob(f"*/{manifest.MANIFEST_NAME}")), key=lambda each: os.fsencode(each.name)
    )
    below = {each.parents[1] for each in path.glob(f"[!.]*/[!.]*/{manifest.MANIFEST_NAME}")} - set(found)
    if below:
        names = name_some([str(each) for each in sorted(below)], 3)
        if not found:
            raise OutputError(f"{path}: is no folder of results, but holds such: name one of {names}")
        warnings.warn(f"{path}: folders of results in it are not looked at: {names}", DepthWarning, stacklevel=2)
    if not found and not os.path.lexists(path):
        raise OutputError(f"{path}: no such folder")
    if not found and path.is_file():
        raise OutputError(f"{path}: is a file; pass the folder of a dataset or of a mix, or a ROOT of them")
    if not found:
        raise OutputError(f"{path}: is not cooked: neither it nor a folder in it has a {manifest.MANIFEST_NAME}")
    return found


MAX_FOLDERS = 20_000  # that are looked through for results: a ROOT has far fewer


def all_cooked_folders(path: Path) -> list[Path]:
    """As `cooked_folders`, with the results that lie deeper in a ROOT. Raises OutputError where there is none."""
    deeper = []
    for count, (folder, names) in enumerate(iter_folders(path), start=1):
        if count > MAX_FOLDERS:
            raise OutputError(
                f"{path}: holds more than {MAX_FOLDERS:,} folders; name the folder that holds the results"
            )
        if manifest.MANIFEST_NAME in names:
            deeper.append(folder)
    return deeper or cooked_folders(path)


def iter_folders(path: Path) -> Iterator[tuple[Path, set[str]]]:
    """A folder and those in it, each once, with the names in each. Hidden ones and what lies in a result are not."""
    seen, waiting = set[str](), [path]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                below = {entry.name: entry for entry in entries}
        except OSError:  # no folder, or a closed one
            continue
        yield folder, {*below}
        if manifest.MANIFEST_NAME not in below:
            names = sorted((name for name in below if not name.startswith(".")), key=os.fsencode, reverse=True)
            waiting += [folder / name for name in names if os.path.isdir(below[name])]
