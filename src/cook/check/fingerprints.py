"""Outputs -> fingerprints, by examples, texts or lines; `comparison` describes their fields."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.check.hashing import Hashes
from cook.core.arrays import positions, splitmix64
from cook.core.errors import refuse_empty
from cook.core.files import hash64
from cook.store import kinds, read
from cook.store.kinds import wrong_kind_error
from cook.store.outputs import Cooked, cooked_folders, read_cooked

BATCH_ROWS = 1 << 16  # rows
Place = tuple[str, int]  # shard and first line of a text; file and number of a line
FINGERPRINT_VERSION = 2
VERSION_KEY = "cook_fingerprint"
# One row an example: index of its shard, line, hash.
HASHED_EXAMPLE_DTYPE = np.dtype([("shard", "i4"), ("line", "i4"), ("hash", "u8")])
ID_HASH_BITS = np.uint64(0xFFFF_FFFF_FFFF_0000)
Table = npt.NDArray[np.void]


def read_units(cooked: Cooked) -> Iterator[tuple[Place, bytes]]:
    """Each text or line as bytes, with its place. Raises OutputError."""
    if cooked.kind.content == "texts":
        from cook.corpora import text_files

        shards = [row["name"] for row in cooked.manifest["inputs"]]
        for output in cooked.files():
            for row in text_files.read_text_rows(cooked.folder / output["name"]):
                place = shards[row["source_shard"]], row["source_line"]
                yield (
                    place,
                    orjson.dumps([row[name] for name in text_files.TEXT_COLUMNS if not name.startswith("source_")]),
                )
        return
    paths = [(output["name"], cooked.folder / output["name"]) for output in cooked.manifest["outputs"]]
    if cooked.kind.name == kinds.PROMPTS:
        paths.append(("the prompts", cooked.folder.with_name(cooked.folder.name.removesuffix(kinds.SIDECAR_SUFFIX))))
    for name, path in paths:
        with path.open("rb") as file:
            yield from (((name, number), line) for number, line in enumerate(file, 1))


def fingerprint_lines(cooked: Cooked) -> dict[str, Any]:
    """The fingerprint of an output of texts or lines. Raises OutputError."""
    fields = cooked.manifest
    number: dict[str, int] = {}
    tables, table = [np.empty(0, HASHED_EXAMPLE_DTYPE)], list[tuple[int, int, int]]()
    ordered = hashlib.sha256()
    for (name, line), content in read_units(cooked):
        table.append((number.setdefault(name, len(number)), line, hash64(content) & 0xFFFF_FFFF_FFFF_0000))
        ordered.update(f"{name}\0{line}\0{len(content)}\0".encode() + content)
        if len(table) >= BATCH_ROWS:
            tables.append(np.array(table, HASHED_EXAMPLE_DTYPE))
            table = []
    tables.append(np.array(table, HASHED_EXAMPLE_DTYPE))
    return {
        "of": cooked.kind.unit,
        "recipe": fields[cooked.kind.settings],
        "tokenizer": {key: value for key, value in fields.get("tokenizer", {}).items() if key != "special_ids"} or None,
        "counts": fields["counts"],
        "inputs": {row["name"]: row["sha256"] for row in fields["inputs"]},
        "ordered": {"train": ordered.hexdigest()},
        **encode_examples(np.concatenate(tables), number),
    }


def texts_at(cooked: Cooked, places: list[Place]) -> Iterator[tuple[Place, str]]:
    """The texts or lines at these places. Raises OutputError."""
    wanted = {*places}
    for place, content in read_units(cooked):
        if place in wanted:
            text = content.decode(errors="replace")
            yield place, orjson.loads(content)[0] if cooked.kind.content == "texts" else text.rstrip("\n")


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fingerprint of an output, or of all outputs in a ROOT, as JSON values. Raises OutputError."""
    refuse_empty(path=path)
    found = {}
    for folder in cooked_folders(Path(path)):
        cooked = read_cooked(folder)
        if cooked.kind.name not in FINGERPRINT_FUNCTIONS:
            raise wrong_kind_error(folder, cooked.kind, "whose sequences are those that it was made from")
        found[cooked.name] = FINGERPRINT_FUNCTIONS[cooked.kind.name](cooked)
    return {VERSION_KEY: FINGERPRINT_VERSION, "datasets": found}


