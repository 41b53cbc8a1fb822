"""Entries -> token ids in spool files; only lengths and line numbers come back.

The work on one part of a shard is a pure, picklable function of a Job. First every entry is encoded, as one example
however long it is; then those longer than a sequence are read again and re-made (see `overlong`), into a second file.
A spool file is the examples' ids, one after the other, int32, BOS and EOS in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from cook import overlong
from cook.engines import Engine, Ids, Offsets
from cook.errors import Problem, SourceError, TokenizerError
from cook.format import Formatter
from cook.load import Entry, LineReader, Part, lines_again, parse
from cook.recipe import Recipe
from cook.tokenizer import Tokenizer, load_engine, reference_engine

BATCH = 2 << 20  # bytes of lines encoded in one call
REMAKE_BATCH = 1 << 19  # bytes of lines re-made together
MAX_PROBLEMS = 20  # bad lines named; the rest are counted

# One row an example: tokens of its input and output (BOS and EOS counted), its line, its pairs, the spool file that it
# lies in (WHOLE or REMADE) and at which token.
EXAMPLE = np.dtype([("input", "i4"), ("output", "i4"), ("line", "i4"), ("pairs", "i4"), ("spool", "u1"), ("at", "i8")])
WHOLE, REMADE = 0, 1
# One row an entry or pair left out: its line, the pair (from 0; -1: the entry), REASONS[reason], how many pairs go with
# it, and the tokens of the entry as one example (0: not encoded).
SKIPPED = np.dtype([("line", "i4"), ("pair", "i4"), ("reason", "u1"), ("pairs", "i4"), ("tokens", "i4")])
REASONS = ("no_pairs", "blank_question", "blank_answer", "overlong")
NO_PAIRS, BLANK_QUESTION, BLANK_ANSWER, OVERLONG = range(len(REASONS))


@dataclasses.dataclass(frozen=True)
class Job:
    """The work on one part of a shard."""

    recipe: Recipe
    tokenizer: Tokenizer
    part: Part
    spool: str
    """Path of its spool files, without their suffixes."""
    limit: int | None = None
    """Read this many entries at the most."""

    def spool_path(self, spool: int) -> Path:
        """The path of one of the two spool files."""
        return Path(self.spool + (".remade" if spool == REMADE else ".whole"))


@dataclasses.dataclass
class Tokenized:
    """What comes back from a part. Lines are counted from the start of the part."""

    examples: npt.NDArray[np.void]  # EXAMPLE
    skipped: npt.NDArray[np.void]  # SKIPPED
    lines: int = 0
    entries: int = 0
    pairs: int = 0
    split: int = 0  # over-long entries of which examples were made
    truncated: int = 0  # examples with a cut context
    longest: int = 0  # tokens of the longest entry as one example
    longest_line: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    problem_count: int = 0


def tokenize(job: Job) -> Tokenized:
    """Encode a part's entries into its spool files. Raises SourceError or TokenizerError; bad lines come back."""
    result, starts = _encode_whole(job)
    totals = result.examples["input"] + result.examples["output"]
    if len(totals):
        at = int(totals.argmax())
        result.longest, result.longest_line = int(totals[at]), int(result.examples["line"][at])
    too_long = np.flatnonzero(totals > job.recipe.max_length)
    if len(too_long) and not result.problem_count:
        _remake(job, result, too_long, starts)
    return result


def _encode_whole(job: Job) -> tuple[Tokenized, npt.NDArray[np.int64]]:
    """Every entry as one example, in the first spool file; and the byte that each example's line starts at."""
    engine, formatter = load_engine(job.tokenizer), Formatter(job.recipe)
    encode = _checked(engine, job.tokenizer)
    result = Tokenized(np.empty(0, EXAMPLE), np.empty(0, SKIPPED))
    reader = LineReader(job.part)
    rows, skipped, starts = [result.examples], [result.skipped], [np.empty(0, np.int64)]
    at = 0
    with job.spool_path(WHOLE).open("wb") as spool:
        for batch, left_out in _batches(job, reader, result):
            skipped.append(left_out)
            if result.problem_count or not batch:
                continue
            texts = []
            for entry in batch:
                texts.append(formatter.input_text(entry.context))
                texts.append(formatter.output_text(entry.pairs))
            ids, offsets = encode(texts)
            lengths = np.diff(offsets)
            table = np.zeros(len(batch), EXAMPLE)
            table["input"] = lengths[0::2] + (job.tokenizer.bos_id is not None)
            table["output"] = lengths[1::2] + 1
            table["line"] = [entry.line for entry in batch]
            table["pairs"] = [len(entry.pairs) for entry in batch]
            for index in np.flatnonzero(table["input"] == 0):
                _note(result, Problem(job.part.path, batch[index].line, "context", "its input encodes to no token"))
            table["at"] = at + _starts(table)
            at += _write(spool, ids, offsets, job.tokenizer)
            rows.append(table)
            starts.append(np.array([entry.start for entry in batch], np.int64))
    result.lines = reader.lines
    result.examples, result.skipped = np.concatenate(rows), np.concatenate(skipped)
    return result, np.concatenate(starts)


