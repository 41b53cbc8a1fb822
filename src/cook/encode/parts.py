"""Encode the entries of one part of a shard into spools; counts and example lengths come back.

`encode_part` is a function of a picklable `EncodeJob`. It first encodes every entry as one example, however long, into
the full spool. Then it reads the over-long entries again and splits them (`shapes.splitting`) into the split spool. A
complete spool that exists already is used as it is.
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
from cook.core.arrays import offsets as run_offsets
from cook.core.errors import MAX_PROBLEMS, Problem, TokenizerError, shorten
from cook.core.files import hash64
from cook.core.recipe import Recipe
from cook.core.records import (
    BAD_LINE,
    ENCODED_EXAMPLE_DTYPE,
    EXAMPLE_HASHES_DTYPE,
    EXAMPLE_POSITION_DTYPE,
    NO_PAIRS,
    OVERLONG,
    SKIPPED_ROW_DTYPE,
    StructuredArray,
    token_ids,
)
from cook.encode import readback, spool
from cook.encode.spool import SpoolIndex
from cook.encode.unknown_characters import UnknownCharacters
from cook.read.lines import ByteRange, Line, LineReader, parse_line, reread_lines
from cook.read.source import Shard, changed_error
from cook.shapes import splitting
from cook.shapes.protocol import Assembled, Record, Segments, Shape, SplitResult, assemble
from cook.shapes.special_text import SpecialTextCounter
from cook.tokenizer.engine import Ids, Offsets
from cook.tokenizer.loading import Tokenizer, checked_encoder, load_engine, reference_engine, special_token_texts

BATCH_BYTES = 2 << 20  # bytes of lines encoded in one call
SPLIT_BATCH_BYTES = 1 << 19  # bytes of lines split together
MAX_BAD_LINES = 100_000  # bad lines of a part that may be left out; a part with more fails
COMPRESSION = 4  # text size divided by compressed size, roughly
MAX_REASON_CHARS = 500  # characters kept of a bad line's reason


class RecordBatch(NamedTuple):
    """Records to encode in one call, and the rows (SKIPPED_ROW_DTYPE) of what was left out among them."""

    records: list[Any]
    skipped: StructuredArray


EncodeFunction = Callable[[Sequence[str]], tuple[Ids, Offsets]]
RecordReader = Callable[["EncodeJob", "EncodedPart", SpecialTextCounter], Iterator[RecordBatch]]
"""Reads a part in batches. Adds counts and bad lines to the EncodedPart, and counts special text."""


class EncodeJob(NamedTuple):
    """The work on one part of a shard; picklable."""

    recipe: Recipe
    tokenizer: Tokenizer
    part: ByteRange
    shard: Shard
    """The shard of the part, as it was before its sha256 was computed."""
    full_spool: str
    """The name of the spool of whole examples; see `encode.spool`."""
    split_spool: str
    """The name of the spool of examples made from over-long ones."""
    shape: Shape
    read: RecordReader
    limit: int | None = None
    """The most entries to read."""
    decodes: bool = False
    """Whether to check that the ids decode to the text; see `encode.readback`."""

    def size(self) -> int:
        """The approximate bytes of the part's text, and also of its ids: 4 bytes a token of some 4 characters."""
        return self.part.size(self.shard.size) * (COMPRESSION if self.part.end is None else 1)

    def __str__(self) -> str:
        return f"{self.part.path}, from byte {self.part.start:,}"


