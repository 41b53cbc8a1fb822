"""What was read, made and left out of a data set: whether it may be written, its counts and figures, and the record."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cook import spool
from cook import tokenize as stage
from cook.errors import InputError, TooLong, unwritable
from cook.recipe import Recipe
from cook.sources import Shard, sha256_of
from cook.spool import Rows

SKIPPED_NAME = "skipped.jsonl"
ROW_BYTES = 100  # a line of it, about


@dataclasses.dataclass
class Dough:
    """A tokenized data set: its parts, with lines counted from the start of their shards."""

    jobs: list[stage.Job]
    parts: list[stage.Tokenized]
    shard_of: list[int]  # for each part

    def total(self, field: str) -> int:
        """A count, over all parts."""
        return sum(getattr(part, field) for part in self.parts)

    def skipped(self) -> npt.NDArray[np.void]:
        """What was left out, of all parts."""
        return np.concatenate([part.skipped for part in self.parts])

    def skip_repeats(self, placed: Rows, pairs: npt.NDArray[np.int32], repeated: npt.NDArray[np.bool_]) -> None:
        """Note the entries of these examples of the table of all as left out because they repeat others."""
        begin = 0
        for part in self.parts:
            rows = slice(begin, begin + part.examples)
            begin += part.examples
            lines, group = np.unique(placed["line"][rows][repeated[rows]], return_inverse=True)
            if len(lines):
                noted = np.zeros(len(lines), spool.SKIPPED)
                noted["line"], noted["pair"], noted["reason"] = lines, -1, spool.REPEAT
                noted["pairs"] = np.bincount(group, pairs[rows][repeated[rows]])
                skipped = np.concatenate([part.skipped, noted])
                part.skipped = skipped[np.argsort(skipped["line"], kind="stable")]


@dataclasses.dataclass(frozen=True)
class Made:
    """What became of a split."""

    lengths: npt.NDArray[np.int64]
    """Tokens of each example."""
    tokens: npt.NDArray[np.int64]
    """Tokens of each sequence."""
    trained: int
    """Tokens that bear loss."""

    def counts(self) -> dict[str, int]:
        """As the manifest has them."""
        return {
            "examples": len(self.lengths),
            "sequences": len(self.tokens),
            "tokens": int(self.tokens.sum()),
            "trained_tokens": self.trained,
        }


def refuse(recipe: Recipe, name: str, shards: list[Shard], dough: Dough) -> None:
    """Raise TooLong or InputError where the data set must not be written."""
    skipped = dough.skipped()
    lost = int(skipped["pairs"][skipped["reason"] == spool.OVERLONG].sum())
    kept = dough.total("kept_pairs")
    worst = max(range(len(dough.parts)), key=lambda index: dough.parts[index].longest)
    longest, line = dough.parts[worst].longest, dough.parts[worst].longest_line
    where = f" ({shards[dough.shard_of[worst]].name}:{line})"
    if recipe.overlong == "error" and longest > recipe.max_length:
        raise TooLong(
            f"{name}: an example is longer than {recipe.max_length:,} tokens, and --overlong is error. The longest has "
            f"{longest:,} tokens{where}. Raise --max-length, or pass --overlong split, truncate or drop."
        )
    refuse_share(recipe, name, lost, kept, longest, where)
    if not any(len(part.whole) or len(part.remade) for part in dough.parts):
        raise InputError(f"{name}: no example is left of {dough.total('entries'):,} entries: nothing to write")


def refuse_share(recipe: Recipe, name: str, lost: int, kept: int, longest: int, where: str) -> None:
    """Raise TooLong where more pairs are lost to length than the recipe allows."""
    share = lost / (lost + kept) if lost else 0.0
    if recipe.overlong not in ("split", "truncate") or share <= recipe.max_dropped:
        return
    truncates = recipe.overlong == "truncate"
    ways = ["raise --max-length"]
    if not truncates:
        ways.append("cut contexts with --overlong truncate")
    if kept:
        ways.append(f"accept the loss with --max-dropped {_ceil(share)}")
    raise TooLong(
        f"{name}: {lost:,} of {lost + kept:,} pairs ({share:.1%}) do not fit in {recipe.max_length:,} tokens, even "
        f"{'with a cut context' if truncates else 'alone with their context'}; at most {recipe.max_dropped:.1%} may be "
        f"lost. The longest example has {longest:,} tokens{where}. To go on, {', or '.join(ways)}."
    )


def refuse_bad_lines(recipe: Recipe, folder: Path, found: dict[str, Any]) -> None:
    """Raise InputError where a cooked data set, of this manifest, leaves out lines that the recipe would not."""
    count = found["counts"]["skipped_entries"].get("bad_line", 0)
    if count and recipe.on_error == "fail":
        raise InputError(
            f"{folder.name}: {count:,} lines of its shards are no entries (see {folder / SKIPPED_NAME}), and "
            "--on-error is fail. Mend them, or pass --on-error skip to keep the result without them."
        )


def lost_and_kept(found: dict[str, Any]) -> tuple[int, int]:
    """The pairs of a cooked data set that were lost to length, and those that are in it, from its manifest."""
    skipped = found["counts"]["skipped_pairs"]
    kept = found["counts"]["pairs"] - sum(skipped.values()) + skipped.get("repeat", 0)  # lengths come before repeats
    return skipped.get("overlong", 0), kept


def _ceil(share: float) -> str:
    """A share as a flag's value that admits it, to three digits.

    >>> _ceil(0.12345)
    '0.124'
    """
    return f"{min(1.0, math.ceil(share * 1000) / 1000):g}"


def account(recipe: Recipe, dough: Dough, made: dict[str, Made]) -> dict[str, Any]:
    """The manifest's counts and figures, over all splits."""
    lengths = np.concatenate([split.lengths for split in made.values()])
    tokens = np.concatenate([split.tokens for split in made.values()])
    total = Made(lengths, tokens, sum(split.trained for split in made.values())).counts()

    markers: Counter[str] = Counter()
    for part in dough.parts:
        markers.update(part.markers)
    return {
        "counts": {
            "entries": dough.total("entries"),
            "pairs": dough.total("pairs"),
            **total,
            **({"splits": {name: split.counts() for name, split in made.items()}} if len(made) > 1 else {}),
            "split": dough.total("split"),
            "truncated": dough.total("truncated"),
            **skipped_counts(dough),
            "special_strings": dough.total("special"),
            "markers": {marker: count for marker, count in markers.items() if count},
        },
        "figures": {
            "utilisation": round(total["tokens"] / (len(tokens) * recipe.max_length), 6),
            "trained_share": round(total["trained_tokens"] / total["tokens"], 6),
            "longest_entry": max(part.longest for part in dough.parts),
            "example_tokens": _quantiles(lengths),
            "sequence_tokens": _quantiles(tokens),
            "examples_per_sequence": round(len(lengths) / len(tokens), 3),
        },
    }


