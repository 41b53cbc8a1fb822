"""One data set through the stages: its shards tokenized part by part, its lengths planned, its folder published."""

from __future__ import annotations

import dataclasses
import itertools
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cook import accounts, cache, splits, spool
from cook import tokenize as stage
from cook._version import __version__
from cook.accounts import Dough
from cook.entries import parts_of
from cook.errors import BadLines, CookError, InputError, OutputError, OutputExists, Problem, SourceError, unwritable
from cook.pack import Plan, plan
from cook.recipe import Recipe
from cook.sources import Shard, Source, sha256_of
from cook.store import manifest, parquet, publish
from cook.store.reader import read_cooked
from cook.tokenizer import Tokenizer

Progress = Callable[[str, int], None]  # (stage, bytes of input or tokens of output just done)
T = TypeVar("T")
ROOM_BLOCK = 1 << 20
WAITING = 16  # jobs of a data set that are submitted ahead of the one awaited


class SplitWarning(UserWarning):
    """A split that was asked for has no entry."""


@dataclasses.dataclass(frozen=True)
class Result:
    """A data set that is cooked."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    up_to_date: bool
    """It was there already, by the same recipe from the same inputs; nothing was touched."""
    seconds: float

    @property
    def counts(self) -> dict[str, Any]:
        """What was read, made and left out; see the manifest."""
        counts: dict[str, Any] = self.manifest["counts"]
        return counts


def _as_placed(recipe: Recipe, placed: npt.NDArray[np.void], folder: Path) -> npt.NDArray[np.void]:  # noqa: ARG001
    return placed


def _nothing_more(dough: Dough) -> dict[str, Any]:  # noqa: ARG001 - a way's signature
    return {}


@dataclasses.dataclass(frozen=True)
class Way:
    """What becomes of the entries: here one example each; for a corpus see `corpora.tokens`."""

    tokenize: Callable[[stage.Job], stage.Tokenized] = stage.tokenize
    cut: Callable[[Recipe, npt.NDArray[np.void], Path], npt.NDArray[np.void]] = _as_placed
    """The table of all examples, in a folder for mapped files -> that of what is planned."""
    counts: Callable[[Dough], dict[str, Any]] = _nothing_more
    """More of the manifest's counts."""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """More of the manifest."""
    cached: bool = True
    """Whether tokens are kept between runs."""


@dataclasses.dataclass(frozen=True)
class Kitchen:
    """What the data sets of one run share."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    cache: Path | None
    pool: Executor
    progress: Progress
    way: Way = Way()


def cook(kitchen: Kitchen, name: str, shards: list[Shard]) -> Result:
    """Cook one data set, or find it up to date."""
    begun = time.perf_counter()
    folder = kitchen.root / name
    head = _head(kitchen, name, shards)
    old = _older(kitchen.recipe, folder, head)
    if old is not None:
        accounts.refuse_bad_lines(kitchen.recipe, folder, old)
        accounts.refuse_share(kitchen.recipe, name, *accounts.lost_and_kept(old), old["figures"]["longest_entry"], "")
        return Result(name, folder, old, True, time.perf_counter() - begun)
    with publish.staging(kitchen.root, name) as staged:
        out = staged / "out"
        out.mkdir()
        digests = [row["sha256"] for row in head["inputs"]]
        # With a limit parts are not whole, and so not for the cache.
        kept = kitchen.cache if kitchen.way.cached and not kitchen.recipe.limit else None
        dough = _tokenize(kitchen, shards, digests, kept or staged)
        accounts.refuse(kitchen.recipe, name, shards, dough)
        made = head | versions() | _gather(kitchen, name, dough, out) | dict(kitchen.way.fields)
        made["outputs"] += accounts.write_skipped(out, shards, dough)
        for shard in shards:
            if shard.changed():
                raise SourceError(f"{shard.path}: changed while it was read; run again")
        publish.write_bytes(out / manifest.NAME, manifest.seal(made))
        publish.publish(out, kitchen.root, name)
    return Result(name, folder, made, False, time.perf_counter() - begun)


def _head(kitchen: Kitchen, name: str, shards: list[Shard]) -> dict[str, Any]:
    """The manifest's fields that are known before anything is cooked; all that determines the bytes, and versions."""
    tokenizer = kitchen.tokenizer
    return {
        "format_version": manifest.FORMAT_VERSION,
        "data_set": name,
        "recipe": kitchen.recipe.determining(),
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos": tokenizer.bos,
            "bos_id": tokenizer.bos_id,
            "eos": tokenizer.eos,
            "eos_id": tokenizer.eos_id,
            "pad_id": tokenizer.pad_id,
            "special_ids": [i for _, i in tokenizer.specials],
        },
        "source": kitchen.source.provenance(),
        "inputs": inputs(shards),
    }


def inputs(shards: list[Shard]) -> list[dict[str, Any]]:
    """The manifest's inputs. Shards are hashed in this thread: workers are still starting, or busy."""
    return [
        {"name": shard.name, "bytes": shard.size, "sha256": shard.sha256 or sha256_of(shard.path)} for shard in shards
    ]