@dataclasses.dataclass
class EncodedPart(spool.PartCounts):
    """The result of a part. Lines are counted from the start of the part."""

    full_positions: StructuredArray
    """The examples in the full spool that fit (EXAMPLE_POSITION_DTYPE); with EXAMPLE_HASHES_DTYPE if the recipe needs
    hashes."""
    split_positions: StructuredArray
    """The examples in the split spool, likewise."""
    skipped: StructuredArray
    """SKIPPED_ROW_DTYPE, in the order of lines."""
    kept_units: int = 0
    """Units that are in examples."""
    split: int = 0
    """Over-long entries that gave examples."""
    decode_errors: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """If the job asks for the check: each line whose ids do not decode to its text, and the difference in words."""
    examples: int = 0
    """Examples of both spools, once they are in the table of all examples."""
    skipped_count: int = 0
    """Rows of `skipped`, once they are in the table."""
    longest: int = 0
    """Tokens of the longest entry as one example."""
    longest_line: int = 0
    """The line of that entry."""
    extra: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """Counts that only one strategy makes, by group and name."""
    problems: list[Problem] = dataclasses.field(default_factory=list)
    problem_count: int = 0
    failed_lines: int = 0
    """Lines that the problems are of."""

    def add_problem(self, problem: Problem) -> None:
        """Count a problem, and keep the first MAX_PROBLEMS."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def encode_part(job: EncodeJob) -> EncodedPart:
    """Encode a part's entries into its spools. Raises SourceError, TokenizerError, OutputError.

    Bad lines are not raised: they come back in the result.
    """
    nothing = np.empty(0, _position_dtype(job))
    result = EncodedPart(nothing, nothing, np.empty(0, SKIPPED_ROW_DTYPE))
    index = None if job.limit else spool.load(job.full_spool)
    if index is None or (index.bad and job.recipe.on_error == "fail"):
        index = _encode_full_examples(job, result)
    if result.problem_count:
        return result
    for field in ("skipped", *spool.INDEX_FIELDS):
        setattr(result, field, getattr(index, field))
    totals = index.examples["tokens"]
    if len(totals):
        at = int(totals.argmax())
        result.longest, result.longest_line = int(totals[at]), int(index.examples["line"][at])
    long = (totals > job.recipe.max_length) & (not job.shape.cut_anywhere)
    fitting = index.examples[~long] if long.any() else index.examples
    result.full_positions, result.kept_units = _positions(fitting, job), int(fitting["units"].sum())
    if long.any() and job.recipe.overlong != "error":
        _handle_overlong(job, result, index.examples[long])
    return result


def spool_names(
    folder: Path, recipe: Recipe, tokenizer: Tokenizer, shape: Shape, digest: str, part: ByteRange
) -> tuple[str, str]:
    """The names of a part's full spool and split spool. `digest` is the sha256 of the shard.

    A name hashes everything that determines the tokens. Engine (all give the same ids), jobs, seed and packing do not;
    max_length and overlong only determine the split spool.
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


def _position_dtype(job: EncodeJob) -> np.dtype[np.void]:
    return (
        np.dtype(EXAMPLE_POSITION_DTYPE.descr + EXAMPLE_HASHES_DTYPE.descr)
        if job.recipe.hashes
        else EXAMPLE_POSITION_DTYPE
    )


def _positions(examples: StructuredArray, job: EncodeJob) -> StructuredArray:
    places = np.empty(len(examples), _position_dtype(job))
    for field in places.dtype.names or ():
        places[field] = examples[field]
    return places


def _encode_full_examples(job: EncodeJob, result: EncodedPart) -> SpoolIndex:
    """Encode every entry as one example. If a bad line fails the part, no spool is written."""
    encode = checked_encoder(load_engine(job.tokenizer), job.tokenizer)
    marks = SpecialTextCounter(job.shape.template_markers(), special_token_texts(job.tokenizer))
    unknown = UnknownCharacters(job.tokenizer)
    rows, skipped = [np.empty(0, ENCODED_EXAMPLE_DTYPE)], [np.empty(0, SKIPPED_ROW_DTYPE)]
    with spool.open_writer(job.full_spool, job.size()) as (writer, done):
        for given, left_out in job.read(job, result, marks):
            skipped.append(left_out)
            if result.problem_count or not given:
                continue
            batch = encode_records(job, given, encode)
            skipped.append(_record_refused(job, batch.refused, result))
            if result.problem_count or not batch.records:
                continue
            unknown.count(batch.segments.texts, batch.ids, batch.offsets)
            if job.decodes:
                wrong = readback.find_decode_errors(job.tokenizer, batch.segments.texts, batch.ids, batch.offsets)
                example_numbers = batch.segments.example_indices(wrong)
                result.decode_errors += [
                    (batch.records[at].line, what) for at, what in zip(example_numbers, wrong.values(), strict=True)
                ]
            assembled = assemble(batch.segments, batch.ids, batch.offsets)
            table = _record_table(job, batch.records, assembled, writer.tokens)
            writer.write(assembled.raw)
            if job.shape.required_field and (headless := table["tokens"] == table["trained"]).any():
                what = "its input encodes to no token"
                lines = [batch.records[empty].line for empty in np.flatnonzero(headless)]
                problems = [Problem(job.part.path, line, job.shape.required_field, what) for line in lines]
                skipped.append(_record_refused(job, problems, result))
                table = table[~headless]
            rows.append(table)
        result.special, result.markers = marks.special_count, marks.marker_counts
        result.characters, result.lost, result.unknown = unknown.characters, unknown.lost.total(), dict(unknown.lost)
        fields = {field: getattr(result, field) for field in spool.INDEX_FIELDS}
        index = SpoolIndex(np.concatenate(rows), sort_by_line(np.concatenate(skipped)), **fields)
        require_unchanged_shard(job)
        if not result.problem_count:
            done.append(index)
    return index


