"""The executor that a recipe asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from cook.executors.local import local_executor
from cook.executors.process import usable_cores

if TYPE_CHECKING:
    from cook.core.recipe import Recipe


@contextlib.contextmanager
def open_executor(recipe: Recipe, size: int, preload: Sequence[str] = ()) -> Iterator[tuple[Executor, int]]:
    """The executor that a recipe asks for, for `size` bytes of input, and how many jobs it does at once.

    `preload` names modules: see `local_executor`.
    """
    if recipe.executor == "dask":
        from cook.executors import dask

        with dask.connect_cluster(recipe) as cluster:
            yield cluster, cluster.threads
        return
    jobs = recipe.jobs or usable_cores()
    with local_executor(jobs, size, preload) as pool:
        yield pool, jobs
