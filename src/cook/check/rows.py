"""Files of sequences -> findings on their rows, and a table of their examples.

Checks are vectorised. A job checks a share of a file's row groups, and holds one row group in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.check import hashing
from cook.core import records
from cook.core.arrays import offsets
from cook.core.records import mark_trained
from cook.shapes.protocol import MaskRule
from cook.store import read
from cook.store.columns import DATASET_COLUMN, parquet_schema

# One row an example: its tokens, and how many of them are trained; its shard and line; its file, and the row there;
# its hash (see `hashing`); whether its last token is EOS.
CHECKED_EXAMPLE_DTYPE = np.dtype(
    [("tokens", "i4"), ("trained", "i4"), ("shard", "i4"), ("line", "i4"), ("file", "i4"), ("row", "i4"),
     ("hash", "u8"), ("ends", "?")]
)  # fmt: skip
JOB_BYTES = 8 << 20  # bytes of a file for each job
BLOCK_BYTES = 1 << 20  # bytes of rows that are checked together, so that they stay in the processor's cache
MAX_FINDINGS = 10_000  # findings that are kept for a file; the rest are only counted

Table = npt.NDArray[np.void]
IntArray = npt.NDArray[np.integer]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong in an output."""

    file: str
    row: int | None
    """The row of a Parquet file, from 0; the line of skipped.jsonl, from 1; None: the file as a whole."""
    what: str
    """What is there, and what was expected."""

    def __str__(self) -> str:
        if self.row is None:
            return f"{self.file}: {self.what}"
        return f"{self.file}: {'row' if self.of_row else 'line'} {self.row:,}: {self.what}"

    @property
    def of_row(self) -> bool:
        """Whether `row` is one of a Parquet file, from 0, and not a line."""
        return self.row is not None and self.file.endswith(".parquet")


class Findings:
    """A list of findings, at most MAX_FINDINGS for each file, and their counts."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.counts: dict[str, int] = {}
        """The number of findings on each file, kept or not."""

    def note(self, file: str, row: int | None, what: str) -> None:
        """Add a finding."""
        self.counts[file] = self.counts.get(file, 0) + 1
        if self.counts[file] <= MAX_FINDINGS:
            self.listed.append(Finding(file, row, what))

    def add(self, other: Findings) -> None:
        """Add the findings of a job, and its counts of those that it did not keep."""
        for finding in other.listed:
            if finding.row is not None or finding not in self.listed:  # each share reports the file as a whole
                self.note(finding.file, finding.row, finding.what)
        for file, count in other.counts.items():
            self.counts[file] = self.counts.get(file, 0) + max(0, count - MAX_FINDINGS)

    def __len__(self) -> int:
        return sum(self.counts.values())


@dataclasses.dataclass(frozen=True)
class RowRules:
    """The rules for every row, from the manifest."""

    vocab_size: int
    bos_id: int | None
    eos_id: int
    specials: npt.NDArray[np.bool_]
    """A flag for each id: whether it may occur only as BOS or EOS."""
    max_length: dict[str | None, int]
    """The longest sequence by dataset for a mix, else under None; in tokens."""
    shard_count: int | None
    """The number of shards; None if the manifest does not say it."""
    mask_rules: dict[str | None, MaskRule]
    """Which tokens are trained; keys as in max_length."""
    seed: int
    """The seed of the hashes of examples; see `hashing`."""


class RowsJob(NamedTuple):
    """The work on a share of a file's row groups. Picklable."""

    path: Path
    row_rules: RowRules
    share: int
    """The number of this share, from 0."""
    shares: int

    def __str__(self) -> str:
        return str(self.path)


@dataclasses.dataclass
class FileContents:
    """The contents of a file, or of a share of it."""

    examples: Table
    sizes: npt.NDArray[np.int64]
    """The tokens of each row."""
    datasets: list[str]
    """The dataset of each row; only for a mix."""
    readable: bool
    """Whether every row could be split into examples."""
    findings: Findings

    @classmethod
    def from_shares(cls, shares: list[FileContents]) -> FileContents:
        """The contents of a file from its shares, in order."""
        findings = Findings()
        for share in shares:
            findings.add(share.findings)
        examples, sizes = (np.concatenate([getattr(each, name) for each in shares]) for name in ("examples", "sizes"))
        names = [name for share in shares for name in share.datasets]
        return cls(examples, sizes, names, all(share.readable for share in shares), findings)


