"""Outputs of sequences against their shards, which are encoded again as by a cook.

Each example of the output is matched with one from the shards by split, shard, line, and a hash of its tokens (see
`hashing`). Then the order of each split is compared with the plan, and counts and skipped.jsonl with the result of
encoding. What the encoder gives must also decode to its texts; that check does not use the encoder (`readback`). If
examples differ, their tokens are read and decoded for the finding.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.check import hashing
from cook.check.rows import MAX_FINDINGS
from cook.check.sequences import SequenceCheck
from cook.core import files, records
from cook.core.errors import InputError
from cook.core.records import (
    SKIP_REASONS,
    MarkedTokens,
    StructuredArray,
    entry_key,
    entry_keys,
    mark_trained,
    split_entry_key,
    token_ids,
    trained_mask,
)
from cook.encode import table as encode_table
from cook.encode.left_out import MAX_INT
from cook.encode.readback import cached_decoder, excerpt
from cook.encode.tokenized import TokenizedDataset
from cook.executors.local import ordered_results
from cook.pack import files as pack_files
from cook.pack import windows
from cook.pack.planner import plan
from cook.pack.splits import infer_splits
from cook.pipeline import figures
from cook.pipeline.encoding import encode_jobs, encode_parts
from cook.pipeline.packing import choose_splits
from cook.read.source import Shard
from cook.store import kinds
from cook.store import read as store_read
from cook.tokenizer.loading import Tokenizer

HASH_JOB_TOKENS = 1 << 22  # tokens for each job
HASH_BATCH_TOKENS = 1 << 20  # tokens that are hashed at once
SOURCE_COUNTS = (
    "entries",
    "pairs",
    "split",
    "truncated",
    "special_strings",
    "markers",
)  # from shards alone
IntArray = npt.NDArray[np.int64]


class DatasetCheck(SequenceCheck):
    """The check of a cooked dataset."""

    def compare_with_source(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:
        """Encode the shards again, and compare every example."""
        compare_with_source(self, shards, tokenizer, pool)


def compare_with_source(check: SequenceCheck, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:
    """Compare an output with its shards; differences become findings. Raises SourceError, TokenizerError."""
    if check.recipe is None or not shards:
        return
    assert tokenizer is not None
    recipe, digests = (
        dataclasses.replace(check.recipe, on_error="skip"),
        [row["sha256"] for row in check.fields["inputs"]],
    )
    with tempfile.TemporaryDirectory(prefix="cook-verify-") as name:
        folder, strategy = Path(name), check.strategy._replace(decodes=True)
        (folder / "spools").mkdir()
        jobs = encode_jobs(strategy, recipe, tokenizer, shards, digests, folder)
        try:
            with encode_table.ExampleTable(folder, folder, recipe.hashes) as table:
                dataset = encode_parts(jobs, pool, table)
        except InputError as exc:  # the recipe of the manifest rejects the shards
            check.manifest_finding(str(exc))
            return
        strategy.split_examples(recipe, folder)
        placed = table.read_examples()
        hashed = ordered_results(pool, run_hash_job, ((0, job) for job in _hash_jobs(folder, placed, check.seed)))
        hashes = np.concatenate([np.empty(0, np.uint64), *(done for _, done in hashed)])
        splits = choose_splits(
            recipe, dataset, table, infer_splits(check.fields["dataset"], [shard.name for shard in shards])
        )
        comparison = _SourceComparison(check, placed, hashes, _skipped_records(dataset), folder, tokenizer)
        comparison.compare_examples(splits)
        comparison.compare_skipped()
        comparison.compare_counts(dataset, strategy.extra_counts(dataset.parts))
        comparison.report_misread(dataset)


def _skipped_records(dataset: TokenizedDataset) -> StructuredArray:
    """What the shards leave out, as the rows of skipped.jsonl."""
    tables = [np.empty(0, records.SKIPPED_RECORD_DTYPE)]
    for shard, part in zip(dataset.shard_of, dataset.parts, strict=True):
        tables.append(np.zeros(len(part.skipped), records.SKIPPED_RECORD_DTYPE))
        tables[-1]["shard"] = shard
        for field in part.skipped.dtype.names or ():
            tables[-1][field] = part.skipped[field]
    return np.concatenate(tables)


class HashJob(NamedTuple):
    """The work of hashing the examples [begin, end) of the table. Picklable."""

    folder: str
    begin: int
    end: int
    seed: int

    def __str__(self) -> str:
        return f"the hashes of examples from {self.begin:,}, in {self.folder}"


def _hash_jobs(folder: Path, placed: StructuredArray, seed: int) -> Iterator[HashJob]:
    for begin, end in records.split_rows(placed["tokens"].astype(np.int64), HASH_JOB_TOKENS):
        yield HashJob(str(folder), begin, end, seed)


def run_hash_job(job: HashJob) -> hashing.Hashes:
    """The hash of each example of a job, from its spool."""
    examples = files.memory_mapped(Path(job.folder) / "placed", records.PLACED_EXAMPLE_DTYPE)[job.begin : job.end]
    found = [np.empty(0, np.uint64)]
    for begin, end in records.split_rows(examples["tokens"].astype(np.int64), HASH_BATCH_TOKENS):
        some = examples[begin:end]
        found.append(
            hashing.hash_examples(
                pack_files.read_raw_tokens(Path(job.folder), job.folder, some), some["tokens"], job.seed
            )
        )
    return np.concatenate(found)


class _SourceComparison:
    """The comparison of an output with its shards.

    `placed`, `hashes` and `skipped_records` are the examples and rows that the shards give, in their order.
    """

    def __init__(
        self,
        check: SequenceCheck,
        placed: StructuredArray,
        hashes: hashing.Hashes,
        left: StructuredArray,
        folder: Path,
        tokenizer: Tokenizer,
    ) -> None:
        self.check, self.placed, self.hashes, self.skipped_records = check, placed, hashes, left
        self.folder, self.tokenizer = folder, tokenizer

    def compare_examples(self, splits: dict[str, windows.RowSelection]) -> None:
        """Compare the examples of each split with those of the shards, in the order of the plan."""
        check, recipe = self.check, self.check.recipe
        assert recipe is not None
        names = [*dict.fromkeys([*check.split_of, *splits])]
        of_file = np.array([names.index(split) for split in check.split_of], np.int8)[check.examples["file"]]
        of_placed = np.full(len(self.placed), -1, np.int8)
        streams = []
        for number, split in enumerate(names):
            rows = np.arange(len(self.placed))[splits.get(split, slice(0))]
            of_placed[rows] = number
            planned = plan(self.placed["tokens"][rows], recipe.max_length, recipe.packing, recipe.seed)
            streams.append((np.flatnonzero(of_file == number), rows[planned.order], planned.starts))
        places = _keys_of(check.examples), _keys_of(self.placed)

        def same(there: IntArray, expected: IntArray) -> npt.NDArray[np.bool_]:
            there, expected = there[: len(expected)], expected[: len(there)]
            alike = check.examples["hash"][there] == self.hashes[expected]
            found: npt.NDArray[np.bool_] = alike & (places[0][there] == places[1][expected])
            return found

        alike = [same(there, expected) for there, expected, _ in streams]
        if any(len(there) != len(expected) for there, expected, _ in streams) or not all(map(np.all, alike)):
            kept = np.flatnonzero(of_placed >= 0)
            there = _MatchKeys(of_file, places[0], check.examples["hash"])
            expected = _MatchKeys(of_placed[kept], places[1][kept], self.hashes[kept])
            more, missing = unmatched(there, expected)
            if len(more) or len(missing):
                self._report_differences(names, of_file, of_placed, more, kept[missing])
                return
        for (there_, _, starts), alike_ in zip(streams, alike, strict=True):
            if len(there_):
                check.expect_planned(recipe, there_, alike_, starts)

    def _report_differences(
        self, names: list[str], of_file: Any, of_placed: Any, more: IntArray, missing: IntArray
    ) -> None:
        """Add findings on examples that the shards do not give (`more`) and on those that are `missing`."""
        check = self.check
        made, left = _keys_of(self.placed), {*_keys_of(self.skipped_records).tolist()}
        gone = defaultdict[int, list[int]](list)
        for at in missing.tolist():
            gone[int(made[at])].append(at)
        wrong: list[tuple[int, int]] = []
        for at, place in zip(more.tolist(), _keys_of(check.examples)[more].tolist(), strict=True):
            waiting = gone[place]
            moved = [each for each in waiting if self.hashes[each] == check.examples["hash"][at]]
            here = [each for each in waiting if of_placed[each] == of_file[at]]
            if moved:
                waiting.remove(moved[0])
                check.example_finding(
                    at, f"expected in the split {names[of_placed[moved[0]]]}, by the hash of its context"
                )
            elif here or waiting:
                wrong.append((at, (here or waiting)[0]))
                waiting.remove(wrong[-1][1])
            else:
                first = int(np.searchsorted(made, place))
                known = first < len(made) and made[first] == place
                if known and of_placed[first] >= 0:
                    check.example_finding(at, "is one more than its entry gives")
                elif known or place in left:
                    check.example_finding(at, "is here; expected to be left out")
                else:
                    check.example_finding(at, "is not an entry of the shards; expected only their entries")
        self._compare_tokens(wrong)
        for place, rows in gone.items():
            if rows:
                what = "its example is" if len(rows) == 1 else f"{len(rows)} of its examples are"
                check.manifest_finding(
                    f"{check.entry_location(*split_entry_key(place))}: {what} missing; expected once"
                )

    def _compare_tokens(self, pairs: list[tuple[int, int]]) -> None:
        """Add findings on pairs of examples that differ: the text of each, and the text that was expected."""
        expected, read, decode = dict(pairs), Counter[int](), cached_decoder(self.tokenizer).decode
        for at, there in self._read_examples(np.array([*expected], np.int64)):
            made = pack_files.read_raw_tokens(
                self.folder, str(self.folder), self.placed[expected[at] : expected[at] + 1]
            )
            differences = []
            for side, of in (("what it trains", True), ("its input", False)):
                texts = (decode(token_ids(raw[trained_mask(raw) == of]))[0].tobytes() for raw in (there, made))
                reads, wanted = texts
                if reads != wanted:
                    differences.append(f"{side} reads {excerpt(reads, wanted)}; expected {excerpt(wanted, reads)}")
            text = excerpt(decode(token_ids(there.copy()))[0].tobytes())
            for what in differences or [f"has other ids than the tokenizer gives for the text {text}"]:
                self.check.example_finding(at, what)
            read[at] += 1
        for at in expected.keys() - read.keys():
            self.check.example_finding(at, "is not what its entry gives")

    def _read_examples(self, examples: IntArray) -> Iterator[tuple[int, MarkedTokens]]:
        """Examples with their tokens, read from the files; at most MAX_FINDINGS of each file."""
        check, table = self.check, self.check.examples
        for file in np.unique(table["file"][examples]).tolist():
            chosen = np.sort(examples[table["file"][examples] == file])[:MAX_FINDINGS]
            first = int(np.searchsorted(table["file"], file))
            ends = np.cumsum(table["tokens"][first : chosen[-1] + 1], dtype=np.int64)
            sizes = check.sizes[check.names[file]]
            wanted = np.zeros(len(sizes), bool)
            wanted[table["row"][chosen]] = True
            rows, before = np.flatnonzero(wanted), np.cumsum(sizes) - sizes
            for flags, columns in store_read.read_wanted(check.folder / check.names[file], wanted):
                begin = int(before[rows[0] - np.flatnonzero(flags)[0]])
                ids, mask = (columns[name][0] for name in ("input_ids", "loss_mask"))
                of_group, rows = rows[: flags.sum()], rows[flags.sum() :]
                for at in chosen[np.isin(table["row"][chosen], of_group)].tolist():
                    end = int(ends[at - first]) - begin
                    part = slice(end - int(table["tokens"][at]), end)
                    yield at, mark_trained(ids[part] & MAX_INT, mask[part] == 1)

    def compare_skipped(self) -> None:
        """Compare skipped.jsonl with what the shards leave out."""
        check = self.check
        if np.array_equal(check.skipped, self.skipped_records):
            return
        rows = [Counter(map(tuple, table.tolist())) for table in (check.skipped, self.skipped_records)]
        order = _keys_of(check.skipped)
        for shard, line in sorted({row[:2] for row in (rows[0] - rows[1]) + (rows[1] - rows[0])}):
            key = entry_key(shard, line)
            tables = (table[_keys_of(table) == key] for table in (check.skipped, self.skipped_records))
            says, so = ("; ".join(sorted(map(_describe_skipped, table.tolist()))) or "nothing" for table in tables)
            number = int(np.searchsorted(order, key)) + 1
            what = f"{check.entry_location(shard, line)}: leaves out {says}; expected {so}"
            check.findings.note(kinds.SKIPPED_NAME, number, what)

    def compare_counts(self, dataset: TokenizedDataset, extra: dict[str, Any]) -> None:
        """Compare the counts of the manifest that rows do not tell with those of the shards."""
        check, recipe = self.check, self.check.recipe
        assert recipe is not None
        account = figures.summarize(recipe, dataset, check.packing_stats())
        for key in (*SOURCE_COUNTS, *extra):
            check.expect_equal(f"counts.{key}", check.fields["counts"][key], (account["counts"] | extra)[key])
        check.expect_equal("counts.unknown", check.fields["counts"].get("unknown"), account["counts"].get("unknown"))
        longest = account["figures"]["longest_entry"]
        check.expect_equal("figures.longest_entry", check.fields["figures"]["longest_entry"], longest)
        for shard, part in zip(dataset.shard_of, dataset.parts, strict=True):
            if recipe.overlong == "error" and part.longest > recipe.max_length:
                place = check.entry_location(shard, part.longest_line)
                check.manifest_finding(f"{place}: has {part.longest:,} tokens, and overlong is error")

    def report_misread(self, dataset: TokenizedDataset) -> None:
        """Add findings on ids that do not decode to their text."""
        places = _keys_of(self.check.examples)
        for shard, part in zip(dataset.shard_of, dataset.parts, strict=True):
            for line, what in part.decode_errors:
                at = np.flatnonzero(places == entry_key(shard, line))[:1].tolist()
                self.check.example_finding(at[0], what) if at else self.check.manifest_finding(
                    f"{self.check.entry_location(shard, line)}: {what}"
                )


def _keys_of(table: StructuredArray) -> IntArray:
    return entry_keys(table["shard"], table["line"])


class _MatchKeys(NamedTuple):
    """The keys that examples are matched by: three arrays with a value for each example."""

    split: npt.NDArray[np.int8]
    place: IntArray
    hash: hashing.Hashes


def unmatched(one: _MatchKeys, other: _MatchKeys) -> tuple[IntArray, IntArray]:
    """The numbers of the examples on each side without a partner on the other; of equal ones, the last."""
    side = np.repeat(np.array([0, 1], np.int8), [len(one.place), len(other.place)])
    keys = [np.concatenate([getattr(each, name) for each in (one, other)]) for name in _MatchKeys._fields]
    order = np.lexsort((side, *keys))
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    group, side = np.cumsum(new) - 1, side[order]
    counts = np.bincount(2 * group + side, minlength=2 * (int(group[-1]) + 1 if len(group) else 0))
    begins = np.cumsum(counts) - counts
    rank = np.arange(len(order)) - begins[2 * group + side]
    unpaired = rank >= counts[2 * group + 1 - side]
    return np.sort(order[unpaired & (side == 0)]), np.sort(order[unpaired & (side == 1)]) - len(one.place)


def _describe_skipped(row: tuple[int, ...]) -> str:
    """A row of skipped.jsonl in words."""
    _, _, unit, reason, units, tokens = row
    what = "the entry" if unit < 0 else f"pair {unit}"
    more = f", {units} pairs" if unit < 0 and units else ""
    return f"{what} ({SKIP_REASONS[reason]}{more}{f', {tokens} tokens' if tokens else ''})"
