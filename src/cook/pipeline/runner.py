"""Recipe -> its datasets, cooked side by side over an executor -> a summary.

Each dataset stands alone (see `pipeline.build`). One that fails does not stop the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from cook.core.results import Result
    from cook.tokenizer.loading import Tokenizer

    RunnerFactory = Callable[["RunResources"], contextlib.AbstractContextManager["DatasetRunner"]]


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a recipe resolves to; nothing is read or fetched but names and sizes."""

    recipe: Recipe
    tokenizer: Tokenizer
    source: Source
    root: Path
    shards: dict[str, list[ListedShard]]
    unread: dict[str, list[UnreadFile]]
    """What could be data of each dataset, and is left out."""


class RunResources(NamedTuple):
    """What a run has to work with."""

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
        """Where shards are hashed. On this machine in this thread: workers are still starting, or busy."""
        return executors.SynchronousExecutor() if self.recipe.executor == "local" else self.pool


class DatasetRunner(NamedTuple):
    """What makes a dataset of its shards, and where."""

    run_one: Callable[[str, list[Shard]], Result]
    root: Path
    tokenizer: str  # its name; "" without one
    unnamed: tuple[str, ...] = ()  # see Summary


def _open_source(recipe: Recipe) -> tuple[Source, list[str]]:
    """The source, and which of its datasets are meant. Raises CookError."""
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
    """Cook the datasets of a recipe: all that `cook` does from a shell.

    `progress` is told what is done and what is ahead, as in `cook.core.progress`; `notice` where a cluster's work goes.

    Raises CookError. Of several datasets each stands alone: if some fail, the others are cooked all the same, and then
    SeveralFailed is raised, which holds the failures and the summary of the rest; with one dataset its own error is.

    Large inputs are cooked by spawned processes: a script that calls this does so under `if __name__ == "__main__":`.
    """
    return run_datasets(recipe, progress or no_progress, sequence_runner, notice)


def run_datasets(
    recipe: Recipe, progress: Progress, make_runner: RunnerFactory, notice: Callable[[str], None] | None = None
) -> Summary:
    """Make each dataset of a recipe what `make_runner` says; see `run`."""
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
    logger.info("source: %s: datasets %s: %s bytes", recipe.source, ", ".join(shards), f"{size:,}")
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
def sequence_runner(resources: RunResources, **more: Any) -> Iterator[DatasetRunner]:
    """Datasets are cooked, with a tokenizer; `more` of a Kitchen's settings."""
    recipe, jobs = resources.recipe, resources.jobs
    # Imported here, while workers start.
    from cook.tokenizer.loading import resolve_tokenizer, warm_up

    tokenizer = resolve_tokenizer(recipe, resources.size // jobs)
    from cook.core import cache
    from cook.pipeline import build
    from cook.store import dataset_card

    root = _output_root(recipe, tokenizer)
    source_layout.refuse_inside(resources.source, root)
    dataset_card.refuse_mixed_root(root, corpora="strategy" in more)
    local = recipe.executor == "local"
    logger.info("output: %s", root)
    with cache.open_cache(recipe.cache) as folder:
        logger.info("cache: %s", folder or "none")
        if local and jobs > 1 and not cache.has_spools(folder):  # else the engine may not be needed at all
            with contextlib.suppress(BrokenExecutor):  # a worker that died is told of where work is lost
                for _ in range(jobs):
                    resources.pool.submit(warm_up, tokenizer)
        if not recipe.limit:
            resources.progress("tokenize", 0, resources.size)
        if not local:
            _check_cluster(resources, tokenizer, root, folder)
        context = build.RunContext(
            recipe,
            tokenizer,
            resources.source,
            root,
            folder,
            resources.pool,
            resources.hasher,
            resources.progress,
            **more,
        )
        yield DatasetRunner(functools.partial(build.build_dataset, context), root, tokenizer.name, tokenizer.unnamed)


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The same, with paths that lead to the same place from another process's folder."""

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
    """Nobody asked to be told."""
