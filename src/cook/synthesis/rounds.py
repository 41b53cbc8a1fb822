"""Which texts make a round, and what the rounds before give each of them. Follows the published procedure.

N texts in M rounds are N/M groups of M, rounded up: round r has the r-th run of that many texts, and the i-th text of a
round goes on where the i-th of the round before ended. That is the chain i. What a text gets of its chain is all of it
back to the last break, or nothing. There is a break where an entry got no pairs, or was asked for without those before.

Rows of a dataset that was parsed hold this: `chain`, `inherit_from_prev` (it was asked for with what is before it in
its chain, and got pairs) and `followed_by_next` (it was before the next one when that was asked for).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from cook.core.errors import CookWarning, OutputError, RecipeError
from cook.core.recipe import DEFAULT_FIELDS
from cook.shapes.formatter import Pair
from cook.store import kinds, manifest
from cook.store.outputs import read_cooked

Row = dict[str, Any]

# What must be the same in all rounds, and how a message calls it.
SHARED_SETTINGS = {
    "rounds": "--rounds",
    "field": "--field",
    "context_template": "--context-template",
    "pair_template": "--pair-template",
    "delimiter": "--delimiter",
}


def round_range(texts: int, rounds: int, number: int) -> range:
    """The texts of a round, by their places among all.

    >>> [round_range(7, 3, number) for number in (1, 2, 3)]
    [range(0, 3), range(3, 6), range(6, 7)]
    """
    size = -(-texts // rounds)
    return range(min((number - 1) * size, texts), min(number * size, texts))


class UnansweredWarning(CookWarning):
    """A round goes on from one that lacks answers."""


class PreviousRound:
    """The dataset that the answers of the round before were parsed into, its files checked.

    Raises OutputError for what is no such dataset, or is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_cooked(self.folder).manifest
        if self.manifest.get("kind") != kinds.PARSE:
            raise OutputError(f"{self.folder}: is not what `cook parse` wrote")
        if not self.manifest.get("prompts"):
            raise OutputError(f"{self.folder}: was parsed without --prompts, so that it is of no round")
        self.prompt_fields: dict[str, Any] = self.manifest["prompts"]
        if wrong := manifest.schema_errors(self.prompt_fields, kinds.PREVIOUS_PROMPTS_SCHEMA):
            raise OutputError(f"{self.folder}: is no round: wrong or missing in its manifest: {', '.join(wrong[:5])}")
        self.digest = manifest.digest(self.manifest)

    @property
    def round(self) -> int:
        """Which round it was."""
        number: int = self.prompt_fields["prompts"]["round"]
        return number

    def require_same_settings(self, head: Mapping[str, Any]) -> None:
        """Raise RecipeError where this round's settings, tokenizer or raw texts are not those of the round before."""
        wrong = []
        for key, flag in SHARED_SETTINGS.items():
            before, now = self.prompt_fields["prompts"][key], head["prompts"][key]
            if before != now:
                wrong.append(f"{flag} was {before!r}, and is {now!r}")
        for key in ("fingerprint", "bos", "eos"):
            before, now = self.prompt_fields["tokenizer"].get(key), head["tokenizer"][key]
            if before != now:
                wrong.append(f"the tokenizer's {key} was {before!r}, and is {now!r}")
        if [row["sha256"] for row in self.prompt_fields["inputs"]] != [row["sha256"] for row in head["inputs"]]:
            names = ", ".join(row["name"] for row in self.prompt_fields["inputs"][:5])
            wrong.append(f"it was of other raw texts, {names}: all rounds take the same, and each its part of them")
        if self.round >= self.prompt_fields["prompts"]["rounds"]:
            wrong.append(f"it was round {self.round}, the last of {self.prompt_fields['prompts']['rounds']}")
        if wrong:
            raise RecipeError(*(f"previous: {self.folder}: {what}" for what in wrong))
        unanswered = self.manifest["counts"]["failed"] + self.manifest["counts"]["missing"]
        if unanswered:
            message = f"{self.folder}: {unanswered:,} of its prompts have no answer, and their chains break here"
            warnings.warn(
                f"{message}; send left-out/rerun.jsonl first, and parse again", UnansweredWarning, stacklevel=4
            )

    def chains(self) -> Iterator[list[Row]]:
        """The rows of each chain, in order. Raises OutputError."""
        names = [output["name"] for output in self.manifest["outputs"] if output["name"].startswith("shard/")]
        rows = itertools.chain.from_iterable(read_round_rows(self.folder / name) for name in names)
        yield from (list(group) for _, group in itertools.groupby(rows, lambda row: row["chain"]))


def read_round_rows(path: Path) -> Iterator[Row]:
    """The rows that a step of the loop wrote. Raises OutputError for others, and where they cannot be read."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):  # noqa: B007 - for the message
                row = orjson.loads(text)
                if "follows" in row:
                    shaped = type(row["custom_id"]) in (str, type(None)) and type(row["follows"]) is bool
                else:
                    shaped = type(row["inherit_from_prev"]) is bool and all(map(all, pairs_of(row)))
                if not (shaped and type(row[DEFAULT_FIELDS.context]) is str and type(row["chain"]) is int):
                    raise TypeError
                yield row
    except OSError as exc:
        raise OutputError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise OutputError(f"{path}:{number}: is no row of a round") from exc


def history(rows: list[Row]) -> list[Row]:
    """The entries of a chain that go before its next text; none after an entry without pairs."""
    if not rows or not rows[-1][DEFAULT_FIELDS.pairs]:
        return []
    first = len(rows) - 1
    while first > 0 and rows[first]["inherit_from_prev"]:
        first -= 1
    return rows[first:]


def pairs_of(row: Row) -> list[Pair]:
    """The pairs of an entry."""
    return [(pair[DEFAULT_FIELDS.question], pair[DEFAULT_FIELDS.answer]) for pair in row[DEFAULT_FIELDS.pairs]]


def make_entry(context: str, pairs: list[Pair]) -> Row:
    """A row of a shard."""
    rows = [{DEFAULT_FIELDS.question: question, DEFAULT_FIELDS.answer: answer} for question, answer in pairs]
    return {DEFAULT_FIELDS.context: context, DEFAULT_FIELDS.pairs: rows}


def complete_entry(row: Row, pairs: list[Pair]) -> Row:
    """The row of a text that waited for its pairs."""
    inherits = bool(pairs) and row["follows"]
    return make_entry(row[DEFAULT_FIELDS.context], pairs) | {
        "chain": row["chain"],
        "inherit_from_prev": inherits,
        "followed_by_next": False,
    }
