"""One dataset through the stages, in five calls: identity, encode, plan, write, publish."""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from cook.core.files import write_bytes
from cook.core.results import Result
from cook.encode import unknown_characters
from cook.encode.table import ExampleTable
from cook.encode.tokenized import TokenizedDataset, write_skipped
from cook.pack.splits import infer_splits
from cook.pipeline import figures, limits
from cook.pipeline.context import RunContext
from cook.pipeline.encoding import encode_jobs, encode_parts
from cook.pipeline.identity import identity_fields
from cook.pipeline.packing import check_splits, choose_splits, plan_windows, write_files
from cook.read.source import Shard
from cook.store import manifest, staging
from cook.store.replace import existing_result

logger = logging.getLogger(__name__)


def build_dataset(context: RunContext, name: str, shards: list[Shard]) -> Result:
    """Encode, pack and publish one dataset, or find that its result is up to date. Raises CookError."""
    started = time.perf_counter()
    recipe, folder = context.recipe, context.root / name
    # 1. Everything that determines the bytes. Hashes the shards.
    identity = identity_fields(context, name, shards)
    found = existing_result(folder, identity, recipe.overwrite)
    if found is not None:
        logger.info("%s: up to date: same recipe, inputs and tokenizer", name)
        context.progress("tokenize", sum(shard.size for shard in shards))
        _enforce_limits_of(context, folder, found)
        return Result(folder, found, True, time.perf_counter() - started)
    with staging.staging_folder(context.root, name) as staged:
        # A folder of this run alone: what an interrupted run left at work on a cluster finds its own gone.
        work = staged / uuid.uuid4().hex
        out = work / "out"
        out.mkdir(parents=True)
        # 2. Entries to tokens in spool files, a job for each part of a shard; a table of all examples.
        dataset, table = _encode(context, identity, shards, work)
        limits.enforce_limits(recipe, name, shards, dataset)
        # 3. Examples to sequences, a job for each window of a split.
        context.strategy.split_examples(recipe, work)
        by_name = infer_splits(name, [shard.name for shard in shards]) if context.strategy.uses_named_splits else []
        splits = choose_splits(recipe, dataset, table, by_name)
        check_splits(recipe, name, splits)
        plans = plan_windows(context, splits, work)
        # 4. Sequences to Parquet, a job for each output file.
        outputs = write_files(context, plans, table, out) + write_skipped(out, shards, dataset)
        for shard in shards:
            shard.require_unchanged()
        # 5. The manifest last, then one rename.
        summary = figures.summarize(recipe, dataset, {split: plan.stats for split, plan in plans.items()})
        summary["counts"] |= context.strategy.extra_counts(dataset.parts)
        fields = identity | manifest.versions() | {"outputs": outputs} | summary | dict(context.strategy.extra_manifest)
        write_bytes(out / manifest.MANIFEST_NAME, manifest.seal(fields))
        staging.publish(out, context.root, name)
    return Result(folder, fields, False, time.perf_counter() - started)


def _encode(
    context: RunContext, identity: dict[str, Any], shards: list[Shard], work: Path
) -> tuple[TokenizedDataset, ExampleTable]:
    """Encode all parts of all shards. The spools go to the cache, or to the work folder without one."""
    recipe = context.recipe
    # With a limit parts are not whole, and so not for the cache.
    cached = context.cache if context.strategy.uses_cache and not recipe.limit else None
    folder = cached or work
    (folder / "spools").mkdir(exist_ok=True)
    digests = [row["sha256"] for row in identity["inputs"]]
    jobs = encode_jobs(context.strategy, recipe, context.tokenizer, shards, digests, folder)
    if logger.isEnabledFor(logging.INFO):
        known = sum(os.path.exists(f"{job.full_spool}.index") for _, job in jobs)
        logger.info("%s: %d parts of shards to encode, %d in the cache", identity["dataset"], len(jobs) - known, known)
    with ExampleTable(work, folder, recipe.hashes) as table:
        return encode_parts(jobs, context.pool, table, context.progress), table


def _enforce_limits_of(context: RunContext, folder: Path, found: dict[str, Any]) -> None:
    """Hold a result that is up to date to the limits of this recipe, which may be stricter than when it was made."""
    recipe, name = context.recipe, folder.name
    limits.enforce_no_bad_lines(recipe, folder, found)
    lost, kept = limits.lost_and_kept_pairs(found)
    limits.enforce_max_dropped(recipe, name, lost, kept, found["figures"]["longest_entry"], "")
    unknown_characters.enforce_max_unknown(recipe, name, found["counts"])
