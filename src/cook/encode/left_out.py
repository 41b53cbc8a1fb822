"""The reader of skipped.jsonl, which checks every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from cook.core import records
from cook.core.recipe import Recipe
from cook.core.records import SKIPPED_RECORD_DTYPE, StructuredArray

KEYS = {"shard", "line", "pair", "reason", "pairs", "tokens"}  # of a row; a unit is called a pair there
ENTRY_REASONS = ("no_pairs", "bad_line", "repeat")  # reasons that are of whole entries only
MAX_INT = 2**31 - 1


def read_skipped(path: Path, shards: dict[str, int], recipe: Recipe) -> tuple[StructuredArray, list[tuple[int, str]]]:
    """The rows of skipped.jsonl (SKIPPED_RECORD_DTYPE); and the number (from 1) and fault of each line that is none.

    `shards`: the index of each shard by its name.
    """
    rows: list[tuple[int, ...]] = []
    wrong = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(_parse_row(line, shards, recipe))
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                wrong.append((number, str(exc)))
    return np.array(rows, SKIPPED_RECORD_DTYPE), wrong


def _parse_row(line: bytes, shards: dict[str, int], recipe: Recipe) -> tuple[int, ...]:
    """A line as a row of SKIPPED_RECORD_DTYPE. Raises ValueError, KeyError, TypeError, AttributeError."""
    row = orjson.loads(line)
    reason, pair, pairs, tokens = row["reason"], row["pair"], row["pairs"], row["tokens"]
    wrong = []
    if {*row} - {"problem"} != KEYS or ("problem" in row) > (reason == "bad_line"):
        wrong.append(f"its fields are {', '.join(row)}")
    if row["shard"] not in shards:
        wrong.append(f"its shard is {row['shard']!r}")
    numbers = (row["line"], -1 if pair is None else pair, pairs, tokens or 0)
    if not all(type(number) is int and number <= MAX_INT for number in numbers) or row["line"] < 1 or numbers[1] < -1:
        wrong.append(f"line, pair, pairs, tokens are {row['line']!r}, {pair!r}, {pairs!r}, {tokens!r}")
    blank = reason in ("blank_question", "blank_answer")
    if (pair is None and blank) or (pair is not None and reason in ENTRY_REASONS) or (pair is not None and pairs != 1):
        wrong.append(f"its pair is {pair!r} and its pairs {pairs!r} with reason {reason}")
    if reason == "repeat" and not recipe.dedup:
        wrong.append("it is left out as a repeat, without --dedup")
    if (reason == "overlong") != bool(tokens) or (tokens and tokens <= recipe.max_length):
        wrong.append(f"it has {tokens!r} tokens with reason {reason}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return (shards[row["shard"]], row["line"], numbers[1], records.SKIP_REASONS.index(reason), pairs, numbers[3])
