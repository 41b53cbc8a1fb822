"""Two outputs, or an output and a fingerprint that was committed: what changed, in words.

A fingerprint is a small JSON object. It has each dataset's recipe, tokenizer, counts and inputs as the manifest has
them, and of its examples

    ordered    sha256 over the sequences of each split, in order: ids, masks, lengths, and where each came from
    sum        by shard: how many examples, and the sum of their hashes (mod 2^64, in hexadecimal), free of order
    hashes     8 bytes an example, base64, in the order of shards, lines and hashes: 6 of its ids, 2 of its mask
    lines      the line of each, as differences from the one before (int32), zlib, base64

A corpus as text has these of its texts, by the lines that they begin on (a hash of all columns, and no tokenizer); what
the loop wrote, prompts and parsed datasets, has them of the lines of its files. A packed corpus has them of pieces.

so that a comparison can say which examples changed; `ordered` alone decides whether all is the same. Versions and the
bytes of Parquet files are not compared: a library's new version may write the same rows in other bytes.
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
from cook.check.fingerprints import EXAMPLE, IDS, KEY, VERSION, Table, _name, fingerprint
from cook.core.errors import CookError, OutputError, refuse_empty
from cook.core.recipe import Recipe
from cook.store import kinds, read
from cook.store.outputs import cooked_folders, read_cooked
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.presets import find_preset

MOST_SHOWN = 3  # changed examples of a dataset that are shown as text
SHOWN = 70  # letters of each
MAX_BYTES = 1 << 30
OF_TOKENS = ("example", "piece")  # whose hashes are of ids
WHOLES = {"text": "texts", "line": "lines"}  # what changes as a whole; sequences otherwise
COUNTS = {"text": "texts", "line": ""}  # where the manifest counts that; "": nowhere


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a comparison came to: of each dataset that differs, sentences."""

    datasets: dict[str, list[str]]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.datasets


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> Difference:
    """What changed from A to B, each an output (a dataset, a mix, a ROOT) or a fingerprint's file. Raises OutputError.

    Of two outputs the first examples that changed are shown as text, where the tokenizer is a preset.
    """
    refuse_empty(a=a, b=b)
    prints = [_read(Path(each)) if _is_print(each) else fingerprint(each) for each in (a, b)]
    mine, theirs = (each["datasets"] for each in prints)
    if len(mine) == len(theirs) == 1 and not _is_print(a) and not _is_print(b):
        theirs = dict(zip(mine, theirs.values(), strict=True))  # two folders, whatever they are called
    changes = {}
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in theirs:
            changes[name] = ["is gone"]
        elif name not in mine:
            changes[name] = ["is new"]
        else:
            try:
                told, places = _compare(mine[name], theirs[name])
            except (KeyError, TypeError, AttributeError, ValueError, IndexError, zlib.error) as exc:
                raise OutputError(f"{a}, {b}: {name}: is not a fingerprint of cook: {exc}") from exc
            if places and not _is_print(a) and not _is_print(b):
                told += _shown(places, *(_folder(each, name) for each in (a, b)))
            if told:
                changes[name] = told
    return Difference(changes)


