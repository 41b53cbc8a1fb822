"""Recipe -> the stages over an executor -> cooked data sets on disk, and a summary.

Each data set stands alone: its shards are tokenized part by part, its lengths planned, its files gathered, its folder
published. One that fails does not stop the others.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from cook import cache, catalog, sources, spool
from cook import tokenize as stage
from cook._version import __version__
from cook.errors import (
    BadLines,
    CookError,
    InputError,
    OutputError,
    OutputExists,
    Problem,
    SeveralFailed,
    SourceError,
    TooLong,
)
from cook.executors import coordinators, executor, usable_cores
from cook.load import parts_of
from cook.pack import Plan, plan
from cook.recipe import Recipe
from cook.sources import Shard, Source, sha256_of
from cook.store import card, manifest, parquet, publish
from cook.store.reader import read_cooked
from cook.tokenizer import Tokenizer, resolve

SKIPPED_NAME = "skipped.jsonl"
Progress = Callable[[str, int], None]  # (stage, bytes of input or tokens of output just done)
T = TypeVar("T")
WAITING = 16  # jobs of a data set that are submitted ahead of the one awaited


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


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did."""

    root: Path
    tokenizer: str
    results: list[Result]
    seconds: float
    card: bool
    """Whether ROOT's card names them, so that `load_dataset(ROOT, NAME)` finds them."""


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


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a recipe resolves to; nothing is read but names and sizes."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    shards: dict[str, list[Shard]]


def _root(recipe: Recipe, tokenizer: Tokenizer) -> Path:
    return Path(recipe.output) if recipe.output else Path("cooked") / tokenizer.folder_name


def preview(recipe: Recipe) -> Preview:
    """Resolve a recipe: its source, tokenizer, data sets, shards and output. Raises CookError."""
    source = sources.open_source(recipe.source)
    names = catalog.select(recipe.datasets, source.names())
    tokenizer = resolve(recipe)
    shards = {name: source.shards(name) for name in names}
    return Preview(recipe, tokenizer, source, _root(recipe, tokenizer), shards)