def _record_table(job: EncodeJob, records: list[Any], assembled: Assembled, at: int) -> StructuredArray:
    """The rows (ENCODED_EXAMPLE_DTYPE) of records whose tokens start at token `at` of the spool."""
    table = example_table(assembled, at)
    for field in ("line", "start", "units"):
        table[field] = [getattr(record, field) for record in records]
    if job.recipe.hashes:
        keys = [job.shape.hash_keys(record) for record in records]
        table["context"], table["content"] = np.array([[*map(hash64, each)] for each in keys], np.uint64).T
    return table


class EncodedRecords(NamedTuple):
    """Records with their segments and the ids of their texts; and the problems of records that were refused."""

    records: list[Any]
    segments: Segments
    ids: Ids
    offsets: Offsets
    refused: list[Problem]


def encode_records(job: EncodeJob, records: list[Any], encode: EncodeFunction) -> EncodedRecords:
    """Encode records together. A record whose text the reference engine cannot encode either is refused.

    Raises TokenizerError if only the fast engine fails.
    """
    segments = job.shape.segments(records)
    try:
        return EncodedRecords(records, segments, *encode(segments.texts), [])
    except TokenizerError as exc:
        if len(records) == 1:
            refused = [Problem(job.part.path, records[0].line, *_unencodable_text(exc, job, segments.texts))]
            return EncodedRecords([], segments, np.empty(0, np.uint32), np.zeros(1, np.int64), refused)
    half = len(records) // 2
    one, other = (encode_records(job, some, encode) for some in (records[:half], records[half:]))
    kept = one.records + other.records
    ids, offsets = np.concatenate([one.ids, other.ids]), np.append(one.offsets, other.offsets[1:] + len(one.ids))
    return EncodedRecords(kept, job.shape.segments(kept), ids, offsets, one.refused + other.refused)


def _unencodable_text(error: TokenizerError, job: EncodeJob, texts: Sequence[str]) -> tuple[str, str]:
    """The field and the problem of a record that the reference engine refuses. Raises `error` if it refuses none."""
    reference = checked_encoder(reference_engine(job.tokenizer), job.tokenizer)
    for at, text in enumerate(texts):
        try:
            reference([text])
        except TokenizerError as exc:
            return "" if at else job.shape.required_field, f"its text cannot be encoded: {exc}"
    raise error


def _record_refused(job: EncodeJob, problems: list[Problem], result: EncodedPart) -> StructuredArray:
    """Record records that cannot be encoded as bad lines; their rows (SKIPPED_ROW_DTYPE).

    A text of a corpus is counted already, so it cannot be left out: it fails the part.
    """
    for problem in problems:
        if job.shape.cut_anywhere:
            result.add_problem(problem)
        else:
            record_bad_line(job.recipe, [problem], result)
    return np.array([(problem.line, -1, BAD_LINE, 0, 0) for problem in problems], SKIPPED_ROW_DTYPE)


