"""Run a recipe: open its source, start an executor, build its datasets side by side, return a summary.

Each dataset stands alone (see `pipeline.build`): one that fails does not stop the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cook.core import catalog
from cook.core.errors import CookError, RecipeError, SeveralFailed, from_os_error
from cook.core.progress import Progress, no_progress
from cook.core.recipe import Recipe
from cook.core.results import Summary
from cook.executors import choice
from cook.executors import local as executors
from cook.read import source as source_layout
from cook.read import sources as source_registry
from cook.read.source import ListedShard, Shard, Source, UnreadFile

if TYPE_CHECKING:
    from cook.core.results import Result
    from cook.pipeline.context import EncodingStrategy
    from cook.tokenizer.loading import Tokenizer

    RunnerFactory = Callable[["RunResources"], contextlib.AbstractContextManager["DatasetRunner"]]


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a recipe resolves to. Only names and sizes were read."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    shards: dict[str, list[ListedShard]]
    unread: dict[str, list[UnreadFile]]
    """Of each dataset, the files that could be data and are not read."""


class RunResources(NamedTuple):
    """What a run works with: its recipe, the shards of its datasets, and the executor."""

    recipe: Recipe
    source: Source
    shards: dict[str, list[Shard]]
    pool: Executor
    jobs: int
    size: int  # bytes of all shards
    progress: Progress
    notice: Callable[[str], None]

    @property
    def hasher(self) -> Executor:
        """The executor that hashes shards. On one machine this thread: the workers are starting, or busy."""
        return executors.SynchronousExecutor() if self.recipe.executor == "local" else self.pool


class DatasetRunner(NamedTuple):
    """The function that builds one dataset, and where its folder goes."""

    run_one: Callable[[str, list[Shard]], Result]
    root: Path
    tokenizer: str  # its name; "" without one
    unnamed: tuple[str, ...] = ()  # see Summary


def _open_source(recipe: Recipe) -> tuple[Source, list[str]]:
    """The source of a recipe, and the names of the datasets it selects. Raises CookError."""
    source = source_registry.open_source(
        recipe.source, recipe.follow_links, recipe.revision, recipe.cache, recipe.on_error == "skip"
    )
    try:
        return source, catalog.select_datasets(recipe.datasets, source.names())
    except RecipeError as exc:
        folder = Path(os.path.expanduser(recipe.source)).resolve()
        wanted = [name.lower() for name in recipe.datasets]
        for above in (folder, folder.parent):  # a dataset's own folder, or its shards', was named
            if isinstance(source, source_layout.Folder) and above.name.lower() in wanted:
                raise RecipeError(*exc.lines, f"source: the folder that holds {above.name} is {above.parent}") from exc
        raise


def _output_root(recipe: Recipe, tokenizer: Tokenizer) -> Path:
    return Path(recipe.output) if recipe.output else Path("cooked") / tokenizer.folder_name


def preview(recipe: Recipe) -> Preview:
    """Resolve a recipe: its source, tokenizer, datasets, shards and output. Raises CookError."""
    source, names = _open_source(recipe)
    from cook.tokenizer.loading import resolve_tokenizer

    tokenizer = resolve_tokenizer(recipe)
    shards = {name: source.listed(name) for name in names}
    unread = {name: source.unread(name) for name in names}
    return Preview(recipe, tokenizer, source, _output_root(recipe, tokenizer), shards, unread)


def run(recipe: Recipe, progress: Progress | None = None, notice: Callable[[str], None] | None = None) -> Summary:
    """Build the datasets of a recipe: all that `cook` does from a shell.

    `progress` is called with what is done and what is still to do (see `cook.core.progress`). `notice` is called with
    a line that says where a cluster's work goes.

    Raises CookError. With one dataset, its own error. With several, each stands alone: the others are finished, and
    then SeveralFailed is raised, which holds the failures and the summary of the rest.

    Large inputs start worker processes: call this under `if __name__ == "__main__":`.
    """
    return run_datasets(recipe, progress or no_progress, sequence_runner, notice)


def run_datasets(
    recipe: Recipe, progress: Progress, make_runner: RunnerFactory, notice: Callable[[str], None] | None = None
) -> Summary:
    """Run the function of `make_runner` on every dataset of a recipe; collect results and failures. See `run`."""
    begun = time.perf_counter()
    if recipe.executor == "dask":
        recipe = _with_absolute_paths(recipe)
    source, names = _open_source(recipe)
    source.fetch(names, progress)
    results: list[Result] = []
    failures: dict[str, CookError] = {}
    shards: dict[str, list[Shard]] = {}
    for name in names:
        try:
            shards[name] = source.shards(name)
        except (CookError, OSError) as exc:
            failures[name] = from_os_error(exc)
    size = sum(shard.size for found in shards.values() for shard in found)
    with (
        choice.open_executor(recipe, size, ("cook.pipeline.build",)) as (pool, jobs),
        make_runner(
            RunResources(recipe, source, shards, pool, jobs, size, progress, notice or _ignore_notice)
        ) as runner,
        executors.dataset_threads(jobs) as threads,
        # An interrupt ends the pool's work first, and so lets the coordinators clean up and end.
        executors.cancel_on_error(pool),
    ):
        largest_first = sorted(shards, key=lambda name: -sum(shard.size for shard in shards[name]))
        futures = {name: threads.submit(runner.run_one, name, shards[name]) for name in largest_first}
        for name in shards:
            try:
                results.append(futures[name].result())
            except (CookError, OSError) as exc:
                failures[name] = from_os_error(exc)
    from cook.store import dataset_card

    named = dataset_card.write_card(runner.root) if results else False
    seconds = time.perf_counter() - begun
    summary = Summary(runner.root, runner.tokenizer, results, seconds, named, runner.unnamed, recipe.added_tokens)
    if len(names) == 1 and failures:
        raise failures[names[0]]
    if failures:
        raise SeveralFailed(failures, summary)
    return summary


@contextlib.contextmanager
def sequence_runner(resources: RunResources, strategy: EncodingStrategy | None = None) -> Iterator[DatasetRunner]:
    """The runner that makes sequences of datasets, with a tokenizer; without a strategy, one example an entry."""
    recipe, jobs = resources.recipe, resources.jobs
    # Imported here, while workers start.
    from cook.tokenizer.loading import resolve_tokenizer, warm_up

    tokenizer = resolve_tokenizer(recipe, resources.size // jobs)
    from cook.core import cache
    from cook.pipeline.build import build_dataset
    from cook.pipeline.context import EncodingStrategy, RunContext
    from cook.store import dataset_card

    root = _output_root(recipe, tokenizer)
    source_layout.refuse_inside(resources.source, root)
    dataset_card.refuse_mixed_root(root, corpora=strategy is not None)
    local = recipe.executor == "local"
    with cache.open_cache(recipe.cache) as folder:
        if local and jobs > 1 and not cache.has_spools(folder):  # else the engine may not be needed at all
            with contextlib.suppress(BrokenExecutor):  # a worker that died is told of where work is lost
                for _ in range(jobs):
                    resources.pool.submit(warm_up, tokenizer)
        if not recipe.limit:
            resources.progress("tokenize", 0, resources.size)
        if not local:
            _check_cluster(resources, tokenizer, root, folder)
        context = RunContext(
            recipe,
            tokenizer,
            resources.source,
            root,
            folder,
            resources.pool,
            resources.hasher,
            resources.progress,
            strategy or EncodingStrategy(),
        )
        yield DatasetRunner(functools.partial(build_dataset, context), root, tokenizer.name, tokenizer.unnamed)


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths: a worker's current folder is another."""

    def absolute(path: str) -> str:
        return str(Path(os.path.expanduser(path)).absolute())

    source = absolute(recipe.source) if os.path.isdir(os.path.expanduser(recipe.source)) else recipe.source
    return dataclasses.replace(recipe, source=source, output=recipe.output and absolute(recipe.output))


def _check_cluster(resources: RunResources, tokenizer: Tokenizer, root: Path, folder: Path | None) -> None:
    """Check that a cluster's workers can do the work of this run, and say where it goes. Raises ClusterError."""
    from cook.executors import dask
    from cook.store import staging

    assert isinstance(resources.pool, dask.Cluster)
    resources.notice(f"on {dask.describe_cluster(resources.pool)}")
    read: list[tuple[Path, int | None]] = [
        (found[0].path, found[0].size) for found in resources.shards.values() if found
    ]
    read += [(Path(tokenizer.path), None)] if tokenizer.path else []
    try:
        resources.pool.check_workers([root / staging.WORK_DIR, *([folder / "spools"] if folder else [])], read)
    finally:
        staging.remove_empty_work_dir(root)


def _ignore_notice(notice: str) -> None:
    """Drop a notice."""
