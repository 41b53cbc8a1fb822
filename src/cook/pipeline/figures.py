"""Counts and figures of a dataset, for its manifest."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cook.core.recipe import Recipe
from cook.core.records import skipped_counts
from cook.encode import unknown_characters
from cook.encode.tokenized import TokenizedDataset
from cook.pack.statistics import PackingStats


def summarize(recipe: Recipe, dataset: TokenizedDataset, stats: dict[str, PackingStats]) -> dict[str, Any]:
    """The manifest's counts and figures, over all splits."""
    joined = PackingStats.merge(list(stats.values()))
    markers: Counter[str] = Counter()
    for part in dataset.parts:
        markers.update(part.markers)
    return {
        "counts": {
            "entries": dataset.total("entries"),
            "pairs": dataset.total("units"),
            **joined.counts(),
            **({"splits": {name: split.counts() for name, split in stats.items()}} if len(stats) > 1 else {}),
            "split": dataset.total("split"),
            "truncated": dataset.total("truncated"),
            **skipped_counts(*dataset.skipped_counts()),
            "special_strings": dataset.total("special"),
            "markers": {marker: count for marker, count in markers.items() if count},
            **count_unknown(dataset),
        },
        "figures": {
            "longest_entry": max(part.longest for part in dataset.parts),
            **fill_figures(joined, recipe.max_length),
        },
    }


def count_unknown(dataset: TokenizedDataset) -> dict[str, Any]:
    """The manifest's count of characters that the tokenizer lacks; {} where it can hold all text."""
    letters: Counter[str] = Counter()
    for part in dataset.parts:
        letters.update(part.unknown)
    return unknown_characters.unknown_counts(dataset.total("characters"), dataset.total("lost"), letters)


def fill_figures(stats: PackingStats, max_length: int) -> dict[str, Any]:
    """The manifest's figures of how sequences are filled."""
    total = stats.counts()
    return {
        "utilisation": round(total["tokens"] / (total["sequences"] * max_length), 6),
        "trained_share": round(total["trained_tokens"] / total["tokens"], 6),
        "example_tokens": stats.lengths.quantiles(),
        "sequence_tokens": stats.tokens.quantiles(),
        "examples_per_sequence": round(total["examples"] / total["sequences"], 3),
    }
