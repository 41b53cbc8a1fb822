"""Files: write, fsync, hash and memory-map them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cook.core.errors import NO_FILE, SourceError, is_no_file, read_error, write_error

if TYPE_CHECKING:
    import numpy.typing as npt


def json_line(row: Any) -> bytes:
    """A row as a line of JSON."""
    import orjson  # not at the top: a recipe needs none of it

    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


@contextlib.contextmanager
def open_fsynced(path: Path, size_hint: int = 0) -> Iterator[IO[bytes]]:
    """Open a file to write, and fsync it at the end of the block. Raises OutputError for each OSError in the block.

    `size_hint`: about how many bytes the file takes, for the message if the disk is full.
    """
    try:
        with path.open("wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise write_error(path, exc, size_hint) from exc


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and fsync it. Raises OutputError."""
    with open_fsynced(path, len(data)) as file:
        file.write(data)


def output_row(path: Path, root: Path) -> dict[str, Any]:
    """A manifest's row for a file: its name relative to `root`, bytes and sha256. Raises SourceError."""
    return {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def fsync_file(path: Path) -> None:
    """Write a file's bytes to the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def memory_mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    """A file's rows as a read-only memory map: the system may drop its pages, so they cost the process no memory."""
    import numpy as np

    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


def write_atomically(path: Path, rows: npt.NDArray[Any]) -> None:
    """Write rows whole or not at all. Raises OutputError.

    Two processes may do it at once: a cluster repeats the job of a worker that it takes for lost.
    """
    import numpy as np

    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(np.ascontiguousarray(rows).data)  # `tofile` ignores a full disk
        os.replace(temporary, path)
    except OSError as exc:
        raise write_error(path, exc, rows.nbytes) from exc


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises SourceError."""
    if is_no_file(path):
        raise SourceError(f"{path}: {NO_FILE}")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise read_error(path, exc) from exc


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; an older one stays until the new one is on the disk. Raises OutputError."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_bytes(temporary, data)
        os.replace(temporary, path)
    except OSError as exc:
        raise write_error(path, exc, len(data)) from exc
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(path: Path) -> None:
    """Write a folder's names to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_vacant(folder: Path) -> bool:
    """Whether a result can go there without replacing anything: no such folder, or an empty one."""
    if not os.path.lexists(folder):
        return True
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:  # a file, or not readable
        return False


def hash64(data: bytes) -> int:
    """A hash of 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
