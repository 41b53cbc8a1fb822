"""A part's tokens on disk, between the stages and, in the cache, between runs.

    NAME.ids   the examples' tokens, one after the other, uint32, BOS and EOS in place: bit 31 says that a token is
               trained, bits 0 to 30 are its id (see `join`)
    NAME.index what is known of them: a line of JSON (counts, texts, and the check of NAME.ids), EXAMPLE rows, SKIPPED
               rows of what was left out, and a check of all this

Each is written under another name and renamed, the index last: what can be loaded is whole. NAME is a hash of all that
determines the tokens, so that a file that is there is the right one.
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

VERSION = 5  # part of every name: raise it when the files or the rules that they follow change


@dataclasses.dataclass
class SpoolIndex:
    """What is known of a spool file's examples."""

    examples: StructuredArray
    skipped: StructuredArray
    lines: int = 0
    """Lines of the part, blank ones too."""
    entries: int = 0
    units: int = 0
    truncated: int = 0
    """Examples with a cut context."""
    special: int = 0
    """Entries whose text holds a special token's; see `shapes.special_text`."""
    markers: dict[str, int] = dataclasses.field(default_factory=dict)
    """For each template marker, the entries whose text holds it."""
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)
    """The characters that the tokenizer lacks, the commonest; see `unknown_characters`."""
    characters: int = 0
    """Of all texts."""
    lost: int = 0
    """Of these, those that the tokenizer lacks."""
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Each line that is no entry and was left out, and what is wrong with it."""

    def tokens(self) -> int:
        """How many ids the file holds."""
        return total_tokens(self.examples)


COUNT_FIELDS = ("lines", "entries", "units", "truncated", "special", "characters", "lost")
INDEX_FIELDS = (*COUNT_FIELDS, "markers", "unknown", "bad")
CRC_BYTES = 4  # bytes of a CRC-32


class SpoolWriter:
    """Writes tokens as they come; keeps their count and check."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tokens = 0
        self.crc = 0

    def write(self, raw: MarkedTokens) -> None:
        """Append tokens (see `join`)."""
        self._file.write(raw.data)
        self.crc = zlib.crc32(raw.data, self.crc)
        self.tokens += len(raw)


@contextlib.contextmanager
def open_writer(name: str, takes: int) -> Iterator[tuple[SpoolWriter, list[SpoolIndex]]]:
    """Write a spool, of about `takes` bytes: tokens through the writer, and one index put into the list before the end.

    An empty list, or an error, leaves nothing. Raises OutputError where the files cannot be written.
    """
    temporary = owned.temporary_path(name)
    writer = None
    try:
        _checked_folder(name).mkdir(exist_ok=True)  # where the folder of all is gone, so is the run
        with owned.create_file(temporary) as file:
            writer, index = SpoolWriter(file), list[SpoolIndex]()
            yield writer, index
        if index:
            owned.replace_own_file(temporary, ids_path(name))
            _write_index(name, index[0], writer)
    except OSError as exc:
        takes = max(takes, 4 * writer.tokens) if writer else takes
        raise OutputError(
            f"{write_error(exc.filename or name, exc, takes)}. Tokens are spooled there: --cache DIR keeps "
            "them elsewhere, --no-cache beside the output"
        ) from exc
    finally:
        Path(temporary).unlink(missing_ok=True)


def _checked_folder(name: str) -> Path:
    """The folder of a spool: no link, nor is the one that it is in. Raises OutputError."""
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
    """The index of a spool that is whole; None where there is none, or one that is damaged or another user's."""
    try:
        _checked_folder(name)
        with owned.open_own_file(index_path(name)) as file:
            index, tokens, check = _parse_index(file.read())
            if index.tokens() != tokens or _size_and_crc(ids_path(name)) != (tokens * 4, check):
                return None
            os.utime(file.fileno())  # the cache drops first what was not used for longest
    except (OSError, OutputError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return None
    return index


def _parse_index(data: bytes) -> tuple[SpoolIndex, int, int]:
    """The index that `_write_index` wrote, the count of its ids, and their check.

    Raises what `load` expects otherwise.
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
    """The bytes of a file and their check."""
    with owned.open_own_file(path) as file:
        if not (size := os.fstat(file.fileno()).st_size):  # what is empty cannot be mapped
            return 0, 0
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            return size, zlib.crc32(data)
