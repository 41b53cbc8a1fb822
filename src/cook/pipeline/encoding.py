"""Every part of every shard, encoded by an executor; what came of them is added up in the order of the shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from cook.core.errors import MAX_PROBLEMS, BadLines, Problem
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.encode import parts as part_encoding
from cook.encode.table import ExampleTable
from cook.encode.tokenized import TokenizedDataset
from cook.executors.local import ordered_results
from cook.pipeline.context import EncodingStrategy
from cook.read.lines import byte_ranges
from cook.read.source import Shard
from cook.shapes.registry import SHAPES
from cook.tokenizer.loading import Tokenizer

T = TypeVar("T")
ShardJobs = list[tuple[int, part_encoding.EncodeJob]]


def encode_jobs(
    strategy: EncodingStrategy,
    recipe: Recipe,
    tokenizer: Tokenizer,
    shards: list[Shard],
    digests: Sequence[str],
    folder: Path,
) -> ShardJobs:
    """A job for every part of every shard, with the index of its shard. Spools go into `folder`."""
    shape, jobs = SHAPES[strategy.shape](recipe, tokenizer), []
    for index, (shard, digest) in enumerate(zip(shards, digests, strict=True)):
        for part in byte_ranges(shard.path, shard.size):
            names = part_encoding.spool_names(folder, recipe, tokenizer, shape, digest, part)
            job = part_encoding.EncodeJob(recipe, tokenizer, part, shard, *names, shape, strategy.read, recipe.limit)
            jobs.append((index, job._replace(decodes=strategy.decodes)))
    return jobs


def encode_parts(
    jobs: ShardJobs, pool: Executor, table: ExampleTable, progress: Progress = no_progress
) -> TokenizedDataset:
    """Encode every part of every shard in parallel; with a limit, one after the other until it is reached.

    Examples go to the table. Raises BadLines, and CookError of a job.
    """
    recipe = jobs[0][1].recipe
    run = run_until_limit if recipe.limit else ordered_results
    parts = run(pool, part_encoding.encode_part, jobs)
    dataset = TokenizedDataset([], [])
    problems, count, base = list[Problem](), 0, 0
    # Whatever ends this block, no job may go on working in a folder that is then removed.
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
            dataset.parts.append(part)
            dataset.shard_of.append(index)
            progress("tokenize", job.part.size(job.shard.size))
    if count:
        unread = jobs[-1][0] - dataset.shard_of[-1]
        of_shard = [
            part for part, shard in zip(dataset.parts, dataset.shard_of, strict=True) if shard == dataset.shard_of[-1]
        ]
        total = part_encoding.lines_if_all_failed(of_shard)
        raise BadLines(problems[:MAX_PROBLEMS], count, unread, recipe.on_error == "fail", total)
    table.finish(dataset.parts)
    return dataset


def run_until_limit(
    pool: Executor, work: Callable[[Any], T], jobs: list[tuple[int, Any]]
) -> Generator[tuple[tuple[int, Any], T], None, None]:
    """Run one job after the other until the limit on entries is reached."""
    left = jobs[0][1].limit or 0
    for index, job in jobs:
        [done] = ordered_results(pool, work, [(index, job._replace(limit=left))])
        yield done
        left -= done[1].entries  # type: ignore[attr-defined]
        if left <= 0:
            return
