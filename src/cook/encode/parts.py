"""Entries -> token ids in spool files; only lengths and line numbers come back.

The work on one part of a shard is a pure, picklable function of a Job. First every entry is encoded, as one example
however long it is; then those longer than a sequence are read again and re-made (`shapes.splitting`) into a second one.
A spool that is there already, whole, is used as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from cook.core import cache
from cook.core import records as records_module
from cook.core.errors import Problem, SourceError, TokenizerError
from cook.core.files import hash64
from cook.core.recipe import Recipe
from cook.core.records import BAD_LINE, EXAMPLE, HASHED, NO_PAIRS, OVERLONG, PLACE, SKIPPED, Rows, token_ids
from cook.encode import readback, spool
from cook.encode.losses import Losses
from cook.encode.spool import Index
from cook.read.lines import Line, LineReader, Part, lines_again, parse_line
from cook.read.source import Shard
from cook.shapes import splitting
from cook.shapes.protocol import Assembled, Record, Segments, Shape, SplitResult, assemble
from cook.shapes.special_text import Marks
from cook.tokenizer.engine import Ids, Offsets
from cook.tokenizer.loading import Tokenizer, checked, load_engine, reference_engine, special_strings

BATCH = 2 << 20  # bytes of lines encoded in one call
REMAKE_BATCH = 1 << 19  # bytes of lines re-made together
MAX_PROBLEMS = 20  # problems named; the rest are counted
MAX_BAD = 100_000  # bad lines of a part that are left out; what has more is no shard
COMPRESSION = 4  # how much smaller text is when compressed, about
MAX_WHAT = 500  # letters kept of what is wrong with a line


class Batch(NamedTuple):
    """Records that are encoded together."""

    records: list[Any]
    skipped: Rows
    """SKIPPED rows of what was left out among them."""


Encode = Callable[[Sequence[str]], tuple[Ids, Offsets]]
Reader = Callable[["Job", "Tokenized", Marks], Iterator[Batch]]
"""Reads a part: counts what is there, and notes bad lines, in the result; looks for special text with the marks."""


class Job(NamedTuple):
    """The work on one part of a shard."""

    recipe: Recipe
    tokenizer: Tokenizer
    part: Part
    shard: Shard
    """The part's shard as it was before its sha256 was taken."""
    whole: str
    """The spool of whole examples; see `encode.spool`."""
    remade: str
    """The spool of examples re-made from over-long ones."""
    shape: Shape
    read: Reader
    """What gives the records of the part."""
    limit: int | None = None
    """Read this many entries at the most."""
    decodes: bool = False
    """Whether what was encoded must decode to its text; see `readback`."""

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
    units: int = 0
    kept_units: int = 0
    """Units that are in examples."""
    split: int = 0
    """Over-long entries of which examples were made."""
    truncated: int = 0
    special: int = 0
    """Entries whose text holds a special token's; see `shapes.special_text`."""
    markers: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    """The characters that the tokenizer lacks; see `encode.losses`."""
    characters: int = 0
    """Of all texts."""
    lost: int = 0
    """Of these, those that the tokenizer lacks."""
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Lines left out because they are no entries, and what is wrong with each."""
    misread: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Lines of which what was encoded does not decode to the text, and in words how; where the job asks for it."""
    examples: int = 0
    """How many were in `whole` and `remade`, once those are in the table of all."""
    left_out: int = 0
    """And how many rows in `skipped`."""
    longest: int = 0
    """Tokens of the longest entry as one example, and its line."""
    longest_line: int = 0
    extra: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """Counts of a strategy's own, by group and name."""
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
        return result
    for field in ("skipped", *spool.TOLD):
        setattr(result, field, getattr(index, field))
    totals = index.examples["tokens"]
    if len(totals):
        at = int(totals.argmax())
        result.longest, result.longest_line = int(totals[at]), int(index.examples["line"][at])
    long = (totals > job.recipe.max_length) & (not job.shape.cut_anywhere)
    fitting = index.examples[~long] if long.any() else index.examples
    result.whole, result.kept_units = _places(fitting, job), int(fitting["units"].sum())
    if long.any() and job.recipe.overlong != "error":
        _put_in_place(job, result, index.examples[long])
    return result


