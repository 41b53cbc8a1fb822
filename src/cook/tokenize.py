"""Entries -> token ids in spool files; only lengths and line numbers come back.

The work on one part of a shard is a pure, picklable function of a Job. First every entry is encoded, as one example
however long it is; then those longer than a sequence are read again and re-made (see `overlong`), into a second spool.
A spool that is there already, whole, is used as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from cook import overlong, spool
from cook.engines import Engine, Ids, Offsets
from cook.entries import Entry, Line, LineReader, Part, lines_again, parse
from cook.errors import Problem, SourceError, TokenizerError
from cook.format import Formatter
from cook.marks import Marks, markers
from cook.recipe import Recipe
from cook.sources import Shard
from cook.spool import (
    BAD_LINE,
    BLANK_ANSWER,
    BLANK_QUESTION,
    EXAMPLE,
    HASHED,
    NO_PAIRS,
    OVERLONG,
    PLACE,
    SKIPPED,
    Index,
    Raw,
    Rows,
    join,
    token_ids,
)
from cook.tokenizer import Tokenizer, load_engine, special_strings, token_ends

BATCH = 2 << 20  # bytes of lines encoded in one call
REMAKE_BATCH = 1 << 19  # bytes of lines re-made together
MAX_PROBLEMS = 20  # problems named; the rest are counted
MAX_BAD = 100_000  # bad lines of a part that are left out; what has more is no shard
COMPRESSION = 4  # how much smaller text is when compressed, about
MAX_WHAT = 500  # letters kept of what is wrong with a line


class Job(NamedTuple):
    """The work on one part of a shard."""

    recipe: Recipe
    tokenizer: Tokenizer
    part: Part
    shard: Shard
    """The part's shard as it was before its sha256 was taken."""
    whole: str
    """The spool of whole examples; see `spool`."""
    remade: str
    """The spool of examples re-made from over-long ones."""
    limit: int | None = None
    """Read this many entries at the most."""

    def size(self) -> int:
        """The bytes of the part's text, about, and so of its ids: four a token, which stands for some four letters."""
        return self.part.size(self.shard.size) * (COMPRESSION if self.part.end is None else 1)

    def __str__(self) -> str:
        return f"{self.part.path}, from byte {self.part.start:,}"


@dataclasses.dataclass
class Tokenized:
    """What comes back from a part. Lines are counted from the start of the part."""

    whole: Rows
    """PLACE: the examples that fit, in the first spool; and the fields of HASHED, where the recipe asks for them."""
    remade: Rows
    """Likewise: those re-made, in the second."""
    skipped: Rows
    """SKIPPED, in the order of lines."""
    lines: int = 0
    entries: int = 0
    pairs: int = 0
    kept_pairs: int = 0
    """Pairs that are in examples."""
    split: int = 0
    """Over-long entries of which examples were made."""
    truncated: int = 0
    special: int = 0
    """Entries whose text holds a special token's; see `marks`."""
    markers: dict[str, int] = dataclasses.field(default_factory=dict)
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Lines left out because they are no entries, and what is wrong with each."""
    examples: int = 0
    """How many were in `whole` and `remade`, once those are in the table of all."""
    left_out: int = 0
    """And how many rows in `skipped`."""
    longest: int = 0
    """Tokens of the longest entry as one example, and its line."""
    longest_line: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    problem_count: int = 0

    def note(self, problem: Problem) -> None:
        """Count a bad line, and keep the first."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def tokenize(job: Job) -> Tokenized:
    """Encode a part's entries into its spools. Raises SourceError, TokenizerError, OutputError; bad lines come back."""
    nothing = np.empty(0, _place_of(job))
    result = Tokenized(nothing, nothing, np.empty(0, SKIPPED))
    index = None if job.limit else spool.load(job.whole)
    if index is None or (index.bad and job.recipe.on_error == "fail"):
        index = _encode_whole(job, result)
    if result.problem_count:
        result.lines = index.lines
        return result
    for field in ("lines", "entries", "pairs", "skipped", "special", "markers", "bad"):
        setattr(result, field, getattr(index, field))
    totals = index.examples["tokens"]
    if len(totals):
        at = int(totals.argmax())
        result.longest, result.longest_line = int(totals[at]), int(index.examples["line"][at])
    long = totals > job.recipe.max_length
    fitting = index.examples[~long] if long.any() else index.examples
    result.whole, result.kept_pairs = _places(fitting, job), int(fitting["pairs"].sum())
    if long.any() and job.recipe.overlong != "error":
        _put_in_place(job, result, index.examples[long])
    return result