def fingerprint_sequences(cooked: Cooked) -> dict[str, Any]:
    """The fingerprint of an output of sequences. Raises OutputError."""
    fields = cooked.manifest
    tables, ordered = [np.empty(0, HASHED_EXAMPLE_DTYPE)], dict[str, Any]()
    shards: list[str] = [] if cooked.mixed else [row["name"] for row in fields["inputs"]]
    number = {name: index for index, name in enumerate(shards)}
    for output in cooked.files():
        digest = ordered.setdefault(output["split"], hashlib.sha256())
        path = cooked.folder / output["name"]
        names = read.read_datasets(path) if cooked.mixed else iter(())
        for columns in read.read_columns(path):
            for values, offsets in columns.values():
                digest.update(np.diff(offsets).astype("<i4").tobytes() + values.astype("<i4").tobytes())
            shard, by_example = columns["source_shard"]
            table = np.empty(len(shard), HASHED_EXAMPLE_DTYPE)
            if cooked.mixed:  # the number of a shard is that in its own dataset's inputs
                rows = next(names)
                digest.update(json.dumps(rows).encode())
                row_datasets = np.repeat(np.array(rows, object), np.diff(by_example)) if rows else np.empty(0, object)
                labels = [
                    f"{name}, shard {index}" for name, index in zip(row_datasets.tolist(), shard.tolist(), strict=True)
                ]
                table["shard"] = [number.setdefault(label, len(number)) for label in labels]
            else:
                table["shard"] = shard
            table["line"] = columns["source_line"][0]
            table["hash"] = _example_hashes(columns)
            tables.append(table)
    sources = fields["sources"] if cooked.mixed else fields["inputs"]
    return {
        "of": cooked.kind.unit,
        "recipe": fields[cooked.kind.settings],
        "tokenizer": {key: value for key, value in fields["tokenizer"].items() if key != "special_ids"},
        "counts": fields["counts"],
        "inputs": {row["name"]: row["sha256"] for row in sources},
        "ordered": {split: digest.hexdigest() for split, digest in ordered.items()},
        **encode_examples(np.concatenate(tables), number),
    }


def encode_examples(examples: Table, number: dict[str, int]) -> dict[str, Any]:
    """The fields sum, hashes and lines. `number` gives the number of each shard in `examples`."""
    examples = examples[np.lexsort((examples["hash"], examples["line"], examples["shard"]))]
    by_shard = {}
    for name, index in number.items():
        mine = examples["hash"][examples["shard"] == index]
        by_shard[name] = {"examples": len(mine), "sum": f"{int(mine.sum(dtype=np.uint64)):016x}"}
    return {
        "sum": by_shard,
        "hashes": base64.b64encode(examples["hash"].astype("<u8").tobytes()).decode(),
        "lines": base64.b64encode(zlib.compress(np.diff(examples["line"], prepend=0).astype("<i4").tobytes())).decode(),
    }


def _example_hashes(columns: dict[str, read.ListColumn]) -> Hashes:
    """64 bits for each example: 48 from its ids, 16 from its mask and labels. Each sums a hash of token and place."""
    ids, _ = columns["input_ids"]
    lengths = columns["seq_lengths"][0].astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    place = positions(lengths).astype(np.uint64)
    labels = columns["labels"][0].astype(np.int64).view(np.uint64)
    masks = columns["loss_mask"][0].astype(np.uint64)
    of_ids = _sum_hashes(splitmix64(place << np.uint64(32) | ids.view(np.uint32)), starts)
    of_mask = _sum_hashes(splitmix64(place << np.uint64(33) ^ labels << np.uint64(1) ^ masks), starts)
    return of_ids & ID_HASH_BITS | of_mask >> np.uint64(48)


def _sum_hashes(values: Hashes, starts: npt.NDArray[np.int64]) -> Hashes:
    if not len(starts):
        return np.empty(0, np.uint64)
    return splitmix64(np.add.reduceat(values, starts))


FINGERPRINT_FUNCTIONS: Mapping[str, Callable[[Cooked], dict[str, Any]]] = {  # by the kind of a result
    **dict.fromkeys((kinds.DATASET, kinds.PACKED, kinds.MIX), fingerprint_sequences),
    **dict.fromkeys((kinds.CORPUS, kinds.PROMPTS, kinds.PARSE), fingerprint_lines),
}
