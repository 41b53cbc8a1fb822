"""The kinds of results, a row each: everything that tells one kind from another is read from here.

`cook.json` says its kind. Functions by kind stay with who has them (CHECKS in check.verifier, FINGERPRINTS in
check.fingerprints); a test holds their keys against `reads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from cook.core.errors import OutputError

DATASET, PACKED, MIX, EXPORT = "dataset", "corpus-sequences", "mix", "export"
CORPUS, PROMPTS, PARSE = "corpus", "prompts", "parse"
SKIPPED_NAME = "skipped.jsonl"
SIDECAR_SUFFIX = ".cook"  # what the folder beside a file of prompts adds to its name

# Fields of a manifest and their types, `int` for counts; of a list, of each of its rows.
_FILES_SCHEMA = [{"name": str, "bytes": int, "sha256": str}]
_ENTRIES = dict.fromkeys(("entries", "pairs"), int)
_SKIPPED = dict.fromkeys(("skipped_entries", "skipped_pairs"), dict[str, int])
_SEQUENCES = dict.fromkeys(("sequences", "tokens", "trained_tokens"), int)
PREVIOUS_PROMPTS_SCHEMA: Mapping[str, Any] = {  # what a round needs to know of the prompts before it
    "prompts": {
        **dict.fromkeys(("rounds", "round"), int),
        **dict.fromkeys(("field", "context_template", "pair_template", "delimiter"), str),
    },
    "tokenizer": {"name": str, "fingerprint": str, "eos": str},
    "inputs": _FILES_SCHEMA,
}
_COOKED_SCHEMA: Mapping[str, Any] = {
    "dataset": str,
    "shape": str,
    "mask_rule": str,
    "recipe": {"max_length": int, "packing": str},
    "tokenizer": {"name": str},
    "inputs": _FILES_SCHEMA,
    "outputs": _FILES_SCHEMA,
    "counts": {
        **_ENTRIES,
        **_SEQUENCES,
        **dict.fromkeys(("examples", "split", "truncated", "special_strings"), int),
        **_SKIPPED,
        "markers": dict[str, int],
    },
    "figures": {"longest_entry": int, "utilisation": float, "trained_share": float},
}
_ALL_READERS = ("verify", "diff", "fingerprint", "show", "report", "export", "mix", "load")


class Kind(NamedTuple):
    """A kind of results."""

    name: str
    """As `cook.json` says it."""
    noun: str
    """With its article: "a mix"."""
    content: Literal["sequences", "texts", "lines", "rows"]
    """What `show` draws and `diff` counts."""
    unit: str
    """What a fingerprint has hashes of."""
    verb: str
    """What makes one: "mix into another folder"."""
    identity: tuple[str, ...]
    """Fields that determine the bytes, beside versions: they tell whether a result is up to date."""
    settings: str
    """The field that `fingerprint` and `diff` show as the recipe."""
    schema: Mapping[str, Any]
    """Fields that those who read a manifest count on, and their types."""
    readers: frozenset[str]
    """The commands and functions that read one."""
    use_instead: str
    """What to do where a command does not read it."""
    why_not_comparable: str = ""
    """Why it cannot be compared with shards (`verify --deep`); empty where it can."""
    has_subfolders: bool = False
    """Whether its files may lie in folders of its folder."""
    is_corpus: bool = False
    """Whether it goes into a ROOT of corpora, and not into one of datasets."""

    @property
    def made_of_shards(self) -> bool:
        """Whether ROOT's card lists it and `mix` takes it: it is of one dataset."""
        return "dataset" in self.schema