def _place_of(job: Job) -> np.dtype[np.void]:
    return np.dtype(PLACE.descr + HASHED.descr) if job.recipe.hashes else PLACE


def _places(examples: Rows, job: Job) -> Rows:
    places = np.empty(len(examples), _place_of(job))
    for field in places.dtype.names or ():
        places[field] = examples[field]
    return places


def _encode_whole(job: Job, result: Tokenized) -> Index:
    """Every entry as one example; bad lines are left out, or go to the result, and then there is no spool."""
    encode, formatter = checked(load_engine(job.tokenizer), job.tokenizer), Formatter(job.recipe)
    reader = LineReader(job.part)
    index = Index(np.empty(0, EXAMPLE), np.empty(0, SKIPPED))
    marks = Marks(markers(job.recipe), special_strings(job.tokenizer))
    rows, skipped = [index.examples], [index.skipped]
    with spool.writing(job.whole, job.size()) as (writer, done):
        for batch, left_out in _batches(job, reader, index, result, marks):
            skipped.append(left_out)
            if result.problem_count or not batch:
                continue
            texts = []
            for entry in batch:
                texts.append(formatter.input_text(entry.context))
                texts.append(formatter.output_text(entry.pairs))
            ids, offsets = encode(texts)
            table = example_table(offsets, job.tokenizer, writer.tokens)
            table["line"] = [entry.line for entry in batch]
            table["start"] = [entry.start for entry in batch]
            table["pairs"] = [len(entry.pairs) for entry in batch]
            if job.recipe.hashes:
                table["context"] = [hash64(entry.context.encode()) for entry in batch]
                table["content"] = [hash64(orjson.dumps((entry.context, entry.pairs))) for entry in batch]
            writer.write(with_control_tokens(ids, offsets, job.tokenizer))
            if (no_input := table["tokens"] == table["trained"]).any():
                for empty in np.flatnonzero(no_input):
                    problem = Problem(job.part.path, batch[empty].line, "context", "its input encodes to no token")
                    bad_line(job.recipe, [problem], index.bad, result)
                    skipped.append(np.array([(problem.line, -1, BAD_LINE, 0, 0)], SKIPPED))
                table = table[~no_input]
            rows.append(table)
        index.lines = reader.lines
        index.special, index.markers = marks.special, marks.by_marker
        index.examples, index.skipped = np.concatenate(rows), by_line(np.concatenate(skipped))
        unchanged(job)
        if not result.problem_count:
            done.append(index)
    return index


def bad_line(recipe: Recipe, problems: list[Problem], bad: list[tuple[int, str]], result: Tokenized) -> None:
    """Note what is wrong with a line: for the error, or for the record (`bad`) if bad lines are left out."""
    if recipe.on_error == "skip" and len(bad) < MAX_BAD:
        what = "; ".join(f"{problem.field}: {problem.what}".removeprefix(": ") for problem in problems)
        bad.append((problems[0].line, what if len(what) <= MAX_WHAT else what[:MAX_WHAT] + "…"))
        return
    for problem in problems:
        result.note(problem)


def _batches(
    job: Job, reader: LineReader, index: Index, result: Tokenized, marks: Marks
) -> Iterator[tuple[list[Entry], Rows]]:
    """The entries of a part in batches, and rows of SKIPPED for what was left out."""
    batch: list[Entry] = []
    skipped: list[tuple[int, int, int, int, int]] = []
    size = 0
    for line in reader:
        if index.entries == job.limit:
            break
        index.entries += 1
        entry = [line] if isinstance(line, Problem) else parse(job.part.path, line, job.recipe.fields)
        if isinstance(entry, list):
            bad_line(job.recipe, entry, index.bad, result)
            skipped.append((entry[0].line, -1, BAD_LINE, 0, 0))
            continue
        assert isinstance(line, Line)
        marks.look(entry)
        index.pairs += len(entry.pairs) + len(entry.blank)
        for at, question in entry.blank:
            skipped.append((entry.line, at, BLANK_QUESTION if question else BLANK_ANSWER, 1, 0))
        if entry.pairs:
            batch.append(entry)
            size += len(line.text)
        else:
            skipped.append((entry.line, -1, NO_PAIRS, 0, 0))
        if size >= BATCH:
            yield batch, np.array(skipped, SKIPPED)
            batch, skipped, size = [], [], 0
    yield batch, np.array(skipped, SKIPPED)


