"""Counts and figures of a dataset, for its manifest."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cook.core.recipe import Recipe
from cook.core.records import left_out
from cook.encode import losses
from cook.encode.tokenized import Dough
from cook.pack.statistics import Made


def account(recipe: Recipe, dough: Dough, made: dict[str, Made]) -> dict[str, Any]:
    """The manifest's counts and figures, over all splits."""
    joined = Made.joined(list(made.values()))
    markers: Counter[str] = Counter()
    for part in dough.parts:
        markers.update(part.markers)
    return {
        "counts": {
            "entries": dough.total("entries"),
            "pairs": dough.total("units"),
            **joined.counts(),
            **({"splits": {name: split.counts() for name, split in made.items()}} if len(made) > 1 else {}),
            "split": dough.total("split"),
            "truncated": dough.total("truncated"),
            **left_out(*dough.skipped()),
            "special_strings": dough.total("special"),
            "markers": {marker: count for marker, count in markers.items() if count},
            **unknown(dough),
        },
        "figures": {"longest_entry": max(part.longest for part in dough.parts), **shape(joined, recipe.max_length)},
    }


def unknown(dough: Dough) -> dict[str, Any]:
    """The manifest's count of what the tokenizer lacks; nothing where it has tokens for all text."""
    letters: Counter[str] = Counter()
    for part in dough.parts:
        letters.update(part.unknown)
    return losses.counts(dough.total("characters"), dough.total("lost"), letters)


def shape(made: Made, max_length: int) -> dict[str, Any]:
    """The manifest's figures of how sequences are filled."""
    total = made.counts()
    return {
        "utilisation": round(total["tokens"] / (total["sequences"] * max_length), 6),
        "trained_share": round(total["trained_tokens"] / total["tokens"], 6),
        "example_tokens": made.lengths.quantiles(),
        "sequence_tokens": made.tokens.quantiles(),
        "examples_per_sequence": round(total["examples"] / total["sequences"], 3),
    }
