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
from cook.core.errors import BadLines, CookWarning, InputError, Problem
from cook.core.files import write_bytes
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import Result
from cook.encode import parts as part_encoding
from cook.encode import table as encode_table
from cook.encode import tokenized, unknown_characters
from cook.encode.tokenized import TokenizedDataset
from cook.executors.local import ordered_results
from cook.pack import files as pack_files
from cook.pack import splits, statistics, windows
from cook.pipeline import figures, limits
from cook.read.lines import byte_ranges
from cook.read.source import Shard, Source
from cook.shapes.registry import SHAPES
from cook.store import kinds, manifest, staging
from cook.store.manifest import versions
from cook.store.replace import existing_result
from cook.tokenizer.loading import Tokenizer

T = TypeVar("T")


class SplitWarning(CookWarning):
    """A split that was asked for has no entry."""


def keep_examples(recipe: Recipe, folder: Path) -> None:
    """Plan examples as they are."""


def no_extra_counts(parts: list[part_encoding.EncodedPart]) -> dict[str, Any]:  # noqa: ARG001 - a strategy's signature
    """No counts of a strategy's own."""
    return {}


class EncodingStrategy(NamedTuple):
    """How entries become examples. `run` uses the default, one example an entry; `make_corpus` passes its own."""

    kind: str = kinds.DATASET
    """Of the result; see `store.kinds`."""
    shape: str = "context-qa"
    """The input shape, by its name in `shapes.registry`."""
    read: part_encoding.RecordReader = part_encoding.read_records
    split_examples: Callable[[Recipe, Path], None] = keep_examples
    """Makes of the table `placed` in this folder that of what is planned; see `encode.table`."""
    extra_counts: Callable[[list[part_encoding.EncodedPart]], dict[str, Any]] = no_extra_counts
    """More of the manifest's counts."""
    extra_manifest: Mapping[str, Any] = MappingProxyType({})
    """More of the manifest."""
    uses_named_splits: bool = True
    """Whether shards named for a split go to it; else all are for training."""
    uses_cache: bool = True
    """Whether tokens are kept between runs."""
    decodes: bool = False
    """Whether what was encoded must decode to its text; see `readback`."""


class RunContext(NamedTuple):
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


def build_dataset(context: RunContext, name: str, shards: list[Shard]) -> Result:
    """Cook one dataset, or find it up to date."""
    begun = time.perf_counter()
    folder = context.root / name
    head = _identity_fields(context, name, shards)
    old = existing_result(folder, head, context.recipe.overwrite)
    if old is not None:
        context.progress("tokenize", sum(shard.size for shard in shards))
        limits.enforce_no_bad_lines(context.recipe, folder, old)
        limits.enforce_max_dropped(
            context.recipe, name, *limits.lost_and_kept_pairs(old), old["figures"]["longest_entry"], ""
        )
        unknown_characters.enforce_max_unknown(context.recipe, name, old["counts"])
        return Result(folder, old, True, time.perf_counter() - begun)
    with staging.staging_folder(context.root, name) as staged:
        # Of this run alone: what an earlier one, cut off, left at work on a cluster finds its own gone.
        work = staged / uuid.uuid4().hex
        out = work / "out"
        out.mkdir(parents=True)
        digests = [row["sha256"] for row in head["inputs"]]
        # With a limit parts are not whole, and so not for the cache.
        kept = context.cache if context.strategy.uses_cache and not context.recipe.limit else None
        spools = kept or work
        (spools / "spools").mkdir(exist_ok=True)
        jobs = encode_jobs(context.strategy, context.recipe, context.tokenizer, shards, digests, spools)
        with encode_table.ExampleTable(work, spools, context.recipe.hashes) as table:
            dataset = encode_parts(jobs, context.pool, table, context.progress)
        limits.enforce_limits(context.recipe, name, shards, dataset)
        fields = (
            head
            | versions()
            | _plan_and_write(context, name, shards, dataset, table, out)
            | dict(context.strategy.extra_manifest)
        )
        fields["outputs"] += tokenized.write_skipped(out, shards, dataset)
        for shard in shards:
            shard.require_unchanged()
        write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
        staging.publish(out, context.root, name)
    return Result(folder, fields, False, time.perf_counter() - begun)


def _identity_fields(context: RunContext, name: str, shards: list[Shard]) -> dict[str, Any]:
    """The manifest's fields that are known before anything is cooked; all that determines the bytes, and versions."""
    tokenizer = context.tokenizer
    shape = SHAPES[context.strategy.shape](context.recipe, tokenizer)
    return {
        "format_version": manifest.FORMAT_VERSION,
        "kind": context.strategy.kind,
        "shape": shape.name,
        "mask_rule": shape.mask_rule,
        "dataset": name,
        "recipe": context.recipe.determining() | _splits_setting(context, name, shards),
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
        "source": context.source.provenance(),
        "inputs": input_rows(shards, context.hasher, context.cache),
        **unread_field(context.source, name),
    }