def spool_names(
    folder: Path, recipe: Recipe, tokenizer: Tokenizer, shape: Shape, digest: str, part: Part
) -> tuple[str, str]:
    """Where a part's tokens lie: whole examples, and those re-made. `digest` is the sha256 of its shard.

    The names hash all that determines the tokens. Not the engine (all give the same ids), jobs, seed or packing;
    max_length and policy only for what is re-made.
    """
    key = {
        "version": spool.VERSION,
        "shard": digest,
        "start": part.start,
        "end": part.end,
        "shape": shape.name,
        "hashes": recipe.hashes,
        "tokenizer": tokenizer.fingerprint,
        "specials": tokenizer.specials,
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        **shape.identity(),
    }
    return _name(folder, key), _name(folder, key | {"max_length": recipe.max_length, "overlong": recipe.overlong})


def _name(folder: Path, key: dict[str, object]) -> str:
    name = hashlib.sha256(orjson.dumps(key, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return str(folder / "spools" / name[:2] / name)


def _place_of(job: Job) -> np.dtype[np.void]:
    return np.dtype(PLACE.descr + HASHED.descr) if job.recipe.hashes else PLACE


def _places(examples: Rows, job: Job) -> Rows:
    places = np.empty(len(examples), _place_of(job))
    for field in places.dtype.names or ():
        places[field] = examples[field]
    return places


def _encode_whole(job: Job, result: Tokenized) -> Index:
    """Every entry as one example; bad lines are left out, or go to the result, and then there is no spool."""
    encode = checked(load_engine(job.tokenizer), job.tokenizer)
    marks, losses = Marks(job.shape.markers(), special_strings(job.tokenizer)), Losses(job.tokenizer)
    rows, skipped = [np.empty(0, EXAMPLE)], [np.empty(0, SKIPPED)]
    with spool.writing(job.whole, job.size()) as (writer, done):
        for given, left_out in job.read(job, result, marks):
            skipped.append(left_out)
            if result.problem_count or not given:
                continue
            batch = encoded(job, given, encode)
            skipped.append(_refused(job, batch.refused, result))
            if result.problem_count or not batch.records:
                continue
            losses.look(batch.segments.texts, batch.ids, batch.offsets)
            if job.decodes:
                wrong = readback.misread(job.tokenizer, batch.segments.texts, batch.ids, batch.offsets)
                of = batch.segments.examples_of(wrong)
                result.misread += [(batch.records[at].line, what) for at, what in zip(of, wrong.values(), strict=True)]
            made = assemble(batch.segments, batch.ids, batch.offsets)
            table = _table(job, batch.records, made, writer.tokens)
            writer.write(made.raw)
            if job.shape.head and (headless := table["tokens"] == table["trained"]).any():
                what = "its input encodes to no token"
                lines = [batch.records[empty].line for empty in np.flatnonzero(headless)]
                problems = [Problem(job.part.path, line, job.shape.head, what) for line in lines]
                skipped.append(_refused(job, problems, result))
                table = table[~headless]
            rows.append(table)
        result.special, result.markers = marks.special, marks.by_marker
        result.characters, result.lost, result.unknown = losses.characters, losses.lost.total(), dict(losses.lost)
        told = {field: getattr(result, field) for field in spool.TOLD}
        index = Index(np.concatenate(rows), by_line(np.concatenate(skipped)), **told)
        unchanged(job)
        if not result.problem_count:
            done.append(index)
    return index


def _table(job: Job, records: list[Any], made: Assembled, at: int) -> Rows:
    """EXAMPLE rows of records that lie one after the other from token `at`."""
    table = example_table(made, at)
    for field in ("line", "start", "units"):
        table[field] = [getattr(record, field) for record in records]
    if job.recipe.hashes:
        keys = [job.shape.hash_keys(record) for record in records]
        table["context"], table["content"] = np.array([[*map(hash64, each)] for each in keys], np.uint64).T
    return table


class Encoded(NamedTuple):
    """Records with their segments and the ids of their texts; and what was refused of a batch."""

    records: list[Any]
    segments: Segments
    ids: Ids
    offsets: Offsets
    refused: list[Problem]


def encoded(job: Job, records: list[Any], encode: Encode) -> Encoded:
    """Encode records together; those whose text the reference, too, cannot encode are refused by name.

    Raises TokenizerError where it is the engine that cannot.
    """
    segments = job.shape.segments(records)
    try:
        return Encoded(records, segments, *encode(segments.texts), [])
    except TokenizerError as exc:
        if len(records) == 1:
            refused = [Problem(job.part.path, records[0].line, *_of_data(exc, job, segments.texts))]
            return Encoded([], segments, np.empty(0, np.uint32), np.zeros(1, np.int64), refused)
    half = len(records) // 2
    one, other = (encoded(job, some, encode) for some in (records[:half], records[half:]))
    kept = one.records + other.records
    ids, offsets = np.concatenate([one.ids, other.ids]), np.append(one.offsets, other.offsets[1:] + len(one.ids))
    return Encoded(kept, job.shape.segments(kept), ids, offsets, one.refused + other.refused)


def _of_data(error: TokenizerError, job: Job, texts: Sequence[str]) -> tuple[str, str]:
    """The field and the problem of a record that the reference refuses; else the engine is at fault: its error."""
    reference = checked(reference_engine(job.tokenizer), job.tokenizer)
    for at, text in enumerate(texts):
        try:
            reference([text])
        except TokenizerError as exc:
            return "" if at else job.shape.head, f"its text cannot be encoded: {exc}"
    raise error


def _refused(job: Job, problems: list[Problem], result: Tokenized) -> Rows:
    """Note records that cannot be encoded as bad lines; their rows of what is left out.

    A text of a corpus is in its counts already, and so is never left out.
    """
    for problem in problems:
        if job.shape.cut_anywhere:
            result.note(problem)
        else:
            bad_line(job.recipe, [problem], result)
    return np.array([(problem.line, -1, BAD_LINE, 0, 0) for problem in problems], SKIPPED)


def bad_line(recipe: Recipe, problems: list[Problem], result: Tokenized) -> None:
    """Note what is wrong with a line: for the error, or for the record (`bad`) if bad lines are left out."""
    if recipe.on_error == "skip" and len(result.bad) < MAX_BAD:
        what = "; ".join(f"{problem.field}: {problem.what}".removeprefix(": ") for problem in problems)
        result.bad.append((problems[0].line, what if len(what) <= MAX_WHAT else what[:MAX_WHAT] + "…"))
        return
    for problem in problems:
        result.note(problem)


def read_records(job: Job, result: Tokenized, marks: Marks) -> Iterator[Batch]:
    """The records of a part, a line each; see Reader."""
    batch: list[Record] = []
    skipped: list[tuple[int, int, int, int, int]] = []
    size = 0
    reader = LineReader(job.part)
    for line in reader:
        if result.entries == job.limit:
            break
        result.entries += 1
        record = [line] if isinstance(line, Problem) else parse_line(job.part.path, line, job.shape.parse)
        if isinstance(record, list):
            bad_line(job.recipe, record, result)
            skipped.append((record[0].line, -1, BAD_LINE, 0, 0))
            continue
        assert isinstance(line, Line)
        marks.look(job.shape.texts(record))
        result.units += record.units + len(record.left_out)
        for unit, reason in record.left_out:
            skipped.append((record.line, unit, reason, 1, 0))
        if record.units:
            batch.append(record)
            size += len(line.text)
        else:
            skipped.append((record.line, -1, NO_PAIRS, 0, 0))
        if size >= BATCH:
            yield Batch(batch, np.array(skipped, SKIPPED))
            batch, skipped, size = [], [], 0
    result.lines = reader.lines
    yield Batch(batch, np.array(skipped, SKIPPED))


def example_table(made: Assembled, at: int) -> Rows:
    """EXAMPLE rows of examples that lie one after the other from token `at`."""
    table = np.zeros(len(made.tokens), EXAMPLE)
    table["tokens"], table["trained"] = made.tokens, made.trained
    table["at"] = at + np.cumsum(made.tokens) - made.tokens
    return table


def _put_in_place(job: Job, result: Tokenized, rows: Rows) -> None:
    """Add to the result what the recipe makes of over-long examples."""
    if job.recipe.overlong == "drop":
        left_out = np.zeros(len(rows), SKIPPED)
        left_out["line"], left_out["unit"], left_out["reason"] = rows["line"], -1, OVERLONG
        left_out["units"], left_out["tokens"] = rows["units"], rows["tokens"]
    else:
        index = (None if job.limit else spool.load(job.remade)) or _remake(job, rows, result)
        result.remade, left_out = _places(index.examples, job), index.skipped
        result.kept_units += int(index.examples["units"].sum())
        result.split, result.truncated = index.entries, index.truncated
    result.skipped = by_line(np.concatenate([result.skipped, left_out]))


def by_line(rows: Rows) -> Rows:
    """Rows in the order of their lines."""
    return rows[np.argsort(rows["line"], kind="stable")]


def _remake(job: Job, rows: Rows, result: Tokenized) -> Index:
    """Re-make over-long examples into the second spool; `entries` of its index are those of which some were made."""
    index = Index(np.empty(0, EXAMPLE), np.empty(0, SKIPPED))
    examples, skipped = [index.examples], [index.skipped]
    lost = job.shape.lost_by_length(rows["tokens"], rows["trained"])  # most are, and need not be looked at again
    skipped.append(_lost(rows[lost], result.skipped))
    rows = rows[~lost]
    with spool.writing(job.remade, 4 * records_module.total(rows)) as (writer, done):
        for group, entries, remade in _remade(job, rows):
            if job.decodes:
                result.misread += readback.misread_pieces(job.shape, job.tokenizer, entries, remade)
            if pieces := [piece for made in remade for piece in made.pieces]:
                arrays = [ids for piece in pieces for ids in piece.texts]
                offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(ids) for ids in arrays])])
                assembled = assemble(job.shape.segments([]), np.concatenate(arrays), offsets)
                table = example_table(assembled, writer.tokens)
                table["units"] = [piece.units for piece in pieces]
                of_piece = np.repeat(group, [len(made.pieces) for made in remade])
                for field in ("line", "start", "context", "content"):
                    table[field] = of_piece[field]
                writer.write(assembled.raw)
                examples.append(table)
            index.entries += sum(bool(made.pieces) for made in remade)
            index.truncated += sum(piece.cut for piece in pieces)
            gone: list[tuple[int, int, int, int, int]] = []
            for entry, total, made in zip(entries, group["tokens"].tolist(), remade, strict=True):
                gone += [(entry.line, entry.place(unit), OVERLONG, 1, total) for unit in made.lost]
                gone += [] if made.pieces else [(entry.line, -1, OVERLONG, 0, total)]
            skipped.append(np.array(gone, SKIPPED))
        index.examples, index.skipped = np.concatenate(examples), np.concatenate(skipped)
        unchanged(job)
        done.append(index)
    return index