_DATASET = Kind(
    DATASET,
    "a cooked dataset",
    content="sequences",
    unit="example",
    verb="cook",
    identity=("format_version", "kind", "dataset", "shape", "recipe", "tokenizer", "inputs", "unread"),
    settings="recipe",
    schema=_COOKED_SCHEMA,
    readers=frozenset(_ALL_READERS),
    use_instead="",
)
_KINDS = (
    _DATASET,
    _DATASET._replace(name=PACKED, noun="a corpus of sequences", unit="piece", is_corpus=True),
    Kind(
        MIX,
        "a mix",
        content="sequences",
        unit="example",
        verb="mix",
        identity=("format_version", "kind", "mix", "tokenizer", "sources"),
        settings="mix",
        schema={
            "mix": {"seed": int, "split": str},
            "tokenizer": {"name": str},
            "sources": [{"name": str, "sha256": str, "kind": str, "mask_rule": str}],
            "datasets": dict,
            "outputs": _FILES_SCHEMA,
            "counts": _SEQUENCES,
        },
        readers=frozenset({*_ALL_READERS} - {"mix"}),
        use_instead="mix the datasets that it was made from",
        why_not_comparable="is a mix, whose datasets belong to shards",
    ),
    Kind(
        CORPUS,
        "a corpus as text",
        content="texts",
        unit="text",
        verb="write",
        identity=("format_version", "kind", "dataset", "recipe", "inputs", "unread"),
        settings="recipe",
        schema={
            "dataset": str,
            "recipe": {"seed": int, "format": str, "styles": str},
            "inputs": _FILES_SCHEMA,
            "outputs": _FILES_SCHEMA,
            "counts": {
                **_ENTRIES,
                **dict.fromkeys(("texts", "context_after", "letters"), int),
                **_SKIPPED,
                **dict.fromkeys(("modes", "kinds", "options", "chains"), dict[str, int]),
            },
        },
        readers=frozenset({"verify", "diff", "fingerprint", "show", "load"}),
        use_instead="`cook show` shows its texts, `cook.load` opens them, and `cook verify` checks them",
        is_corpus=True,
    ),
    Kind(
        EXPORT,
        "an export, for a trainer",
        content="rows",
        unit="",
        verb="export",
        identity=("format_version", "kind", "export", "tokenizer", "source"),
        settings="export",
        schema={
            "export": {"target": str, "split": str, "max_length": int},
            "tokenizer": {"name": str},
            "source": {"name": str, "sha256": str},
            "outputs": _FILES_SCHEMA,
            "counts": {**dict.fromkeys(("rows", "examples"), int), **_SEQUENCES},
        },
        readers=frozenset(),
        use_instead="pass what it was made from; repeat the export to see whether it is up to date",
        why_not_comparable="is an export",
        has_subfolders=True,
    ),
    Kind(
        PROMPTS,
        "what `cook prompts` keeps beside a file of prompts",
        content="lines",
        unit="line",
        verb="write",
        identity=("format_version", "kind", "prompts", "tokenizer", "inputs", "previous"),
        settings="prompts",
        schema={
            **PREVIOUS_PROMPTS_SCHEMA,
            "outputs": _FILES_SCHEMA,
            "requests": {"first": int, "id": str, "rows": int, "bytes": int, "sha256": str},
            "counts": {"in_round": int},
        },
        readers=frozenset({"verify", "diff", "fingerprint"}),
        use_instead="the file beside it holds the prompts, a line each, and `cook verify` checks both",
        why_not_comparable="is of prompts, which no shards are compared with",
    ),
    Kind(
        PARSE,
        "a dataset that `cook parse` wrote",
        content="lines",
        unit="line",
        verb="parse",
        identity=("format_version", "kind", "parse", "prompts", "inputs"),
        settings="parse",
        schema={
            "parse": {"unique_questions": bool},
            "inputs": _FILES_SCHEMA,
            "outputs": _FILES_SCHEMA,
            "counts": {**_ENTRIES, **dict.fromkeys(("failed", "missing"), int), "left_out": dict[str, int]},
        },
        readers=frozenset({"verify", "diff", "fingerprint"}),
        use_instead="`cook verify` checks it, and its shards are cooked with `cook -s COLLECTION -d NAME`",
        why_not_comparable="was parsed, and no shards are compared with it",
        has_subfolders=True,
    ),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest that was read."""
    return KINDS[manifest["kind"]]


def kinds_read_by(command: str) -> frozenset[str]:
    """The names of the kinds that a command reads."""
    return frozenset(name for name, kind in KINDS.items() if command in kind.readers)


def wrong_kind_error(folder: Path, kind: Kind, why: str = "which holds no sequences") -> OutputError:
    """The error for a folder of a kind that a command does not read."""
    return OutputError(f"{folder}: is {kind.noun}, {why}: {kind.use_instead}")
