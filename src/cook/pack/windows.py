"""Plan the windows of a split, and keep each plan on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core import records
from cook.core.files import memory_mapped, write_atomically
from cook.core.recipe import Recipe
from cook.core.records import StructuredArray
from cook.pack import planner
from cook.pack.statistics import IntHistogram, PackingStats

MAX_PATH = 1 << 16  # bytes; no system allows as many
RowSelection = npt.NDArray[np.int64] | slice  # rows of the table


class WindowJob(NamedTuple):
    """The work of planning one window of a split."""

    folder: str
    split: str
    begin: int
    end: int
    covers_all: bool
    """Whether the split holds every example of the dataset; then there is no SPLIT.rows file."""
    max_length: int
    packing: str
    seed: int

    def __str__(self) -> str:
        return f"the plan of {self.split}, from example {self.begin:,}, in {self.folder}"

    @property
    def name(self) -> str:
        """The stem of its files' names."""
        return f"{self.split}-{self.begin}"


def window_jobs(folder: Path, split: str, chosen: RowSelection, recipe: Recipe) -> Iterator[WindowJob]:
    """The windows of a split, in order. Writes SPLIT.rows where the split does not hold every example."""
    placed = memory_mapped(folder / "placed", records.PLACED_EXAMPLE_DTYPE)
    every = isinstance(chosen, slice)
    if not isinstance(chosen, slice):
        write_atomically(folder / f"{split}.rows", chosen)
    count = len(placed) if isinstance(chosen, slice) else len(chosen)
    wraps = recipe.packing == "wrap"
    size = (
        max(planner.WINDOW, recipe.max_length + 1) if wraps else planner.WINDOW
    )  # at least a sequence of one-token pieces
    begin = 0
    while begin < count:
        end = min(begin + size, count)
        if wraps and end < count:  # ends with its last full sequence
            end = begin + int(planner.full_sequence_starts(_lengths(placed[begin:end]), recipe.max_length)[-2])
        yield WindowJob(str(folder), split, begin, end, every, recipe.max_length, recipe.packing, recipe.seed)
        begin = end


def _lengths(examples: StructuredArray) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = examples["tokens"].astype(np.int64)
    return lengths


def plan_window(window: WindowJob) -> PackingStats:
    """Plan a window and write its plan; its statistics. Raises OutputError."""
    folder = Path(window.folder)
    placed = memory_mapped(folder / "placed", records.PLACED_EXAMPLE_DTYPE)
    rows: RowSelection = slice(window.begin, window.end)
    if not window.covers_all:
        rows = memory_mapped(folder / f"{window.split}.rows", np.int64)[rows]
    examples = placed[rows]
    lengths = _lengths(examples)
    planned = planner.pack_window(lengths, window.begin, window.max_length, window.packing, window.seed)
    tokens = records.tokens_per_sequence(planned.starts, lengths[planned.order - window.begin])
    order = planned.order if isinstance(rows, slice) else rows[planned.order - window.begin]
    write_atomically(folder / f"{window.name}.order", order)
    write_atomically(folder / f"{window.name}.starts", planned.starts)
    write_atomically(folder / f"{window.name}.tokens", tokens)
    return PackingStats(
        int(examples["trained"].sum(dtype=np.int64)),
        IntHistogram.from_values(lengths),
        IntHistogram.from_values(tokens),
    )