def versions() -> dict[str, Any]:
    """The manifest's field of what the bytes may depend on beside the recipe and the inputs."""
    import pyarrow as pa  # once tokens are made: it takes as long to import as all else

    return {"versions": {"cook": __version__, "numpy": np.__version__, "pyarrow": pa.__version__}}


def _older(recipe: Recipe, folder: Path, head: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the result that is there already, if it is up to date; None where one may be made.

    Raises OutputExists where there is something else, and `overwrite` does not allow to replace it.
    """
    if not folder.is_symlink() and not folder.exists():
        return None
    if not (folder / manifest.NAME).exists():
        raise OutputExists(f"{folder}: is there already, and is not cook's: move it away, or cook to another --output")
    try:
        old = read_cooked(folder).manifest
        differing = manifest.differences(old, head)
    except OutputError as exc:
        old, differing = {}, str(exc).splitlines()
    if not differing:
        return old
    if recipe.overwrite:
        known = {manifest.NAME, accounts.SKIPPED_NAME}
        others = sorted(path.name for path in folder.iterdir() if path.name not in known and path.suffix != ".parquet")
        if others:
            raise OutputExists(f"{folder}: holds what cook did not write, and is not replaced: {', '.join(others[:5])}")
        return None
    raise OutputExists(
        f"{folder}: another result is there already; pass --overwrite to replace it, or another --output\n  "
        + "\n  ".join(differing)
    )


def _tokenize(kitchen: Kitchen, shards: list[Shard], digests: list[str], folder: Path) -> Dough:
    """Every part of every shard, in parallel; with a limit one after the other, until it is reached."""
    recipe, tokenizer = kitchen.recipe, kitchen.tokenizer
    jobs = []
    for index, (shard, digest) in enumerate(zip(shards, digests, strict=True)):
        for lines in parts_of(shard.path, shard.size):
            names = cache.spool_names(folder, recipe, tokenizer, digest, lines)
            jobs.append((index, stage.Job(recipe, tokenizer, lines, shard, *names, recipe.limit)))
    parts = (
        limited(kitchen.pool, kitchen.way.tokenize, jobs)
        if recipe.limit
        else results(kitchen.pool, kitchen.way.tokenize, jobs)
    )
    dough = Dough([], [], [])
    problems, count, base = list[Problem](), 0, 0
    for (index, job), part in parts:
        if not dough.shard_of or dough.shard_of[-1] != index:
            if count:
                break  # the shard before has bad lines, and is read to its end
            base = 0
        for rows in (part.whole, part.remade, part.skipped):
            rows["line"] += base
        part.bad = [(line + base, what) for line, what in part.bad]
        problems += [problem._replace(line=problem.line + base) for problem in part.problems]
        count += part.problem_count
        part.longest_line += base
        base += part.lines
        dough.jobs.append(job)
        dough.parts.append(part)
        dough.shard_of.append(index)
        kitchen.progress("tokenize", (job.part.end or shards[index].size) - job.part.start)
    parts.close()
    if count:
        raise BadLines(problems[: stage.MAX_PROBLEMS], count, len(shards) - 1 - dough.shard_of[-1])
    return dough


def results(
    pool: Executor, work: Callable[[Any], T], jobs: Iterable[tuple[int, Any]]
) -> Generator[tuple[tuple[int, Any], T], None, None]:
    """Each job with its result, in order; WAITING of them are submitted ahead, so that jobs may be made as they go.

    When the caller stops, those not begun are cancelled and the rest awaited.
    """
    ahead: deque[tuple[tuple[int, Any], Future[T]]] = deque()
    todo = iter(jobs)
    try:
        while True:
            for job in itertools.islice(todo, WAITING - len(ahead)):
                try:
                    ahead.append((job, pool.submit(work, job[1])))
                except BrokenExecutor as exc:
                    raise _died(job[1]) from exc
            if not ahead:
                return
            job, future = ahead.popleft()
            try:
                result = future.result()
            except BrokenExecutor as exc:
                raise _died(job[1]) from exc
            del future
            yield job, result
    finally:
        wait([future for _, future in ahead if not future.cancel()])


def _died(job: Any) -> CookError:
    return CookError(
        f"a worker process died, killed or out of memory, at the earliest at work on {job}. Run again to go on where "
        "it was, with fewer --jobs if memory is short. (A script must call run under `if __name__ == '__main__':`.)"
    )


def limited(
    pool: Executor, work: Callable[[Any], T], jobs: list[tuple[int, Any]]
) -> Generator[tuple[tuple[int, Any], T], None, None]:
    """One part after the other, until the limit on entries is reached."""
    left = jobs[0][1].limit or 0
    for index, job in jobs:
        [done] = results(pool, work, [(index, dataclasses.replace(job, limit=left))])
        yield done
        left -= done[1].entries  # type: ignore[attr-defined]
        if left <= 0:
            return


def _gather(kitchen: Kitchen, name: str, dough: Dough, out: Path) -> dict[str, Any]:
    """Plan the sequences of each split and write their files; the manifest's outputs, counts and figures."""
    recipe = kitchen.recipe
    placed, hashed = _placed(recipe, dough, out.parent)
    placed = kitchen.way.cut(recipe, placed, out.parent)
    spools = [spool.ids_path(spool_name) for job in dough.jobs for spool_name in (job.whole, job.remade)]
    all_lengths = placed["input"].astype(np.int64) + placed["output"]
    outputs, made = [], {}
    for split, rows in _splits(recipe, name, dough, placed, hashed).items():
        lengths = all_lengths[rows]
        planned = plan(lengths, recipe.max_length, recipe.packing, recipe.seed)
        tokens = parquet.row_tokens(planned.starts, lengths[planned.order])
        trained = int(placed["output"][rows].sum(dtype=np.int64))
        if not isinstance(rows, slice):
            planned = Plan(rows[planned.order], planned.starts)
        ranges = parquet.split_rows(tokens, parquet.FILE_TOKENS)
        jobs = (
            (0, _file_job(out / file_name, spools, placed, planned, *rows_of_file))
            for file_name, rows_of_file in zip(parquet.file_names(len(ranges), split), ranges, strict=True)
        )
        for _, done in results(kitchen.pool, parquet.write_file, jobs):
            outputs.append({"split": split, **dataclasses.asdict(done)})
            kitchen.progress("gather", done.tokens)
        made[split] = accounts.Made(lengths, tokens, trained)
    account = accounts.account(recipe, dough, made)
    account["counts"] |= kitchen.way.counts(dough)
    return {"outputs": outputs, **account}


Chosen = npt.NDArray[np.int64] | slice  # rows of a table


def _splits(
    recipe: Recipe, name: str, dough: Dough, placed: npt.NDArray[np.void], hashed: npt.NDArray[np.void] | None
) -> dict[str, Chosen]:
    """The examples of each split that holds any; entries that repeat others are in none, and noted as skipped."""
    if hashed is None:
        return {"train": slice(None)}
    entry = splits.entries(placed["shard"], placed["line"])
    kept = np.ones(len(placed), bool)
    if recipe.dedup:
        kept = ~splits.repeats(hashed["context"], hashed["content"], entry)
        dough.skip_repeats(placed, hashed["pairs"], ~kept)
    if recipe.validation is None:
        return {"train": np.flatnonzero(kept)}
    chosen = np.zeros(len(placed), bool)
    chosen[kept] = splits.validation(recipe.validation, hashed["context"][kept], entry[kept])
    if chosen.sum() == kept.sum():
        raise InputError(f"{name}: --validation {recipe.validation:g} takes every entry and leaves none to train on")
    if not chosen.any():
        told = f"{name}: --validation {recipe.validation:g} takes none of its entries; it has no split for it"
        warnings.warn(told, SplitWarning, stacklevel=2)
        return {"train": np.flatnonzero(kept)}
    return {"train": np.flatnonzero(kept & ~chosen), "validation": np.flatnonzero(chosen)}


def _placed(recipe: Recipe, dough: Dough, folder: Path) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void] | None]:
    """The examples of all parts, in shard order, as PLACED; and as HASHED, if the recipe asks for it.

    In mapped files, since they grow with the input.
    """
    count = sum(len(part.whole) + len(part.remade) for part in dough.parts)

    def table(dtype: np.dtype[np.void], name: str) -> npt.NDArray[np.void]:
        make_room(folder / name, count * dtype.itemsize)
        return np.asarray(np.memmap(folder / name, dtype, "r+", shape=count))

    placed = table(parquet.PLACED, "placed")
    hashed = table(spool.HASHED, "hashed") if recipe.hashes else None
    begin = 0
    for index, part in enumerate(dough.parts):
        examples = np.concatenate([part.whole, part.remade])
        file = np.repeat([2 * index, 2 * index + 1], [len(part.whole), len(part.remade)])
        order = np.argsort(examples["line"], kind="stable")
        rows = placed[begin : begin + len(examples)]
        rows["file"], rows["shard"] = file[order], dough.shard_of[index]
        for field in spool.PLACE.names or ():
            rows[field] = examples[field][order]
        if hashed is not None:
            for field in spool.HASHED.names or ():
                hashed[field][begin : begin + len(examples)] = examples[field][order]
        begin += len(examples)
        part.examples = len(examples)
        part.whole = part.remade = examples[:0].copy()  # what is in the table now need not be kept
    return placed, hashed


def make_room(path: Path, size: int) -> None:
    """A file of zeros. What is mapped must have its room before: a full disk ends who writes to a map with SIGBUS."""
    try:
        with path.open("wb") as file:
            for at in range(0, size, ROOM_BLOCK):
                file.write(bytes(min(ROOM_BLOCK, size - at)))
    except OSError as exc:
        raise unwritable(path, exc, size) from exc


def _file_job(
    path: Path, spools: list[str], placed: npt.NDArray[np.void], planned: Plan, first: int, last: int
) -> parquet.FileJob:
    """The work of writing sequences [first, last)."""
    starts = planned.starts[first : last + 1]
    examples = placed[planned.order[starts[0] : starts[-1]]]
    files, examples["file"] = np.unique(examples["file"], return_inverse=True)
    return parquet.FileJob(str(path), tuple(spools[file] for file in files), examples, starts - starts[0])
