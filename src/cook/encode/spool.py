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
from cook.core.errors import OutputError, unwritable
from cook.core.records import EXAMPLE, SKIPPED, Raw, Rows, total

VERSION = 5  # part of every name: raise it when the files or the rules that they follow change


@dataclasses.dataclass
class Index:
    """What is known of a spool file's examples."""

    examples: Rows
    skipped: Rows
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
    """The characters that the tokenizer lacks, the commonest; see `losses`."""
    characters: int = 0
    """Of all texts."""
    lost: int = 0
    """Of these, those that the tokenizer lacks."""
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Each line that is no entry and was left out, and what is wrong with it."""

    def tokens(self) -> int:
        """How many ids the file holds."""
        return total(self.examples)


COUNTS = ("lines", "entries", "units", "truncated", "special", "characters", "lost")
TOLD = (*COUNTS, "markers", "unknown", "bad")
CHECK = 4  # bytes of a CRC-32


class Writer:
    """Writes tokens as they come; keeps their count and check."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tokens = 0
        self.check = 0

    def write(self, raw: Raw) -> None:
        """Append tokens (see `join`)."""
        self._file.write(raw.data)
        self.check = zlib.crc32(raw.data, self.check)
        self.tokens += len(raw)


@contextlib.contextmanager
def writing(name: str, takes: int) -> Iterator[tuple[Writer, list[Index]]]:
    """Write a spool, of about `takes` bytes: tokens through the writer, and one index put into the list before the end.

    An empty list, or an error, leaves nothing. Raises OutputError where the files cannot be written.
    """
    temporary = owned.temporary(name)
    writer = None
    try:
        _folder(name).mkdir(exist_ok=True)  # where the folder of all is gone, so is the run
        with owned.created(temporary) as file:
            writer, index = Writer(file), list[Index]()
            yield writer, index
        if index:
            owned.replace(temporary, ids_path(name))
            _save(name, index[0], writer)
    except OSError as exc:
        takes = max(takes, 4 * writer.tokens) if writer else takes
        raise OutputError(
            f"{unwritable(exc.filename or name, exc, takes)}. Tokens are spooled there: --cache DIR keeps "
            "them elsewhere, --no-cache beside the output"
        ) from exc
    finally:
        Path(temporary).unlink(missing_ok=True)


def _folder(name: str) -> Path:
    """The folder of a spool: no link, nor is the one that it is in. Raises OutputError."""
    folder = Path(name).parent
    for place in (folder.parent, folder):
        owned.refuse_link(place, "its tokens")
    return folder


def _save(name: str, index: Index, writer: Writer) -> None:
    temporary = owned.temporary(name)
    head = {field: getattr(index, field) for field in TOLD}
    head |= {"examples": len(index.examples), "skipped": len(index.skipped)}
    line = orjson.dumps(head | {"tokens": writer.tokens, "check": writer.check})
    data = b"".join([line, b"\n", index.examples.tobytes(), index.skipped.tobytes()])
    try:
        with owned.created(temporary) as file:
            file.write(data + zlib.crc32(data).to_bytes(CHECK, "little"))
        owned.replace(temporary, index_path(name))
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(name: str) -> Index | None:
    """The index of a spool that is whole; None where there is none, or one that is damaged or another user's."""
    try:
        _folder(name)
        with owned.opened(index_path(name)) as file:
            index, tokens, check = _index(file.read())
            if index.tokens() != tokens or _check(ids_path(name)) != (tokens * 4, check):
                return None
            os.utime(file.fileno())  # the cache drops first what was not used for longest
    except (OSError, OutputError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return None
    return index


def _index(data: bytes) -> tuple[Index, int, int]:
    """The index that `_save` wrote, the count of its ids, and their check. Raises what `load` expects otherwise."""
    if zlib.crc32(memoryview(data)[:-CHECK]) != int.from_bytes(data[-CHECK:], "little"):
        raise ValueError("damaged")
    begin = data.index(b"\n") + 1
    head: dict[str, Any] = orjson.loads(data[:begin])
    examples = np.frombuffer(data, EXAMPLE, head.pop("examples"), begin).copy()
    begin += examples.nbytes
    skipped = np.frombuffer(data, SKIPPED, head.pop("skipped"), begin).copy()
    begin += skipped.nbytes
    tokens, check = head.pop("tokens"), head.pop("check")
    bad = [(line, what) for line, what in head.pop("bad")]
    markers, unknown = dict(head.pop("markers")), dict(head.pop("unknown"))
    numbers = [tokens, check, *head.values(), *markers.values(), *unknown.values(), *(line for line, _ in bad)]
    if begin + CHECK != len(data) or {*head} != {*COUNTS}:
        raise ValueError("other fields")
    if not all(type(number) is int for number in numbers) or not all(type(what) is str for _, what in bad):
        raise ValueError("other values")
    return Index(examples, skipped, **head, markers=markers, unknown=unknown, bad=bad), tokens, check


def _check(path: str) -> tuple[int, int]:
    """The bytes of a file and their check."""
    with owned.opened(path) as file:
        if not (size := os.fstat(file.fileno()).st_size):  # what is empty cannot be mapped
            return 0, 0
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            return size, zlib.crc32(data)