def run(recipe: Recipe, progress: Progress | None = None) -> Summary:
    """Cook the data sets of a recipe: all that `cook` does from a shell.

    Raises CookError. Of several data sets each stands alone: if some fail, the others are cooked all the same, and then
    SeveralFailed is raised, which holds the failures and the summary of the rest; with one data set its own error is.

    Large inputs are cooked by spawned processes: a script that calls this does so under `if __name__ == "__main__":`.
    """
    begun = time.perf_counter()
    source = sources.open_source(recipe.source)
    names = catalog.select(recipe.datasets, source.names())
    results: list[Result] = []
    failures: dict[str, CookError] = {}
    shards: dict[str, list[Shard]] = {}
    for name in names:
        try:
            shards[name] = source.shards(name)
        except CookError as exc:
            failures[name] = exc
    size = sum(shard.size for found in shards.values() for shard in found)
    jobs = recipe.jobs or usable_cores()
    # The pool is inside: an interrupt ends its work first, and so lets the coordinators clean up and end.
    with cache.opened(recipe.cache) as folder, coordinators(jobs) as cooks, executor(jobs, size) as pool:
        tokenizer = resolve(recipe, size // jobs)
        root = _root(recipe, tokenizer)
        kitchen = Kitchen(recipe, tokenizer, source, root, folder, pool, progress or _silent)
        largest_first = sorted(shards, key=lambda name: -sum(shard.size for shard in shards[name]))
        cooking = {name: cooks.submit(_cook, kitchen, name, shards[name]) for name in largest_first}
        for name in shards:
            try:
                results.append(cooking[name].result())
            except CookError as exc:
                failures[name] = exc
    named = card.write(root) if results else False
    summary = Summary(root, tokenizer.name, results, time.perf_counter() - begun, named)
    if len(names) == 1 and failures:
        raise failures[names[0]]
    if failures:
        raise SeveralFailed(failures, summary)
    return summary


def _silent(stage: str, amount: int) -> None:
    """No progress is shown."""


def _cook(kitchen: Kitchen, name: str, shards: list[Shard]) -> Result:
    """Cook one data set, or find it up to date."""
    begun = time.perf_counter()
    folder = kitchen.root / name
    head = _head(kitchen, name, shards)
    old = _older(kitchen.recipe, folder, head)
    if old is not None:
        _refuse_share(kitchen.recipe, name, *_lost_and_kept(old), old["figures"]["longest_entry"], "")
        return Result(name, folder, old, True, time.perf_counter() - begun)
    with publish.staging(kitchen.root, name) as staged:
        out = staged / "out"
        out.mkdir()
        digests = [row["sha256"] for row in head["inputs"]]
        # With a limit parts are not whole, and so not for the cache.
        spools = staged if kitchen.recipe.limit or kitchen.cache is None else kitchen.cache
        dough = _tokenize(kitchen, shards, digests, spools)
        _refuse(kitchen.recipe, name, shards, dough)
        made = head | _gather(kitchen, dough, out)
        made["outputs"] += _write_skipped(out, shards, dough)
        for shard in shards:
            if shard.changed():
                raise SourceError(f"{shard.path}: changed while it was read; run again")
        publish.write_bytes(out / manifest.NAME, manifest.seal(made))
        publish.publish(out, kitchen.root, name)
    return Result(name, folder, made, False, time.perf_counter() - begun)


def _head(kitchen: Kitchen, name: str, shards: list[Shard]) -> dict[str, Any]:
    """The manifest's fields that are known before anything is cooked; all that determines the bytes, and versions."""
    tokenizer = kitchen.tokenizer
    hashes = map(sha256_of, [shard.path for shard in shards])  # in this thread: workers are still starting, or busy
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
        "inputs": [
            {"name": shard.name, "bytes": shard.size, "sha256": digest}
            for shard, digest in zip(shards, hashes, strict=True)
        ],
        "versions": {"cook": __version__, "numpy": np.__version__, "pyarrow": pa.__version__},
    }


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
        known = {manifest.NAME, SKIPPED_NAME}
        others = sorted(path.name for path in folder.iterdir() if path.name not in known and path.suffix != ".parquet")
        if others:
            raise OutputExists(f"{folder}: holds what cook did not write, and is not replaced: {', '.join(others[:5])}")
        return None
    raise OutputExists(
        f"{folder}: another result is there already; pass --overwrite to replace it, or another --output\n  "
        + "\n  ".join(differing)
    )


@dataclasses.dataclass
class _Dough:
    """A tokenized data set: its parts, with lines counted from the start of their shards."""

    jobs: list[stage.Job]
    parts: list[stage.Tokenized]
    shard_of: list[int]  # for each part

    def total(self, field: str) -> int:
        """A count, over all parts."""
        return sum(getattr(part, field) for part in self.parts)

    def skipped(self) -> npt.NDArray[np.void]:
        """What was left out, of all parts."""
        return np.concatenate([part.skipped for part in self.parts])


def _tokenize(kitchen: Kitchen, shards: list[Shard], digests: list[str], folder: Path) -> _Dough:
    """Every part of every shard, in parallel; with a limit one after the other, until it is reached."""
    recipe, tokenizer = kitchen.recipe, kitchen.tokenizer
    jobs = []
    for index, (shard, digest) in enumerate(zip(shards, digests, strict=True)):
        for lines in parts_of(shard.path, shard.size):
            names = cache.spool_names(folder, recipe, tokenizer, digest, lines)
            jobs.append((index, stage.Job(recipe, tokenizer, lines, shard, *names, recipe.limit)))
    results = _limited(kitchen.pool, jobs) if recipe.limit else _results(kitchen.pool, stage.tokenize, jobs)
    dough = _Dough([], [], [])
    problems, count, base = list[Problem](), 0, 0
    for (index, job), part in results:
        if not dough.shard_of or dough.shard_of[-1] != index:
            if count:
                break  # the shard before has bad lines, and is read to its end
            base = 0
        for rows in (part.whole, part.remade, part.skipped):
            rows["line"] += base
        problems += [problem._replace(line=problem.line + base) for problem in part.problems]
        count += part.problem_count
        part.longest_line += base
        base += part.lines
        dough.jobs.append(job)
        dough.parts.append(part)
        dough.shard_of.append(index)
        kitchen.progress("tokenize", (job.part.end or shards[index].size) - job.part.start)
    results.close()
    if count:
        raise BadLines(problems[: stage.MAX_PROBLEMS], count)
    return dough


