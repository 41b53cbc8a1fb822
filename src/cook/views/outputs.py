"""The outputs at a path; single rows of them by number; and the shards' names of their examples."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from cook.core.arrays import offsets as run_offsets
from cook.core.errors import OutputError, RecipeError
from cook.store import kinds, manifest, read
from cook.store.columns import parquet_schema
from cook.store.outputs import Cooked, Sequence, cooked_folders, file_fault, read_cooked

VERIFY_HINT = "run `cook verify` to see what is wrong"


@dataclasses.dataclass(frozen=True)
class Output(Cooked):
    """An output whose rows are read by number."""

    @property
    def is_text(self) -> bool:
        """Whether it is a corpus as text."""
        return self.kind.content == "texts"

    def is_corpus(self, dataset: str) -> bool:
        """Whether the sequences of a dataset are of a corpus, in which a text may be cut into pieces."""
        if not self.mixed:
            return self.kind.is_corpus
        return any(row["name"] == dataset and kinds.KINDS[row["kind"]].is_corpus for row in self.manifest["sources"])

    def files(self, split: str | None = None) -> list[dict[str, Any]]:
        """The manifest's rows of the files of a split, or of all splits. Raises RecipeError if there are none."""
        if not (found := super().files(split)):
            raise RecipeError(f"{self.folder}: has no split {split!r}; it has {', '.join(self.splits)}")
        return found

    def count_rows(self, split: str) -> int:
        """The number of sequences or texts of a split. Raises RecipeError if there is no such split."""
        return sum(int(row["rows"]) for row in self.files(split))

    def find_row(self, split: str, number: int) -> tuple[Path, dict[str, Any], int]:
        """The file that holds a row of a split, its row in the manifest, and the number of the row in the file.

        The file is checked by its size and sha256. Raises OutputError, RecipeError.
        """
        before = 0
        for file in self.files(split):
            if number < before + file["rows"]:
                path = self.folder / file["name"]
                if fault := file_fault(path, file):
                    raise OutputError(f"{path}: {fault}")
                return path, file, number - before
            before += file["rows"]
        noun = "text" if self.is_text else "sequence"
        raise OutputError(f"{self.folder}: {split} has no {noun} {number:,}; it has {before:,}, from 0")

    def sequence_numbers(self, split: str, dataset: str) -> list[int]:
        """The numbers of a mix's sequences that are of a dataset. Raises OutputError, RecipeError."""
        names = (
            name
            for file in self.files(split)
            for names in read.read_datasets(self.folder / file["name"])
            for name in names
        )
        return [number for number, name in enumerate(names) if name == dataset]

    def sequence(self, split: str, number: int) -> Sequence:
        """A sequence by its number, from 0; only its row group is read. Raises OutputError, RecipeError."""
        path, file, row = self.find_row(split, number)
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
        """Raise OutputError if a file has other columns than cook writes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            there = pq.read_schema(path)
        except (OSError, pa.ArrowException) as exc:
            raise OutputError(f"{path}: cannot be read: {exc}") from exc
        if not there.equals(parquet_schema(self.mixed)):
            raise OutputError(f"{path}: its columns are not those that cook writes; {VERIFY_HINT}")

    def check_rows(self, path: Path, columns: dict[str, read.ListColumn]) -> None:
        """Raise OutputError if the columns of a row group disagree or hold values that cannot be decoded."""
        ids, by_token = columns["input_ids"]
        lengths, by_example = columns["seq_lengths"]
        like = {"loss_mask": by_token, "source_shard": by_example, "source_line": by_example}
        ends = run_offsets(lengths)
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
        """The longest sequence that the recipe of a dataset allows, in tokens."""
        if not self.mixed:
            return int(self.manifest["recipe"]["max_length"])
        return int(next(row["max_length"] for row in self.manifest["sources"] if row["name"] == dataset))

    @functools.cached_property
    def shards(self) -> dict[str, list[str]]:
        """The names of shards, by dataset. A mix's datasets are looked for beside it; none if one is not found."""
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
        """The source of an example as FILE:LINE, or by the number of its shard if the dataset was not found."""
        names = self.shards.get(dataset) or []
        return f"{names[shard]}:{line}" if 0 <= shard < len(names) else f"shard {shard}:{line}"


def sequence_at(columns: dict[str, read.ListColumn], row: int, dataset: str) -> Sequence:
    """One row of a row group as a Sequence."""
    fields = {name: values[offsets[row] : offsets[row + 1]] for name, (values, offsets) in columns.items()}
    return Sequence(**fields, dataset=dataset)


def find_outputs(path: Path, command: str) -> list[Output]:
    """The outputs at a folder or in a ROOT that a command reads, mixes last. Raises OutputError if there are none."""
    found = [_open_output(folder) for folder in cooked_folders(path)]
    kept = [each for each in found if command in each.kind.readers]
    if not kept:
        raise kinds.wrong_kind_error(found[0].folder, found[0].kind)
    for each in kept:
        for row in each.files():
            if not (isinstance(row["split"], str) and type(row.get("rows")) is int):
                raise OutputError(
                    f"{each.folder / manifest.MANIFEST_NAME}: does not say how many rows {row['name']} has"
                )
    return sorted(kept, key=lambda each: each.mixed)


def _open_output(folder: Path) -> Output:
    cooked = read_cooked(folder, hashes=False)
    return Output(cooked.folder, cooked.manifest)