def _is_print(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a fingerprint's, and no file of prompts."""
    return Path(path).is_file() and not Path(f"{os.fspath(path)}{kinds.SIDE}").is_dir()


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OutputError(f"{path}: is too large for a fingerprint")
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise OutputError(f"{path}: is not a fingerprint of cook: {exc}") from exc
    if isinstance(found, dict) and found.get(KEY) == 1:
        raise OutputError(f"{path}: is of version 1, by an older cook; write it again with `cook fingerprint`")
    if not isinstance(found, dict) or found.get(KEY) != VERSION or not isinstance(found.get("datasets"), dict):
        raise OutputError(f"{path}: is not a fingerprint that this cook reads; `cook fingerprint` writes one")
    return found


def _examples(found: dict[str, Any], names: dict[str, int]) -> Table:
    """The examples of a fingerprint, its shards numbered by `names`."""
    counts = [row["examples"] for row in found["sum"].values()]
    hashes = np.frombuffer(base64.b64decode(found["hashes"]), "<u8")
    lines = np.cumsum(np.frombuffer(zlib.decompress(base64.b64decode(found["lines"])), "<i4"))
    table = np.empty(sum(counts), EXAMPLE)
    table["shard"] = np.repeat([names[name] for name in found["sum"]], counts)
    table["line"], table["hash"] = lines, hashes
    return table[np.lexsort((table["hash"], table["line"], table["shard"]))]


Places = list[tuple[str, int]]  # shards and lines


def _compare(a: dict[str, Any], b: dict[str, Any]) -> tuple[list[str], Places]:
    """What changed in a dataset, in sentences; and where the first examples are that changed."""
    told = []
    noun = a["of"]
    if noun != b["of"]:
        return [f"another kind: of {_several(noun)} → of {_several(b['of'])}"], []
    whole = WHOLES.get(noun, "sequences")
    was, now = a.get("tokenizer") or {}, b.get("tokenizer") or {}
    if was != now:
        keys = sorted(was.keys() | now.keys(), key=lambda key: (key != "name", key))
        what = ", ".join(f"{key} {was.get(key)} → {now.get(key)}" for key in keys if was.get(key) != now.get(key))
        told.append(f"another tokenizer: {what}")
    settings = a["recipe"].keys() | b["recipe"].keys()
    for key in sorted(settings):
        mine, theirs = a["recipe"].get(key), b["recipe"].get(key)
        if mine != theirs:
            told.append(f"another {key.replace('_', ' ')}: {json.dumps(mine)} → {json.dumps(theirs)}")
    for name in sorted(a["inputs"].keys() | b["inputs"].keys()):
        mine, theirs = a["inputs"].get(name), b["inputs"].get(name)
        if mine != theirs:
            what = "more" if mine is None else "less" if theirs is None else "changed"
            told.append(f"a shard {what}: {name}")
    if a["ordered"] == b["ordered"]:
        if told:
            told.append(f"the {whole} are the same")
        elif a["counts"] != b["counts"]:
            told.append(f"the {whole} are the same; the counts differ: {a['counts']} → {b['counts']}")
        return told, []
    names = {name: index for index, name in enumerate(sorted(a["sum"].keys() | b["sum"].keys()))}
    mine, theirs = _examples(a, names), _examples(b, names)
    key = COUNTS.get(noun, "sequences")
    amounts = (each["counts"][key] if key else len(rows) for each, rows in ((a, mine), (b, theirs)))
    counts = f"{whole} → ".join(f"{amount:,} " for amount in amounts).rstrip()
    if a["sum"] == b["sum"] and np.array_equal(mine, theirs):
        if a["ordered"].keys() != b["ordered"].keys() or a["counts"].get("splits") != b["counts"].get("splits"):
            return [*told, f"the same {_several(noun)}, in other splits or sequences ({counts})"], []
        how = "the order or the packing" if whole == "sequences" else "the order"
        return [*told, f"only {how} changed: the same {_several(noun)} ({counts})"], []
    other_ids = noun in OF_TOKENS and was.get("fingerprint") != now.get("fingerprint")
    if other_ids:
        mine["hash"] = theirs["hash"] = 0  # ids of two tokenizers have nothing in common
    sentences, places = _matched(mine, theirs, list(names), noun)
    if other_ids:
        sentences = [
            f"{len(mine):,} {_several(noun)} → {len(theirs):,}, whose ids cannot be compared ({counts})",
            *sentences,
        ]
        places = []
    return [*told, *sentences], places


def _several(noun: str) -> str:
    return f"{noun}s"


def _matched(mine: Table, theirs: Table, names: list[str], noun: str = "example") -> tuple[list[str], Places]:
    """Which examples changed, moved, are gone or new: what is alike is taken away in turns."""
    mine, theirs = _rest(mine, theirs, ("shard", "line", "hash"))
    before = len(mine)
    mine, theirs = _rest(mine, theirs, ("hash",))
    moved = before - len(mine)
    ids, other_ids = mine.copy(), theirs.copy()
    ids["hash"] &= IDS
    other_ids["hash"] &= IDS
    before = len(ids)
    same_place = ids[_unmatched(ids, other_ids, ("shard", "line", "hash"), matched=True)]
    mine, theirs = _rest(ids, other_ids, ("shard", "line", "hash"))
    masks = before - len(mine)
    before = len(mine)
    changed_at = mine[_unmatched(mine, theirs, ("shard", "line"), matched=True)]
    mine, theirs = _rest(mine, theirs, ("shard", "line"))
    told = []
    for rows, count, what in (
        (changed_at, len(changed_at), "changed"),
        (mine, len(mine), "gone"),
        (theirs, len(theirs), "new"),
        (same_place, masks, "with another mask"),
    ):
        if count:
            first = ", ".join(f"{names[row['shard']]}:{row['line']}" for row in rows[:5])
            told.append(
                f"{count:,} {noun if count == 1 else _several(noun)} {what}: {first}{', …' if count > 5 else ''}"
            )
    if moved:
        told.append(f"{moved:,} {noun if moved == 1 else _several(noun)} the same, from another line")
    return told, [(names[row["shard"]], int(row["line"])) for row in changed_at[:MOST_SHOWN]]


def _unmatched(mine: Table, theirs: Table, fields: tuple[str, ...], matched: bool = False) -> npt.NDArray[np.int64]:
    """Which of mine are in theirs by these fields, or are not; each of theirs matches one of mine."""
    keys = [_counted(table, fields) for table in (mine, theirs)]
    numbers = _numbered(*keys)
    found: npt.NDArray[np.bool_] = np.isin(numbers[: len(mine)], numbers[len(mine) :])
    return np.flatnonzero(found if matched else ~found)


def _rest(mine: Table, theirs: Table, fields: tuple[str, ...]) -> tuple[Table, Table]:
    return mine[_unmatched(mine, theirs, fields)], theirs[_unmatched(theirs, mine, fields)]


def _counted(table: Table, fields: tuple[str, ...]) -> Table:
    """The fields of each row, and how many rows of the same fields stand before it."""
    keys = np.empty(len(table), [*((field, EXAMPLE[field]) for field in fields), ("times", "i8")])
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


def _numbered(one: Table, other: Table) -> npt.NDArray[np.int64]:
    """A number for each row, the same for equal rows."""
    number: npt.NDArray[np.int64] = np.unique(np.concatenate([one, other]), return_inverse=True)[1].ravel()
    return number


def _folder(path: str | os.PathLike[str], name: str) -> Path:
    folders = cooked_folders(Path(path))
    return folders[0] if len(folders) == 1 else next(each for each in folders if each.name == name)


def _shown(places: Places, a: Path, b: Path) -> list[str]:
    """The text of examples that changed, around the first letter that did; nothing where it cannot be decoded."""
    try:
        mine, theirs = (dict(_texts(folder, places)) for folder in (a, b))
    except CookError:
        return []
    told = []
    for place in places:
        one, other = mine.get(place, ""), theirs.get(place, "")
        begin = max(0, len(os.path.commonprefix([one, other])) - SHOWN // 3)  # noqa: RUF071 - by character is meant
        was, now = (json.dumps(text[begin : begin + SHOWN], ensure_ascii=False) for text in (one, other))
        told.append(f"  {place[0]}:{place[1]}: {'…' if begin else ''}{was} → {'…' if begin else ''}{now}")
    return told


def _texts(folder: Path, places: Places) -> Iterator[tuple[tuple[str, int], str]]:
    """The text of all examples of entries. Raises CookError."""
    from cook.tokenizer.loading import load_engine, resolve

    cooked = read_cooked(folder, hashes=False)
    if cooked.kind.holds != "sequences":
        yield from fingerprints.texts_at(cooked, places)
        return
    if "inputs" not in cooked.manifest:
        return
    told = cooked.manifest["tokenizer"]
    preset = find_preset(told["name"])
    if preset is None or preset.fingerprint != told["fingerprint"]:
        return
    tokenizer = resolve(Recipe(datasets=(_name(cooked),), tokenizer=preset.name))
    decoder = Decoder(tokenizer, load_engine(tokenizer))
    shards = [row["name"] for row in cooked.manifest["inputs"]]
    wanted: dict[tuple[str, int], list[str]] = {place: [] for place in places}
    keys = [shards.index(name) << 32 | line for name, line in places if name in shards]
    for output in cooked.manifest["outputs"]:
        if "split" not in output:
            continue
        for columns in read.read_columns(folder / output["name"]):
            ids = columns["input_ids"][0]
            ends = np.cumsum(columns["seq_lengths"][0], dtype=np.int64)
            shard, line = columns["source_shard"][0], columns["source_line"][0]
            for at in np.flatnonzero(np.isin(shard.astype(np.int64) << 32 | line, keys)).tolist():
                text = decoder.decode(ids[ends[at] - columns["seq_lengths"][0][at] : ends[at]])[0].tobytes()
                wanted[shards[shard[at]], int(line[at])].append(text.decode(errors="replace"))
    yield from ((place, "".join(sorted(texts))) for place, texts in wanted.items())
