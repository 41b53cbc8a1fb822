"""Two outputs or fingerprints -> the changes between them, as sentences.

A fingerprint is a small JSON object, made to be committed. It holds the recipe, tokenizer, counts and inputs of each
dataset, as in its manifest, and these fields on its examples:

    ordered    sha256 by split of its sequences in order: ids, masks, lengths, shards and lines
    sum        by shard: the number of examples, and the sum of their hashes (mod 2^64, hexadecimal), in any order
    hashes     8 bytes an example, base64, sorted by shard, line and hash: 6 bytes hash its ids, 2 its mask
    lines      the line of each example, as differences (int32), zlib, base64

The unit is a text for a corpus as text (keyed by its first line; the hash covers all columns; no tokenizer), a piece
for a packed corpus, and a line for prompts and parsed datasets.

Two datasets are the same if `ordered` is the same; the other fields tell which examples changed. Versions and the bytes
of Parquet files are not compared: a new version of a library may write the same rows in other bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.check import fingerprints
from cook.check.fingerprints import (
    FINGERPRINT_VERSION,
    HASHED_EXAMPLE_DTYPE,
    ID_HASH_BITS,
    VERSION_KEY,
    Table,
    fingerprint,
)
from cook.core.errors import CookError, OutputError, refuse_empty
from cook.core.recipe import Recipe
from cook.core.records import entry_key, entry_keys
from cook.encode.readback import excerpt
from cook.store import kinds, read
from cook.store.outputs import cooked_folders, read_cooked
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.presets import find_preset

MAX_EXCERPTS = 3  # changed examples of a dataset that are shown as text
MAX_FINGERPRINT_BYTES = 1 << 30
TOKEN_UNITS = ("example", "piece")  # units whose hashes are of ids
UNIT_NAMES = {"text": "texts", "line": "lines"}  # what an output consists of, by unit; default: sequences
UNIT_COUNT_KEYS = {"text": "texts", "line": ""}  # its key in the manifest's counts; "": not counted there


@dataclasses.dataclass(frozen=True)
class Difference:
    """The result of a comparison: for each dataset that differs, sentences on its changes."""

    datasets: dict[str, list[str]]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.datasets


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> Difference:
    """The changes from A to B, each an output (a dataset, a mix, a ROOT) or the file of a fingerprint.

    For two outputs, the first examples that changed are shown as text if the tokenizer is a preset. Raises OutputError.
    """
    refuse_empty(a=a, b=b)
    fingerprints_of_both = [
        _read_fingerprint(Path(each)) if _is_fingerprint_file(each) else fingerprint(each) for each in (a, b)
    ]
    mine, theirs = (each["datasets"] for each in fingerprints_of_both)
    if len(mine) == len(theirs) == 1 and not _is_fingerprint_file(a) and not _is_fingerprint_file(b):
        named, other = (_recorded_dataset(each) for each in (a, b))
        if named != other and named and other:
            return Difference({named: [f"{other} is another dataset; compare two results of the same dataset"]})
        theirs = dict(zip(mine, theirs.values(), strict=True))  # two folders, whatever they are called
    changes = {}
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in theirs:
            changes[name] = ["is gone"]
        elif name not in mine:
            changes[name] = ["is new"]
        else:
            try:
                sentences, places = _compare(mine[name], theirs[name])
            except (KeyError, TypeError, AttributeError, ValueError, IndexError, zlib.error) as exc:
                raise OutputError(f"{a}, {b}: {name}: is not a fingerprint of cook: {exc}") from exc
            if places and not _is_fingerprint_file(a) and not _is_fingerprint_file(b):
                sentences += _excerpts(places, *(_dataset_folder(each, name) for each in (a, b)))
            if sentences:
                changes[name] = sentences
    return Difference(changes)


def _recorded_dataset(path: str | os.PathLike[str]) -> str:
    """The dataset of the one result at a path; empty for a mix, which is of several."""
    return str(read_cooked(cooked_folders(Path(path))[0], hashes=False).manifest.get("dataset", ""))


def _is_fingerprint_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the file of a fingerprint, not a file of prompts."""
    return Path(path).is_file() and not Path(f"{os.fspath(path)}{kinds.SIDECAR_SUFFIX}").is_dir()