def _results(
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


def _limited(
    pool: Executor, jobs: list[tuple[int, stage.Job]]
) -> Generator[tuple[tuple[int, stage.Job], stage.Tokenized], None, None]:
    """One part after the other, until the limit on entries is reached."""
    left = jobs[0][1].limit or 0
    for index, job in jobs:
        limited = dataclasses.replace(job, limit=left)
        part = pool.submit(stage.tokenize, limited).result()
        yield (index, limited), part
        left -= part.entries
        if left <= 0:
            return


def _refuse(recipe: Recipe, name: str, shards: list[Shard], dough: _Dough) -> None:
    """Raise TooLong or InputError where the data set must not be written."""
    skipped = dough.skipped()
    lost = int(skipped["pairs"][skipped["reason"] == spool.OVERLONG].sum())
    kept = dough.total("kept_pairs")
    worst = max(range(len(dough.parts)), key=lambda index: dough.parts[index].longest)
    longest, line = dough.parts[worst].longest, dough.parts[worst].longest_line
    where = f" ({shards[dough.shard_of[worst]].name}:{line})"
    if recipe.overlong == "error" and longest > recipe.max_length:
        raise TooLong(
            f"{name}: an example is longer than {recipe.max_length:,} tokens, and --overlong is error. The longest has "
            f"{longest:,} tokens{where}. Raise --max-length, or pass --overlong split, truncate or drop."
        )
    _refuse_share(recipe, name, lost, kept, longest, where)
    if not kept:
        raise InputError(f"{name}: no example is left of {dough.total('entries'):,} entries: nothing to write")


def _refuse_share(recipe: Recipe, name: str, lost: int, kept: int, longest: int, where: str) -> None:
    """Raise TooLong where more pairs are lost to length than the recipe allows."""
    share = lost / (lost + kept) if lost else 0.0
    if recipe.overlong not in ("split", "truncate") or share <= recipe.max_dropped:
        return
    truncates = recipe.overlong == "truncate"
    ways = ["raise --max-length"]
    if not truncates:
        ways.append("cut contexts with --overlong truncate")
    if kept:
        ways.append(f"accept the loss with --max-dropped {_ceil(share)}")
    raise TooLong(
        f"{name}: {lost:,} of {lost + kept:,} pairs ({share:.1%}) do not fit in {recipe.max_length:,} tokens, even "
        f"{'with a cut context' if truncates else 'alone with their context'}; at most {recipe.max_dropped:.1%} may be "
        f"lost. The longest example has {longest:,} tokens{where}. To go on, {', or '.join(ways)}."
    )


def _lost_and_kept(found: dict[str, Any]) -> tuple[int, int]:
    """The pairs of a cooked data set that were lost to length, and those that are in it, from its manifest."""
    skipped = found["counts"]["skipped_pairs"]
    return skipped.get("overlong", 0), found["counts"]["pairs"] - sum(skipped.values())


def _ceil(share: float) -> str:
    """A share as a flag's value that admits it, to three digits.

    >>> _ceil(0.12345)
    '0.124'
    """
    return f"{min(1.0, math.ceil(share * 1000) / 1000):g}"


def _gather(kitchen: Kitchen, dough: _Dough, out: Path) -> dict[str, Any]:
    """Plan the sequences and write their files; the manifest's outputs, counts and figures."""
    recipe = kitchen.recipe
    placed = _placed(dough)
    lengths = placed["input"].astype(np.int64) + placed["output"]
    planned = plan(lengths, recipe.max_length, recipe.packing, recipe.seed)
    tokens = parquet.row_tokens(planned.starts, lengths[planned.order])
    ranges = parquet.split_rows(tokens, parquet.FILE_TOKENS)
    spools = [spool.ids_path(name) for job in dough.jobs for name in (job.whole, job.remade)]
    jobs = (
        (0, _file_job(out / file_name, spools, placed, planned, *rows))
        for file_name, rows in zip(parquet.file_names(len(ranges)), ranges, strict=True)
    )
    outputs = []
    for _, done in _results(kitchen.pool, parquet.write_file, jobs):
        outputs.append({"split": "train", **dataclasses.asdict(done)})
        kitchen.progress("gather", done.tokens)
    return {"outputs": outputs, **_accounts(recipe, dough, placed, lengths, tokens)}


def _placed(dough: _Dough) -> npt.NDArray[np.void]:
    """The examples of all parts, in shard order, as PLACED."""
    table = np.empty(sum(len(part.whole) + len(part.remade) for part in dough.parts), parquet.PLACED)
    end = 0
    for index, part in enumerate(dough.parts):
        first = end
        for spool_number, examples in enumerate((part.whole, part.remade)):
            begin, end = end, end + len(examples)
            table["file"][begin:end] = 2 * index + spool_number
            for field in spool.PLACE.names or ():
                table[field][begin:end] = examples[field]
        rows = table[first:end]
        rows["shard"] = dough.shard_of[index]
        if len(part.remade):
            table[first:end] = rows[np.argsort(rows["line"], kind="stable")]
        part.whole = part.remade = table[:0]  # what is in the table now need not be kept
    return table


def _file_job(
    path: Path, spools: list[str], placed: npt.NDArray[np.void], planned: Plan, first: int, last: int
) -> parquet.FileJob:
    """The work of writing sequences [first, last)."""
    starts = planned.starts[first : last + 1]
    examples = placed[planned.order[starts[0] : starts[-1]]]
    files, examples["file"] = np.unique(examples["file"], return_inverse=True)
    return parquet.FileJob(str(path), tuple(spools[file] for file in files), examples, starts - starts[0])


def _accounts(
    recipe: Recipe,
    dough: _Dough,
    placed: npt.NDArray[np.void],
    lengths: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The manifest's counts and figures."""
    skipped = dough.skipped()
    total, trained = int(tokens.sum()), int(placed["output"].sum(dtype=np.int64))

    def by_reason(rows: npt.NDArray[np.void], amounts: npt.NDArray[np.integer]) -> dict[str, int]:
        sums = np.bincount(rows["reason"], amounts, minlength=len(spool.REASONS)).astype(int)
        return {reason: int(amount) for reason, amount in zip(spool.REASONS, sums, strict=True) if amount}

    whole = skipped[skipped["pair"] < 0]
    return {
        "counts": {
            "entries": dough.total("entries"),
            "pairs": dough.total("pairs"),
            "examples": len(placed),
            "sequences": len(tokens),
            "tokens": total,
            "trained_tokens": trained,
            "split": dough.total("split"),
            "truncated": dough.total("truncated"),
            "skipped_entries": by_reason(whole, np.ones(len(whole), int)),
            "skipped_pairs": by_reason(skipped, skipped["pairs"]),
        },
        "figures": {
            "utilisation": round(total / (len(tokens) * recipe.max_length), 6),
            "trained_share": round(trained / total, 6),
            "longest_entry": max(part.longest for part in dough.parts),
            "example_tokens": _quantiles(lengths),
            "sequence_tokens": _quantiles(tokens),
            "examples_per_sequence": round(len(placed) / len(tokens), 3),
        },
    }


def _quantiles(values: npt.NDArray[np.int64]) -> dict[str, int]:
    marks = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
    found = np.quantile(values, list(marks.values()), method="lower")
    return {name: int(value) for name, value in zip(marks, found, strict=True)}


def _write_skipped(out: Path, shards: list[Shard], dough: _Dough) -> list[dict[str, Any]]:
    """Write skipped.jsonl, a line for each entry or pair left out; its row of the manifest's outputs."""
    rows = 0
    path = out / SKIPPED_NAME
    with path.open("wb") as file:
        for part, shard in zip(dough.parts, dough.shard_of, strict=True):
            for line, pair, reason, pairs, tokens in part.skipped.tolist():
                row = {"shard": shards[shard].name, "line": line, "pair": None if pair < 0 else pair}
                row |= {"reason": spool.REASONS[reason], "pairs": pairs, "tokens": tokens or None}
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                rows += 1
        file.flush()
        os.fsync(file.fileno())
    if not rows:
        path.unlink()
        return []
    return [{"name": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}]
