"""The files that a step of the loop writes: lines of JSON, fsynced, and as a manifest has them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from cook.errors import unwritable
from cook.sources import sha256_of


def line(row: Any) -> bytes:
    """A row as a line of JSON."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A new file, fsynced when the block ends. Raises OutputError."""
    try:
        with path.open("wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise unwritable(path, exc) from exc


def output(path: Path, root: Path) -> dict[str, Any]:
    """A file as a manifest has it, named from `root`. Raises SourceError."""
    return {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