def skipped_counts(dough: Dough) -> dict[str, dict[str, int]]:
    """The manifest's counts of what was left out, by reason."""
    skipped = dough.skipped()
    whole = skipped[skipped["pair"] < 0]

    def by_reason(rows: npt.NDArray[np.void], amounts: npt.NDArray[np.integer]) -> dict[str, int]:
        sums = np.bincount(rows["reason"], amounts, minlength=len(spool.REASONS)).astype(int)
        return {reason: int(amount) for reason, amount in zip(spool.REASONS, sums, strict=True) if amount}

    return {
        "skipped_entries": by_reason(whole, np.ones(len(whole), int)),
        "skipped_pairs": by_reason(skipped, skipped["pairs"]),
    }


def _quantiles(values: npt.NDArray[np.int64]) -> dict[str, int]:
    marks = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
    found = np.quantile(values, list(marks.values()), method="lower")
    return {name: int(value) for name, value in zip(marks, found, strict=True)}


def write_skipped(out: Path, shards: list[Shard], dough: Dough) -> list[dict[str, Any]]:
    """Write skipped.jsonl, a line for each entry or pair left out; its row of the manifest's outputs.

    Raises OutputError.
    """
    rows = sum(len(part.skipped) for part in dough.parts)
    if not rows:
        return []
    path = out / SKIPPED_NAME
    try:
        with path.open("wb") as file:
            for part, shard in zip(dough.parts, dough.shard_of, strict=True):
                wrong = dict(part.bad)
                for line, pair, reason, pairs, tokens in part.skipped.tolist():
                    row = {"shard": shards[shard].name, "line": line, "pair": None if pair < 0 else pair}
                    row |= {"reason": spool.REASONS[reason], "pairs": pairs, "tokens": tokens or None}
                    if line in wrong:
                        row["problem"] = wrong[line]
                    file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise unwritable(path, exc, ROW_BYTES * rows) from exc
    return [{"name": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}]
