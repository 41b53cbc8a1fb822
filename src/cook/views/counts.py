"""All sequences of an output in one pass: how often each length occurs, and a seeded sample of sequences.

Memory holds one row group, the counts of lengths, the sampled sequences, and some bytes for each of at most
MAX_COUNTED_ENTRIES entries: those whose pairs are counted. Only their outputs are decoded, since how many pairs an
example has stands in no column: between two of them is what the recipe's templates put there.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.progress import Progress
from cook.core.records import entry_keys
from cook.shapes.context_qa import PLACEHOLDER
from cook.store import columns as columns_module
from cook.store import read
from cook.store.outputs import Sequence
from cook.views.outputs import Output, sequence_at
from cook.views.parts import SequenceDecoder

MAX_COUNTED_ENTRIES = 20_000  # of a dataset, whose pairs are counted
READ_COLUMNS = tuple(name for name in columns_module.SEQUENCE_COLUMNS if name != "labels")
SPLITMIX_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # multiplied by it, numbers that follow one another lie far apart
Ints = npt.NDArray[np.int64]


class Sampled(NamedTuple):
    """A sequence of the sample."""

    split: str
    number: int
    """In its split, from 0."""
    sequence: Sequence


class LengthCounts:
    """How often each number occurs, of numbers from 0."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, numbers: npt.NDArray[np.integer]) -> None:
        """Count some more."""
        more = np.bincount(numbers, minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> int:
        """The number that so large a share is at most: `np.quantile(…, method="inverted_cdf")`."""
        ends = np.cumsum(self.counts)
        return int(np.searchsorted(ends, max(1, np.ceil(share * ends[-1]))))

    @property
    def mean(self) -> float:
        """The mean."""
        return float(self.counts @ np.arange(len(self.counts)) / self.counts.sum())


@dataclasses.dataclass
class OutputCounts:
    """What one pass found."""

    example_tokens: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    sequence_tokens: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    examples_per_sequence: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    trained_percent: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    """Of each sequence, rounded down."""
    pairs_per_entry: LengthCounts | None = None
    """None where the templates put nothing between pairs that could be told from text, or nothing decodes."""
    entries: int = 0
    """Those whose pairs are counted."""
    sample: list[Sampled] = dataclasses.field(default_factory=list)


def count_output(
    output: Output, reader: SequenceDecoder | None, samples: int, seed: int, progress: Progress
) -> OutputCounts:
    """Count an output's lengths, and draw `samples` of its sequences. Raises OutputError."""
    counts = OutputCounts()
    progress("count", 0, sum(file["tokens"] for file in output.files()))
    pairs = _PairCounter(output, reader) if reader and _pair_separator(output) else None
    wanted = _draw_sample(output, samples, seed)
    for split in output.splits:
        number = 0
        for file in output.files(split):
            path = output.folder / file["name"]
            output.check_schema(path)
            datasets = read.read_datasets(path) if output.mixed else None
            for columns in read.read_columns(path, READ_COLUMNS):
                rows = len(columns["input_ids"][1]) - 1
                output.check_rows(path, columns)
                names = next(datasets) if datasets else [output.name] * rows
                _count_row_group(counts, columns)
                if pairs:
                    pairs.count(columns)
                for row in range(rows):
                    if (split, number + row) in wanted:
                        kept = {name: (values, offsets) for name, (values, offsets) in columns.items()}
                        kept["labels"] = columns["input_ids"]  # not read, and not looked at
                        counts.sample.append(
                            Sampled(split, number + row, _copy_sequence(sequence_at(kept, row, names[row])))
                        )
                number += rows
                progress("count", len(columns["input_ids"][0]))
    if pairs:
        counts.pairs_per_entry, counts.entries = pairs.lengths()
    return counts


def _copy_sequence(sequence: Sequence) -> Sequence:
    """A sequence that does not keep its row group in memory."""
    fields = sequence._asdict()
    return Sequence(**{name: field if name == "dataset" else field.copy() for name, field in fields.items()})


def _draw_sample(output: Output, samples: int, seed: int) -> set[tuple[str, int]]:
    """The sequences of the sample: of all splits together, each as likely as any other."""
    counts = {split: output.count_rows(split) for split in output.splits}
    total = sum(counts.values())
    drawn = random.Random(seed).sample(range(total), min(samples, total))  # noqa: S311 - guards nothing
    found = set()
    for number in drawn:
        for split, count in counts.items():
            if number < count:
                found.add((split, number))
                break
            number -= count  # noqa: PLW2901
    return found


def _count_row_group(counts: OutputCounts, columns: dict[str, read.ListColumn]) -> None:
    _, by_token = columns["input_ids"]
    lengths, by_example = columns["seq_lengths"]
    if not len(lengths):
        return
    tokens = np.diff(by_token).astype(np.int64)
    trained = np.add.reduceat(columns["loss_mask"][0], by_token[:-1], dtype=np.int64)
    counts.example_tokens.add(lengths)
    counts.sequence_tokens.add(tokens)
    counts.examples_per_sequence.add(np.diff(by_example))
    counts.trained_percent.add(trained * 100 // tokens)


def _pair_separator(output: Output) -> bytes:
    """What stands between two pairs of an example, by the recipe; empty where it is no more than white space."""
    recipe: dict[str, Any] = output.manifest.get("recipe") or {}
    template, delimiter = str(recipe.get("pair_template", "")), str(recipe.get("delimiter", ""))
    literal = PLACEHOLDER.split(template)
    between = literal[-1] + delimiter + literal[0]
    return between.encode() if between.strip() else b""


class _PairCounter:
    """Counts the pairs of entries; those of an entry that was made into several examples are added up."""

    def __init__(self, output: Output, reader: SequenceDecoder) -> None:
        self.reader, self.separator = reader, _pair_separator(output)
        entries = max(1, int(output.manifest["counts"]["entries"]))
        self.hash_limit = np.uint64(min(1.0, MAX_COUNTED_ENTRIES / entries) * (2**32 - 1))
        self.keys = [np.empty(0, np.uint64)]
        self.counts = [np.empty(0, np.int64)]

    def count(self, columns: dict[str, read.ListColumn]) -> None:
        """Count those of a row group's examples whose entries are among the chosen."""
        shard, line = columns["source_shard"][0], columns["source_line"][0]
        keys = entry_keys(shard, line).view(np.uint64)
        chosen = (keys * SPLITMIX_INCREMENT) >> np.uint64(32) <= self.hash_limit
        if not chosen.any():
            return
        lengths = columns["seq_lengths"][0].astype(np.int64)
        mask = columns["loss_mask"][0].view(bool) & np.repeat(chosen, lengths)
        trained = np.add.reduceat(mask, np.cumsum(lengths) - lengths, dtype=np.int64)
        texts = self.reader.decode_bytes(columns["input_ids"][0][mask], trained[chosen])
        self.counts.append(np.array([text.count(self.separator) + 1 for text in texts], np.int64))
        self.keys.append(keys[chosen])

    def lengths(self) -> tuple[LengthCounts, int]:
        """Pairs per entry, and of how many entries."""
        keys, counts = np.concatenate(self.keys), np.concatenate(self.counts)
        entries, of = np.unique(keys, return_inverse=True)
        made = LengthCounts()
        if len(entries):
            made.add(np.bincount(of, counts).astype(np.int64))
        return made, len(entries)