def record_bad_line(recipe: Recipe, problems: list[Problem], result: EncodedPart) -> None:
    """Record the problems of a line: in `bad` if the recipe leaves bad lines out, else for the error."""
    if recipe.on_error == "skip" and len(result.bad) < MAX_BAD_LINES:
        what = "; ".join(f"{problem.field}: {problem.what}".removeprefix(": ") for problem in problems)
        result.bad.append((problems[0].line, shorten(what, MAX_REASON_CHARS)))
        return
    result.failed_lines += 1
    for problem in problems:
        result.add_problem(problem)


def lines_if_all_failed(parts: Sequence[EncodedPart]) -> int:
    """How many lines a shard's parts hold, if none of them is an entry; else 0."""
    total = sum(part.lines for part in parts)
    return total if total == sum(part.failed_lines for part in parts) else 0


def read_records(job: EncodeJob, result: EncodedPart, marks: SpecialTextCounter) -> Iterator[RecordBatch]:
    """A RecordReader for shards with one record a line."""
    batch: list[Record] = []
    skipped: list[tuple[int, int, int, int, int]] = []
    size, limit, path, parse, texts = 0, job.limit, job.part.path, job.shape.parse, job.shape.texts
    reader = LineReader(job.part)
    for line in reader:
        if result.entries == limit:
            break
        result.entries += 1
        record = [line] if isinstance(line, Problem) else parse_line(path, line, parse)
        if isinstance(record, list):
            record_bad_line(job.recipe, record, result)
            skipped.append((record[0].line, -1, BAD_LINE, 0, 0))
            continue
        assert isinstance(line, Line)
        marks.count(texts(record))
        units = record.units
        result.units += units + len(record.left_out)
        for unit, reason in record.left_out:
            skipped.append((record.line, unit, reason, 1, 0))
        if units:
            batch.append(record)
            size += len(line.text)
        else:
            skipped.append((record.line, -1, NO_PAIRS, 0, 0))
        if size >= BATCH_BYTES:
            yield RecordBatch(batch, np.array(skipped, SKIPPED_ROW_DTYPE))
            batch, skipped, size = [], [], 0
    result.lines = reader.lines
    yield RecordBatch(batch, np.array(skipped, SKIPPED_ROW_DTYPE))


def example_table(assembled: Assembled, at: int) -> StructuredArray:
    """The rows (ENCODED_EXAMPLE_DTYPE) of examples whose tokens start at token `at` of the spool."""
    table = np.zeros(len(assembled.tokens), ENCODED_EXAMPLE_DTYPE)
    table["tokens"], table["trained"] = assembled.tokens, assembled.trained
    table["at"] = at + np.cumsum(assembled.tokens) - assembled.tokens
    return table


def _handle_overlong(job: EncodeJob, result: EncodedPart, rows: StructuredArray) -> None:
    """Drop, split or truncate over-long examples, as the recipe says, and add the outcome to the result."""
    if job.recipe.overlong == "drop":
        left_out = np.zeros(len(rows), SKIPPED_ROW_DTYPE)
        left_out["line"], left_out["unit"], left_out["reason"] = rows["line"], -1, OVERLONG
        left_out["units"], left_out["tokens"] = rows["units"], rows["tokens"]
    else:
        index = (None if job.limit else spool.load(job.split_spool)) or _split_overlong(job, rows, result)
        result.split_positions, left_out = _positions(index.examples, job), index.skipped
        result.kept_units += int(index.examples["units"].sum())
        result.split, result.truncated = index.entries, index.truncated
    result.skipped = sort_by_line(np.concatenate([result.skipped, left_out]))


def sort_by_line(rows: StructuredArray) -> StructuredArray:
    """Rows in the order of their lines."""
    return rows[np.argsort(rows["line"], kind="stable")]


