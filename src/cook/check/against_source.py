"""What is cooked against the shards it was made of: these are encoded again, by the stages of a cook, and compared.

Each example of the files is matched by split, shard, line and a hash of its tokens (see `hashing`) with one that the
shards make; then the order of each split is held against the plan, and counts and skipped.jsonl against what came of
the shards. What the encoder gives must decode to its texts, which does not use the encoder (`readback`). Where examples
differ, their tokens are read, and decoded for the finding.
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
from cook.check.folder import Check, places_of
from cook.check.rows import MOST
from cook.core import files, records
from cook.core.errors import InputError
from cook.core.records import REASONS, Raw, Rows, join, token_ids, trained
from cook.encode import table as gather
from cook.encode.left_out import MAX_INT
from cook.encode.readback import decoder_of, shown
from cook.encode.tokenized import Dough
from cook.executors.local import results
from cook.pack import files as pack_files
from cook.pack import windows
from cook.pack.planner import plan
from cook.pack.splits import named
from cook.pipeline import figures
from cook.pipeline.build import choose_splits, encode_jobs, encode_parts
from cook.read.source import Shard
from cook.store import kinds
from cook.store import read as unpack
from cook.tokenizer.loading import Tokenizer

SHARE = 1 << 22  # tokens that are hashed by one job
PIECE = 1 << 20  # and at once
COUNTS = ("entries", "pairs", "split", "truncated", "special_strings", "markers")  # that the shards alone tell
Places = npt.NDArray[np.int64]


class DatasetCheck(Check):
    """The check of a dataset."""

    def prove(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:
        """See Check."""
        prove(self, shards, tokenizer, pool)


def prove(check: Check, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:
    """Compare what is cooked with its shards; findings go to the check. Raises SourceError, TokenizerError."""
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
            with gather.Table(folder, folder, recipe.hashes) as table:
                dough = encode_parts(jobs, pool, table)
        except InputError as exc:  # by the recipe that the manifest has
            check.wrong(str(exc))
            return
        strategy.split_examples(recipe, folder)
        placed = table.placed()
        hashed = results(pool, hash_examples, ((0, job) for job in _hash_jobs(folder, placed, check.seed)))
        hashes = np.concatenate([np.empty(0, np.uint64), *(done for _, done in hashed)])
        splits = choose_splits(recipe, dough, table, named(check.fields["dataset"], [shard.name for shard in shards]))
        proof = _Proof(check, placed, hashes, _left_out(dough), folder, tokenizer)
        proof.examples(splits)
        proof.skipped()
        proof.counts(dough, strategy.extra_counts(dough.parts))
        proof.misread(dough)


def _left_out(dough: Dough) -> Rows:
    """What came of the shards as the rows of skipped.jsonl."""
    tables = [np.empty(0, records.LEFT)]
    for shard, part in zip(dough.shard_of, dough.parts, strict=True):
        tables.append(np.zeros(len(part.skipped), records.LEFT))
        tables[-1]["shard"] = shard
        for field in part.skipped.dtype.names or ():
            tables[-1][field] = part.skipped[field]
    return np.concatenate(tables)


class HashJob(NamedTuple):
    """The work of hashing the examples [begin, end) of the table of all."""

    folder: str
    begin: int
    end: int
    seed: int

    def __str__(self) -> str:
        return f"the hashes of examples from {self.begin:,}, in {self.folder}"


def _hash_jobs(folder: Path, placed: Rows, seed: int) -> Iterator[HashJob]:
    for begin, end in records.split_rows(placed["tokens"].astype(np.int64), SHARE):
        yield HashJob(str(folder), begin, end, seed)


def hash_examples(job: HashJob) -> hashing.Hashes:
    """The hash of each example, from its spool."""
    examples = files.mapped(Path(job.folder) / "placed", records.PLACED)[job.begin : job.end]
    found = [np.empty(0, np.uint64)]
    for begin, end in records.split_rows(examples["tokens"].astype(np.int64), PIECE):
        some = examples[begin:end]
        found.append(
            hashing.of_examples(pack_files.raw_of(Path(job.folder), job.folder, some), some["tokens"], job.seed)
        )
    return np.concatenate(found)


class _Proof:
    """The comparison; `placed`, `hashes` and `left` are of what the shards make, in the order of the shards."""

    def __init__(
        self, check: Check, placed: Rows, hashes: hashing.Hashes, left: Rows, folder: Path, tokenizer: Tokenizer
    ) -> None:
        self.check, self.placed, self.hashes, self.left = check, placed, hashes, left
        self.folder, self.tokenizer = folder, tokenizer

    def examples(self, splits: dict[str, windows.Chosen]) -> None:
        """Hold each split's examples against those of the shards, in the order of the plan."""
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
        places = places_of(check.examples), places_of(self.placed)

        def same(there: Places, expected: Places) -> npt.NDArray[np.bool_]:
            there, expected = there[: len(expected)], expected[: len(there)]
            alike = check.examples["hash"][there] == self.hashes[expected]
            found: npt.NDArray[np.bool_] = alike & (places[0][there] == places[1][expected])
            return found

        alike = [same(there, expected) for there, expected, _ in streams]
        if any(len(there) != len(expected) for there, expected, _ in streams) or not all(map(np.all, alike)):
            kept = np.flatnonzero(of_placed >= 0)
            there = _Keys(of_file, places[0], check.examples["hash"])
            expected = _Keys(of_placed[kept], places[1][kept], self.hashes[kept])
            more, missing = unmatched(there, expected)
            if len(more) or len(missing):
                self._explain(names, of_file, of_placed, more, kept[missing])
                return
        for (there_, _, starts), alike_ in zip(streams, alike, strict=True):
            if len(there_):
                check.planned(recipe, there_, alike_, starts)

    def _explain(self, names: list[str], of_file: Any, of_placed: Any, more: Places, missing: Places) -> None:
        """Findings of examples that the shards do not make, and of those that they make and that are not there."""
        check = self.check
        made, gone, left = places_of(self.placed), defaultdict[int, list[int]](list), {*places_of(self.left).tolist()}
        for at in missing.tolist():
            gone[int(made[at])].append(at)
        wrong: list[tuple[int, int]] = []
        for at, place in zip(more.tolist(), places_of(check.examples)[more].tolist(), strict=True):
            waiting = gone[place]
            moved = [each for each in waiting if self.hashes[each] == check.examples["hash"][at]]
            here = [each for each in waiting if of_placed[each] == of_file[at]]
            if moved:
                waiting.remove(moved[0])
                check.at(at, f"expected in the split {names[of_placed[moved[0]]]}, by the hash of its context")
            elif here or waiting:
                wrong.append((at, (here or waiting)[0]))
                waiting.remove(wrong[-1][1])
            else:
                first = int(np.searchsorted(made, place))
                known = first < len(made) and made[first] == place
                if known and of_placed[first] >= 0:
                    check.at(at, "is there once more than its entry makes it")
                elif known or place in left:
                    check.at(at, "stands here; expected to be left out")
                else:
                    check.at(at, "is no entry of the shards; expected those alone")
        self._differences(wrong)
        for place, rows in gone.items():
            if rows:
                what = "its example stands" if len(rows) == 1 else f"{len(rows)} of its examples stand"
                check.wrong(f"{check.place(place >> 32, place & MAX_INT)}: {what} nowhere; expected once")

    def _differences(self, pairs: list[tuple[int, int]]) -> None:
        """Findings of examples that are not those of the shards beside them: what each reads, and should."""
        expected, read, decode = dict(pairs), Counter[int](), decoder_of(self.tokenizer).decode
        for at, there in self._tokens(np.array([*expected], np.int64)):
            made = pack_files.raw_of(self.folder, str(self.folder), self.placed[expected[at] : expected[at] + 1])
            told = []
            for side, of in (("what it trains", True), ("its input", False)):
                texts = (decode(token_ids(raw[trained(raw) == of]))[0].tobytes() for raw in (there, made))
                reads, wanted = texts
                if reads != wanted:
                    told.append(f"{side} reads {shown(reads, wanted)}; expected {shown(wanted, reads)}")
            text = shown(decode(token_ids(there.copy()))[0].tobytes())
            for what in told or [f"has other ids than the tokenizer gives for the text {text}"]:
                self.check.at(at, what)
            read[at] += 1
        for at in expected.keys() - read.keys():
            self.check.at(at, "is not what its entry makes")

    def _tokens(self, examples: Places) -> Iterator[tuple[int, Raw]]:
        """Examples with their tokens, read from the files; of each file the first, as many as findings are kept."""
        check, table = self.check, self.check.examples
        for file in np.unique(table["file"][examples]).tolist():
            chosen = np.sort(examples[table["file"][examples] == file])[:MOST]
            first = int(np.searchsorted(table["file"], file))
            ends = np.cumsum(table["tokens"][first : chosen[-1] + 1], dtype=np.int64)
            sizes = check.sizes[check.names[file]]
            wanted = np.zeros(len(sizes), bool)
            wanted[table["row"][chosen]] = True
            rows, before = np.flatnonzero(wanted), np.cumsum(sizes) - sizes
            for flags, columns in unpack.read_wanted(check.folder / check.names[file], wanted):
                begin = int(before[rows[0] - np.flatnonzero(flags)[0]])
                ids, mask = (columns[name][0] for name in ("input_ids", "loss_mask"))
                of_group, rows = rows[: flags.sum()], rows[flags.sum() :]
                for at in chosen[np.isin(table["row"][chosen], of_group)].tolist():
                    end = int(ends[at - first]) - begin
                    part = slice(end - int(table["tokens"][at]), end)
                    yield at, join(ids[part] & MAX_INT, mask[part] == 1)

    def skipped(self) -> None:
        """Hold skipped.jsonl against what the shards leave out."""
        check = self.check
        if np.array_equal(check.skipped, self.left):
            return
        rows = [Counter(map(tuple, table.tolist())) for table in (check.skipped, self.left)]
        order = places_of(check.skipped)
        for shard, line in sorted({row[:2] for row in (rows[0] - rows[1]) + (rows[1] - rows[0])}):
            tables = (table[places_of(table) == (shard << 32 | line)] for table in (check.skipped, self.left))
            says, so = ("; ".join(sorted(map(_told, table.tolist()))) or "nothing" for table in tables)
            number = int(np.searchsorted(order, shard << 32 | line)) + 1
            what = f"{check.place(shard, line)}: leaves out {says}; expected {so}"
            check.findings.note(kinds.SKIPPED_NAME, number, what)

    def counts(self, dough: Dough, extra: dict[str, Any]) -> None:
        """Hold the manifest's counts that the rows do not tell against those of the shards."""
        check, recipe = self.check, self.check.recipe
        assert recipe is not None
        account = figures.account(recipe, dough, check.made())
        for key in (*COUNTS, *extra):
            check.equal(f"counts.{key}", check.fields["counts"][key], (account["counts"] | extra)[key])
        check.equal("counts.unknown", check.fields["counts"].get("unknown"), account["counts"].get("unknown"))
        longest = account["figures"]["longest_entry"]
        check.equal("figures.longest_entry", check.fields["figures"]["longest_entry"], longest)
        for shard, part in zip(dough.shard_of, dough.parts, strict=True):
            if recipe.overlong == "error" and part.longest > recipe.max_length:
                place = check.place(shard, part.longest_line)
                check.wrong(f"{place}: has {part.longest:,} tokens, and overlong is error")

    def misread(self, dough: Dough) -> None:
        """Findings of what the encoder gives that does not decode to its text."""
        places = places_of(self.check.examples)
        for shard, part in zip(dough.shard_of, dough.parts, strict=True):
            for line, what in part.misread:
                at = np.flatnonzero(places == (shard << 32 | line))[:1].tolist()
                self.check.at(at[0], what) if at else self.check.wrong(f"{self.check.place(shard, line)}: {what}")


