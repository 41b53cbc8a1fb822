"""The cache: tokens of earlier runs, by what determines them, and which engines were found exact.

    FOLDER/spools/      a spool a part of a shard (see `spool`), and one of its over-long examples a length and policy
    FOLDER/digests/     the sha256 of shards that were read, by what tells that a file is as it was
    FOLDER/probes/      verdicts on engines (see `engines.probe`)
    FOLDER/tokenizers/  the tokenizer.json of presets, for engines that need one
    FOLDER/hub/         which files a collection on the Hub holds (see `hub.snapshot`)
    FOLDER/lock         held, shared, by every run that uses the folder

A run that finds a part's spool encodes nothing for it: so a second cook with another packing or seed is quick, and an
interrupted one goes on where it was. When no run uses the folder, what was not used for longest is dropped until the
rest is within the limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from cook import spool
from cook.entries import Part, unreadable
from cook.errors import CookWarning, OutputError, RecipeError
from cook.recipe import Recipe
from cook.sources import sha256_of
from cook.store.publish import is_vacant

if TYPE_CHECKING:
    from cook.tokenizer import Tokenizer

OFF = "none"
LIMIT = 20 << 30  # bytes; COOK_CACHE_GIB overrides it
DIGEST_DAYS = 90  # for so long a shard's hash is kept
REST = 2 * 10**9  # nanoseconds: a file that changed just now could change again and show the same times


class CacheWarning(CookWarning):
    """The cache cannot be used; the run goes on without it."""


def folder(setting: str | None) -> Path | None:
    """The cache's folder for a recipe's `cache`; None where it is off. It need not be there.

    Unless it is named: COOK_CACHE, else XDG_CACHE_HOME/cook, else ~/.cache/cook.
    """
    if setting == OFF:
        return None
    if named := setting or os.environ.get("COOK_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cook"


def limit() -> int:
    """The most bytes that the cache keeps. Raises RecipeError if COOK_CACHE_GIB is no number."""
    text = os.environ.get("COOK_CACHE_GIB", "")
    try:
        return int(float(text) * (1 << 30)) if text else LIMIT
    except ValueError as exc:
        raise RecipeError(f"COOK_CACHE_GIB: must be a number of GiB (it is {text!r})") from exc


@contextlib.contextmanager
def opened(setting: str | None) -> Iterator[Path | None]:
    """The cache's folder, in use for a with block; None where it is off or cannot be used.

    Raises OutputError for a folder that the user named and that cannot be written.
    """
    found, most = folder(setting), limit()
    if found is None:
        yield None
        return
    try:
        lock = _lock(found)
    except OSError as exc:
        if setting:
            raise OutputError(f"{found}: the cache cannot be written: {exc.strerror or exc}") from exc
        warnings.warn(f"{found}: the cache cannot be written; the run goes on without it", CacheWarning, stacklevel=2)
        yield None
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield found
        finally:
            _tidy(found, lock, most)


def holds_any(found: Path | None) -> bool:
    """Whether the cache is on, and holds tokens of anything."""
    return found is not None and any((found / "spools").iterdir())


def _lock(found: Path) -> IO[bytes]:
    (found / "spools").mkdir(parents=True, exist_ok=True)
    return (found / "lock").open("ab")


def _tidy(found: Path, lock: IO[bytes], most: int) -> None:
    """Drop what is over the limit and what killed runs left, if no other run uses the folder."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in (*found.glob("*/*.tmp"), *found.glob("spools/*/*.tmp"), *found.glob("spools/*/*.ids")):
            if left.suffix == ".tmp" or not left.with_suffix(spool.INDEX).exists():
                left.unlink()
        for digest in found.glob("digests/*"):
            if digest.stat().st_mtime < time.time() - DIGEST_DAYS * 86_400:
                digest.unlink()
        spools = sorted(_spools(found))
        kept = sum(size for *_, size in spools)
        for _, name, size in spools:
            if kept <= most:
                break
            for path in (spool.index_path(name), spool.ids_path(name)):
                Path(path).unlink(missing_ok=True)
            kept -= size


def _spools(found: Path) -> Iterator[tuple[int, str, int]]:
    """(last used, name, bytes) of each spool."""
    for index in found.glob(f"spools/*/*{spool.INDEX}"):
        name = str(index).removesuffix(spool.INDEX)
        with contextlib.suppress(OSError):
            now = index.stat()
            yield now.st_mtime_ns, name, now.st_size + Path(spool.ids_path(name)).stat().st_size


