"""Examples to splits, each split to sequences, and the sequences to files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cook.core.errors import InputError
from cook.core.recipe import Recipe
from cook.encode.table import ExampleTable
from cook.encode.tokenized import TokenizedDataset
from cook.executors.local import ordered_results
from cook.pack import files as pack_files
from cook.pack import splits, windows
from cook.pack.statistics import PackingStats
from cook.pipeline.context import RunContext
from cook.pipeline.identity import SplitWarning


def choose_splits(
    recipe: Recipe, dataset: TokenizedDataset, table: ExampleTable, shard_splits: Sequence[str]
) -> dict[str, windows.RowSelection]:
    """Choose the examples of each split that has any. Repeated entries are in none; `dataset` notes them as skipped.

    `shard_splits`: the split of each shard by its name (`splits.infer_splits`). The validation share is taken from
    the examples for training.
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


def check_splits(recipe: Recipe, name: str, found: dict[str, windows.RowSelection]) -> None:
    """Raise InputError where nothing is left to train on; warn where nothing is left to validate on."""
    if "train" not in found and recipe.validation is None:
        raise InputError(f"{name}: no entry is left to train on, only for {', '.join(found)}: see --splits, --limit")
    if "train" not in found:
        raise InputError(
            f"{name}: --validation {recipe.validation:g} takes every entry and leaves none to train on: pass less"
        )
    if recipe.validation is not None and "validation" not in found:
        message = f"{name}: --validation {recipe.validation:g} takes none of its entries; it has no split for it"
        warnings.warn(message, SplitWarning, stacklevel=2)


class SplitPlan(NamedTuple):
    """The plan of one split."""

    windows: list[str]
    """The names of its windows, in order; each has its plan on disk."""
    stats: PackingStats


def plan_windows(context: RunContext, chosen: dict[str, windows.RowSelection], folder: Path) -> dict[str, SplitPlan]:
    """Plan the sequences of each split; the plans go to the folder of the table. Raises OutputError."""
    plans = {}
    for split, rows in chosen.items():
        jobs = list(windows.window_jobs(folder, split, rows, context.recipe))
        planned = ordered_results(context.pool, windows.plan_window, ((0, job) for job in jobs))
        plans[split] = SplitPlan([job.name for job in jobs], PackingStats.merge([stats for _, stats in planned]))
    return plans


def write_files(
    context: RunContext, plans: dict[str, SplitPlan], table: ExampleTable, out: Path
) -> list[dict[str, Any]]:
    """Write the files of each split by its plan; the manifest's outputs. Raises OutputError."""
    outputs = []
    for split, plan in plans.items():
        context.progress("gather", 0, plan.stats.counts()["tokens"])
        jobs = pack_files.output_file_jobs(out, table.folder, table.spools, split, plan.windows)
        for _, done in ordered_results(context.pool, pack_files.write_output_file, ((0, job) for job in jobs)):
            outputs.append({"split": split, **done._asdict()})
            context.progress("gather", done.tokens)
    return outputs
