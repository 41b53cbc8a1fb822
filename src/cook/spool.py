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
import numpy.typing as npt
import orjson

from cook import owned
from cook.errors import OutputError, unwritable

VERSION = 4  # part of every name: raise it when the files or the rules that they follow change

# One row an example: its tokens (BOS and EOS counted), how many are trained, its line (from the start of the part), its
# units (of context-qa: pairs), at which token of the file it lies, the byte of the shard that its line starts at, and,
# where the recipe asks for them, hashes of its context and of all of it.
EXAMPLE = np.dtype(
    {
        "names": ["tokens", "trained", "line", "units", "at", "start", "context", "content"],
        "formats": ["i4", "i4", "i4", "i4", "i8", "i8", "u8", "u8"],
    }
)
# What the plan needs of them, with fewer bytes.
PLACE = np.dtype([("tokens", "i4"), ("trained", "i4"), ("line", "i4"), ("at", "i8")])
# What tells splits and repeats, where the recipe asks for them.
HASHED = np.dtype([("units", "i4"), ("context", "u8"), ("content", "u8")])
# One row an entry or unit left out: its line, the unit (from 0; -1: the entry), REASONS[reason], how many units go with
# it, and the tokens of the entry as one example (0: not encoded).
SKIPPED = np.dtype([("line", "i4"), ("unit", "i4"), ("reason", "u1"), ("units", "i4"), ("tokens", "i4")])
REASONS = ("no_pairs", "blank_question", "blank_answer", "overlong", "bad_line", "repeat")
NO_PAIRS, BLANK_QUESTION, BLANK_ANSWER, OVERLONG, BAD_LINE, REPEAT = range(len(REASONS))

Rows = npt.NDArray[np.void]
Raw = npt.NDArray[np.uint32]
TRAINED = np.uint32(1 << 31)


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
    """Entries whose text holds a special token's; see `marks`."""
    markers: dict[str, int] = dataclasses.field(default_factory=dict)
    """For each template marker, the entries whose text holds it."""
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """Each line that is no entry and was left out, and what is wrong with it."""

    def tokens(self) -> int:
        """How many ids the file holds."""
        return total(self.examples)


COUNTS = ("lines", "entries", "units", "truncated", "special")
TOLD = (*COUNTS, "markers", "bad")
INDEX = ".index"
CHECK = 4  # bytes of a CRC-32


def total(examples: Rows) -> int:
    """The tokens of examples."""
    return int(examples["tokens"].sum(dtype=np.int64))


def join(ids: npt.NDArray[np.integer], trained: npt.NDArray[np.bool_]) -> Raw:
    """Tokens as a spool holds them: each id, and whether it is trained, as one uint32. ids: 0 to 2^31 - 1."""
    return ids.astype(np.uint32) | np.where(trained, TRAINED, np.uint32(0))


def token_ids(raw: Raw) -> npt.NDArray[np.int32]:
    """The ids of tokens that a spool holds, in their place: `raw` loses what `trained` tells of it."""
    return np.bitwise_and(raw, ~TRAINED, out=raw).view(np.int32)


def trained(raw: Raw) -> npt.NDArray[np.bool_]:
    """Whether each token that a spool holds is trained."""
    return raw >= TRAINED


def ids_path(name: str) -> str:
    """The file of ids of a spool."""
    return name + ".ids"


def index_path(name: str) -> str:
    """The file of what is known of them."""
    return name + INDEX


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
    markers = dict(head.pop("markers"))
    numbers = [tokens, check, *head.values(), *markers.values(), *(line for line, _ in bad)]
    if begin + CHECK != len(data) or {*head} != {*COUNTS}:
        raise ValueError("other fields")
    if not all(type(number) is int for number in numbers) or not all(type(what) is str for _, what in bad):
        raise ValueError("other values")
    return Index(examples, skipped, **head, markers=markers, bad=bad), tokens, check


def _check(path: str) -> tuple[int, int]:
    """The bytes of a file and their check."""
    with owned.opened(path) as file:
        if not (size := os.fstat(file.fileno()).st_size):  # what is empty cannot be mapped
            return 0, 0
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            return size, zlib.crc32(data)