def unread_field(source: Source, name: str) -> dict[str, list[str]]:
    """The manifest's field of what lies among a dataset's shards, could be data, and was left out; none without any."""
    found = [each.path for each in source.unread(name)]
    return {"unread": [path.encode(errors="backslashreplace").decode() for path in found]} if found else {}


def warn_of_named_shards(name: str, shards: list[Shard]) -> None:
    """Warn of shards named for other splits, where all are for training."""
    names = [shard.name for shard in shards]
    others = [shard for shard, split in zip(names, splits.infer_splits(name, names), strict=True) if split != "train"]
    if others:
        message = f"{name}: a corpus has no splits; these are in it with the rest: {', '.join(others[:5])}"
        warnings.warn(message, SplitWarning, stacklevel=2)


def _splits_setting(context: RunContext, name: str, shards: list[Shard]) -> dict[str, str]:
    """The recipe's `splits`, where shards are named for some. Raises InputError where those leave none to train on."""
    named = {*splits.infer_splits(name, [shard.name for shard in shards])}
    if not context.strategy.uses_named_splits:
        warn_of_named_shards(name, shards)
    if named == {"train"} or not context.strategy.uses_named_splits:
        return {}
    recipe, advice = context.recipe, "or pass --splits all-train to train on all of them"
    if recipe.splits == "names":
        if "train" not in named:
            raise InputError(
                f"{name}: all of its shards are named for {', '.join(sorted(named))}: rename one, {advice}"
            )
        if "validation" in named and recipe.validation is not None:
            raise InputError(f"{name}: has shards named for validation: leave --validation out, {advice}")
    return {"splits": recipe.splits}


def input_rows(shards: list[Shard], hasher: Executor, known: Path | None = None) -> list[dict[str, Any]]:
    """The manifest's inputs; shards whose hash is not known, nor to the cache in folder `known`, go to the hasher."""
    unknown = ((0, shard.path) for shard in shards if not shard.sha256)
    hashed = ordered_results(hasher, functools.partial(cache.cached_sha256, known), unknown)
    return [{"name": shard.name, "bytes": shard.size, "sha256": shard.sha256 or next(hashed)[1]} for shard in shards]


ShardJobs = list[tuple[int, part_encoding.EncodeJob]]


def encode_jobs(
    strategy: EncodingStrategy,
    recipe: Recipe,
    tokenizer: Tokenizer,
    shards: list[Shard],
    digests: Sequence[str],
    folder: Path,
) -> ShardJobs:
    """The work on every part of every shard, with the index of its shard; spools go into the folder."""
    shape, jobs = SHAPES[strategy.shape](recipe, tokenizer), []
    for index, (shard, digest) in enumerate(zip(shards, digests, strict=True)):
        for part in byte_ranges(shard.path, shard.size):
            names = part_encoding.spool_names(folder, recipe, tokenizer, shape, digest, part)
            job = part_encoding.EncodeJob(recipe, tokenizer, part, shard, *names, shape, strategy.read, recipe.limit)
            jobs.append((index, job._replace(decodes=strategy.decodes)))
    return jobs


def encode_parts(
    jobs: ShardJobs, pool: Executor, table: encode_table.ExampleTable, progress: Progress = no_progress
) -> TokenizedDataset:
    """Every part of every shard, in parallel; with a limit one after the other, until it is reached."""
    recipe = jobs[0][1].recipe
    run = run_until_limit if recipe.limit else ordered_results
    parts = run(pool, part_encoding.encode_part, jobs)
    dataset = TokenizedDataset([], [], [])
    problems, count, base = list[Problem](), 0, 0
    # When this is left, also where the table cannot be written, nothing may be at work in a folder that is removed.
    with contextlib.closing(parts):
        for (index, job), part in parts:
            if not dataset.shard_of or dataset.shard_of[-1] != index:
                if count:
                    break  # the shard before has bad lines, and is read to its end
                base = 0
            for rows in (part.full_positions, part.split_positions, part.skipped):
                rows["line"] += base
            part.bad = [(line + base, what) for line, what in part.bad]
            part.decode_errors = [(line + base, what) for line, what in part.decode_errors]
            problems += [problem._replace(line=problem.line + base) for problem in part.problems]
            count += part.problem_count
            part.longest_line += base
            base += part.lines
            table.add(part, job, index)
            dataset.jobs.append(job)
            dataset.parts.append(part)
            dataset.shard_of.append(index)
            progress("tokenize", job.part.size(job.shard.size))
    if count:
        unread = jobs[-1][0] - dataset.shard_of[-1]
        raise BadLines(problems[: part_encoding.MAX_PROBLEMS], count, unread, recipe.on_error == "fail")
    table.finish(dataset.parts)
    return dataset