def _lost(rows: Rows, blank: Rows) -> Rows:
    """SKIPPED rows of entries that are lost whole: each unit that was not left out, by its place, then the entry.

    `blank`: those of the part's units that are left out among others.
    """
    blank = blank[blank["unit"] >= 0]
    if len(blank):  # np.isin imports numpy.ma, which takes 10 ms
        blank = blank[np.isin(blank["line"], rows["line"])]
    count = rows["units"] + 1
    first = np.cumsum(count) - count
    lost = np.zeros(int(count.sum()), SKIPPED)
    lost["line"] = np.repeat(rows["line"], count)
    lost["tokens"] = np.repeat(rows["tokens"], count)
    lost["reason"], lost["units"] = OVERLONG, 1
    lost["unit"] = np.arange(len(lost)) - np.repeat(first, count)
    for row, at in zip(rows, first, strict=True) if len(blank) else ():
        among = blank["unit"][blank["line"] == row["line"]]
        places = np.arange(row["units"] + len(among))
        lost["unit"][at : at + row["units"]] = places[~np.isin(places, among)]
    lost["unit"][first + rows["units"]], lost["units"][first + rows["units"]] = -1, 0
    return lost


def unchanged(job: Job) -> None:
    """Raise SourceError if the shard changed: its tokens would be kept under the hash of what it was."""
    if job.shard.changed():
        raise SourceError(f"{job.part.path}: changed while it was read; run again")


