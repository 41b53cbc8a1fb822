"""Raw texts, in order: of JSONL (a text field a line), Parquet (a text column), plain text files, and folders of these.

A text file is one text, without the line end that closes it. Files of a folder are read in bytewise order of their
paths, decompressed names; hidden ones are passed over. Memory holds a line, a batch of rows, or a file of text.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cook.core.errors import NO_FILE, InputError, Problem, SourceError, is_no_file, read_error
from cook.read.lines import BOM, MAX_LINE_BYTES, Line, open_shard, shard_name
from cook.read.source import SourceWarning
from cook.synthesis.inputs import parse_lines, parse_object, text_field

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt", ".txt.gz", ".txt.zst", ".parquet")
BATCH_ROWS = 1024


class RawFile(NamedTuple):
    """A file of raw texts."""

    name: str  # as the manifest has it: relative to the folder that was named
    path: Path


class RawText(NamedTuple):
    """A raw text, and where it stands."""

    file: RawFile
    line: int  # 1-based; of a table: its row
    text: str


def find_files(places: Iterable[str | Path]) -> list[RawFile]:
    """The files of raw texts that are named, or lie in folders that are named. Raises SourceError."""
    found = []
    for path in map(Path, places):
        if path.is_dir():
            files = _folder_files(path)
            if not files:
                raise SourceError(f"{path}: holds no raw texts; their files end in {', '.join(SUFFIXES)}")
            found += files
        elif not path.exists():
            raise SourceError(f"{path}: no such file or folder")
        elif not path.name.endswith(SUFFIXES):
            raise SourceError(f"{path}: is of a kind that is not read; raw texts end in {', '.join(SUFFIXES)}")
        else:
            found.append(_file(path.name, path))
    return found


def _file(name: str, path: Path) -> RawFile:
    if is_no_file(path):
        raise SourceError(f"{path}: {NO_FILE}")
    return RawFile(name, path)


def _folder_files(folder: Path) -> list[RawFile]:
    found, unread = [], []

    def fail(exc: OSError) -> None:
        raise SourceError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if Path(parent, name).is_symlink()]  # and are not followed
        unread += [f"{Path(parent, name).relative_to(folder).as_posix()}/" for name in linked]
        for name in names:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if name.startswith("."):
                continue
            if name.endswith(SUFFIXES):
                found.append(_file(relative, path))
            else:
                unread.append(relative)
    if unread:
        message = f"{folder}: not read, by their names: {', '.join(sorted(unread)[:5])}"
        warnings.warn(message, SourceWarning, stacklevel=4)
    return sorted(found, key=lambda file: os.fsencode(shard_name(file.name)))


def read_texts(files: Iterable[RawFile], field: str) -> Iterator[RawText]:
    """All texts, in order; those that are empty or white space too.

    Raises SourceError, and InputError or BadLines for what holds no text: all that is wrong with the lines of a file.
    """
    for file in files:
        kind = shard_name(file.name).rpartition(".")[2]
        yield from _READERS[kind](file, field)


def _read_jsonl(file: RawFile, field: str) -> Iterator[RawText]:
    def parse(line: Line) -> str | Problem:
        row = parse_object(line)
        return row if isinstance(row, Problem) else text_field(line, row, field, "--field names another key")

    for line, text in parse_lines(file.path, str(file.path), parse):
        yield RawText(file, line.number, text)


def _read_text_file(file: RawFile, field: str) -> Iterator[RawText]:  # noqa: ARG001 - one signature for all kinds
    try:
        with open_shard(str(file.path)) as opened:
            data = opened.read(MAX_LINE_BYTES + 1)
    except OSError as exc:
        raise read_error(file.path, exc) from exc
    if len(data) > MAX_LINE_BYTES:
        raise InputError(f"{file.path}: is over {MAX_LINE_BYTES >> 20} MiB, the most a text may hold; make it several")
    try:
        text = data.removeprefix(BOM).decode()
    except UnicodeDecodeError as exc:
        raise InputError(f"{file.path}: is not UTF-8: {exc.reason} at byte {exc.start + 1}") from exc
    yield RawText(file, 1, text.removesuffix("\n").removesuffix("\r"))


def _read_parquet(file: RawFile, field: str) -> Iterator[RawText]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as table:
            names = table.schema_arrow.names
            if field not in names:
                has = f"it has {', '.join(names[:8])}; --field names another"
                raise InputError(f"{file.path}: has no column {field!r}; {has}")
            kind = table.schema_arrow.field(field).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InputError(f"{file.path}: its column {field!r} must be text, not {kind}")
            row = 1
            for batch in table.iter_batches(BATCH_ROWS, columns=[field]):
                for text in batch.column(0).to_pylist():
                    if text is None:
                        raise InputError(f"{file.path}:{row}: {field}: must be text, not null")
                    yield RawText(file, row, text)
                    row += 1
    except (OSError, pa.ArrowException, UnicodeDecodeError) as exc:
        raise SourceError(f"{file.path}: cannot be read: {exc}") from exc


_READERS = {"jsonl": _read_jsonl, "txt": _read_text_file, "parquet": _read_parquet}
