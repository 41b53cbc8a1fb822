"""A part's tokens on disk, between the stages and, in the cache, between runs.

    NAME.ids   the examples' token ids, one after the other, int32, BOS and EOS in place
    NAME.npz   what is known of them: EXAMPLE rows, what was left out as SKIPPED rows, counts, and the check of NAME.ids

Each is written under another name and renamed, the index last: what can be loaded is whole. NAME is a hash of all that
determines the tokens, so that a file that is there is the right one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson

from cook.errors import OutputError, unwritable

VERSION = 2  # part of every name: raise it when the files or the rules that they follow change

# One row an example: tokens of its input and output (BOS and EOS counted), its line (from the start of the part), its
# pairs, at which token of the file it lies, and the byte of the shard that its line starts at.
EXAMPLE = np.dtype([("input", "i4"), ("output", "i4"), ("line", "i4"), ("pairs", "i4"), ("at", "i8"), ("start", "i8")])
# What the plan needs of them, with fewer bytes.
PLACE = np.dtype([("input", "i4"), ("output", "i4"), ("line", "i4"), ("at", "i8")])
# One row an entry or pair left out: its line, the pair (from 0; -1: the entry), REASONS[reason], how many pairs go with
# it, and the tokens of the entry as one example (0: not encoded).
SKIPPED = np.dtype([("line", "i4"), ("pair", "i4"), ("reason", "u1"), ("pairs", "i4"), ("tokens", "i4")])
REASONS = ("no_pairs", "blank_question", "blank_answer", "overlong", "bad_line")
NO_PAIRS, BLANK_QUESTION, BLANK_ANSWER, OVERLONG, BAD_LINE = range(len(REASONS))

Rows = npt.NDArray[np.void]


@dataclasses.dataclass
class Index:
    """What is known of a spool file's examples."""

    examples: Rows
    skipped: Rows
    lines: int = 0
    """Lines of the part, blank ones too."""
    entries: int = 0
    pairs: int = 0
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


COUNTS = ("lines", "entries", "pairs", "truncated", "special")


def total(examples: Rows) -> int:
    """The tokens of examples."""
    return int(examples["input"].sum(dtype=np.int64) + examples["output"].sum(dtype=np.int64))


def ids_path(name: str) -> str:
    """The file of ids of a spool."""
    return name + ".ids"


def _temporary(name: str) -> str:
    """Where this thread writes a spool's file: another may be at a shard of the same bytes, whose spool is the same."""
    return f"{name}.{os.getpid()}.{threading.get_ident()}.tmp"


class Writer:
    """Writes ids as they come; keeps their count and check."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tokens = 0
        self.check = 0

    def write(self, ids: npt.NDArray[np.int32]) -> None:
        """Append ids."""
        self._file.write(ids.data)
        self.check = zlib.crc32(ids.data, self.check)
        self.tokens += len(ids)


@contextlib.contextmanager
def writing(name: str, takes: int) -> Iterator[tuple[Writer, list[Index]]]:
    """Write a spool, of about `takes` bytes: ids through the writer, and one index put into the list before the end.

    An empty list, or an error, leaves nothing. Raises OutputError where the files cannot be written.
    """
    temporary = _temporary(name)
    writer = None
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            writer, index = Writer(file), list[Index]()
            yield writer, index
        if index:
            os.replace(temporary, ids_path(name))
            _save(name, index[0], writer)
    except OSError as exc:
        takes = max(takes, 4 * writer.tokens) if writer else takes
        raise OutputError(
            f"{unwritable(exc.filename or name, exc, takes)}. Tokens are spooled there: --cache DIR keeps "
            "them elsewhere, --no-cache beside the output"
        ) from exc
    finally:
        Path(temporary).unlink(missing_ok=True)


def _save(name: str, index: Index, writer: Writer) -> None:
    temporary = _temporary(name)
    counts = np.array([*(getattr(index, field) for field in COUNTS), writer.tokens, writer.check], np.int64)
    with open(temporary, "wb") as file:
        texts = orjson.dumps([index.markers, index.bad])
        np.savez(
            file, examples=index.examples, skipped=index.skipped, counts=counts, texts=np.frombuffer(texts, np.uint8)
        )
    os.replace(temporary, name + ".npz")


def load(name: str) -> Index | None:
    """The index of a spool that is whole; None where there is none, or one that is damaged."""
    try:
        # numpy leaves a file that is no archive open, so it is opened here; and does not see a member's check where the
        # member's own header, damaged, asks for less than all of it.
        with open(name + ".npz", "rb") as archive, np.load(archive, allow_pickle=False) as file:
            if file.zip.testzip():
                return None
            examples, skipped, numbers = file["examples"], file["skipped"], file["counts"].tolist()
            markers, bad = orjson.loads(file["texts"].tobytes())
        *counts, tokens, check = numbers
        if examples.dtype != EXAMPLE or skipped.dtype != SKIPPED or len(counts) != len(COUNTS):
            return None
        if _check(ids_path(name)) != (tokens * 4, check):
            return None
        os.utime(name + ".npz")  # the cache drops first what was not used for longest
    except Exception:  # what is damaged raises what it will: zipfile alone has five kinds
        return None
    named = dict(zip(COUNTS, counts, strict=True))
    return Index(examples, skipped, **named, markers=markers, bad=[(line, what) for line, what in bad])


def _check(path: str) -> tuple[int, int]:
    size = check = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            size += len(block)
            check = zlib.crc32(block, check)
    return size, check
