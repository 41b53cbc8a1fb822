"""One dataset through the stages: its shards tokenized part by part, its lengths planned, its folder published."""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cook.core import cache
from cook.core.errors import BadLines, CookWarning, InputError, Problem, SourceError
from cook.core.files import write_bytes
from cook.core.progress import Progress, silent
from cook.core.recipe import Recipe
from cook.core.results import Result
from cook.encode import losses, tokenized
from cook.encode import parts as stage
from cook.encode import table as gather
from cook.encode.tokenized import Dough
from cook.executors.local import results
from cook.pack import files as pack_files
from cook.pack import splits, statistics, windows
from cook.pipeline import figures, limits
from cook.read.lines import parts_of
from cook.read.source import Shard, Source
from cook.shapes.registry import SHAPES
from cook.store import kinds, manifest, staging
from cook.store.manifest import versions
from cook.store.replace import older
from cook.tokenizer.loading import Tokenizer

T = TypeVar("T")


class SplitWarning(CookWarning):
    """A split that was asked for has no entry."""


def keep_examples(recipe: Recipe, folder: Path) -> None:
    """Plan examples as they are."""


def no_extra_counts(parts: list[stage.Tokenized]) -> dict[str, Any]:  # noqa: ARG001 - a strategy's signature
    """No counts of a strategy's own."""
    return {}


class EncodingStrategy(NamedTuple):
    """How entries become examples. `run` uses the default, one example an entry; `make_corpus` passes its own."""

    kind: str = kinds.DATASET
    """Of the result; see `store.kinds`."""
    shape: str = "context-qa"
    """The input shape, by its name in `shapes.registry`."""
    read: stage.Reader = stage.read_records
    split_examples: Callable[[Recipe, Path], None] = keep_examples
    """Makes of the table `placed` in this folder that of what is planned; see `encode.table`."""
    extra_counts: Callable[[list[stage.Tokenized]], dict[str, Any]] = no_extra_counts
    """More of the manifest's counts."""
    extra_manifest: Mapping[str, Any] = MappingProxyType({})
    """More of the manifest."""
    splits: bool = True
    """Whether shards named for a split go to it; else all are for training."""
    uses_cache: bool = True
    """Whether tokens are kept between runs."""
    decodes: bool = False
    """Whether what was encoded must decode to its text; see `readback`."""


class Kitchen(NamedTuple):
    """What the datasets of one run share."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    cache: Path | None
    pool: Executor
    hasher: Executor
    """Where shards are read for their hashes."""
    progress: Progress
    strategy: EncodingStrategy = EncodingStrategy()


def cook(kitchen: Kitchen, name: str, shards: list[Shard]) -> Result:
    """Cook one dataset, or find it up to date."""
    begun = time.perf_counter()
    folder = kitchen.root / name
    head = _head(kitchen, name, shards)
    old = older(folder, head, kitchen.recipe.overwrite)
    if old is not None:
        kitchen.progress("tokenize", sum(shard.size for shard in shards))
        limits.refuse_bad_lines(kitchen.recipe, folder, old)
        limits.refuse_share(kitchen.recipe, name, *limits.lost_and_kept(old), old["figures"]["longest_entry"], "")
        losses.refuse(kitchen.recipe, name, old["counts"])
        return Result(folder, old, True, time.perf_counter() - begun)
    with staging.staging(kitchen.root, name) as staged:
        # Of this run alone: what an earlier one, cut off, left at work on a cluster finds its own gone.
        work = staged / uuid.uuid4().hex
        out = work / "out"
        out.mkdir(parents=True)
        digests = [row["sha256"] for row in head["inputs"]]
        # With a limit parts are not whole, and so not for the cache.
        kept = kitchen.cache if kitchen.strategy.uses_cache and not kitchen.recipe.limit else None
        spools = kept or work
        (spools / "spools").mkdir(exist_ok=True)
        jobs = encode_jobs(kitchen.strategy, kitchen.recipe, kitchen.tokenizer, shards, digests, spools)
        with gather.Table(work, spools, kitchen.recipe.hashes) as table:
            dough = encode_parts(jobs, kitchen.pool, table, kitchen.progress)
        limits.refuse(kitchen.recipe, name, shards, dough)
        made = (
            head
            | versions()
            | _gather(kitchen, name, shards, dough, table, out)
            | dict(kitchen.strategy.extra_manifest)
        )
        made["outputs"] += tokenized.write_skipped(out, shards, dough)
        for shard in shards:
            if shard.changed():
                raise SourceError(f"{shard.path}: changed while it was read; run again")
        write_bytes(out / manifest.NAME, manifest.seal(made))
        staging.publish(out, kitchen.root, name)
    return Result(folder, made, False, time.perf_counter() - begun)


def _head(kitchen: Kitchen, name: str, shards: list[Shard]) -> dict[str, Any]:
    """The manifest's fields that are known before anything is cooked; all that determines the bytes, and versions."""
    tokenizer = kitchen.tokenizer
    shape = SHAPES[kitchen.strategy.shape](kitchen.recipe, tokenizer)
    return {
        "format_version": manifest.FORMAT_VERSION,
        "kind": kitchen.strategy.kind,
        "shape": shape.name,
        "mask_rule": shape.mask_rule,
        "dataset": name,
        "recipe": kitchen.recipe.determining() | _splits_setting(kitchen, name, shards),
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "bos": tokenizer.bos,
            "bos_id": tokenizer.bos_id,
            "eos": tokenizer.eos,
            "eos_id": tokenizer.eos_id,
            "pad_id": tokenizer.pad_id,
            **({} if tokenizer.unk_id is None else {"unk_id": tokenizer.unk_id}),
            "special_ids": [i for _, i in tokenizer.specials],
        },
        "source": kitchen.source.provenance(),
        "inputs": inputs(shards, kitchen.hasher, kitchen.cache),
        **unread(kitchen.source, name),
    }


