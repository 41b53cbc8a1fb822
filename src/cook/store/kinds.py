"""The kinds of what lies in a folder with a manifest, in words; and, where a command does not read one, which does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cook.core.errors import OutputError

MIX, EXPORT, CORPUS = "mix", "export", "corpus"  # the `kind` of a manifest; a dataset's has none. A corpus is text

SEQUENCES = (None, MIX)  # kinds that hold sequences

PROMPTS, PARSE = "prompts", "parse"  # of the loop: they hold no sequences

NAMES: Mapping[str | None, str] = {
    None: "a dataset",
    MIX: "a mix",
    EXPORT: "an export, for a trainer",
    CORPUS: "a corpus as text",
    PROMPTS: "what `cook prompts` keeps beside a file of prompts",
    PARSE: "a dataset that `cook parse` wrote",
}
INSTEAD: Mapping[str | None, str] = {
    EXPORT: "pass what it was made from",
    CORPUS: "`cook show` shows its texts, `cook.load` opens them, and `cook verify` checks them",
    PROMPTS: "the file beside it holds the prompts, a line each, and `cook verify` checks both",
    PARSE: "`cook verify` checks it, and its shards are cooked with `cook -s COLLECTION -d NAME`",
}

SKIPPED_NAME = "skipped.jsonl"

SIDE = ".cook"  # what the folder beside a file of prompts adds to its name

# What is compared with an older result to tell whether it is up to date: all that determines the bytes but versions.
DETERMINING = ("format_version", "dataset", "recipe", "tokenizer", "inputs", "unread")
MIX_DETERMINING = ("format_version", "kind", "mix", "tokenizer", "sources")
CORPUS_DETERMINING = ("format_version", "kind", "dataset", "recipe", "inputs", "unread")
EXPORT_DETERMINING = ("format_version", "kind", "export", "tokenizer", "source")
PROMPTS_DETERMINING = ("format_version", "kind", "prompts", "tokenizer", "inputs", "previous")
PARSE_DETERMINING = ("format_version", "kind", "parse", "prompts", "inputs")

# What those who read a manifest count on: fields and types, `int` for counts; of a list, each of its rows.
SHAPE: dict[str, Any] = {
    "dataset": str,
    "recipe": {"max_length": int, "packing": str},
    "tokenizer": {"name": str},
    "inputs": [{"name": str, "bytes": int, "sha256": str}],
    "outputs": [{"name": str, "bytes": int, "sha256": str}],
    "counts": {
        **dict.fromkeys(("entries", "pairs", "examples", "sequences", "tokens", "trained_tokens"), int),
        **dict.fromkeys(("split", "truncated", "special_strings"), int),
        **dict.fromkeys(("skipped_entries", "skipped_pairs", "markers"), dict[str, int]),
    },
    "figures": {"longest_entry": int, "utilisation": float, "trained_share": float},
}
MIX_SHAPE: dict[str, Any] = {
    "mix": {"seed": int, "split": str},
    "tokenizer": SHAPE["tokenizer"],
    "sources": [{"name": str, "sha256": str}],
    "datasets": dict,
    "outputs": SHAPE["outputs"],
    "counts": dict.fromkeys(("sequences", "tokens", "trained_tokens"), int),
}
EXPORT_SHAPE: dict[str, Any] = {
    "export": {"target": str, "split": str, "max_length": int},
    "tokenizer": SHAPE["tokenizer"],
    "source": {"name": str, "sha256": str},
    "outputs": SHAPE["outputs"],
    "counts": dict.fromkeys(("rows", "sequences", "examples", "tokens", "trained_tokens"), int),
}
ROUND_SHAPE: dict[str, Any] = {
    "prompts": {
        **dict.fromkeys(("rounds", "round"), int),
        **dict.fromkeys(("field", "context_template", "pair_template", "delimiter"), str),
    },
    "tokenizer": {"name": str, "fingerprint": str, "eos": str},
    "inputs": SHAPE["inputs"],
}
PROMPTS_SHAPE: dict[str, Any] = ROUND_SHAPE | {
    "outputs": SHAPE["outputs"],
    "requests": {"first": int, "id": str, "rows": int, "bytes": int, "sha256": str},
    "counts": {"in_round": int},
}
PARSE_SHAPE: dict[str, Any] = {
    "parse": {"unique_questions": bool},
    "inputs": SHAPE["inputs"],
    "outputs": SHAPE["outputs"],
    "counts": {**dict.fromkeys(("entries", "pairs", "failed", "missing"), int), "left_out": dict[str, int]},
}
CORPUS_SHAPE: dict[str, Any] = {
    "dataset": str,
    "recipe": {"seed": int, "format": str, "styles": str},
    "inputs": SHAPE["inputs"],
    "outputs": SHAPE["outputs"],
    "counts": {
        **dict.fromkeys(("entries", "pairs", "texts", "context_after", "letters"), int),
        **dict.fromkeys(("skipped_entries", "skipped_pairs", "modes", "kinds", "options", "chains"), dict[str, int]),
    },
}
SHAPES = {
    None: SHAPE,
    MIX: MIX_SHAPE,
    EXPORT: EXPORT_SHAPE,
    CORPUS: CORPUS_SHAPE,
    PROMPTS: PROMPTS_SHAPE,
    PARSE: PARSE_SHAPE,
}
NESTED = (EXPORT, PARSE)  # these may have a folder in their folder, as save_to_disk and a collection do


def refused(folder: Path, kind: str | None, why: str = "which holds no sequences") -> OutputError:
    """The error for a folder of a kind that a command does not read."""
    return OutputError(f"{folder}: is {NAMES[kind]}, {why}: {INSTEAD[kind]}")