def hash64(data: bytes) -> int:
    """64 bits that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def checked(engine: Engine, tokenizer: Tokenizer) -> Callable[[Sequence[str]], tuple[Ids, Offsets]]:
    """The engine's `encode`, with every id checked to be of the model's vocabulary, and no special token."""
    forbidden = np.zeros(tokenizer.vocab_size, bool)
    forbidden[[i for _, i in tokenizer.specials if i != tokenizer.unk_id]] = True
    lowest = int(forbidden.argmax()) if forbidden.any() else tokenizer.vocab_size

    def encode(texts: Sequence[str]) -> tuple[Ids, Offsets]:
        ids, offsets = engine.encode(texts)
        highest = int(ids.max(initial=0))
        if highest >= tokenizer.vocab_size:
            raise TokenizerError(
                f"{engine.name} {engine.version} gave id {highest} for {tokenizer.name}, whose vocabulary has "
                f"{tokenizer.vocab_size} ids; please report this"
            )
        if highest >= lowest and forbidden[ids].any():
            raise TokenizerError(
                f"{engine.name} {engine.version} gave the special token {int(ids[forbidden[ids]][0])} of "
                f"{tokenizer.name} for ordinary text; please report this, and pass --engine hf"
            )
        return ids, offsets

    return encode


def example_table(offsets: Offsets, tokenizer: Tokenizer, at: int) -> Rows:
    """EXAMPLE rows of examples that lie one after the other from token `at`: texts 2i and 2i + 1 make example i."""
    lengths = np.diff(offsets)
    table = np.zeros(len(lengths) // 2, EXAMPLE)
    table["trained"] = lengths[1::2] + 1
    table["tokens"] = lengths[0::2] + (tokenizer.bos_id is not None) + table["trained"]
    ends = np.cumsum(table["tokens"], dtype=np.int64)
    table["at"] = at + ends - table["tokens"]
    return table


def with_control_tokens(ids: Ids, offsets: Offsets, tokenizer: Tokenizer) -> Raw:
    """The tokens with BOS before each input and EOS after each output; outputs with their EOS are trained."""
    count = (len(offsets) - 1) // 2
    bos = int(tokenizer.bos_id is not None)
    shift = np.arange(count) * (bos + 1)
    before = offsets[0:-1:2] + shift
    after = offsets[2::2] + shift + bos
    out = np.empty(len(ids) + count * (bos + 1), np.uint32)
    text = np.ones(len(out), bool)
    text[after] = False
    out[after] = tokenizer.eos_id
    if tokenizer.bos_id is not None:
        text[before] = False
        out[before] = tokenizer.bos_id
    out[text] = ids
    lengths = np.diff(offsets) + np.tile([bos, 1], count)
    return join(out, np.repeat(np.tile([False, True], count), lengths))


def _put_in_place(job: Job, result: Tokenized, rows: Rows) -> None:
    """Add to the result what the recipe makes of over-long examples."""
    if job.recipe.overlong == "drop":
        left_out = np.zeros(len(rows), SKIPPED)
        left_out["line"], left_out["pair"], left_out["reason"] = rows["line"], -1, OVERLONG
        left_out["pairs"], left_out["tokens"] = rows["pairs"], rows["tokens"]
    else:
        index = (None if job.limit else spool.load(job.remade)) or _remake(job, rows, result.skipped)
        result.remade, left_out = _places(index.examples, job), index.skipped
        result.kept_pairs += int(index.examples["pairs"].sum())
        result.split, result.truncated = index.entries, index.truncated
    result.skipped = by_line(np.concatenate([result.skipped, left_out]))


def by_line(rows: Rows) -> Rows:
    """Rows in the order of their lines."""
    return rows[np.argsort(rows["line"], kind="stable")]


def _remake(job: Job, rows: Rows, blank: Rows) -> Index:
    """Re-make over-long examples into the second spool; `entries` of its index are those of which some were made.

    `blank`: SKIPPED rows, of the part's blank pairs among others.
    """
    index = Index(np.empty(0, EXAMPLE), np.empty(0, SKIPPED))
    examples, skipped = [index.examples], [index.skipped]
    if job.recipe.overlong == "split":  # most give nothing, and need not be looked at again
        # No room is left for EOS; as `overlong.split` tells it.
        useless = rows["tokens"] - rows["trained"] >= job.recipe.max_length
        skipped.append(_lost(rows[useless], blank))
        rows = rows[~useless]
    with spool.writing(job.remade, 4 * spool.total(rows)) as (writer, done):
        for group, entries, remade in _remade(job, rows):
            if pieces := [piece for made in remade for piece in made.pieces]:
                arrays = [ids for piece in pieces for ids in (piece.input_ids, piece.output_ids)]
                offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(ids) for ids in arrays])])
                table = example_table(offsets, job.tokenizer, writer.tokens)
                table["pairs"] = [piece.pairs for piece in pieces]
                of_piece = np.repeat(group, [len(made.pieces) for made in remade])
                for field in ("line", "start", "context", "content"):
                    table[field] = of_piece[field]
                writer.write(with_control_tokens(np.concatenate(arrays), offsets, job.tokenizer))
                examples.append(table)
            index.entries += sum(bool(made.pieces) for made in remade)
            index.truncated += sum(piece.cut for piece in pieces)
            gone: list[tuple[int, int, int, int, int]] = []
            for entry, total, made in zip(entries, group["tokens"].tolist(), remade, strict=True):
                gone += [(entry.line, entry.place(pair), OVERLONG, 1, total) for pair in made.lost]
                gone += [] if made.pieces else [(entry.line, -1, OVERLONG, 0, total)]
            skipped.append(np.array(gone, SKIPPED))
        index.examples, index.skipped = np.concatenate(examples), np.concatenate(skipped)
        unchanged(job)
        done.append(index)
    return index


def _lost(rows: Rows, blank: Rows) -> Rows:
    """SKIPPED rows of entries that are lost whole: each pair that is not blank, by its place, then the entry."""
    blank = blank[(blank["reason"] == BLANK_QUESTION) | (blank["reason"] == BLANK_ANSWER)]
    if len(blank):  # np.isin imports numpy.ma, which takes 10 ms
        blank = blank[np.isin(blank["line"], rows["line"])]
    count = rows["pairs"] + 1
    first = np.cumsum(count) - count
    lost = np.zeros(int(count.sum()), SKIPPED)
    lost["line"] = np.repeat(rows["line"], count)
    lost["tokens"] = np.repeat(rows["tokens"], count)
    lost["reason"], lost["pairs"] = OVERLONG, 1
    lost["pair"] = np.arange(len(lost)) - np.repeat(first, count)
    for row, at in zip(rows, first, strict=True) if len(blank) else ():
        among = blank["pair"][blank["line"] == row["line"]]
        places = np.arange(row["pairs"] + len(among))
        lost["pair"][at : at + row["pairs"]] = places[~np.isin(places, among)]
    lost["pair"][first + rows["pairs"]], lost["pairs"][first + rows["pairs"]] = -1, 0
    return lost


def unchanged(job: Job) -> None:
    """Raise SourceError if the shard changed: its tokens would be kept under the hash of what it was."""
    if job.shard.changed():
        raise SourceError(f"{job.part.path}: changed while it was read; run again")


def _remade(job: Job, rows: Rows) -> Iterator[tuple[Rows, list[Entry], list[overlong.Remade]]]:
    """Over-long examples, some at a time: their rows, their entries, and what was made of each."""
    formatter = Formatter(job.recipe)
    encode = checked(load_engine(job.tokenizer, light=True), job.tokenizer)
    has_bos = int(job.tokenizer.bos_id is not None)
    capacity = job.recipe.max_length - has_bos - 1
    whole = np.memmap(spool.ids_path(job.whole), np.uint32, "r")

    def steps(begin: int, end: int, entry: Entry) -> overlong.Steps[overlong.Remade]:
        ids = token_ids(np.array(whole[begin:end])).view(np.uint32)
        if job.recipe.overlong == "split":
            return overlong.split(ids, entry.pairs, formatter, capacity)
        ends = token_ends(job.tokenizer)
        return overlong.truncate(ids, entry.context, entry.pairs, formatter, capacity, ends)

    for group, entries in _groups(job, rows):
        begins, ends = group["at"] + has_bos, group["at"] + group["tokens"] - group["trained"]
        yield group, entries, overlong.run(list(map(steps, begins.tolist(), ends.tolist(), entries)), encode)


def _groups(job: Job, rows: Rows) -> Iterator[tuple[Rows, list[Entry]]]:
    """Rows with the entries on their lines, as many at a time as are re-made together."""
    changed = SourceError(f"{job.part.path}: changed while it was read")
    entries: list[Entry] = []
    first = size = 0
    for line in lines_again(job.part, rows["line"].tolist(), rows["start"].tolist()):
        entry = parse(job.part.path, line, job.recipe.fields)
        if isinstance(entry, list):
            raise changed
        entries.append(entry)
        size += len(line.text)
        if size >= REMAKE_BATCH:
            yield rows[first : first + len(entries)], entries
            first, entries, size = first + len(entries), [], 0
    if first + len(entries) < len(rows):
        raise changed
    yield rows[first:], entries