Skips = list[tuple[int, int, int, int, int]]  # rows of SKIPPED


def _batches(job: Job, reader: LineReader, result: Tokenized) -> Iterator[tuple[list[Entry], npt.NDArray[np.void]]]:
    """The entries of a part in batches, without their blank pairs, and rows of SKIPPED for what was left out."""
    batch: list[Entry] = []
    skipped: Skips = []
    size = 0
    for line in reader:
        if result.entries == job.limit:
            break
        if isinstance(line, Problem):
            _note(result, line)
            continue
        entry = parse(job.part.path, line)
        if isinstance(entry, list):
            for problem in entry:
                _note(result, problem)
            continue
        result.entries += 1
        result.pairs += len(entry.pairs)
        kept = _kept(entry)
        if len(kept) < len(entry.pairs) or not kept:
            skipped += _blanks(entry, kept)
            entry = entry._replace(pairs=[entry.pairs[index] for index in kept])
        if kept:
            batch.append(entry)
            size += len(line.text)
        if size >= BATCH:
            yield batch, np.array(skipped, SKIPPED)
            batch, skipped, size = [], [], 0
    yield batch, np.array(skipped, SKIPPED)


def _kept(entry: Entry) -> list[int]:
    """The indices of the pairs of which neither side is empty or white space."""
    return [
        index
        for index, (question, answer) in enumerate(entry.pairs)
        if question and answer and not question.isspace() and not answer.isspace()
    ]


def _blanks(entry: Entry, kept: list[int]) -> Skips:
    """Rows of SKIPPED for the pairs of an entry that are not kept, and for the entry if none is."""
    blank = set(range(len(entry.pairs))) - set(kept)
    rows = [
        (entry.line, index, BLANK_ANSWER if entry.pairs[index][0].strip() else BLANK_QUESTION, 1, 0)
        for index in sorted(blank)
    ]
    return rows if kept else [*rows, (entry.line, -1, NO_PAIRS, 0, 0)]


def _note(result: Tokenized, problem: Problem) -> None:
    result.problem_count += 1
    if len(result.problems) < MAX_PROBLEMS:
        result.problems.append(problem)


def _checked(engine: Engine, tokenizer: Tokenizer) -> Callable[[Sequence[str]], tuple[Ids, Offsets]]:
    """The engine's `encode`, with every id checked to be of the model's vocabulary."""

    def encode(texts: Sequence[str]) -> tuple[Ids, Offsets]:
        ids, offsets = engine.encode(texts)
        if len(ids) and (highest := int(ids.max())) >= tokenizer.vocab_size:
            raise TokenizerError(
                f"{engine.name} {engine.version} gave id {highest} for {tokenizer.name}, whose vocabulary has "
                f"{tokenizer.vocab_size} ids; please report this"
            )
        return ids, offsets

    return encode