def run_until_limit(
    pool: Executor, work: Callable[[Any], T], jobs: list[tuple[int, Any]]
) -> Generator[tuple[tuple[int, Any], T], None, None]:
    """One part after the other, until the limit on entries is reached."""
    left = jobs[0][1].limit or 0
    for index, job in jobs:
        [done] = ordered_results(pool, work, [(index, job._replace(limit=left))])
        yield done
        left -= done[1].entries  # type: ignore[attr-defined]
        if left <= 0:
            return


def _plan_and_write(
    context: RunContext,
    name: str,
    shards: list[Shard],
    dataset: TokenizedDataset,
    table: encode_table.ExampleTable,
    out: Path,
) -> dict[str, Any]:
    """Plan the sequences of each split and write their files; the manifest's outputs, counts and figures."""
    recipe, folder = context.recipe, table.folder
    context.strategy.split_examples(recipe, folder)
    outputs, stats = [], {}
    named = splits.infer_splits(name, [shard.name for shard in shards]) if context.strategy.uses_named_splits else []
    chosen = choose_splits(recipe, dataset, table, named)
    _check_splits(recipe, name, chosen)
    for split, rows in chosen.items():
        window_jobs = list(windows.window_jobs(folder, split, rows, recipe))
        planned = ordered_results(context.pool, windows.plan_window, ((0, window) for window in window_jobs))
        stats[split] = statistics.PackingStats.merge([done for _, done in planned])
        context.progress("gather", 0, stats[split].counts()["tokens"])
        files = pack_files.output_file_jobs(out, folder, table.spools, split, [window.name for window in window_jobs])
        for _, done in ordered_results(context.pool, pack_files.write_output_file, ((0, file) for file in files)):
            outputs.append({"split": split, **done._asdict()})
            context.progress("gather", done.tokens)
    account = figures.summarize(recipe, dataset, stats)
    account["counts"] |= context.strategy.extra_counts(dataset.parts)
    return {"outputs": outputs, **account}


def choose_splits(
    recipe: Recipe, dataset: TokenizedDataset, table: encode_table.ExampleTable, shard_splits: Sequence[str]
) -> dict[str, windows.RowSelection]:
    """The examples of each split that holds any; entries that repeat others are in none, and noted as skipped.

    `shard_splits`: the split that each shard is named for, as `splits.infer_splits` gives it. A share for validation is
    taken of what is for training.
    """
    placed, hashed = table.read_examples(), table.read_hashes()
    by_name = recipe.splits == "names" and bool({*shard_splits} - {"train"})
    if hashed is None and not by_name:
        return {"train": slice(None)}
    split_numbers = (
        np.array([splits.SPLIT_NAMES.index(split) for split in shard_splits])[placed["shard"]] if by_name else 0
    )
    split = np.zeros(len(placed), np.int8) + np.asarray(split_numbers, np.int8)
    if hashed is not None:
        entry = splits.entry_numbers(placed["shard"], placed["line"])
        kept = np.ones(len(placed), bool)
        if recipe.dedup:
            kept = ~splits.find_repeats(hashed["context"], hashed["content"], entry)
            dataset.skip_repeats(placed, hashed["units"], ~kept)
        if recipe.validation is not None:
            trained = np.flatnonzero(kept & (split == 0))
            taken = splits.select_validation(recipe.validation, hashed["context"][trained], entry[trained])
            split[trained[taken]] = splits.SPLIT_NAMES.index("validation")
        split[~kept] = -1
    found = {name: np.flatnonzero(split == number) for number, name in enumerate(splits.SPLIT_NAMES)}
    return {name: rows for name, rows in found.items() if len(rows)}


def _check_splits(recipe: Recipe, name: str, found: dict[str, windows.RowSelection]) -> None:
    if "train" not in found and recipe.validation is None:
        raise InputError(f"{name}: no entry is left to train on, only for {', '.join(found)}: see --splits, --limit")
    if "train" not in found:
        raise InputError(
            f"{name}: --validation {recipe.validation:g} takes every entry and leaves none to train on: pass less"
        )
    if recipe.validation is not None and "validation" not in found:
        message = f"{name}: --validation {recipe.validation:g} takes none of its entries; it has no split for it"
        warnings.warn(message, SplitWarning, stacklevel=2)
