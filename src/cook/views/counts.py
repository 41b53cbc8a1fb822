"""All sequences of an output, read once -> how often each length occurs, and a seeded sample of sequences.

No column says how many pairs an example has. To count them, trained tokens are decoded, and the text that the recipe's
templates put between two pairs is counted. This is done for about MAX_COUNTED_ENTRIES entries.

Memory holds one row group, the counts of lengths, the sample, and some bytes for each entry whose pairs are counted.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.arrays import SPLITMIX_INCREMENT
from cook.core.progress import Progress
from cook.core.records import entry_keys
from cook.shapes.context_qa import PLACEHOLDER
from cook.store import columns as columns_module
from cook.store import read
from cook.store.outputs import Sequence
from cook.views.outputs import Output, sequence_at
from cook.views.parts import SequenceDecoder

MAX_COUNTED_ENTRIES = 20_000  # entries of a dataset whose pairs are counted, about
READ_COLUMNS = tuple(name for name in columns_module.SEQUENCE_COLUMNS if name != "labels")
Ints = npt.NDArray[np.int64]


class Sampled(NamedTuple):
    """A sequence that was sampled."""

    split: str
    number: int
    """In its split, from 0."""
    sequence: Sequence


class LengthCounts:
    """How often each number from 0 occurs: `counts[number]`."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, numbers: npt.NDArray[np.integer]) -> None:
        """Count more numbers."""
        more = np.bincount(numbers, minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more

    @property
    def total(self) -> int:
        """How many numbers were counted, repeats included."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> int:
        """The smallest number that a share of all are at most: `np.quantile(…, method="inverted_cdf")`."""
        ends = np.cumsum(self.counts)
        return int(np.searchsorted(ends, max(1, np.ceil(share * ends[-1]))))

    @property
    def mean(self) -> float:
        """The mean of the numbers."""
        return float(self.counts @ np.arange(len(self.counts)) / self.counts.sum())


@dataclasses.dataclass
class OutputCounts:
    """The counts of an output, and its sample."""

    example_tokens: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    sequence_tokens: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    examples_per_sequence: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    trained_percent: LengthCounts = dataclasses.field(default_factory=LengthCounts)
    """The trained share of each sequence, rounded down."""
    pairs_per_entry: LengthCounts | None = None
    """None if the templates put only white space between pairs, or if there is no decoder."""
    entries: int = 0
    """How many entries had their pairs counted."""
    sample: list[Sampled] = dataclasses.field(default_factory=list)


def count_output(
    output: Output, reader: SequenceDecoder | None, samples: int, seed: int, progress: Progress
) -> OutputCounts:
    """Count the lengths of an output, and sample some of its sequences. Raises OutputError."""
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
                        kept["labels"] = columns["input_ids"]  # labels are not read; nothing uses them
                        counts.sample.append(
                            Sampled(split, number + row, _copy_sequence(sequence_at(kept, row, names[row])))
                        )
                number += rows
                progress("count", len(columns["input_ids"][0]))
    if pairs:
        counts.pairs_per_entry, counts.entries = pairs.lengths()
    return counts


def _copy_sequence(sequence: Sequence) -> Sequence:
    """A copy of a sequence; it does not keep the row group in memory."""
    fields = sequence._asdict()
    return Sequence(**{name: field if name == "dataset" else field.copy() for name, field in fields.items()})


def _draw_sample(output: Output, samples: int, seed: int) -> set[tuple[str, int]]:
    """The split and number of each sampled sequence. Each of all splits together is equally likely."""
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
    """The text between two pairs of an example, by the recipe's templates; empty if it is only white space."""
    recipe: dict[str, Any] = output.manifest.get("recipe") or {}
    template, delimiter = str(recipe.get("pair_template", "")), str(recipe.get("delimiter", ""))
    literal = PLACEHOLDER.split(template)
    between = literal[-1] + delimiter + literal[0]
    return between.encode() if between.strip() else b""


class _PairCounter:
    """Counts the pairs of entries; pairs of all examples of an entry are added up."""

    def __init__(self, output: Output, reader: SequenceDecoder) -> None:
        self.reader, self.separator = reader, _pair_separator(output)
        entries = max(1, int(output.manifest["counts"]["entries"]))
        self.hash_limit = np.uint64(min(1.0, MAX_COUNTED_ENTRIES / entries) * (2**32 - 1))
        self.keys = [np.empty(0, np.uint64)]
        self.counts = [np.empty(0, np.int64)]

    def count(self, columns: dict[str, read.ListColumn]) -> None:
        """Count the pairs of a row group's examples whose entries were chosen."""
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
        """Pairs per entry, and the number of entries that were counted."""
        keys, counts = np.concatenate(self.keys), np.concatenate(self.counts)
        entries, of = np.unique(keys, return_inverse=True)
        made = LengthCounts()
        if len(entries):
            made.add(np.bincount(of, counts).astype(np.int64))
        return made, len(entries)