def _read_fingerprint(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FINGERPRINT_BYTES:
            raise OutputError(f"{path}: is too large for a fingerprint")
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise OutputError(f"{path}: is not a fingerprint of cook: {exc}") from exc
    if isinstance(found, dict) and found.get(VERSION_KEY) == 1:
        raise OutputError(f"{path}: is of version 1, by an older cook; write it again with `cook fingerprint`")
    if (
        not isinstance(found, dict)
        or found.get(VERSION_KEY) != FINGERPRINT_VERSION
        or not isinstance(found.get("datasets"), dict)
    ):
        raise OutputError(f"{path}: is not a fingerprint that this cook reads; `cook fingerprint` writes one")
    return found


def _decode_examples(found: dict[str, Any], names: dict[str, int]) -> Table:
    """The examples of a fingerprint, sorted. `names` gives the number of each shard."""
    counts = [row["examples"] for row in found["sum"].values()]
    hashes = np.frombuffer(base64.b64decode(found["hashes"]), "<u8")
    lines = np.cumsum(np.frombuffer(zlib.decompress(base64.b64decode(found["lines"])), "<i4"))
    table = np.empty(sum(counts), HASHED_EXAMPLE_DTYPE)
    table["shard"] = np.repeat([names[name] for name in found["sum"]], counts)
    table["line"], table["hash"] = lines, hashes
    return table[np.lexsort((table["hash"], table["line"], table["shard"]))]


Places = list[tuple[str, int]]  # shard and line of entries


def _compare(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[str], Places]:
    """Sentences on what changed in a dataset, and the places of the first examples that changed."""
    if a["of"] != b["of"]:
        return [f"another kind: of {_plural(a['of'])} → of {_plural(b['of'])}"], []
    changes = [*_tokenizer_changes(a, b), *_setting_changes(a, b), *_shard_changes(a, b)]
    if a["ordered"] == b["ordered"]:
        same = f"the {UNIT_NAMES.get(a['of'], 'sequences')} are the same"
        if changes:
            changes.append(same)
        elif a["counts"] != b["counts"]:
            changes.append(f"{same}; the counts differ: {a['counts']} → {b['counts']}")
        return changes, []
    sentences, places = _example_changes(a, b)
    return [*changes, *sentences], places


def _tokenizer_changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    was, now = a.get("tokenizer") or {}, b.get("tokenizer") or {}
    keys = sorted(was.keys() | now.keys(), key=lambda key: (key != "name", key))
    if changed := [f"{key} {was.get(key)} → {now.get(key)}" for key in keys if was.get(key) != now.get(key)]:
        yield f"another tokenizer: {', '.join(changed)}"


def _setting_changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for key in sorted(a["recipe"].keys() | b["recipe"].keys()):
        was, now = a["recipe"].get(key), b["recipe"].get(key)
        if was != now:
            yield f"another {key.replace('_', ' ')}: {json.dumps(was)} → {json.dumps(now)}"


def _shard_changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for name in sorted(a["inputs"].keys() | b["inputs"].keys()):
        was, now = a["inputs"].get(name), b["inputs"].get(name)
        if was != now:
            yield f"a shard {'more' if was is None else 'less' if now is None else 'changed'}: {name}"


def _example_changes(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[str], Places]:
    """Sentences on examples of two fingerprints of one kind whose order differs, and the first that changed."""
    noun = a["of"]
    names = {name: index for index, name in enumerate(sorted(a["sum"].keys() | b["sum"].keys()))}
    mine, theirs = _decode_examples(a, names), _decode_examples(b, names)
    whole, key = UNIT_NAMES.get(noun, "sequences"), UNIT_COUNT_KEYS.get(noun, "sequences")
    amounts = (each["counts"][key] if key else len(rows) for each, rows in ((a, mine), (b, theirs)))
    counts = f"{whole} → ".join(f"{amount:,} " for amount in amounts).rstrip()
    if a["sum"] == b["sum"] and np.array_equal(mine, theirs):
        if a["ordered"].keys() != b["ordered"].keys() or a["counts"].get("splits") != b["counts"].get("splits"):
            return [f"the same {_plural(noun)}, in other splits or sequences ({counts})"], []
        how = "the order or the packing" if whole == "sequences" else "the order"
        return [f"only {how} changed: the same {_plural(noun)} ({counts})"], []
    was, now = ((each.get("tokenizer") or {}).get("fingerprint") for each in (a, b))
    if noun not in TOKEN_UNITS or was == now:
        return _match_examples(mine, theirs, list(names), noun)
    first = f"{len(mine):,} {_plural(noun)} → {len(theirs):,}, whose ids cannot be compared ({counts})"
    # Ids of two tokenizers have nothing in common: lines can be compared, where they are of the same shard.
    same = [at for name, at in names.items() if name in a["inputs"] and a["inputs"][name] == b["inputs"].get(name)]
    mine, theirs = (table[np.isin(table["shard"], same)] for table in (mine, theirs))
    mine["hash"] = theirs["hash"] = 0
    return [first, *_match_examples(mine, theirs, list(names), noun, moves=False)[0]], []


def _plural(noun: str) -> str:
    return f"{noun}s"


def _match_examples(
    mine: Table, theirs: Table, names: list[str], noun: str = "example", moves: bool = True
) -> tuple[list[str], Places]:
    """Sentences on the examples that changed, moved, are gone or new, and the places of the first that changed.

    Equal examples are removed in turns: by place and hash, by hash, by place and ids, by place.
    `moves`: an example of the same hash on another line is the same one.
    """
    mine, theirs = _remove_matched(mine, theirs, ("shard", "line", "hash"))
    before = len(mine)
    if moves:
        mine, theirs = _remove_matched(mine, theirs, ("hash",))
    moved = before - len(mine)
    ids, other_ids = mine.copy(), theirs.copy()
    ids["hash"] &= ID_HASH_BITS
    other_ids["hash"] &= ID_HASH_BITS
    before = len(ids)
    same_place = ids[_unmatched(ids, other_ids, ("shard", "line", "hash"), matched=True)]
    mine, theirs = _remove_matched(ids, other_ids, ("shard", "line", "hash"))
    masks = before - len(mine)
    before = len(mine)
    changed_at = mine[_unmatched(mine, theirs, ("shard", "line"), matched=True)]
    mine, theirs = _remove_matched(mine, theirs, ("shard", "line"))
    changes = []
    for rows, count, what in (
        (changed_at, len(changed_at), "changed"),
        (mine, len(mine), "gone"),
        (theirs, len(theirs), "new"),
        (same_place, masks, "with another mask"),
    ):
        if count:
            first = ", ".join(f"{names[row['shard']]}:{row['line']}" for row in rows[:5])
            changes.append(
                f"{count:,} {noun if count == 1 else _plural(noun)} {what}: {first}{', …' if count > 5 else ''}"
            )
    if moved:
        changes.append(f"{moved:,} {noun if moved == 1 else _plural(noun)} the same, from another line")
    return changes, [(names[row["shard"]], int(row["line"])) for row in changed_at[:MAX_EXCERPTS]]


def _unmatched(mine: Table, theirs: Table, fields: tuple[str, ...], matched: bool = False) -> npt.NDArray[np.int64]:
    """The indices of rows of `mine` without a partner in `theirs` with equal fields; if `matched`, those with one."""
    keys = [_with_occurrence(table, fields) for table in (mine, theirs)]
    numbers = _row_ids(*keys)
    found: npt.NDArray[np.bool_] = np.isin(numbers[: len(mine)], numbers[len(mine) :])
    return np.flatnonzero(found if matched else ~found)


def _remove_matched(mine: Table, theirs: Table, fields: tuple[str, ...]) -> tuple[Table, Table]:
    return mine[_unmatched(mine, theirs, fields)], theirs[_unmatched(theirs, mine, fields)]


def _with_occurrence(table: Table, fields: tuple[str, ...]) -> Table:
    """The fields of each row, and the number of rows before it that have the same fields."""
    keys = np.empty(len(table), [*((field, HASHED_EXAMPLE_DTYPE[field]) for field in fields), ("times", "i8")])
    for field in fields:
        keys[field] = table[field]
    keys["times"] = 0
    if len(table):
        group = np.unique(keys, return_inverse=True)[1].ravel()
        order = np.argsort(group, kind="stable")
        begins = np.concatenate([[True], np.diff(group[order]) != 0])
        place = np.arange(len(order))
        keys["times"][order] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return keys


def _row_ids(one: Table, other: Table) -> npt.NDArray[np.int64]:
    """A number for each row of both tables; equal rows have equal numbers."""
    number: npt.NDArray[np.int64] = np.unique(np.concatenate([one, other]), return_inverse=True)[1].ravel()
    return number


def _dataset_folder(path: str | os.PathLike[str], name: str) -> Path:
    folders = cooked_folders(Path(path))
    return folders[0] if len(folders) == 1 else next(each for each in folders if each.name == name)


def _excerpts(places: Places, a: Path, b: Path) -> list[str]:
    """Lines that show the changed examples, around the first difference; none if they cannot be decoded."""
    try:
        mine, theirs = (dict(_entry_texts(folder, places)) for folder in (a, b))
    except CookError:
        return []
    lines = []
    for place in places:
        was, now = (texts.get(place, "").encode() for texts in (mine, theirs))
        lines.append(f"  {place[0]}:{place[1]}: {excerpt(was, now)} → {excerpt(now, was)}")
    return lines


def _entry_texts(folder: Path, places: Places) -> Iterator[tuple[tuple[str, int], str]]:
    """The text of all examples of the entries at some places. Raises CookError."""
    from cook.tokenizer.loading import load_engine, resolve_tokenizer

    cooked = read_cooked(folder, hashes=False)
    if cooked.kind.content != "sequences":
        yield from fingerprints.texts_at(cooked, places)
        return
    if "inputs" not in cooked.manifest:
        return
    recorded = cooked.manifest["tokenizer"]
    preset = find_preset(recorded["name"])
    if preset is None or preset.fingerprint != recorded["fingerprint"]:
        return
    tokenizer = resolve_tokenizer(Recipe(datasets=(cooked.name,), tokenizer=preset.name))
    decoder = Decoder(tokenizer, load_engine(tokenizer))
    shards = [row["name"] for row in cooked.manifest["inputs"]]
    wanted: dict[tuple[str, int], list[str]] = {place: [] for place in places}
    keys = [entry_key(shards.index(name), line) for name, line in places if name in shards]
    for output in cooked.files():
        for columns in read.read_columns(folder / output["name"]):
            ids = columns["input_ids"][0]
            ends = np.cumsum(columns["seq_lengths"][0], dtype=np.int64)
            shard, line = columns["source_shard"][0], columns["source_line"][0]
            for at in np.flatnonzero(np.isin(entry_keys(shard, line), keys)).tolist():
                text = decoder.decode(ids[ends[at] - columns["seq_lengths"][0][at] : ends[at]])[0].tobytes()
                wanted[shards[shard[at]], int(line[at])].append(text.decode(errors="replace"))
    yield from ((place, "".join(sorted(texts))) for place, texts in wanted.items())
