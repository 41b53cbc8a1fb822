"""The executor that a recipe asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from cook.executors.local import executor
from cook.executors.process import usable_cores

if TYPE_CHECKING:
    from cook.core.recipe import Recipe


@contextlib.contextmanager
def chosen(recipe: Recipe, size: int, preload: Sequence[str] = ()) -> Iterator[tuple[Executor, int]]:
    """The executor that a recipe asks for, for `size` bytes of input, and how many jobs it does at once.

    `preload` names modules: see `executor`.
    """
    if recipe.executor == "dask":
        from cook.executors import dask

        with dask.connected(recipe) as far:
            yield far, far.threads
        return
    jobs = recipe.jobs or usable_cores()
    with executor(jobs, size, preload) as pool:
        yield pool, jobs
