"""Texts -> files of rows: JSON lines, or Parquet.

| column | type | what |
| --- | --- | --- |
| text | string | the text |
| mode | string | classic, dialogue, numbered, few_shot, next_turn; context: a text without pairs |
| context_after | bool | the context stands after the pairs |
| entries | int32 | how many entries it is made of: more than one is a chain |
| source_shard | int32 | the index of their shard in the manifest's inputs |
| source_line | int32 | the line of the first of them, from 1 |

An output file holds what begins in some parts of shards that lie one after the other, about FILE_BYTES of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cook.core.errors import OutputError, read_error, write_error
from cook.core.files import sha256_of
from cook.corpora.documents import Document, PartInput, TextBatches, empty_part
from cook.corpora.recipe import CorpusRecipe
from cook.corpora.render import Rendered, Renderer
from cook.encode.parts import EncodedPart
from cook.read.lines import ByteRange, byte_ranges, open_shard
from cook.read.source import Shard, changed_error

TEXT_COLUMNS: dict[str, type] = {
    "text": str,
    "mode": str,
    "context_after": bool,
    "entries": int,
    "source_shard": int,
    "source_line": int,
}
TYPE_NAMES = {str: "text", bool: "true or false", int: "a whole number"}
FILE_BYTES = 16 << 20  # of shards, for an output file
BATCH_CHARS = 4 << 20  # letters of text written together
READ_BYTES = 1 << 20
READ_ROWS = 1 << 12


@dataclasses.dataclass(frozen=True)
class ShardPart:
    """A part of a shard, the shard's index and the lines before the part in it."""

    part: ByteRange
    shard: Shard
    shard_index: int
    lines_before: int


class TextJob(NamedTuple):
    """The work on one output file. Picklable."""

    recipe: CorpusRecipe
    shard_parts: tuple[ShardPart, ...]
    path: str
    limit: int | None = None

    def __str__(self) -> str:
        return self.path


class TextDone(NamedTuple):
    """What was written: a part's account each, rows, and the file as it lies there."""

    parts: list[EncodedPart]
    rows: int
    letters: int
    bytes: int
    sha256: str

    @property
    def entries(self) -> int:
        """The number of entries that count towards a limit."""
        return sum(part.entries for part in self.parts)


def text_jobs(recipe: CorpusRecipe, shards: list[Shard], folder: Path) -> Iterator[TextJob]:
    """The work on a dataset: which parts go into which file depends on the shards' sizes alone."""
    pieces: list[ShardPart] = []
    size = count = 0
    for index, shard in enumerate(shards):
        parts = byte_ranges(shard.path, shard.size)
        for part, lines in zip(parts, _lines_before(shard, parts), strict=True):
            taken = part.size(shard.size)
            if pieces and (size + taken > FILE_BYTES or recipe.limit):
                yield TextJob(recipe, tuple(pieces), str(folder / f"{count:05}"), recipe.limit)
                pieces, size, count = [], 0, count + 1
            pieces.append(ShardPart(part, shard, index, lines))
            size += taken
    yield TextJob(recipe, tuple(pieces), str(folder / f"{count:05}"), recipe.limit)


def _lines_before(shard: Shard, parts: list[ByteRange]) -> Iterator[int]:
    """For each part of a shard the lines that begin before it. A shard of several parts is read for it."""
    yield 0
    if len(parts) == 1:
        return
    lines = 1
    try:
        with open_shard(str(shard.path)) as file:
            for part in parts[1:]:
                while (left := part.start - 1 - file.tell()) > 0:
                    block = file.read(min(left, READ_BYTES))
                    if not block:
                        raise changed_error(shard.path)
                    lines += block.count(b"\n")
                yield lines
    except OSError as exc:
        raise read_error(shard.path, exc) from exc


def write_text_file(job: TextJob) -> TextDone:
    """Write one file and fsync it. Raises SourceError, OutputError; bad lines come back."""
    renderer = Renderer(job.recipe.styles, job.recipe.seed)
    parts: list[EncodedPart] = []
    rows = letters = 0
    try:
        with WRITERS[job.recipe.format](job.path) as put:
            for piece in job.shard_parts:
                result = empty_part()
                parts.append(result)
                source = PartInput(job.recipe, piece.part, job.limit)
                for documents, made in TextBatches(renderer, result, BATCH_CHARS).render_batches(source):
                    put([_part_row(piece, *both) for both in zip(documents, made, strict=True)])
                    rows += len(made)
                    letters += sum(len(text.text) for text in made)
                piece.shard.require_unchanged()
        with open(job.path, "rb") as written:
            os.fsync(written.fileno())
    except OSError as exc:
        raise write_error(job.path, exc, 2 * letters) from exc
    return TextDone(parts, rows, letters, Path(job.path).stat().st_size, sha256_of(Path(job.path)))


def _part_row(piece: ShardPart, document: Document, made: Rendered) -> dict[str, Any]:
    return text_row(piece.shard_index, piece.lines_before + document.line, document, made)


def text_row(shard: int, line: int, document: Document, made: Rendered) -> dict[str, Any]:
    """The row of a text whose first entry is on this line of a shard."""
    return {
        "text": made.text,
        "mode": made.mode,
        "context_after": made.context_after,
        "entries": len(document.passages),
        "source_shard": shard,
        "source_line": line,
    }


def read_text_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, unchecked. Raises OutputError if it cannot be read as such a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".jsonl":
            with path.open("rb") as lines:
                yield from map(orjson.loads, lines)
            return
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                there = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
                raise OutputError(
                    f"{path}: its columns are {there}; expected {', '.join(TEXT_COLUMNS)}, as cook writes them"
                )
            for batch in file.iter_batches(READ_ROWS):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, ValueError) as exc:
        raise OutputError(f"{path}: cannot be read: {exc}") from exc


RowWriter = Callable[[list[dict[str, Any]]], None]


@contextlib.contextmanager
def _jsonl_writer(path: str) -> Iterator[RowWriter]:
    with open(path, "wb") as file:
        yield lambda rows: file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _schema() -> Any:
    import pyarrow as pa

    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int32()}
    return pa.schema([(name, kinds[kind]) for name, kind in TEXT_COLUMNS.items()])


@contextlib.contextmanager
def _parquet_writer(path: str) -> Iterator[RowWriter]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=["mode"]) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema))


WRITERS: dict[str, Callable[[str], contextlib.AbstractContextManager[RowWriter]]] = {
    "jsonl": _jsonl_writer,
    "parquet": _parquet_writer,
}