def unread(source: Source, name: str) -> dict[str, list[str]]:
    """The manifest's field of what lies among a dataset's shards, could be data, and was left out; none without any."""
    found = [each.path for each in source.unread(name)]
    return {"unread": [path.encode(errors="backslashreplace").decode() for path in found]} if found else {}


def tell_named(name: str, shards: list[Shard]) -> None:
    """Warn of shards named for other splits, where all are for training."""
    names = [shard.name for shard in shards]
    others = [shard for shard, split in zip(names, splits.named(name, names), strict=True) if split != "train"]
    if others:
        told = f"{name}: a corpus has no splits; these are in it with the rest: {', '.join(others[:5])}"
        warnings.warn(told, SplitWarning, stacklevel=2)


def _splits_setting(kitchen: Kitchen, name: str, shards: list[Shard]) -> dict[str, str]:
    """The recipe's `splits`, where shards are named for some. Raises InputError where those leave none to train on."""
    named = {*splits.named(name, [shard.name for shard in shards])}
    if not kitchen.strategy.splits:
        tell_named(name, shards)
    if named == {"train"} or not kitchen.strategy.splits:
        return {}
    recipe, way = kitchen.recipe, "or pass --splits all-train to train on all of them"
    if recipe.splits == "names":
        if "train" not in named:
            raise InputError(f"{name}: all of its shards are named for {', '.join(sorted(named))}: rename one, {way}")
        if "validation" in named and recipe.validation is not None:
            raise InputError(f"{name}: has shards named for validation: leave --validation out, {way}")
    return {"splits": recipe.splits}


def inputs(shards: list[Shard], hasher: Executor, known: Path | None = None) -> list[dict[str, Any]]:
    """The manifest's inputs; shards whose hash is not known, nor to the cache in folder `known`, go to the hasher."""
    unknown = ((0, shard.path) for shard in shards if not shard.sha256)
    hashed = results(hasher, functools.partial(cache.digest_of, known), unknown)
    return [{"name": shard.name, "bytes": shard.size, "sha256": shard.sha256 or next(hashed)[1]} for shard in shards]


Jobs = list[tuple[int, stage.Job]]


def encode_jobs(
    strategy: EncodingStrategy,
    recipe: Recipe,
    tokenizer: Tokenizer,
    shards: list[Shard],
    digests: Sequence[str],
    folder: Path,
) -> Jobs:
    """The work on every part of every shard, with the index of its shard; spools go into the folder."""
    shape, jobs = SHAPES[strategy.shape](recipe, tokenizer), []
    for index, (shard, digest) in enumerate(zip(shards, digests, strict=True)):
        for part in parts_of(shard.path, shard.size):
            names = stage.spool_names(folder, recipe, tokenizer, shape, digest, part)
            job = stage.Job(recipe, tokenizer, part, shard, *names, shape, strategy.read, recipe.limit)
            jobs.append((index, job._replace(decodes=strategy.decodes)))
    return jobs