def split_into_jobs(path: Path, size: int, row_rules: RowRules) -> list[RowsJob]:
    """The jobs for a file of `size` bytes."""
    shares = 1 + size // JOB_BYTES
    return [RowsJob(path, row_rules, share, shares) for share in range(shares)]


def check_rows(job: RowsJob) -> FileContents:
    """Check the columns and rows of a share of a file; what is wrong is in the findings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, mixed = job.path, None not in job.row_rules.max_length
    held = FileContents(np.empty(0, CHECKED_EXAMPLE_DTYPE), np.empty(0, np.int64), [], True, Findings())
    tables, sizes = [held.examples], [held.sizes]
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not file.schema_arrow.equals(parquet_schema(mixed)):
                there = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
                wanted = ", ".join(f"{field.name} {field.type}" for field in parquet_schema(mixed))
                raise ValueError(f"its columns are {there}; expected {wanted}")
            count = file.num_row_groups
            begin, end = (count * share // job.shares for share in (job.share, job.share + 1))
            first = sum(file.metadata.row_group(index).num_rows for index in range(begin))
            for index in range(begin, end):
                group = file.read_row_group(index)
                group.validate(full=True)
                _refuse_nulls(group)
                block_rows = max(1, group.num_rows * BLOCK_BYTES // max(1, group.nbytes))
                for part in (group.slice(at, block_rows) for at in range(0, group.num_rows, block_rows)):
                    check = _RowGroupCheck(path.name, part, first, job.row_rules, held.findings)
                    table = check.run()
                    sizes.append(check.sizes)
                    first += part.num_rows
                    held.datasets += check.names if mixed else []
                    held.readable &= table is not None
                    tables.append(held.examples if table is None else table)
    except (OSError, pa.ArrowException, ValueError) as exc:
        what = str(exc) if str(exc).startswith("its column") else f"cannot be read: {exc}"
        held.findings.note(path.name, None, what)
        held.readable = False
    held.examples, held.sizes = np.concatenate(tables), np.concatenate(sizes)
    return held


def _refuse_nulls(group: Any) -> None:
    for name in group.column_names:
        chunks = group.column(name).chunks
        if any(chunk.null_count or (hasattr(chunk, "values") and chunk.values.null_count) for chunk in chunks):
            raise ValueError(f"its column {name} holds null; expected values")


class _RowGroupCheck:
    """The check of some rows of a row group. `first` is the number of the first of them in its file."""

    def __init__(self, name: str, group: Any, first: int, rules: RowRules, findings: Findings) -> None:
        self.name, self.group, self.first, self.row_rules, self.findings = name, group, first, rules, findings
        self.sizes = np.empty(0, np.int64)
        self.ids = np.empty(0, np.int32)
        self.names: list[str] = []

    def run(self) -> Table | None:
        """The table of examples (CHECKED_EXAMPLE_DTYPE); None if the rows cannot be split into examples."""
        columns = read.columns_of(self.group)
        if DATASET_COLUMN in self.group.column_names:
            self.names = self.group.column(DATASET_COLUMN).to_pylist()
        self.ids, self.by_token = columns["input_ids"]
        self.sizes = np.diff(self.by_token).astype(np.int64)
        self._check_sizes()
        lengths, self.by_example = columns["seq_lengths"]
        names = self.names if DATASET_COLUMN in self.group.column_names else [None] * len(self.sizes)
        rules = np.array([self.row_rules.mask_rules.get(name, "prefix") for name in names], object)
        # By example: whether it is a piece of a text, and whether runs of its tokens are trained.
        self.pieces, self.runs = (
            np.repeat((rules == rule).astype(bool), np.diff(self.by_example)) for rule in ("all-but-bos", "runs")
        )
        if not self._check_lengths(columns, lengths):
            return None
        self.ends = np.cumsum(lengths, dtype=np.int64)
        self.starts = self.ends - lengths
        self._check_ids()
        table = self._check_masks(lengths, columns["loss_mask"][0], columns["labels"][0])
        table["shard"], table["line"] = columns["source_shard"][0], columns["source_line"][0]
        table["row"] = self.first + np.repeat(np.arange(len(self.sizes)), np.diff(self.by_example))
        self._check_sources(table)
        return table

    def _check_sizes(self) -> None:
        known = self.row_rules.max_length
        if None in known:
            most = np.full(len(self.sizes), known[None])
        else:
            self._note_rows(np.array([name not in known for name in self.names], bool), lambda row: (
                f"its dataset is {self.names[row]!r}; expected one of {', '.join(map(str, known))}"
            ))  # fmt: skip
            most = np.array([known.get(name, 2**31) for name in self.names], np.int64)
        wrong = (self.sizes > most) | (self.sizes == 0)
        self._note_rows(wrong, lambda row: f"has {self.sizes[row]:,} tokens; expected 1 to {most[row]:,}")

    def _check_lengths(self, columns: dict[str, read.ListColumn], lengths: npt.NDArray[Any]) -> bool:
        """Whether the columns agree on the number of tokens and examples of each row."""
        sound = True
        for others, like, counts in (
            (("labels", "loss_mask"), "input_ids", self.sizes),
            (("source_shard", "source_line"), "seq_lengths", np.diff(self.by_example)),
        ):
            for name in others:
                has = np.diff(columns[name][1])
                said = f"{name} has {{}} values; expected {{}}, as many as {like}"
                sound &= self._note_rows(has != counts, partial(_describe_count, said, has, counts))
        sums = offsets(lengths)
        total = np.diff(sums[self.by_example])
        sound &= self._note_rows(
            total != self.sizes, lambda row: f"its seq_lengths sum to {total[row]:,}; expected {self.sizes[row]:,}"
        )
        least = np.full(len(lengths), 2)
        if len(self.pieces) == len(lengths):
            least[self.pieces] = 1
        return sound & self._note_examples(
            lengths < least, lambda at: f"seq_lengths is {lengths[at]}; expected at least {least[at]}"
        )

    def _check_ids(self) -> None:
        rules = self.row_rules
        out = self.ids.view(np.uint32) >= rules.vocab_size  # below 0 is far above
        self._note_tokens(out, lambda at: f"input_ids is {self.ids[at]}; expected 0 to {rules.vocab_size - 1:,}")
        special = rules.specials.take(self.ids, mode="clip")
        special[out] = False
        ends = self.ends - 1
        if rules.bos_id is not None:
            wrong = np.zeros(len(self.ids), bool)
            without = self.ids[self.starts] != rules.bos_id
            wrong[self.starts] = without & ~self.pieces
            self._note_tokens(wrong, lambda at: f"input_ids is {self.ids[at]}; expected BOS, {rules.bos_id}")
            special[self.starts[~(without & self.pieces)]] = False
        wrong = np.zeros(len(self.ids), bool)
        without = self.ids[ends] != rules.eos_id
        wrong[ends] = without & ~self.pieces
        self._note_tokens(wrong, lambda at: f"input_ids is {self.ids[at]}; expected EOS, {rules.eos_id}")
        special[ends[~(without & self.pieces)]] = False
        self._note_tokens(special, lambda at: f"input_ids is the special id {self.ids[at]}; expected text")

    def _check_masks(
        self, lengths: npt.NDArray[Any], mask: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        table = np.zeros(len(lengths), CHECKED_EXAMPLE_DTYPE)
        table["tokens"], table["ends"] = lengths, self.ids[self.ends - 1] == self.row_rules.eos_id
        is_trained = mask == 1
        table["hash"] = hashing.hash_examples(
            mark_trained(self.ids & 0x7FFF_FFFF, is_trained), lengths, self.row_rules.seed
        )
        trained = np.add.reduceat(is_trained, self.starts, dtype=np.int32) if len(lengths) else np.empty(0, np.int32)
        empty = ((trained == 0) | (trained == lengths)) & ~self.pieces
        self._note_examples(empty, lambda at: (
            f"loss_mask is 1 on {trained[at]} of {lengths[at]} tokens; expected an input and then an output"
        ))  # fmt: skip
        if self.pieces.any():  # only BOS is not trained; if BOS is EOS, the mask tells which one a lone token is
            begins = self.ids[self.starts] == self.row_rules.bos_id
            if self.row_rules.bos_id == self.row_rules.eos_id:
                begins &= (lengths > 1) | (mask[self.starts] == 0)
            trained = np.where(self.pieces, lengths - begins, trained)
        wanted = self._expected_mask(lengths, trained, mask)
        if len(places := np.flatnonzero(mask != wanted)):
            broken = np.unique(np.searchsorted(self.ends, places, side="right"))
            for at in broken[~(self.pieces | self.runs)[broken]].tolist():
                trained[at] = lengths[at] - _output_start(mask[self.starts[at] : self.ends[at]])
            wanted = self._expected_mask(lengths, trained, mask)
        table["trained"] = trained
        expected = records.labels_of(self.ids, wanted)
        self._note_tokens(mask != wanted, lambda at: f"loss_mask is {mask[at]}; expected {wanted[at]}")
        self._note_tokens(labels != expected, lambda at: f"labels is {labels[at]}; expected {expected[at]}")
        return table

    def _expected_mask(
        self, lengths: npt.NDArray[Any], trained: npt.NDArray[Any], mask: npt.NDArray[Any]
    ) -> npt.NDArray[np.int8]:
        """The mask with `trained` ones at the end of an example; for runs, the mask itself, 0 on the first token."""
        parts = np.column_stack([lengths - trained, trained]).ravel()
        wanted = np.repeat(np.tile(np.array([0, 1], np.int8), len(lengths)), parts)
        if self.runs.any():
            wanted = np.where(np.repeat(self.runs, lengths), mask == 1, wanted).astype(np.int8)
            wanted[self.starts[self.runs]] = 0
        return wanted

    def _check_sources(self, table: Table) -> None:
        most = self.row_rules.shard_count
        wrong = (table["shard"] < 0) | (table["shard"] >= (2**31 - 1 if most is None else most))
        self._note_examples(wrong, lambda at: (
            f"source_shard is {table['shard'][at]}; expected 0 to {'…' if most is None else most - 1}"
        ))  # fmt: skip
        self._note_examples(table["line"] < 1, lambda at: f"source_line is {table['line'][at]}; expected at least 1")

    def _note_rows(self, wrong: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> bool:
        """Add a finding on each row that is flagged; return whether there is none."""
        for row in np.flatnonzero(wrong).tolist():
            self.findings.note(self.name, self.first + row, describe(row))
        return not wrong.any()

    def _note_examples(self, wrong: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> bool:
        return self._note_by_row(wrong, self.by_example, "example", describe)

    def _note_tokens(self, wrong: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> bool:
        return self._note_by_row(wrong, self.by_token, "token", describe)

    def _note_by_row(
        self, wrong: npt.NDArray[np.bool_], offsets: npt.NDArray[Any], noun: str, describe: Callable[[int], str]
    ) -> bool:
        """Add a finding on each row that holds flagged values, by the first of them; return whether there is none."""
        if not wrong.any():
            return True
        places = np.flatnonzero(wrong)
        rows, begin = np.unique(np.searchsorted(offsets, places, side="right") - 1, return_index=True)
        bounds = itertools.pairwise([*begin.tolist(), len(places)])
        for row, (first, last) in zip(rows.tolist(), bounds, strict=True):
            at = int(places[first])
            more = f" (and {last - first - 1} more)" if last - first > 1 else ""
            self.findings.note(self.name, self.first + row, f"{noun} {at - offsets[row]}: {describe(at)}{more}")
        return False


def _output_start(mask: npt.NDArray[Any]) -> int:
    """The start of an output in a mask that is not zeros, then ones: the one that makes the fewest values wrong."""
    score = np.cumsum(np.where(mask == 1, -1, 1)[:-1])
    return int(np.argmax(score)) + 1


def _describe_count(template: str, has: IntArray, wanted: IntArray, row: int) -> str:
    return template.format(has[row], wanted[row])
