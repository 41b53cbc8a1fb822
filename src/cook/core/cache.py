"""The cache: tokens of earlier runs, by what determines them, and which engines were found exact.

    FOLDER/CACHEDIR.TAG the mark of cook: without it a folder that holds anything is refused, and stays as it is
    FOLDER/spools/      a spool a part of a shard (encode.spool), and one of its over-long examples a length and policy
    FOLDER/digests/     the sha256 of shards that were read, by what tells that a file is as it was
    FOLDER/probes/      verdicts on engines (see `tokenizer.engines.probe`)
    FOLDER/tokenizers/  the tokenizer.json of presets, for engines that need one
    FOLDER/places/      where a tokenizer.json was read that was named by its path, by its sha256
    FOLDER/hub/         which files a collection on the Hub holds (see `read.hub.snapshot`)
    FOLDER/lock         held, shared, by every run that uses the folder
    FOLDER/user-UID/    the same, of another user than the one whose mark FOLDER has

A run that finds a part's spool encodes nothing for it: so a second cook with another packing or seed is quick, and an
interrupted one goes on where it was. When no run uses the folder, what was not used for longest is dropped until the
rest is within the limit. Believed and removed is only what has a name that cook gives, and is a file of this user's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import orjson

from cook.core import owned
from cook.core.errors import CookWarning, OutputError, RecipeError, read_error, refuse_empty
from cook.core.files import sha256_of

DISABLED = "none"
DEFAULT_LIMIT = 20 << 30  # bytes; COOK_CACHE_GIB overrides it
DIGEST_DAYS = 90  # for so long a shard's hash is kept
MTIME_RESOLUTION_NS = 2 * 10**9  # nanoseconds: a file that changed just now could change again and show the same times

# The names that cook gives, below FOLDER.
TOP_FOLDERS = ("spools", "digests", "probes", "tokenizers", "places", "hub")
HASH_PATTERN, REPOSITORY_PATTERN = "[0-9a-f]{64}", r"hub/datasets--[\w.-]+"
FOLDER_NAMES = re.compile(
    rf"{'|'.join(TOP_FOLDERS)}|spools/[0-9a-f]{{2}}|{REPOSITORY_PATTERN}|{REPOSITORY_PATTERN}/(?:trees|refs)"
)
SPOOL_PATTERN = f"spools/[0-9a-f]{{2}}/{HASH_PATTERN}"
ENTRY_NAMES = re.compile(
    rf"{SPOOL_PATTERN}\.(?:ids|index)|(?:digests|tokenizers|places)/{HASH_PATTERN}|probes/{HASH_PATTERN}-[\w.-]+"
    rf"|{REPOSITORY_PATTERN}/(?:trees/[0-9a-f]{{40}}|refs/[\w.%~-]+)\.json"
)
LEFTOVER_NAMES = re.compile(
    rf"(?:{SPOOL_PATTERN}|(?:digests|tokenizers|places|probes|{REPOSITORY_PATTERN}/(?:trees|refs))/[^/]+){owned.TEMPORARY_SUFFIX}"
    r"|spools/check-[0-9a-f]{32}(?:-[0-9a-f]{32})?\.tmp"
)
OWN_FILE_NAMES = re.compile(f"{ENTRY_NAMES.pattern}|{LEFTOVER_NAMES.pattern}")

INDEX_SUFFIX = ".index"


class CacheWarning(CookWarning):
    """The cache cannot be used; the run goes on without it."""


def cache_dir(setting: str | None) -> Path | None:
    """The cache's folder for a recipe's `cache`; None where it is off. It need not be there.

    Unless it is named: COOK_CACHE, else XDG_CACHE_HOME/cook, else ~/.cache/cook.
    """
    if setting == DISABLED:
        return None
    refuse_empty(cache=setting)
    if named := setting or os.environ.get("COOK_CACHE"):
        return Path(os.path.expanduser(named))
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if home.startswith("~") else Path(home) / "cook"  # a user without a home keeps nothing


def size_limit() -> int:
    """The most bytes that the cache keeps. Raises RecipeError if COOK_CACHE_GIB is no number."""
    text = os.environ.get("COOK_CACHE_GIB", "")
    try:
        return int(float(text) * (1 << 30)) if text else DEFAULT_LIMIT
    except ValueError as exc:
        raise RecipeError(f"COOK_CACHE_GIB: must be a number of GiB (it is {text!r})") from exc


def prepare_cache(setting: str | None) -> Path | None:
    """The cache's folder, marked as cook's, for who keeps something in it; None where it is off or cannot be used.

    Raises OutputError for a folder that the user named and that is not for cook, or cannot be written.
    """
    found = cache_dir(setting)
    if found is None:
        return None
    try:
        return _claim_folder(found)
    except (OSError, OutputError) as exc:
        _do_without(setting, found, exc)
        return None


def _do_without(setting: str | None, found: Path, exc: OSError | OutputError) -> None:
    """Warn that the run goes on without its cache; raise OutputError for a folder that the user named."""
    error = exc
    if isinstance(exc, OSError):
        error = OutputError(f"{found}: the cache cannot be written: {exc.strerror or exc}")
    if setting:
        raise error from exc
    # From this one line, so that Python shows the warning once.
    warnings.warn(f"{error}; the run goes on without it", CacheWarning, stacklevel=1)


def _claim_folder(found: Path, create: bool = True) -> Path:
    """The folder of this user's cache, or in another user's one of its own. Raises OutputError, and OSError."""
    for place in (found, found / f"user-{os.geteuid()}"):
        if os.path.lexists(place) and not place.is_dir():
            raise OutputError(f"{place}: is no folder, as a cache is: name another place")
        vacant = not place.is_dir() or not os.listdir(place) or _is_unmarked_cache(place)
        if vacant and create:
            place.mkdir(parents=True, exist_ok=True)
            owned.mark_folder(place, owned.CACHE_PURPOSE)
        owner = owned.marked_by(place, owned.CACHE_PURPOSE)
        if owner is None and not vacant:
            raise OutputError(
                f"{place}: holds other things than a cache of cook's, and nothing in it is touched; name a new folder, "
                f"such as {place / 'cook'}"
            )
        if owner == os.geteuid() or (vacant and not create):
            for name in (*TOP_FOLDERS, "lock"):
                owned.refuse_link(place / name, "its cache")
            return place
    raise OutputError(f"{found}: what this user writes there belongs to another, so that none of it can be believed")


def _is_unmarked_cache(place: Path) -> bool:
    """Whether a folder is the cache of a cook from before there were marks: all in it has names that cook gives."""
    if not {*os.listdir(place)} <= {*TOP_FOLDERS, "lock"}:
        return False
    held = sum(len(files) for *_, files in os.walk(place))
    return (
        0
        < held
        == sum(1 for _ in owned.iter_own_files(place, re.compile(f"{OWN_FILE_NAMES.pattern}|lock"), FOLDER_NAMES))
    )


@contextlib.contextmanager
def open_cache(setting: str | None) -> Iterator[Path | None]:
    """The cache's folder, in use for a with block; None where it is off or cannot be used.

    Raises as `prepare_cache` does.
    """
    max_bytes, found = size_limit(), prepare_cache(setting)
    if found is None:
        yield None
        return
    try:
        (found / "spools").mkdir(exist_ok=True)
        lock = _lock(found)
    except OSError as exc:
        _do_without(setting, found, exc)
        yield None
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield found
        finally:
            _evict(found, lock, max_bytes)


def has_spools(found: Path | None) -> bool:
    """Whether the cache is on, and holds tokens of anything."""
    return found is not None and any((found / "spools").iterdir())


def _lock(found: Path) -> IO[bytes]:
    return os.fdopen(os.open(found / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb")


def _evict(found: Path, lock: IO[bytes], max_bytes: int) -> None:
    """Drop what is over the limit and what killed runs left, if no other run uses the folder."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spools = sorted(_list_spools(found))
        total_bytes = sum(size for *_, size in spools)
        retained = set[str]()
        for _, name, size in spools:
            if total_bytes <= max_bytes:
                retained.add(name)
            else:
                total_bytes -= size
        old = time.time() - DIGEST_DAYS * 86_400
        for path, at, name in owned.iter_own_files(found, OWN_FILE_NAMES, FOLDER_NAMES):
            if (
                LEFTOVER_NAMES.fullmatch(path)
                or (path.startswith("digests/") and os.stat(name, dir_fd=at).st_mtime < old)
                or (path.startswith("spools/") and path.rpartition(".")[0] not in retained)
            ):
                os.unlink(name, dir_fd=at)


