"""Fingerprints of what holds no tokens: corpora as text by texts, what the loop wrote by the lines of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from cook.loop.files import hash64
from cook.store import manifest
from cook.store.reader import Cooked

AT_ONCE = 1 << 16  # rows
Place = tuple[str, int]  # of a text: the shard and the line that it begins on; of a line: its file and number
SETTINGS = {manifest.CORPUS: "recipe", manifest.PROMPTS: "prompts", manifest.PARSE: "parse"}


def rows(cooked: Cooked) -> Iterator[tuple[Place, bytes]]:
    """Each text or line, with its place. Raises OutputError."""
    if cooked.manifest["kind"] == manifest.CORPUS:
        from cook.corpora import texts

        shards = [row["name"] for row in cooked.manifest["inputs"]]
        for output in cooked.manifest["outputs"]:
            for row in texts.read_rows(cooked.folder / output["name"]) if "split" in output else ():
                place = shards[row["source_shard"]], row["source_line"]
                yield place, orjson.dumps([row[name] for name in texts.COLUMNS if not name.startswith("source_")])
        return
    paths = [(output["name"], cooked.folder / output["name"]) for output in cooked.manifest["outputs"]]
    if cooked.manifest["kind"] == manifest.PROMPTS:
        paths.append(("the prompts", cooked.folder.with_name(cooked.folder.name.removesuffix(manifest.SIDE))))
    for name, path in paths:
        with path.open("rb") as file:
            yield from (((name, number), line) for number, line in enumerate(file, 1))


def fingerprint(cooked: Cooked) -> dict[str, Any]:
    """See comparing. Raises OutputError."""
    from cook.comparing import EXAMPLE, packed

    fields = cooked.manifest
    number: dict[str, int] = {}
    tables, table = [np.empty(0, EXAMPLE)], list[tuple[int, int, int]]()
    ordered = hashlib.sha256()
    for (name, line), content in rows(cooked):
        table.append((number.setdefault(name, len(number)), line, hash64(content) & 0xFFFF_FFFF_FFFF_0000))
        ordered.update(f"{name}\0{line}\0{len(content)}\0".encode() + content)
        if len(table) >= AT_ONCE:
            tables.append(np.array(table, EXAMPLE))
            table = []
    tables.append(np.array(table, EXAMPLE))
    return {
        "of": "text" if fields["kind"] == manifest.CORPUS else "line",
        "recipe": fields[SETTINGS[fields["kind"]]],
        "tokenizer": {key: value for key, value in fields.get("tokenizer", {}).items() if key != "special_ids"} or None,
        "counts": fields["counts"],
        "inputs": {row["name"]: row["sha256"] for row in fields["inputs"]},
        "ordered": {"train": ordered.hexdigest()},
        **packed(np.concatenate(tables), number),
    }


def texts_at(cooked: Cooked, places: list[Place]) -> Iterator[tuple[Place, str]]:
    """The texts or lines at some places. Raises OutputError."""
    wanted = {*places}
    for place, content in rows(cooked):
        if place in wanted:
            text = content.decode(errors="replace")
            yield place, orjson.loads(content)[0] if cooked.manifest["kind"] == manifest.CORPUS else text.rstrip("\n")
