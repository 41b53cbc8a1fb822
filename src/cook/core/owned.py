"""Files that this user's cook made, told from all others: by marks and names, owners, and with no link followed.

A folder that cook fills and clears has a mark, CACHEDIR.TAG, whose second line says what it is for; the first is known
to programs for backups (https://bford.info/cachedir/). What is opened here is a regular file of this user, and no link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cook.core.errors import OutputError, write_error

TAG_NAME = "CACHEDIR.TAG"
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is cook's "
CACHE_PURPOSE, STAGING_PURPOSE = "cache, format 1", "staging folder, format 1"
TEMPORARY_SUFFIX = r"\.\d+-\d+-[0-9a-f]{8}\.tmp"  # the end of a name that `temporary_path` makes


def temporary_path(path: str | os.PathLike[str]) -> str:
    """A name to write a file under first: of this writer alone, on any machine; TEMPORARY_SUFFIX knows it."""
    return f"{os.fspath(path)}.{os.getpid()}-{threading.get_ident()}-{secrets.token_hex(4)}.tmp"


def create_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """A new file, open to write. Raises OSError if the name is taken, by a link too."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "wb")


@contextlib.contextmanager
def removed_on_error(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """`create_file` for a with block; the file is removed if the block fails."""
    with create_file(path) as file:
        try:
            yield file
        except BaseException:
            os.unlink(path)
            raise


def open_own_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file to read; an OSError unless it is a regular file of this user, and no link."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if is_own(os.fstat(file.fileno())):
        return file
    file.close()
    raise PermissionError(errno.EPERM, "is no file of this user", os.fspath(path))


def is_own(found: os.stat_result) -> bool:
    """Whether this is a regular file of this user."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def replace_own_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Rename a file to where nothing is, or over one of this user. Raises OutputError for all else, and OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not is_own(os.lstat(path)):
            raise OutputError(
                f"{os.fspath(path)}: is there, and no file of this user: remove it, or name another place"
            )
    os.replace(source, path)


def replace_atomically(path: Path, data: bytes, work: Path | None = None) -> None:
    """Put a file in the place of one that may be replaced, whole or not, by way of `work`. Raises OutputError."""
    staged = temporary_path((work or path.parent) / f".{path.name}")
    try:
        with removed_on_error(staged) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(staged, path)
    except OSError as exc:
        raise write_error(path, exc, len(data)) from exc


def mark_folder(folder: Path, purpose: str) -> None:
    """Mark a folder as cook's own, for CACHE_PURPOSE or STAGING_PURPOSE; an OSError where that cannot be."""
    text = f"{SIGNATURE}{purpose}: all that cook made in it can be removed.\n# See https://bford.info/cachedir/\n"
    with contextlib.suppress(FileExistsError), removed_on_error(folder / TAG_NAME) as file:  # another run was first
        file.write(text.encode())
        file.flush()


def marked_by(folder: Path, purpose: str) -> int | None:
    """Whose mark a folder has, as a user's number; None where it has none of cook's, for this."""
    try:
        file = os.open(folder / TAG_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found, text = os.fstat(file), (SIGNATURE + purpose + ":").encode()
        until = time.monotonic() + 1
        while stat.S_ISREG(found.st_mode) and not found.st_size and time.monotonic() < until:  # is being written
            time.sleep(0.01)
            found = os.fstat(file)
        right = stat.S_ISREG(found.st_mode) and os.read(file, len(text)) == text
        return found.st_uid if right else None
    except OSError:
        return None
    finally:
        os.close(file)


def is_plain_folder(path: Path) -> bool:
    """Whether this is a folder, and no link to one."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def refuse_link(path: Path, what: str) -> None:
    """Raise OutputError for a link in the place of something that cook makes."""
    if path.is_symlink():
        raise OutputError(f"{path}: is a link, which cook does not follow for {what}: remove it, or name another place")


def iter_own_files(folder: Path, names: re.Pattern[str], folders: re.Pattern[str]) -> Iterator[tuple[str, int, str]]:
    """(path below the folder, descriptor of the folder it is in, its name) of this user's files that have such names.

    Only folders with such names are looked into, and no link is followed: the descriptor is of what was looked into.
    A folder that is not there has none.
    """
    top = os.path.realpath(folder)
    for path, subfolders, files, at in os.fwalk(top) if os.path.isdir(top) else ():
        relative = os.path.relpath(path, top).removeprefix(".").lstrip("/")
        relative = relative and relative + "/"
        subfolders[:] = [name for name in subfolders if folders.fullmatch(relative + name)]
        for name in files:
            with contextlib.suppress(OSError):
                if names.fullmatch(relative + name) and is_own(os.stat(name, dir_fd=at, follow_symlinks=False)):
                    yield relative + name, at, name


def remove_empty_folders(folder: Path, folders: re.Pattern[str]) -> None:
    """Remove this user's empty folders below this one that have such names."""
    top = os.path.realpath(folder)
    for path, subfolders, _, at in os.fwalk(top, topdown=False):
        relative = os.path.relpath(path, top).removeprefix(".").lstrip("/")
        for name in subfolders:
            if folders.fullmatch(f"{relative}/{name}".lstrip("/")):
                with contextlib.suppress(OSError):
                    if os.stat(name, dir_fd=at, follow_symlinks=False).st_uid == os.geteuid():
                        os.rmdir(name, dir_fd=at)