def _starts(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """The token that each example starts at, if they lie one after the other."""
    totals: npt.NDArray[np.int64] = table["input"].astype(np.int64) + table["output"]
    return np.asarray(np.cumsum(totals) - totals, np.int64)


def _write(spool: IO[bytes], ids: Ids, offsets: Offsets, tokenizer: Tokenizer) -> int:
    """Write examples (texts 2i and 2i + 1 are input and output of example i), BOS and EOS put in; how many tokens."""
    count = (len(offsets) - 1) // 2
    bos = int(tokenizer.bos_id is not None)
    shift = np.arange(count) * (bos + 1)
    before = offsets[0:-1:2] + shift  # where BOS goes
    after = offsets[2::2] + shift + bos  # where EOS goes
    out = np.empty(len(ids) + count * (bos + 1), np.int32)
    text = np.ones(len(out), bool)
    text[after] = False
    out[after] = tokenizer.eos_id
    if tokenizer.bos_id is not None:
        text[before] = False
        out[before] = tokenizer.bos_id
    out[text] = ids
    spool.write(out.data)
    return len(out)


def _remake(job: Job, result: Tokenized, too_long: npt.NDArray[np.intp], starts: npt.NDArray[np.int64]) -> None:
    """Put in place of each over-long example what the policy makes of it; new ones go to the second spool file."""
    rows = result.examples[too_long]
    examples, skipped = [np.delete(result.examples, too_long)], [result.skipped]
    if job.recipe.overlong == "drop":
        dropped = np.zeros(len(rows), SKIPPED)
        dropped["line"], dropped["pair"], dropped["reason"] = rows["line"], -1, OVERLONG
        dropped["pairs"], dropped["tokens"] = rows["pairs"], rows["input"] + rows["output"]
        skipped.append(dropped)
    elif job.recipe.overlong in ("split", "truncate"):
        at = 0
        with job.spool_path(REMADE).open("wb") as spool:
            for row, pieces, lost in _remade(job, rows, starts[too_long]):
                line, total = int(row["line"]), int(row["input"] + row["output"])
                gone = [(line, index, OVERLONG, 1, total) for index in lost]
                if pieces:
                    table = _write_pieces(spool, pieces, at, line, job.tokenizer)
                    at += _total(table)
                    examples.append(table)
                    result.split += 1
                    result.truncated += sum(piece.cut for piece in pieces)
                else:
                    gone.append((line, -1, OVERLONG, 0, total))
                skipped.append(np.array(gone, SKIPPED))
    result.examples, result.skipped = _by_line(examples), _by_line(skipped)


def _by_line(tables: list[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    table = np.concatenate(tables)
    return table[np.argsort(table["line"], kind="stable")]


def _total(table: npt.NDArray[np.void]) -> int:
    return int(table["input"].sum(dtype=np.int64) + table["output"].sum(dtype=np.int64))


def _write_pieces(
    spool: IO[bytes], pieces: list[overlong.Piece], at: int, line: int, tokenizer: Tokenizer
) -> npt.NDArray[np.void]:
    arrays = [ids for piece in pieces for ids in (piece.input_ids, piece.output_ids)]
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(ids) for ids in arrays], out=offsets[1:])
    lengths = np.diff(offsets)
    table = np.zeros(len(pieces), EXAMPLE)
    table["input"] = lengths[0::2] + (tokenizer.bos_id is not None)
    table["output"] = lengths[1::2] + 1
    table["line"], table["spool"] = line, REMADE
    table["pairs"] = [piece.pairs for piece in pieces]
    table["at"] = at + _starts(table)
    _write(spool, np.concatenate(arrays), offsets, tokenizer)
    return table


def _remade(
    job: Job, rows: npt.NDArray[np.void], starts: npt.NDArray[np.int64]
) -> Iterator[tuple[np.void, list[overlong.Piece], list[int]]]:
    """For each over-long example its row, the pieces made of it, and which of the entry's pairs are lost."""
    formatter = Formatter(job.recipe)
    encode = _checked(load_engine(job.tokenizer), job.tokenizer)
    has_bos = int(job.tokenizer.bos_id is not None)
    capacity = job.recipe.max_length - has_bos - 1
    whole = np.memmap(job.spool_path(WHOLE), np.int32, "r").view(np.uint32)

    def steps(row: np.void, entry: Entry, kept: list[int]) -> overlong.Steps[overlong.Remade]:
        ids = whole[row["at"] + has_bos : row["at"] + row["input"]]
        pairs = [entry.pairs[index] for index in kept]
        if job.recipe.overlong == "split":
            return overlong.split(ids, pairs, formatter, capacity)
        return overlong.truncate(ids, entry.context, pairs, formatter, capacity, _token_ends(job.tokenizer))

    for group in _groups(job.part, rows["line"].tolist(), starts.tolist()):
        kept = [_kept(entry) for _, entry in group]
        work = [steps(rows[index], entry, indices) for (index, entry), indices in zip(group, kept, strict=True)]
        for (index, _), indices, remade in zip(group, kept, overlong.run(work, encode), strict=True):
            yield rows[index], remade.pieces, [indices[pair] for pair in remade.lost]


def _groups(part: Part, numbers: list[int], starts: list[int]) -> Iterator[list[tuple[int, Entry]]]:
    """The entries on these lines, numbered from 0, as many at a time as are re-made together."""
    group: list[tuple[int, Entry]] = []
    size = 0
    for index, line in enumerate(lines_again(part, numbers, starts)):
        entry = parse(part.path, line)
        if isinstance(entry, list):
            raise SourceError(f"{part.path}: changed while it was read")
        group.append((index, entry))
        size += len(line.text)
        if size >= REMAKE_BATCH:
            yield group
            group, size = [], 0
    yield group


def _token_ends(tokenizer: Tokenizer) -> Callable[[str], Offsets]:
    """Where tokens end in a text: from the engine, or from the reference where the engine does not know."""

    def token_ends(text: str) -> Offsets:
        ends = load_engine(tokenizer).token_ends(text)
        if ends is None:
            ends = reference_engine(tokenizer).token_ends(text)
        assert ends is not None, "the reference always knows"
        return ends

    return token_ends