def _list_spools(found: Path) -> Iterator[tuple[int, str, int]]:
    """(last used, name below the folder, bytes) of each spool."""
    sizes: dict[str, dict[str, os.stat_result]] = {}
    for path, at, name in owned.iter_own_files(found, ENTRY_NAMES, FOLDER_NAMES):
        spooled, _, kind = path.rpartition(".")
        if path.startswith("spools/"):
            with contextlib.suppress(OSError):
                sizes.setdefault(spooled, {})[kind] = os.stat(name, dir_fd=at, follow_symlinks=False)
    for spooled, files in sizes.items():
        if {*files} == {"ids", "index"}:
            yield files["index"].st_mtime_ns, spooled, sum(file.st_size for file in files.values())


def info(setting: str | None) -> dict[str, str | int]:
    """What the cache holds. Raises OutputError for a folder that is none."""
    found = _existing_folder(setting)
    sizes = [size for *_, size in _list_spools(found)] if found else []
    return {"folder": str(found), "spools": len(sizes), "bytes": sum(sizes), "limit": size_limit()}


def _existing_folder(setting: str | None) -> Path | None:
    found = cache_dir(setting)
    try:
        return found and _claim_folder(found, create=False)
    except OSError as exc:
        raise OutputError(f"{found}: cannot be read: {exc.strerror or exc}") from exc


