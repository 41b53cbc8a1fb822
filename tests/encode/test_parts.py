"""What a part becomes: names of spools, over-long entries that share a context, shards that change meanwhile."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from conftest import entry, pair, write_shard
from cook import Recipe, SourceError, TokenizerError, read_cooked, run
from cook.encode import parts
from cook.read.lines import ByteRange
from cook.read.source import shard_at
from cook.shapes.registry import SHAPES
from cook.tokenizer.loading import load_engine, resolve_tokenizer

RECIPE = Recipe(datasets="set", tokenizer="llama3", overlong="split", max_length=60, cache="none", jobs=1)
MANY = [pair(f"Question {number}?", f"Answer {number}.") for number in range(12)]


def cooked(tmp_path, **settings):
    run(dataclasses.replace(RECIPE, source=tmp_path, output=tmp_path / "out", **settings))
    return read_cooked(tmp_path / "out" / "set")


def test_over_long_entries_that_share_a_context_are_no_repeats(tmp_path):
    others = [pair(f"Who {number}?", f"She {number}.") for number in range(12)]
    write_shard(tmp_path, "set", [entry("One context.", *MANY), entry("One context.", *others)])
    counts = cooked(tmp_path, dedup=True).manifest["counts"]
    assert (counts["split"], counts["skipped_entries"]) == (2, {})


def test_the_names_of_spools_are_of_all_that_determines_the_tokens():
    tokenizer = resolve_tokenizer(RECIPE)
    given = {"recipe": RECIPE, "tokenizer": tokenizer, "digest": "d", "part": ByteRange("p", 0, 9)}

    def names(**other):
        told = given | other
        return parts.spool_names(
            Path("c"),
            told["recipe"],
            told["tokenizer"],
            SHAPES["context-qa"](told["recipe"], told["tokenizer"]),
            told["digest"],
            told["part"],
        )

    others = [
        {"digest": "e"}, {"part": ByteRange("p", 1, 9)}, {"part": ByteRange("p", 0, 8)},
        *({"tokenizer": tokenizer._replace(**one)} for one in (
            {"fingerprint": "f"}, {"bos_id": 7}, {"eos_id": 7}, {"specials": tokenizer.specials[1:]},
        )),
        *({"recipe": dataclasses.replace(RECIPE, **one)} for one in (
            {"dedup": True}, {"delimiter": "-"}, {"context_template": "{context}"},
        )),
    ]  # fmt: skip
    found = [names(), *(names(**other) for other in others)]
    assert len({name for both in found for name in both}) == 2 * len(found)
    assert names(part=ByteRange("elsewhere", 0, 9)) == names()
    for one in ({"max_length": 61}, {"overlong": "truncate"}):
        whole, remade = names(recipe=dataclasses.replace(RECIPE, **one))
        assert (whole == names()[0], remade == names()[1]) == (True, False)


def test_ids_of_texts_that_are_made_anew_are_checked(tmp_path, monkeypatch):
    class Wrong:
        def __init__(self, engine):
            self.name, self.version, self.engine = "wrong", "1", engine

        def encode(self, texts):
            ids, offsets = self.engine.encode(texts)
            ids = ids.copy()
            ids[-1] = 128001
            return ids, offsets

    write_shard(tmp_path, "set", [entry("A context.", *MANY)])
    monkeypatch.setattr(
        parts, "load_engine", lambda tokenizer, quick=False: (Wrong if quick else lambda e: e)(load_engine(tokenizer))
    )
    with pytest.raises(TokenizerError, match="wrong 1 gave the special token 128001 of llama3"):
        cooked(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "match"),
    [
        ("0.jsonl", [entry("another.", *MANY)], "changed while it was read; run again"),
        ("0.jsonl", [b"x" * 999], "changed while it was read; run again$"),
        ("0.jsonl", [], "changed while it was read; run again$"),
        ("0.jsonl.gz", [], "changed while it was read; run again$"),
    ],
)
def test_a_shard_that_changes_between_its_two_readings(tmp_path, monkeypatch, name, rows, match):
    shard = write_shard(tmp_path, "set", [entry("A context", *MANY)], name)
    pack = gzip.compress if name.endswith(".gz") else bytes
    shard.write_bytes(pack(shard.read_bytes()))
    again = parts.reread_lines

    def changed(*arguments):
        data = b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows)
        shard.write_bytes(pack(data))
        return again(*arguments)

    monkeypatch.setattr(parts, "reread_lines", changed)
    with pytest.raises(SourceError, match=match):
        cooked(tmp_path, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("spools/*/*.index"))) == 1, "what it became is kept as what it was"


@pytest.mark.parametrize("overlong", ["split", "truncate"])
def test_a_piece_that_does_not_decode_to_its_entry_is_recorded(tmp_path, monkeypatch, overlong):
    class Changed:
        """Gives another ordinary token for the first one of each input."""

        def __init__(self, engine):
            self.name, self.version, self.engine = engine.name, engine.version, engine

        def encode(self, texts):
            ids, offsets = self.engine.encode(texts)
            return ids + np.isin(np.arange(len(ids)), offsets[:-1]).astype(np.uint32), offsets

    context = "A context. " * (1 if overlong == "split" else 40)
    path = write_shard(tmp_path, "set", [entry("Short."), entry(context, *MANY)])
    recipe = dataclasses.replace(RECIPE, overlong=overlong)
    tokenizer = resolve_tokenizer(recipe)
    shape = SHAPES["context-qa"](recipe, tokenizer)
    (tmp_path / "spools").mkdir()

    def decode_errors(name):
        spools = str(tmp_path / "spools" / name / "full"), str(tmp_path / "spools" / name / "split")
        part = ByteRange(str(path), 0, None)
        job = parts.EncodeJob(recipe, tokenizer, part, shard_at(path), *spools, shape, parts.read_records, decodes=True)
        result = parts.encode_part(job)
        assert (result.split, result.truncated > 0) == (1, overlong == "truncate")
        return result.decode_errors

    assert decode_errors("right") == []
    monkeypatch.setattr(
        parts, "load_engine", lambda tokenizer, quick=False: (Changed if quick else lambda e: e)(load_engine(tokenizer))
    )
    assert decode_errors("wrong") == [(2, "its examples do not read as the pairs of its entry with their context")]
