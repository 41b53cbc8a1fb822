"""Spools: the encoded tokens of a part of a shard, on disk. The cache keeps them between runs.

    NAME.ids    the tokens of all examples, concatenated, as uint32, with BOS and EOS: bit 31 says whether a token is
                trained, bits 0 to 30 are its id (`core.records.mark_trained`)
    NAME.index  a line of JSON (counts, texts, the CRC-32 of NAME.ids), the rows of the examples
                (ENCODED_EXAMPLE_DTYPE), the rows of what was left out (SKIPPED_ROW_DTYPE), and a CRC-32 of all this

Each file is written under a temporary name and renamed, the index last; so a spool that loads is complete. NAME is a
hash of everything that determines the tokens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from cook.core import owned
from cook.core.cache import ids_path, index_path
from cook.core.errors import OutputError, write_error
from cook.core.records import ENCODED_EXAMPLE_DTYPE, SKIPPED_ROW_DTYPE, MarkedTokens, StructuredArray, total_tokens

VERSION = 5  # part of every name: raise it when the format or its rules change


@dataclasses.dataclass(kw_only=True)
class PartCounts:
    """The counts of a part."""

    lines: int = 0
    """Lines, blank ones too."""
    entries: int = 0
    units: int = 0
    truncated: int = 0
    """Examples with a cut context."""
    special: int = 0
    """Entries whose text holds the text of a special token; see `shapes.special_text`."""
    markers: dict[str, int] = dataclasses.field(default_factory=dict)
    """For each template marker, the entries whose text holds it."""
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    """How often each character occurs that the tokenizer lacks; see `encode.unknown_characters`."""
    characters: int = 0
    """Characters of all texts."""
    lost: int = 0
    """Characters that the tokenizer lacks."""
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Each line that was left out because it is no entry, and what is wrong with it."""


@dataclasses.dataclass
class SpoolIndex(PartCounts):
    """The examples of a spool, and the rows of what was left out."""

    examples: StructuredArray
    skipped: StructuredArray

    def tokens(self) -> int:
        """The tokens in NAME.ids."""
        return total_tokens(self.examples)


COUNT_FIELDS = ("lines", "entries", "units", "truncated", "special", "characters", "lost")
INDEX_FIELDS = (*COUNT_FIELDS, "markers", "unknown", "bad")
CRC_BYTES = 4  # bytes of a CRC-32


class SpoolWriter:
    """Writes tokens, and keeps their count and CRC-32."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tokens = 0
        self.crc = 0

    def write(self, raw: MarkedTokens) -> None:
        """Append tokens."""
        self._file.write(raw.data)
        self.crc = zlib.crc32(raw.data, self.crc)
        self.tokens += len(raw)


@contextlib.contextmanager
def open_writer(name: str, size_hint: int) -> Iterator[tuple[SpoolWriter, list[SpoolIndex]]]:
    """Write a spool of about `size_hint` bytes: tokens go to the writer, and at the end one index into the list.

    If the list stays empty, or after an error, no file is left. Raises OutputError if the files cannot be written.
    """
    temporary = owned.temporary_path(name)
    writer = None
    try:
        _checked_folder(name).mkdir(exist_ok=True)  # its parent is made once a run
        with owned.create_file(temporary) as file:
            writer, index = SpoolWriter(file), list[SpoolIndex]()
            yield writer, index
        if index:
            owned.replace_own_file(temporary, ids_path(name))
            _write_index(name, index[0], writer)
    except OSError as exc:
        size_hint = max(size_hint, 4 * writer.tokens) if writer else size_hint
        raise OutputError(
            f"{write_error(exc.filename or name, exc, size_hint)}. Tokens are spooled there: --cache DIR keeps "
            "them elsewhere, --no-cache beside the output"
        ) from exc
    finally:
        Path(temporary).unlink(missing_ok=True)


def _checked_folder(name: str) -> Path:
    """The folder of a spool. Raises OutputError if the folder, or the one above, is a link."""
    folder = Path(name).parent
    for path in (folder.parent, folder):
        owned.refuse_link(path, "its tokens")
    return folder


def _write_index(name: str, index: SpoolIndex, writer: SpoolWriter) -> None:
    temporary = owned.temporary_path(name)
    head = {field: getattr(index, field) for field in INDEX_FIELDS}
    head |= {"examples": len(index.examples), "skipped": len(index.skipped)}
    line = orjson.dumps(head | {"tokens": writer.tokens, "check": writer.crc})
    data = b"".join([line, b"\n", index.examples.tobytes(), index.skipped.tobytes()])
    try:
        with owned.create_file(temporary) as file:
            file.write(data + zlib.crc32(data).to_bytes(CRC_BYTES, "little"))
        owned.replace_own_file(temporary, index_path(name))
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(name: str) -> SpoolIndex | None:
    """The index of a spool; None if there is none, or if it is damaged or belongs to another user."""
    try:
        _checked_folder(name)
        with owned.open_own_file(index_path(name)) as file:
            index, tokens, check = _parse_index(file.read())
            if index.tokens() != tokens or _size_and_crc(ids_path(name)) != (tokens * 4, check):
                return None
            os.utime(file.fileno())  # the cache evicts the least recently used first
    except (OSError, OutputError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return None
    return index


def _parse_index(data: bytes) -> tuple[SpoolIndex, int, int]:
    """An index, with the count and the CRC-32 of its tokens, from the bytes that `_write_index` wrote.

    Raises one of the errors that `load` catches for any other bytes.
    """
    if zlib.crc32(memoryview(data)[:-CRC_BYTES]) != int.from_bytes(data[-CRC_BYTES:], "little"):
        raise ValueError("damaged")
    begin = data.index(b"\n") + 1
    head: dict[str, Any] = orjson.loads(data[:begin])
    examples = np.frombuffer(data, ENCODED_EXAMPLE_DTYPE, head.pop("examples"), begin).copy()
    begin += examples.nbytes
    skipped = np.frombuffer(data, SKIPPED_ROW_DTYPE, head.pop("skipped"), begin).copy()
    begin += skipped.nbytes
    tokens, check = head.pop("tokens"), head.pop("check")
    bad = [(line, what) for line, what in head.pop("bad")]
    markers, unknown = dict(head.pop("markers")), dict(head.pop("unknown"))
    numbers = [tokens, check, *head.values(), *markers.values(), *unknown.values(), *(line for line, _ in bad)]
    if begin + CRC_BYTES != len(data) or {*head} != {*COUNT_FIELDS}:
        raise ValueError("other fields")
    if not all(type(number) is int for number in numbers) or not all(type(what) is str for _, what in bad):
        raise ValueError("other values")
    return SpoolIndex(examples, skipped, **head, markers=markers, unknown=unknown, bad=bad), tokens, check


def _size_and_crc(path: str) -> tuple[int, int]:
    """The size of a file in bytes, and its CRC-32."""
    with owned.open_own_file(path) as file:
        if not (size := os.fstat(file.fileno()).st_size):  # an empty file cannot be mapped
            return 0, 0
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            return size, zlib.crc32(data)
