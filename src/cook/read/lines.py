"""The lines of a shard, each with its number and place, and its JSON.

A byte-order mark, CRLF and blank lines are fine. What is not JSON is a `Problem` that names shard and line. Shards are
`.jsonl` or `.ndjson`, in any case, plain or compressed (`.gz`, `.zst`); a plain one may be read in parts, each a range
of bytes, which several processes share.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import orjson

from cook.core.errors import (
    ARCHIVE,
    COMPRESSED,
    MULTILINE_JSON,
    PACKED_OTHERWISE,
    PAGE,
    POINTER,
    TABLE,
    UTF_16,
    UTF_32,
    Problem,
    read_error,
)

T = TypeVar("T")
SUFFIXES = tuple(lines + packed for lines in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))
MAX_LINE_BYTES = 64 << 20  # bytes
PART_BYTES = 8 << 20  # a plain shard is read in parts of this size: fixed, so that jobs change nothing
READ_BYTES = 1 << 20
SEEK_READ_BYTES = 1 << 15  # where lines here and there are read
JSON_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}
BOM = b"\xef\xbb\xbf"

BEGINS = {  # what files begin with that are no text of entries, whatever they are called
    (b"\x1f\x8b", b"\x28\xb5\x2f\xfd"): COMPRESSED,
    (b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18", b"\x1f\x9d"): PACKED_OTHERWISE,
    (b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!"): ARCHIVE,
    (b"PAR1", b"ARROW1", b"SQLite format 3", b"\x89HDF", b"\x93NUMPY"): TABLE,
    (b"version https://git-lfs.github.com/", b"/annex/objects/"): POINTER,
    (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML", b"<?xml", b"%PDF"): PAGE,
}


class ByteRange(NamedTuple):
    """The lines of a shard that start in the bytes [start, end). A compressed shard is one part."""

    path: str
    start: int
    end: int | None  # None: to the end of the shard

    def size(self, shard: int) -> int:
        """Its bytes, of a shard of so many."""
        return shard if self.end is None else min(self.end, shard) - self.start


class Line(NamedTuple):
    """One line that is not blank."""

    number: int  # 1-based, counted from the start of the part
    start: int  # its first byte, counted from the start of the (decompressed) shard
    text: bytes


def is_shard_name(name: str) -> bool:
    """Whether a file of this name is read."""
    return name.lower().endswith(SUFFIXES)


def shard_name(name: str) -> str:
    """A shard's name without what says how it is compressed: shards are read in bytewise order of these.

    >>> shard_name("00001.jsonl.zst")
    '00001.jsonl'
    """
    return name[: -len(packed)] if (packed := _compression_suffix(name)) else name


def dataset_name(name: str) -> str:
    """The dataset that a shard is which stands alone.

    >>> dataset_name("squad.jsonl.gz")
    'squad'
    """
    return shard_name(name).rpartition(".")[0]


def _compression_suffix(name: str) -> str:
    return next((suffix for suffix in (".gz", ".zst") if name.lower().endswith(suffix)), "")


def byte_ranges(path: Path, size: int) -> list[ByteRange]:
    """A shard of `size` bytes as parts of PART_BYTES; a compressed one as a whole."""
    if _compression_suffix(path.name):
        return [ByteRange(str(path), 0, None)]
    return [ByteRange(str(path), start, start + PART_BYTES) for start in range(0, max(size, 1), PART_BYTES)]


def open_shard(path: str, buffer_size: int = READ_BYTES) -> IO[bytes]:
    """The decompressed bytes of a shard, buffered: so many are read of a plain one at once. Raises SourceError."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(_compression_suffix(path))
    try:
        if compression is None:
            return open(path, "rb", buffering=buffer_size)
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(path, compression=compression), READ_BYTES)
    except OSError as exc:
        raise read_error(path, exc) from exc


class LineReader:
    """Iterates over the lines of a part that are not blank; once it is done, `lines` counts all of them.

    A line over MAX_LINE_BYTES comes as a Problem, and is never held in memory. Raises SourceError.
    """

    def __init__(self, part: ByteRange) -> None:
        self.part = part
        self.lines = 0

    def __iter__(self) -> Iterator[Line | Problem]:
        path, position, end = self.part
        try:
            with open_shard(path) as file:
                if position:  # a line that starts before the part belongs to the part before
                    file.seek(position - 1)
                    position += _skip_line(file) - 1
                while end is None or position < end:
                    text = file.readline(MAX_LINE_BYTES + 1)
                    if not text:
                        return
                    self.lines += 1
                    start, position = position, position + len(text)
                    if len(text) > MAX_LINE_BYTES and not text.endswith(b"\n"):
                        position += _skip_line(file)
                        yield Problem(
                            path, self.lines, "", f"is over {MAX_LINE_BYTES >> 20} MiB, the most a line may hold"
                        )
                        continue
                    if start == 0:
                        text = text.removeprefix(BOM)
                    if not text.isspace() and text:
                        yield Line(self.lines, start, text)
        except OSError as exc:
            raise read_error(path, exc) from exc