def encode_parts(jobs: Jobs, pool: Executor, table: gather.Table, progress: Progress = silent) -> Dough:
    """Every part of every shard, in parallel; with a limit one after the other, until it is reached."""
    recipe = jobs[0][1].recipe
    run = limited if recipe.limit else results
    parts = run(pool, stage.tokenize, jobs)
    dough = Dough([], [], [])
    problems, count, base = list[Problem](), 0, 0
    # When this is left, also where the table cannot be written, nothing may be at work in a folder that is removed.
    with contextlib.closing(parts):
        for (index, job), part in parts:
            if not dough.shard_of or dough.shard_of[-1] != index:
                if count:
                    break  # the shard before has bad lines, and is read to its end
                base = 0
            for rows in (part.whole, part.remade, part.skipped):
                rows["line"] += base
            part.bad = [(line + base, what) for line, what in part.bad]
            part.misread = [(line + base, what) for line, what in part.misread]
            problems += [problem._replace(line=problem.line + base) for problem in part.problems]
            count += part.problem_count
            part.longest_line += base
            base += part.lines
            table.add(part, job, index)
            dough.jobs.append(job)
            dough.parts.append(part)
            dough.shard_of.append(index)
            progress("tokenize", job.part.size(job.shard.size))
    if count:
        unread = jobs[-1][0] - dough.shard_of[-1]
        raise BadLines(problems[: stage.MAX_PROBLEMS], count, unread, recipe.on_error == "fail")
    table.closed(dough.parts)
    return dough


def limited(
    pool: Executor, work: Callable[[Any], T], jobs: list[tuple[int, Any]]
) -> Generator[tuple[tuple[int, Any], T], None, None]:
    """One part after the other, until the limit on entries is reached."""
    left = jobs[0][1].limit or 0
    for index, job in jobs:
        [done] = results(pool, work, [(index, job._replace(limit=left))])
        yield done
        left -= done[1].entries  # type: ignore[attr-defined]
        if left <= 0:
            return


def _gather(
    kitchen: Kitchen, name: str, shards: list[Shard], dough: Dough, table: gather.Table, out: Path
) -> dict[str, Any]:
    """Plan the sequences of each split and write their files; the manifest's outputs, counts and figures."""
    recipe, folder = kitchen.recipe, table.folder
    kitchen.strategy.split_examples(recipe, folder)
    outputs, made = [], {}
    named = splits.named(name, [shard.name for shard in shards]) if kitchen.strategy.splits else []
    chosen = choose_splits(recipe, dough, table, named)
    _look_at_splits(recipe, name, chosen)
    for split, rows in chosen.items():
        of_split = list(windows.windows(folder, split, rows, recipe))
        planned = results(kitchen.pool, windows.plan_window, ((0, window) for window in of_split))
        made[split] = statistics.Made.joined([done for _, done in planned])
        kitchen.progress("gather", 0, made[split].counts()["tokens"])
        files = pack_files.file_work(out, folder, table.spools, split, [window.name for window in of_split])
        for _, done in results(kitchen.pool, pack_files.write_file, ((0, file) for file in files)):
            outputs.append({"split": split, **done._asdict()})
            kitchen.progress("gather", done.tokens)
    account = figures.account(recipe, dough, made)
    account["counts"] |= kitchen.strategy.extra_counts(dough.parts)
    return {"outputs": outputs, **account}


def choose_splits(recipe: Recipe, dough: Dough, table: gather.Table, named: Sequence[str]) -> dict[str, windows.Chosen]:
    """The examples of each split that holds any; entries that repeat others are in none, and noted as skipped.

    `named`: the split that each shard is named for, as `splits.named` gives it. A share for validation is taken of
    what is for training.
    """
    placed, hashed = table.placed(), table.hashed()
    by_name = recipe.splits == "names" and bool({*named} - {"train"})
    if hashed is None and not by_name:
        return {"train": slice(None)}
    of = np.array([splits.ORDER.index(split) for split in named])[placed["shard"]] if by_name else 0
    split = np.zeros(len(placed), np.int8) + np.asarray(of, np.int8)
    if hashed is not None:
        entry = splits.entries(placed["shard"], placed["line"])
        kept = np.ones(len(placed), bool)
        if recipe.dedup:
            kept = ~splits.repeats(hashed["context"], hashed["content"], entry)
            dough.skip_repeats(placed, hashed["units"], ~kept)
        if recipe.validation is not None:
            trained = np.flatnonzero(kept & (split == 0))
            taken = splits.validation(recipe.validation, hashed["context"][trained], entry[trained])
            split[trained[taken]] = splits.ORDER.index("validation")
        split[~kept] = -1
    found = {name: np.flatnonzero(split == number) for number, name in enumerate(splits.ORDER)}
    return {name: rows for name, rows in found.items() if len(rows)}


def _look_at_splits(recipe: Recipe, name: str, found: dict[str, windows.Chosen]) -> None:
    if "train" not in found and recipe.validation is None:
        raise InputError(f"{name}: no entry is left to train on, only for {', '.join(found)}: see --splits, --limit")
    if "train" not in found:
        raise InputError(
            f"{name}: --validation {recipe.validation:g} takes every entry and leaves none to train on: pass less"
        )
    if recipe.validation is not None and "validation" not in found:
        told = f"{name}: --validation {recipe.validation:g} takes none of its entries; it has no split for it"
        warnings.warn(told, SplitWarning, stacklevel=2)