def _remade(job: Job, rows: Rows) -> Iterator[tuple[Rows, list[Any], list[SplitResult]]]:
    """Over-long examples, some at a time: their rows, their records, and what was made of each."""
    encode = checked(load_engine(job.tokenizer, light=True), job.tokenizer)
    whole = np.memmap(cache.ids_path(job.whole), np.uint32, "r")
    for group, records in _groups(job, rows):
        places = zip(group["at"].tolist(), group["tokens"].tolist(), group["trained"].tolist(), records, strict=True)
        steps = [
            job.shape.split(record, token_ids(np.array(whole[at : at + tokens])).view(np.uint32), trained)
            for at, tokens, trained, record in places
        ]
        yield group, records, splitting.run(steps, encode)


def _groups(job: Job, rows: Rows) -> Iterator[tuple[Rows, list[Any]]]:
    """Rows with the records on their lines, as many at a time as are re-made together."""
    changed = SourceError(f"{job.part.path}: changed while it was read")
    records: list[Any] = []
    first = size = 0
    for line in lines_again(job.part, rows["line"].tolist(), rows["start"].tolist()):
        record = parse_line(job.part.path, line, job.shape.parse)
        if isinstance(record, list):
            raise changed
        records.append(record)
        size += len(line.text)
        if size >= REMAKE_BATCH:
            yield rows[first : first + len(records)], records
            first, records, size = first + len(records), [], 0
    if first + len(records) < len(rows):
        raise changed
    yield rows[first:], records
