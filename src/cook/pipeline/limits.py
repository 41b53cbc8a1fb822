"""The limits of a recipe: whether a dataset may be written with what was lost or left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cook.core import records
from cook.core.errors import InputError, TooLong
from cook.core.recipe import Recipe
from cook.core.records import REASON_WORDS, skipped_counts
from cook.encode import unknown_characters
from cook.encode.tokenized import TokenizedDataset
from cook.pipeline.figures import count_unknown
from cook.read.source import Shard
from cook.store.kinds import SKIPPED_NAME


def enforce_limits(recipe: Recipe, name: str, shards: list[Shard], dataset: TokenizedDataset) -> None:
    """Raise TooLong or InputError where the dataset must not be written."""
    lost = int(dataset.skipped_counts()[1][records.OVERLONG])
    kept = dataset.total("kept_units")
    worst = max(range(len(dataset.parts)), key=lambda index: dataset.parts[index].longest)
    longest, line = dataset.parts[worst].longest, dataset.parts[worst].longest_line
    where = f" ({shards[dataset.shard_of[worst]].name}:{line})"
    if recipe.overlong == "error" and longest > recipe.max_length:
        raise TooLong(
            f"{name}: an example is longer than {recipe.max_length:,} tokens, and --overlong is error. The longest has "
            f"{longest:,} tokens{where}. Raise --max-length, or pass --overlong split, truncate or drop."
        )
    enforce_max_dropped(recipe, name, lost, kept, longest, where)
    unknown_characters.enforce_max_unknown(recipe, name, count_unknown(dataset))
    if not dataset.total("examples"):
        raise nothing_left_error(name, "example", dataset)


def nothing_left_error(name: str, what: str, dataset: TokenizedDataset) -> InputError:
    """The error where a dataset has nothing to write, with what was left out and why."""
    kinds = {"skipped_entries": "entries", "skipped_pairs": "pairs"}
    reasons_left_out = [
        f"{'lines' if reason == 'bad_line' else kinds[key]} {REASON_WORDS[reason]} ({count:,})"
        for key, reasons in skipped_counts(*dataset.skipped_counts()).items()
        for reason, count in reasons.items()
    ]
    why = f"; left out: {', '.join(reasons_left_out)}" if reasons_left_out else ""
    return InputError(f"{name}: no {what} is left of {dataset.total('entries'):,} entries: nothing to write{why}")


def enforce_max_dropped(recipe: Recipe, name: str, lost: int, kept: int, longest: int, where: str) -> None:
    """Raise TooLong where more pairs are lost to length than the recipe allows."""
    share = lost / (lost + kept) if lost else 0.0
    if recipe.overlong not in ("split", "truncate") or share <= recipe.max_dropped:
        return
    truncates = recipe.overlong == "truncate"
    options = ["raise --max-length"]
    if not truncates:
        options.append("cut contexts with --overlong truncate")
    if kept:
        options.append(f"accept the loss with --max-dropped {_ceil(share)}")
    raise TooLong(
        f"{name}: {lost:,} of {lost + kept:,} pairs ({share:.1%}) do not fit in {recipe.max_length:,} tokens, even "
        f"{'with a cut context' if truncates else 'alone with their context'}; at most {recipe.max_dropped:.1%} may be "
        f"lost. The longest example has {longest:,} tokens{where}. To go on, {', or '.join(options)}."
    )


def enforce_no_bad_lines(recipe: Recipe, folder: Path, found: dict[str, Any]) -> None:
    """Raise InputError where a cooked dataset, of this manifest, leaves out lines that the recipe would not."""
    count = found["counts"]["skipped_entries"].get("bad_line", 0)
    if count and recipe.on_error == "fail":
        raise InputError(
            f"{folder.name}: {count:,} lines of its shards are no entries (see {folder / SKIPPED_NAME}), and "
            "--on-error is fail. Mend them, or pass --on-error skip to keep the result without them."
        )


def lost_and_kept_pairs(found: dict[str, Any]) -> tuple[int, int]:
    """The pairs of a cooked dataset that were lost to length, and those that are in it, from its manifest."""
    skipped = found["counts"]["skipped_pairs"]
    kept = found["counts"]["pairs"] - sum(skipped.values()) + skipped.get("repeat", 0)  # lengths come before repeats
    return skipped.get("overlong", 0), kept


def _ceil(share: float) -> str:
    """A share as a flag's value that admits it, to three digits.

    >>> _ceil(0.12345)
    '0.124'
    """
    return f"{min(1.0, math.ceil(share * 1000) / 1000):g}"