def reread_lines(part: ByteRange, numbers: list[int], starts: list[int]) -> Iterator[Line]:
    """The lines of these ascending numbers, which start at these bytes, read a second time. Raises SourceError."""
    if _compression_suffix(part.path):
        wanted = set(numbers)
        yield from (line for line in LineReader(part) if isinstance(line, Line) and line.number in wanted)
        return
    try:
        with open_shard(part.path, SEEK_READ_BYTES) as file:
            for number, start in zip(numbers, starts, strict=True):
                file.seek(start)
                text = file.readline(MAX_LINE_BYTES + 1)
                yield Line(number, start, text if start else text.removeprefix(BOM))
    except OSError as exc:
        raise read_error(part.path, exc) from exc


def _skip_line(file: IO[bytes]) -> int:
    """Read to the end of the line, holding little of it; how many bytes that were."""
    count = 0
    while text := file.readline(READ_BYTES):
        count += len(text)
        if text.endswith(b"\n"):
            break
    return count


def parse_line(path: str, line: Line, parse: Callable[[str, int, int, Any], T]) -> T | list[Problem]:
    """What `parse` makes of a line's JSON, given the path, the line, its first byte and the value; or what is wrong."""
    try:
        row = orjson.loads(line.text)
    except orjson.JSONDecodeError:
        return _json_problems(path, line)
    return parse(path, line.number, line.start, row)


def _json_problems(path: str, line: Line) -> list[Problem]:
    """All that is wrong with a line that is not JSON. Slow, and thorough."""

    def problem(field: str, what: str) -> Problem:
        return Problem(path, line.number, field, what)

    raw = line.text.rstrip(b"\r\n")  # else a line that is cut off would seem to go on
    if not line.start and (what := _file_problem(raw)):
        return [problem("", what)]
    if line.number == 1 and not line.start and raw.strip() in (b"[", b"[{", b"{"):
        return [problem("", MULTILINE_JSON)]
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        wrong = f"is not JSON: {exc.msg} at column {exc.colno}"
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        return [problem("", f"is not UTF-8: {bad.reason} at byte {bad.start + 1} of the line")]
    try:  # the standard library reads lone surrogates: then the fields that hold them can be named
        lone = list(_lone_surrogates(json.loads(text)))
    except (ValueError, RecursionError):
        lone = []
    surrogate_problems = [problem(field, "holds a lone surrogate, which has no UTF-8 form") for field in lone]
    return surrogate_problems or [problem("", wrong + _json_hint(text))]


def _file_problem(raw: bytes) -> str:
    """What is wrong with all of a file that begins so; "" where that cannot be told."""
    if what := next((what for begins, what in BEGINS.items() if raw.startswith(begins)), ""):
        return what
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) or (len(raw) > 3 and raw[:4].count(0) == 3):
        return UTF_32
    utf_16 = raw.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(raw) > 3 and 0 < raw[:4].count(0) < 3)
    return UTF_16 if utf_16 else ""


def _json_hint(text: str) -> str:
    """What Python, JavaScript and hands write, and JSON does not have; "" where that cannot be told."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:  # the standard library takes these alone
        return ": NaN and Infinity are no JSON: write null, or text"
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    else:
        return ": a tab or another control character in text is written \\t, \\u0001"
    if re.search(r",\s*[}\]]", text):
        return ": is there a comma before a closing bracket? JSON has none there"
    if re.match(r"\s*\{\s*'", text):
        return ": keys and text stand in double quotes"
    return ""


def _lone_surrogates(value: Any, field: str = "") -> Iterator[str]:
    """The fields of a JSON value that hold a lone surrogate."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lone_surrogates(key, f"{field} key".strip())
            yield from _lone_surrogates(item, f"{field}.{key}".lstrip(".").encode("ascii", "backslashreplace").decode())
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _lone_surrogates(item, f"{field}[{index}]")
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield field
