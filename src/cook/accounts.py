"""What was read, made and left out of a data set: whether it may be written, its counts and figures, and the record."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from cook import records
from cook import tokenize as stage
from cook.errors import InputError, TooLong, unwritable
from cook.kinds import SKIPPED_NAME
from cook.loop.files import sha256_of
from cook.recipe import Recipe
from cook.records import LEFT, REASON_WORDS, Rows, Sums, counted, left_out
from cook.sources import Shard

ROW_BYTES = 100  # a line of it, about
KEYS = {"shard", "line", "pair", "reason", "pairs", "tokens"}  # of a row of it; a unit is called a pair there
ENTIRE = ("no_pairs", "bad_line", "repeat")  # reasons for leaving out whole entries alone
MAX_INT = 2**31 - 1


@dataclasses.dataclass
class Dough:
    """A tokenized data set: its parts, with lines counted from the start of their shards."""

    jobs: list[stage.Job]
    parts: list[stage.Tokenized]
    shard_of: list[int]  # for each part

    def total(self, field: str) -> int:
        """A count, over all parts."""
        return sum(getattr(part, field) for part in self.parts)

    def skipped(self) -> tuple[Sums, Sums]:
        """How many entries, and how many pairs, were left out for each of REASONS."""
        of_parts = [counted(part.skipped) for part in self.parts]
        entries, pairs = (np.sum(sums, axis=0) for sums in zip(*of_parts, strict=True))
        return entries, pairs

    def skip_repeats(self, placed: Rows, units: npt.NDArray[np.int32], repeated: npt.NDArray[np.bool_]) -> None:
        """Note the entries of these examples of the table of all as left out because they repeat others."""
        begin = 0
        for part in self.parts:
            rows = slice(begin, begin + part.examples)
            begin += part.examples
            lines, group = np.unique(placed["line"][rows][repeated[rows]], return_inverse=True)
            if len(lines):
                noted = np.zeros(len(lines), records.SKIPPED)
                noted["line"], noted["unit"], noted["reason"] = lines, -1, records.REPEAT
                noted["units"] = np.bincount(group, units[rows][repeated[rows]])
                skipped = np.concatenate([part.skipped, noted])
                part.skipped = skipped[np.argsort(skipped["line"], kind="stable")]


class Tally(NamedTuple):
    """How often each of some numbers is there: as small for many of them as for few."""

    values: npt.NDArray[np.int64]
    """Ascending."""
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.integer]) -> Tally:
        """Of these numbers."""
        found, counts = np.unique(values, return_counts=True)
        return cls(found.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def joined(cls, tallies: Sequence[Tally]) -> Tally:
        """Of the numbers of all of these."""
        values, where = np.unique(np.concatenate([each.values for each in tallies]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([each.counts for each in tallies]))
        return cls(values, counts)

    def quantiles(self) -> dict[str, int]:
        """The number at each of some marks: of the two that a mark lies between, the lower."""
        marks = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
        ends = np.cumsum(self.counts)
        places = np.floor((ends[-1] - 1) * np.array(list(marks.values())))
        found = self.values[np.searchsorted(ends, places, side="right")]
        return {name: int(value) for name, value in zip(marks, found, strict=True)}


class Made(NamedTuple):
    """What became of a split, or of a window of it."""

    trained: int
    """Tokens that bear loss."""
    lengths: Tally
    """Tokens of examples."""
    tokens: Tally
    """Tokens of sequences."""

    @classmethod
    def joined(cls, made: Sequence[Made]) -> Made:
        """What became of all of these."""
        lengths, tokens = (Tally.joined([getattr(each, field) for each in made]) for field in ("lengths", "tokens"))
        return cls(sum(each.trained for each in made), lengths, tokens)

    def counts(self) -> dict[str, int]:
        """As the manifest has them."""
        return {
            "examples": int(self.lengths.counts.sum()),
            "sequences": int(self.tokens.counts.sum()),
            "tokens": int((self.tokens.values * self.tokens.counts).sum()),
            "trained_tokens": self.trained,
        }


def refuse(recipe: Recipe, name: str, shards: list[Shard], dough: Dough) -> None:
    """Raise TooLong or InputError where the data set must not be written."""
    lost = int(dough.skipped()[1][records.OVERLONG])
    kept = dough.total("kept_units")
    worst = max(range(len(dough.parts)), key=lambda index: dough.parts[index].longest)
    longest, line = dough.parts[worst].longest, dough.parts[worst].longest_line
    where = f" ({shards[dough.shard_of[worst]].name}:{line})"
    if recipe.overlong == "error" and longest > recipe.max_length:
        raise TooLong(
            f"{name}: an example is longer than {recipe.max_length:,} tokens, and --overlong is error. The longest has "
            f"{longest:,} tokens{where}. Raise --max-length, or pass --overlong split, truncate or drop."
        )
    refuse_share(recipe, name, lost, kept, longest, where)
    if not dough.total("examples"):
        raise none_left(name, "example", dough)


def none_left(name: str, what: str, dough: Dough) -> InputError:
    """The error where a data set has nothing to write, with what was left out and why."""
    kinds = {"skipped_entries": "entries", "skipped_pairs": "pairs"}
    told = [
        f"{'lines' if reason == 'bad_line' else kinds[key]} {REASON_WORDS[reason]} ({count:,})"
        for key, reasons in left_out(*dough.skipped()).items()
        for reason, count in reasons.items()
    ]
    why = f"; left out: {', '.join(told)}" if told else ""
    return InputError(f"{name}: no {what} is left of {dough.total('entries'):,} entries: nothing to write{why}")


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
        },
        "figures": {"longest_entry": max(part.longest for part in dough.parts), **shape(joined, recipe.max_length)},
    }


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


def write_skipped(out: Path, shards: list[Shard], dough: Dough) -> list[dict[str, Any]]:
    """Write skipped.jsonl, a line for each entry or pair left out; its row of the manifest's outputs.

    Raises OutputError.
    """
    rows = sum(len(part.skipped) for part in dough.parts)
    if not rows:
        return []
    path = out / SKIPPED_NAME
    try:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for part, shard in zip(dough.parts, dough.shard_of, strict=True):
                file.writelines(_skipped_lines(part, shards[shard].name))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise unwritable(path, exc, ROW_BYTES * rows) from exc
    return [{"name": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}]


def _skipped_lines(part: stage.Tokenized, shard: str) -> Iterator[str]:
    """A part's lines of skipped.jsonl. There can be many, and what writes any JSON takes four times as long."""
    name = orjson.dumps(shard).decode()
    told = {line: f',"problem":{orjson.dumps(what).decode()}' for line, what in part.bad}
    return (
        f'{{"shard":{name},"line":{line},"pair":{"null" if pair < 0 else pair},"reason":"{records.REASONS[reason]}",'
        f'"pairs":{pairs},"tokens":{tokens or "null"}{told.get(line, "")}}}\n'
        for line, pair, reason, pairs, tokens in part.skipped.tolist()
    )


def read_skipped(path: Path, shards: dict[str, int], recipe: Recipe) -> tuple[Rows, list[tuple[int, str]]]:
    """The rows of skipped.jsonl as LEFT; and of each line that is none, its number, from 1, and what is wrong."""
    rows: list[tuple[int, ...]] = []
    wrong = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(_left(line, shards, recipe))
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                wrong.append((number, str(exc)))
    return np.array(rows, LEFT), wrong


def _left(line: bytes, shards: dict[str, int], recipe: Recipe) -> tuple[int, ...]:
    """A row of skipped.jsonl as LEFT has it. Raises ValueError, KeyError, TypeError, AttributeError."""
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
    if (pair is None and blank) or (pair is not None and reason in ENTIRE) or (pair is not None and pairs != 1):
        wrong.append(f"its pair is {pair!r} and its pairs {pairs!r} with reason {reason}")
    if reason == "repeat" and not recipe.dedup:
        wrong.append("it is left out as a repeat, without --dedup")
    if (reason == "overlong") != bool(tokens) or (tokens and tokens <= recipe.max_length):
        wrong.append(f"it has {tokens!r} tokens with reason {reason}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return (shards[row["shard"]], row["line"], numbers[1], records.REASONS.index(reason), pairs, numbers[3])
