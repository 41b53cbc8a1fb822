"""What is cooked at a path, and single sequences of it: by number, with what their examples came from."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from cook.core.errors import OutputError, RecipeError, SourceError
from cook.core.files import sha256_of
from cook.store import kinds, manifest, read
from cook.store.columns import parquet_schema
from cook.store.outputs import Sequence, cooked_folders, read_cooked

VERIFY_HINT = "`cook verify` says what is wrong"


@dataclasses.dataclass(frozen=True)
class Output:
    """A dataset or a mix on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def mixed(self) -> bool:
        """Whether it is a mix."""
        return kinds.kind_of(self.manifest).name == kinds.MIX

    @property
    def name(self) -> str:
        """The dataset's name; of a mix, its folder's."""
        return self.folder.resolve().name if self.mixed else str(self.manifest["dataset"])

    @property
    def is_text(self) -> bool:
        """Whether it is a corpus as text."""
        return kinds.kind_of(self.manifest).content == "texts"

    def is_corpus(self, dataset: str) -> bool:
        """Whether the sequences of a dataset are of a corpus, in which a text may be cut into pieces."""
        if not self.mixed:
            return kinds.kind_of(self.manifest).is_corpus
        return any(row["name"] == dataset and kinds.KINDS[row["kind"]].is_corpus for row in self.manifest["sources"])

    @property
    def splits(self) -> list[str]:
        """The splits that it has, in the order of its files."""
        return list(dict.fromkeys(str(row["split"]) for row in self.manifest["outputs"] if "split" in row))

    def files(self, split: str) -> list[dict[str, Any]]:
        """The manifest's rows of a split's files. Raises RecipeError if there is none."""
        found = [row for row in self.manifest["outputs"] if row.get("split") == split]
        if not found:
            raise RecipeError(f"{self.folder}: has no split {split!r}; it has {', '.join(self.splits)}")
        return found

    def sequences(self, split: str) -> int:
        """How many there are."""
        return sum(int(row["rows"]) for row in self.files(split))

    def sequence_numbers(self, split: str, dataset: str) -> list[int]:
        """Of a mix: which of its sequences are of a dataset. Raises OutputError, RecipeError."""
        names = (
            name
            for file in self.files(split)
            for names in read.read_datasets(self.folder / file["name"])
            for name in names
        )
        return [number for number, name in enumerate(names) if name == dataset]

    def sequence(self, split: str, number: int) -> Sequence:
        """A sequence, by its number from 0; only its row group is read. Raises OutputError."""
        before = 0
        for file in self.files(split):
            if number < before + file["rows"]:
                return self._read_row(file, number - before)
            before += file["rows"]
        raise OutputError(f"{self.folder}: {split} has no sequence {number:,}; it has {before:,}, from 0")

    def _read_row(self, file: dict[str, Any], row: int) -> Sequence:
        path = self.folder / file["name"]
        try:
            if sha256_of(path) != file["sha256"]:
                raise OutputError(f"{path}: is damaged: its sha256 is not the one in its manifest")
        except (OSError, SourceError) as exc:
            raise OutputError(f"{path}: cannot be read: {exc}") from exc
        wanted = np.zeros(file["rows"], bool)
        wanted[row] = True
        self.check_schema(path)
        [(flags, columns)] = read.read_wanted(path, wanted)
        self.check_rows(path, columns)
        at = int(np.flatnonzero(flags)[0])
        name = self.name
        if self.mixed:
            name = next(itertools.islice(itertools.chain.from_iterable(read.read_datasets(path)), row, None))
        return sequence_at(columns, at, name)

    def check_schema(self, path: Path) -> None:
        """Raise OutputError for a file of other columns than cook writes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            there = pq.read_schema(path)
        except (OSError, pa.ArrowException) as exc:
            raise OutputError(f"{path}: cannot be read: {exc}") from exc
        if not there.equals(parquet_schema(self.mixed)):
            raise OutputError(f"{path}: its columns are not those that cook writes; {VERIFY_HINT}")

    def check_rows(self, path: Path, columns: dict[str, read.ListColumn]) -> None:
        """Raise OutputError for a row group that cannot be taken apart and decoded, as a forged one may be."""
        ids, by_token = columns["input_ids"]
        lengths, by_example = columns["seq_lengths"]
        like = {"loss_mask": by_token, "source_shard": by_example, "source_line": by_example}
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        if not (
            all(np.array_equal(columns[name][1], offsets) for name, offsets in like.items())
            and np.array_equal(ends[by_example], by_token)
            and lengths.min(initial=1) > 0
            and np.diff(by_token).min(initial=1) > 0
            and 0 <= ids.min(initial=0) <= ids.max(initial=0) < self.manifest["tokenizer"]["vocab_size"]
            and np.isin(columns["loss_mask"][0], (0, 1)).all()
        ):
            raise OutputError(f"{path}: holds rows that cook does not write; {VERIFY_HINT}")

    def max_length(self, dataset: str) -> int:
        """The most tokens that a sequence of a dataset was allowed."""
        if not self.mixed:
            return int(self.manifest["recipe"]["max_length"])
        return int(next(row["max_length"] for row in self.manifest["sources"] if row["name"] == dataset))

    @functools.cached_property
    def shards(self) -> dict[str, list[str]]:
        """The shards' names, by dataset. A mix's datasets are looked for beside it; where one is not, none."""
        if not self.mixed:
            return {self.name: [row["name"] for row in self.manifest["inputs"]]}
        return {row["name"]: self._find_shards(row) for row in self.manifest["sources"]}

    def _find_shards(self, source: dict[str, Any]) -> list[str]:
        around = self.folder.resolve().parent
        for folder in (around, around.parent, *sorted(around.glob("*/")), *sorted(around.parent.glob("*/"))):
            try:
                found = manifest.read_manifest(folder / source["name"])
            except OutputError:
                continue
            if manifest.digest(found) == source["sha256"]:
                return [row["name"] for row in found["inputs"]]
        return []

    def source_location(self, dataset: str, shard: int, line: int) -> str:
        """Where an example came from: FILE:LINE; of a mix whose datasets are not found, the shard's number."""
        names = self.shards.get(dataset) or []
        return f"{names[shard]}:{line}" if 0 <= shard < len(names) else f"shard {shard}:{line}"


def sequence_at(columns: dict[str, read.ListColumn], row: int, dataset: str) -> Sequence:
    """A row of a row group."""
    fields = {name: values[offsets[row] : offsets[row + 1]] for name, (values, offsets) in columns.items()}
    return Sequence(**fields, dataset=dataset)


def find_outputs(path: Path, command: str) -> list[Output]:
    """What a command reads in a folder, or in a ROOT; mixes are last. Raises OutputError where there is nothing."""
    found = [_open_output(folder) for folder in cooked_folders(path)]
    kept = [each for each in found if command in kinds.kind_of(each.manifest).readers]
    if not kept:
        raise kinds.wrong_kind_error(found[0].folder, kinds.kind_of(found[0].manifest))
    for each in kept:
        for row in each.manifest["outputs"]:
            if "split" in row and not (isinstance(row["split"], str) and type(row.get("rows")) is int):
                raise OutputError(
                    f"{each.folder / manifest.MANIFEST_NAME}: does not say how many rows {row['name']} has"
                )
    return sorted(kept, key=lambda each: each.mixed)


def _open_output(folder: Path) -> Output:
    cooked = read_cooked(folder, hashes=False)
    return Output(cooked.folder, cooked.manifest)