def _split_overlong(job: EncodeJob, rows: StructuredArray, result: EncodedPart) -> SpoolIndex:
    """Split over-long examples into the split spool. `entries` of its index counts those that gave an example."""
    index = SpoolIndex(np.empty(0, ENCODED_EXAMPLE_DTYPE), np.empty(0, SKIPPED_ROW_DTYPE))
    examples, skipped = [index.examples], [index.skipped]
    lost = job.shape.unsplittable(rows["tokens"], rows["trained"])  # most are, and need not be read again
    skipped.append(_dropped_rows(rows[lost], result.skipped))
    rows = rows[~lost]
    with spool.open_writer(job.split_spool, 4 * records_module.total_tokens(rows)) as (writer, done):
        for group, entries, split_results in _iter_split(job, rows):
            if job.decodes:
                result.decode_errors += readback.find_split_decode_errors(
                    job.shape, job.tokenizer, entries, split_results
                )
            if pieces := [piece for split_result in split_results for piece in split_result.examples]:
                arrays = [ids for piece in pieces for ids in piece.text_ids]
                bounds = run_offsets([len(ids) for ids in arrays])
                assembled = assemble(job.shape.segments([]), np.concatenate(arrays), bounds)
                table = example_table(assembled, writer.tokens)
                table["units"] = [piece.units for piece in pieces]
                of_piece = np.repeat(group, [len(split_result.examples) for split_result in split_results])
                for field in ("line", "start", "context", "content"):
                    table[field] = of_piece[field]
                writer.write(assembled.raw)
                examples.append(table)
            index.entries += sum(bool(split_result.examples) for split_result in split_results)
            index.truncated += sum(piece.truncated for piece in pieces)
            left_out: list[tuple[int, int, int, int, int]] = []
            for entry, total, split_result in zip(entries, group["tokens"].tolist(), split_results, strict=True):
                left_out += [
                    (entry.line, entry.original_pair_index(unit), OVERLONG, 1, total)
                    for unit in split_result.lost_units
                ]
                left_out += [] if split_result.examples else [(entry.line, -1, OVERLONG, 0, total)]
            skipped.append(np.array(left_out, SKIPPED_ROW_DTYPE))
        index.examples, index.skipped = np.concatenate(examples), np.concatenate(skipped)
        require_unchanged_shard(job)
        done.append(index)
    return index


def _dropped_rows(rows: StructuredArray, blank: StructuredArray) -> StructuredArray:
    """The rows (SKIPPED_ROW_DTYPE) of entries that are lost whole: each unit that was still there, then the entry.

    `blank`: the rows of the part so far, which tell the units that were left out before.
    """
    blank = blank[blank["unit"] >= 0]
    if len(blank):  # np.isin imports numpy.ma, which takes 10 ms
        blank = blank[np.isin(blank["line"], rows["line"])]
    count = rows["units"] + 1
    first = np.cumsum(count) - count
    lost = np.zeros(int(count.sum()), SKIPPED_ROW_DTYPE)
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


def require_unchanged_shard(job: EncodeJob) -> None:
    """Raise SourceError if the shard changed: its tokens would be cached under the hash of the old shard."""
    job.shard.require_unchanged()


def _iter_split(
    job: EncodeJob, rows: StructuredArray
) -> Iterator[tuple[StructuredArray, list[Any], list[SplitResult]]]:
    """Split over-long examples in batches: their rows, their records, and the result of each."""
    encode = checked_encoder(load_engine(job.tokenizer, quick=True), job.tokenizer)
    whole = np.memmap(cache.ids_path(job.full_spool), np.uint32, "r")
    for group, records in _iter_record_groups(job, rows):
        places = zip(group["at"].tolist(), group["tokens"].tolist(), group["trained"].tolist(), records, strict=True)
        steps = [
            job.shape.split(record, token_ids(np.array(whole[at : at + tokens])).view(np.uint32), trained)
            for at, tokens, trained, record in places
        ]
        yield group, records, splitting.run_batched(steps, encode)


def _iter_record_groups(job: EncodeJob, rows: StructuredArray) -> Iterator[tuple[StructuredArray, list[Any]]]:
    """Rows with the records on their lines, in batches of SPLIT_BATCH_BYTES. Raises SourceError if they changed."""
    records: list[Any] = []
    first = size = 0
    for line in reread_lines(job.part, rows["line"].tolist(), rows["start"].tolist()):
        record = parse_line(job.part.path, line, job.shape.parse)
        if isinstance(record, list):
            raise changed_error(job.part.path)
        records.append(record)
        size += len(line.text)
        if size >= SPLIT_BATCH_BYTES:
            yield rows[first : first + len(records)], records
            first, records, size = first + len(records), [], 0
    if first + len(records) < len(rows):
        raise changed_error(job.part.path)
    yield rows[first:], records