def clear(setting: str | None) -> int:
    """Remove what cook keeps; the bytes freed. Raises OutputError while a run uses it, and for what is no cache."""
    found, freed = _existing_folder(setting), 0
    if found is None or not found.is_dir() or not any(found.iterdir()):
        return 0
    try:
        with _lock(found) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for _, at, name in owned.iter_own_files(found, OWN_FILE_NAMES, FOLDER_NAMES):
                freed += os.stat(name, dir_fd=at).st_size
                os.unlink(name, dir_fd=at)
            owned.remove_empty_folders(found, FOLDER_NAMES)
    except BlockingIOError as exc:
        raise OutputError(f"{found}: a run uses the cache; clear it when it is done") from exc
    except OSError as exc:
        raise OutputError(f"{found}: cannot be cleared: {exc.strerror or exc}") from exc
    return freed


def cached_sha256(found: Path | None, path: Path) -> str:
    """The sha256 of a file's bytes: of the cache, if it is the file that was read then. Raises SourceError.

    That is told by its path, inode, size and the times of its last change, of which the system sets one on every
    write; as git tells it.
    """
    if found is None:
        return sha256_of(path)
    state = _file_state(path)
    name = hashlib.sha256(orjson.dumps([str(path.absolute()), *state])).hexdigest()
    known = get(found / "digests" / name)
    if known is None:
        known = sha256_of(path).encode()
        if state == _file_state(path) and max(state[2:]) < time.time_ns() - MTIME_RESOLUTION_NS:
            put(found / "digests" / name, known)
    return known.decode()


def _file_state(path: Path) -> tuple[int, int, int, int]:
    try:
        now = path.stat()
    except OSError as exc:
        raise read_error(path, exc) from exc
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def get_or_compute(path: Path, compute: Callable[[], bytes]) -> bytes:
    """What `create` gives, kept in a file behind its sha256.

    One that is damaged, or cannot be written, does no harm.
    """
    data = get(path)
    if data is None:
        data = compute()
        put(path, data)
    return data


def get(path: Path) -> bytes | None:
    """What was kept in a file; None if it is not there, or damaged, or not this user's."""
    with contextlib.suppress(OSError):
        with owned.open_own_file(path) as file:
            data = file.read()
        if data[:32] == hashlib.sha256(data[32:]).digest():
            return data[32:]
    return None


def put(path: Path, data: bytes) -> None:
    """Keep data in a file, behind its sha256. One that cannot be written does no harm, nor one outside of a cache."""
    root = next((above for above in path.parents if os.path.lexists(above / owned.TAG_NAME)), None)
    if root is None or owned.marked_by(root, owned.CACHE_PURPOSE) != os.geteuid():
        return
    with contextlib.suppress(OSError, OutputError):
        if path.parent.resolve() != root.resolve() / path.parent.relative_to(root):  # a link leads out of it
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with owned.removed_on_error(temporary := owned.temporary_path(path)) as file:
            file.write(hashlib.sha256(data).digest() + data)
            file.flush()
            owned.replace_own_file(temporary, path)


def ids_path(name: str) -> str:
    """The file of ids of a spool."""
    return name + ".ids"


def index_path(name: str) -> str:
    """The file of what is known of them."""
    return name + INDEX_SUFFIX
