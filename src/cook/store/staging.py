"""A dataset's folder, whole or not at all.

Files are written into a staging folder beside it, under ROOT/.cook/, and fsynced; one rename publishes it. Over an
older result the two folders are exchanged in one step where the kernel can; else by two renames, and what a kill
between them leaves is put back by the next cook. A lock keeps two runs from cooking the same dataset into one ROOT.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cook.core import owned
from cook.core.errors import OutputError, write_error
from cook.core.files import fsync_folder
from cook.store import manifest

WORK_DIR = ".cook"  # ROOT/.cook: staging folders and locks, gone when nothing is being cooked


@contextlib.contextmanager
def staging_folder(root: Path, name: str) -> Iterator[Path]:
    """An empty folder to write a dataset into, for the time of a with block, alone. Raises OutputError.

    What is left in it when the block ends is removed.
    """
    if (root / manifest.MANIFEST_NAME).exists():
        raise OutputError(f"{root}: is a result itself, and takes no other into it: choose another folder")
    work = root / WORK_DIR
    owned.refuse_link(work, "its work")
    try:
        _make_folders(work)
    except OSError as exc:
        raise write_error(root, exc) from exc
    try:
        with locked(work / f"{name}.lock", f"{root / name}: another run is cooking this dataset into this folder"):
            folder = work / name
            try:
                restore_backup(root, name)
                _discard(folder)
                folder.mkdir()
                try:
                    owned.mark_folder(folder, owned.STAGING_PURPOSE)
                    yield folder
                finally:
                    _discard(folder)
            except OSError as exc:
                raise write_error(exc.filename or folder, exc) from exc
    finally:
        remove_empty_work_dir(root)


def _discard(folder: Path) -> None:
    """Remove a staging folder, its mark last. Raises OutputError for anything else that has its name."""
    if not os.path.lexists(folder):
        return
    begun = owned.is_plain_folder(folder) and {path.name for path in folder.iterdir()} <= {
        owned.TAG_NAME
    }  # killed at its mark
    if not begun and (not owned.is_plain_folder(folder) or owned.marked_by(folder, owned.STAGING_PURPOSE) is None):
        raise OutputError(f"{folder}: is there, and is no staging folder of this cook: move it away")
    _remove(folder, owned.TAG_NAME)


def _remove(folder: Path, last: str) -> None:
    """Remove a folder, and last the file that says whose it is: what a kill leaves is still known."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if owned.is_plain_folder(path):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != last:
                path.unlink()
        if [path.name for path in folder.iterdir()] == [last]:
            (folder / last).unlink()
        folder.rmdir()


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, while other runs may remove them as empty (see `remove_empty_work_dir`)."""
    for _ in range(99):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


def remove_empty_work_dir(root: Path) -> None:
    """Remove the folder of staging folders and locks unless something is being cooked, and a root that is empty."""
    with contextlib.suppress(OSError):
        (root / WORK_DIR).rmdir()
        root.rmdir()


def remove_stale(root: Path) -> None:
    """Clear what killed runs left of any dataset."""
    left_behind = list[Path]()
    if not owned.is_plain_folder(root / WORK_DIR):
        return
    with contextlib.suppress(FileNotFoundError):  # another run may remove the folder while it is read
        left_behind = list((root / WORK_DIR).glob("*.lock"))
    for left in left_behind:
        with contextlib.suppress(OutputError, OSError), locked(left, ""):
            name = left.name.removesuffix(".lock")
            restore_backup(root, name)
            _discard(root / WORK_DIR / name)


LOCK_CONTENT = b"a lock of cook's\n"
LOCK_TIMEOUT = 1.0  # seconds: another run's `remove_stale` may hold a lock for a moment


@contextlib.contextmanager
def locked(path: Path, busy_message: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock for a with block; the system frees it when the process ends, however it ends.

    Another process that holds it is waited for, or makes this raise OutputError(busy) before long.
    """
    begun = time.monotonic()
    while True:
        handle, new = _lock_file(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as exc:
            os.close(handle)
            if time.monotonic() - begun < LOCK_TIMEOUT:
                time.sleep(0.01)
                continue
            raise OutputError(busy_message) from exc
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                break
        os.close(handle)  # its owner removed the file between our open and our lock: what we locked is nobody's
    try:
        if new:
            os.write(handle, LOCK_CONTENT)
        held = os.pread(handle, len(LOCK_CONTENT) + 1, 0)
        if held not in (b"", LOCK_CONTENT):  # a kill leaves one that is empty
            raise OutputError(f"{path}: is there, and is no lock of cook's: move it away")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
    finally:
        os.close(handle)


def _lock_file(path: Path) -> tuple[int, bool]:
    """A lock's file, open, and whether it was made for that. Raises OutputError."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        for place in (path.parent, path):
            owned.refuse_link(place, "its locks")
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # its owner removed it just now
                return os.open(path, flags), False
        except FileNotFoundError:
            _make_folders(path.parent)  # another run removed it, empty, just now
        except OSError as exc:
            raise write_error(path, exc) from exc


def publish(folder: Path, root: Path, name: str) -> None:
    """Put a staged folder, files fsynced, in the place of ROOT/name. Raises OSError."""
    target = root / name
    fsync_folder(folder)
    if not os.path.lexists(target):
        os.rename(folder, target)
    elif not swap_folders(folder, target):
        os.rename(target, backup_path(root, name))
        os.rename(folder, target)
        _remove(backup_path(root, name), manifest.MANIFEST_NAME)
    fsync_folder(root)


def backup_path(root: Path, name: str) -> Path:
    """Where an older result waits while two renames replace it."""
    return root / WORK_DIR / f"{name}.old"


def restore_backup(root: Path, name: str) -> None:
    """Put an older result back that a kill between two renames left aside; drop it if its successor is in place."""
    backup = backup_path(root, name)
    if owned.is_plain_folder(backup) and not any(backup.iterdir()):
        backup.rmdir()
    if not owned.is_plain_folder(backup) or manifest.read_sealed(backup) is None:  # no result, and so none of cook's
        return
    if os.path.lexists(root / name):
        _remove(backup, manifest.MANIFEST_NAME)
    else:
        os.rename(backup, root / name)


def swap_folders(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        at_fdcwd, rename_exchange = -100, 2  # linux/fcntl.h, linux/fs.h
        return bool(libc.renameat2(at_fdcwd, paths[0], at_fdcwd, paths[1], rename_exchange) == 0)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        rename_swap = 2  # sys/stdio.h
        return bool(libc.renamex_np(*paths, rename_swap) == 0)
    return False
