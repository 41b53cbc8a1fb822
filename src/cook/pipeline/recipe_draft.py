"""A recipe to start from, made from a folder of data: what was found, and what there is to choose."""

from __future__ import annotations

import json
import os
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cook.core import owned
from cook.core.errors import OutputExists, RecipeError, SourceError, refuse_empty
from cook.core.escapes import escape_controls
from cook.core.recipe import DEFAULT_FIELDS, Fields
from cook.pack.splits import infer_splits
from cook.read.lines import ByteRange, Line, LineReader
from cook.read.source import SAMPLE, Source
from cook.read.sources import open_source
from cook.store.replace import check_output_file
from cook.tokenizer.presets import PRESETS

HEAD = """\
# yaml-language-server: $schema={schema}
# A recipe for cook, from what lies in {source}. Look at what it would do, then do it:
#   cook --config {to} --dry-run
#   cook --config {to}

# Found: {found}.
{rows}
"""
SETTINGS = """\
source: {source}
datasets: {datasets}

# Tokenizer of the model to train. Offline: {presets}. Or a folder, a tokenizer.json, or a Hub id OWNER/NAME.
tokenizer: llama3

# Keys of a line. {keys_found}
{fields}

# Output directory; one subdirectory per dataset. Default: cooked/ and the tokenizer's name.
# output: cooked/llama3

# Tokens that a sequence holds at most; what becomes of longer examples: split, truncate, drop, error.
max_length: 4096
overlong: split

# How examples are joined into sequences: best-fit, best-fit-decreasing, in-order (the published recipe), none.
packing: best-fit

# {validation}
# validation: 0.01

# Leave out entries that repeat another's context and pairs.
# dedup: true
"""


class Drafted(NamedTuple):
    """A recipe that was written."""

    path: Path
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    """Datasets of the folder that cannot be cooked as they are."""


class _Found(NamedTuple):
    """A dataset of the folder."""

    name: str
    shards: list[str]
    bytes: int
    splits: Counter[str]
    problem: str
    keys: Fields | None


def draft_recipe(
    folder: str | os.PathLike[str] = ".", to: str | os.PathLike[str] = "recipe.yaml", *, overwrite: bool = False
) -> Drafted:
    """Write a recipe, with comments, for the datasets in a folder; a file that is there is replaced with `overwrite`.

    Raises SourceError for a folder without datasets, OutputExists, OutputError.
    """
    refuse_empty(folder=folder, to=to)
    path, name = Path(to), os.fspath(folder)
    opened = open_source(name, skip=True)
    if check_output_file(path, "a recipe") and not overwrite:
        raise OutputExists(f"{path}: is there already: name another file with -o, or pass --overwrite")
    every = [_look_at(opened, dataset) for dataset in opened.names()]
    good = [each for each in every if not each.problem]
    if not good:
        raise SourceError(*(f"{name}: {each.name}: {each.problem}" for each in every))
    owned.replace_atomically(path, _render(name, path, every, good).encode())
    return Drafted(path, tuple(each.name for each in good), tuple(each.name for each in every if each.problem))


def _look_at(source: Source, dataset: str) -> _Found:
    try:
        shards = source.shards(dataset)
        unread = source.unread(dataset)
    except SourceError as exc:
        return _Found(dataset, [], 0, Counter(), str(exc).replace("\n", "; "), None)
    names = [shard.name for shard in shards]
    problem = f"{unread[0]}" if unread else ""
    keys = _guess_keys(str(shards[0].path)) if shards else None
    return _Found(
        dataset, names, sum(each.size for each in shards), Counter(infer_splits(dataset, names)), problem, keys
    )


def _guess_keys(path: str) -> Fields | None:
    """The keys of the first line of a shard, as far as they can be told; None where they cannot."""
    line = next(iter(LineReader(ByteRange(path, 0, None))), None)
    try:
        entry = orjson.loads(line.text) if isinstance(line, Line) else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict):
        return None
    lists = [key for key, value in entry.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    texts = sorted((key for key, value in entry.items() if isinstance(value, str)), key=lambda key: -len(entry[key]))
    pairs = DEFAULT_FIELDS.pairs if DEFAULT_FIELDS.pairs in entry else next(iter(lists), None)
    context = DEFAULT_FIELDS.context if DEFAULT_FIELDS.context in entry else next(iter(texts), None)
    first = entry[pairs][0] if pairs in lists else {}
    sides = [key for key, value in first.items() if isinstance(value, str)]
    question = next((key for key in sides if key.lower().startswith("q")), None)
    answer = next((key for key in sides if key.lower().startswith("a")), None)
    if not (context and pairs and question and answer):
        return None
    return Fields(context, pairs, question, answer)


def _render(source: str, to: Path, every: list[_Found], good: list[_Found]) -> str:
    """The file's text."""
    sizes = (len(good), sum(len(each.shards) for each in good), sum(each.bytes for each in good))
    found = f"datasets: {sizes[0]:,}, shards: {sizes[1]:,}, bytes: {sizes[2]:,}"
    keys = Counter(each.keys for each in good if each.keys)
    fields, keys_found = DEFAULT_FIELDS, "These are the defaults; no line told of others."
    if keys:
        [(fields, times)] = keys.most_common(1)
        keys_found = f"Those of the first line of {times} of {len(good)}."
    if fields == DEFAULT_FIELDS:
        more = "# fields: {context: context, pairs: QA_list, question: Q, answer: A}"
    else:
        more = f"fields: {_quoted(fields._asdict())}"
    has_validation = any("validation" in each.splits for each in good)
    validation = "Entries for a validation split, by a hash of their context: a share, or at most so many."
    if has_validation:
        validation = "Shards named for validation go to it by their names; this draws more from the others."
    head = HEAD.format(
        schema=files("cook") / "recipe.schema.json",
        source=escape_controls(source),
        to=escape_controls(str(to)),
        found=found,
        rows="\n".join(map(_row, every)),
    )
    return head + SETTINGS.format(
        source=_quoted(source if source == SAMPLE else os.path.expanduser(source)),
        datasets=_quoted([each.name for each in good]),
        presets=", ".join(PRESETS),
        keys_found=keys_found,
        fields=more,
        validation=validation,
    )


def _row(found: _Found) -> str:
    """A dataset as a line of comment."""
    if found.problem:
        return f"#   {escape_controls(found.name)}: left out: {escape_controls(found.problem)}"
    splits = ", ".join(f"{split} {count}" for split, count in found.splits.items())
    return f"#   {escape_controls(found.name)}: {found.bytes:,} bytes; shards by split: {splits}"


def _quoted(value: Any) -> str:
    """A value as JSON, which YAML reads too. Raises RecipeError for a name that no text file holds."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise RecipeError(f"{value!r}: is not UTF-8, and cannot be written into a recipe; rename it") from exc
    return json.dumps(value)