def info(setting: str | None) -> dict[str, str | int]:
    """What the cache holds."""
    found = folder(setting)
    sizes = [size for *_, size in _spools(found)] if found else []
    return {"folder": str(found), "spools": len(sizes), "bytes": sum(sizes), "limit": limit()}


def clear(setting: str | None) -> int:
    """Remove the cache's contents; the bytes freed. Raises OutputError while a run uses it."""
    found = folder(setting)
    if found is None or is_vacant(found):
        return 0
    if not ((found / "lock").exists() or any(found.glob("hub/datasets--*"))):
        raise OutputError(f"{found}: is no cache of cook's; nothing was removed")
    try:
        with _lock(found) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            freed = sum(size for *_, size in _spools(found))
            for name in ("spools", "digests", "probes", "tokenizers", "hub"):
                shutil.rmtree(found / name, ignore_errors=True)
    except BlockingIOError as exc:
        raise OutputError(f"{found}: a run uses the cache; clear it when it is done") from exc
    except OSError as exc:
        raise OutputError(f"{found}: cannot be cleared: {exc.strerror or exc}") from exc
    return freed


def spool_names(found: Path, recipe: Recipe, tokenizer: Tokenizer, digest: str, part: Part) -> tuple[str, str]:
    """Where a part's tokens lie: whole examples, and those re-made. `digest` is the sha256 of its shard.

    The names hash all that determines the tokens. Not the engine (all give the same ids), jobs, seed or packing;
    max_length and policy only for what is re-made.
    """
    key = {
        "version": spool.VERSION,
        "shard": digest,
        "start": part.start,
        "end": part.end,
        "fields": recipe.fields._asdict(),
        "hashes": recipe.hashes,
        "context_template": recipe.context_template,
        "pair_template": recipe.pair_template,
        "delimiter": recipe.delimiter,
        "tokenizer": tokenizer.fingerprint,
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
    }
    return _name(found, key), _name(found, key | {"max_length": recipe.max_length, "overlong": recipe.overlong})


def digest_of(found: Path | None, path: Path) -> str:
    """The sha256 of a file's bytes: of the cache, if it is the file that was read then. Raises SourceError.

    That is told by its path, inode, size and the times of its last change, of which the system sets one on every
    write; as git tells it.
    """
    if found is None:
        return sha256_of(path)
    state = _state(path)
    name = hashlib.sha256(orjson.dumps([str(path.absolute()), *state])).hexdigest()
    known = look(found / "digests" / name)
    if known is None:
        known = sha256_of(path).encode()
        if state == _state(path) and max(state[2:]) < time.time_ns() - REST:
            keep(found / "digests" / name, known)
    return known.decode()


def _state(path: Path) -> tuple[int, int, int, int]:
    try:
        now = path.stat()
    except OSError as exc:
        raise unreadable(path, exc) from exc
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _name(found: Path, key: dict[str, object]) -> str:
    name = hashlib.sha256(orjson.dumps(key, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return str(found / "spools" / name[:2] / name)


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, kept in a file behind its sha256. One that is damaged, or cannot be written, does no harm."""
    data = look(path)
    if data is None:
        data = make()
        keep(path, data)
    return data


def look(path: Path) -> bytes | None:
    """What was kept in a file; None if it is not there, or damaged."""
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if data[:32] == hashlib.sha256(data[32:]).digest():
            return data[32:]
    return None


def keep(path: Path, data: bytes) -> None:
    """Keep data in a file, behind its sha256. One that cannot be written does no harm."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                file.write(hashlib.sha256(data).digest() + data)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