class _Keys(NamedTuple):
    """What examples are matched by, a value each."""

    split: npt.NDArray[np.int8]
    place: Places
    hash: hashing.Hashes


def unmatched(one: _Keys, other: _Keys) -> tuple[Places, Places]:
    """Those of each that have no fellow in the other, by number; of several alike the last."""
    side = np.repeat(np.array([0, 1], np.int8), [len(one.place), len(other.place)])
    keys = [np.concatenate([getattr(each, name) for each in (one, other)]) for name in _Keys._fields]
    order = np.lexsort((side, *keys))
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    group, side = np.cumsum(new) - 1, side[order]
    counts = np.bincount(2 * group + side, minlength=2 * (int(group[-1]) + 1 if len(group) else 0))
    begins = np.cumsum(counts) - counts
    rank = np.arange(len(order)) - begins[2 * group + side]
    alone = rank >= counts[2 * group + 1 - side]
    return np.sort(order[alone & (side == 0)]), np.sort(order[alone & (side == 1)]) - len(one.place)


def _told(row: tuple[int, ...]) -> str:
    """A row of what is left out, in words."""
    _, _, unit, reason, units, tokens = row
    what = "the entry" if unit < 0 else f"pair {unit}"
    more = f", {units} pairs" if unit < 0 and units else ""
    return f"{what} ({REASONS[reason]}{more}{f', {tokens} tokens' if tokens else ''})"
