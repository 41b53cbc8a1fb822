"""The files that a step of the loop writes: lines of JSON, fsynced, and as a manifest has them."""

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
def open_fsynced(path: Path) -> Iterator[IO[bytes]]:
    """A new file, fsynced when the block ends. Raises OutputError."""
    try:
        with path.open("wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise write_error(path, exc) from exc


def output_row(path: Path, root: Path) -> dict[str, Any]:
    """A file as a manifest has it, named from `root`. Raises SourceError."""
    return {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def fsync_file(path: Path) -> None:
    """Have a file's bytes on the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def memory_mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    """A file's rows: their pages are the system's to drop, and count as nobody's own memory."""
    import numpy as np

    if not path.stat().st_size:
        return np.empty(0, dtype)  # which cannot be mapped
    return np.asarray(np.memmap(path, dtype, "r"))


def write_atomically(path: Path, rows: npt.NDArray[Any]) -> None:
    """Write rows whole or not at all, though the same is done twice at once: where a worker was lost, and was not."""
    import numpy as np

    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(np.ascontiguousarray(rows).data)  # `tofile` says nothing of a last block without room
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


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and fsync it. Raises OutputError."""
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise write_error(path, exc, len(data)) from exc


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
    """Make a folder's names durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_vacant(folder: Path) -> bool:
    """Whether nothing is there that a result would replace: no such folder, or an empty one."""
    if not os.path.lexists(folder):
        return True
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:  # a file, or what may not be read
        return False


def hash64(data: bytes) -> int:
    """64 bits that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
