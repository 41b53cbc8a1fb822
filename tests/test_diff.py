"""cook diff and cook fingerprint: what changed is told apart, in words."""

import re
import shutil
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import entry, pair, write_shard
from cook import OutputError, Recipe, diff, fingerprint, mix, run
from cook.sources import sha256_of
from cook.store import manifest, parquet

ROWS = [entry(f"Context {i}", pair(f"Q{i}?", f"Answer {i}")) for i in range(30)]


def bake(folder, output, rows=ROWS, more=(), **settings):
    source = folder / f"source-{output}"
    write_shard(source, "set", rows)
    if more:
        write_shard(source, "set", list(more), "00001.jsonl")
    recipe = {"tokenizer": "llama3", "max_length": 200} | settings
    return run(Recipe(datasets="set", source=source, output=folder / output, **recipe)).results[0].folder


@pytest.fixture
def first(tmp_path):
    return bake(tmp_path, "first")


def both(a, b, folder):
    """The difference of two outputs, which must be that of their fingerprints but for shown text."""
    found = diff(a, b).data_sets
    (folder / "golden.json").write_bytes(orjson.dumps(fingerprint(a)))
    told = diff(folder / "golden.json", b).data_sets
    assert {name: [line for line in lines if not line.startswith("  ")] for name, lines in found.items()} == told
    return found.get("set", [])


def test_same(tmp_path, first):
    assert both(first, bake(tmp_path, "b"), tmp_path) == []
    assert diff(first.parent, tmp_path / "b").same


def test_only_the_order(tmp_path, first):
    told = both(first, bake(tmp_path, "b", seed=1), tmp_path)
    assert told[0] == "another seed: 0 → 1"
    assert told[1].startswith("only the order or the packing changed: the same examples (")
    told = both(first, bake(tmp_path, "c", packing="none"), tmp_path)
    assert told[0] == 'another packing: "best-fit" → "none"'
    assert told[1].startswith("only the order or the packing changed")


def test_one_answer(tmp_path, first):
    rows = [*ROWS[:12], entry("Context 12", pair("Q12?", "Another answer")), *ROWS[13:]]
    told = both(first, bake(tmp_path, "b", rows), tmp_path)
    assert told[:2] == ["a shard changed: 00000.jsonl", "1 example changed: 00000.jsonl:13"]
    assert "Answer 12" in told[2]
    assert "Another answer" in told[2]
    assert len(told) == 3


def test_gone_new_and_moved(tmp_path, first):
    told = both(first, bake(tmp_path, "b", [entry("New"), *ROWS[:-1], entry("End"), entry("End")]), tmp_path)
    assert told[1:3] == ["1 example changed: 00000.jsonl:30", "2 examples new: 00000.jsonl:31, 00000.jsonl:32"] or (
        "29 examples the same, from another line" in told
    )
    told = both(first, bake(tmp_path, "c", ROWS[:-2]), tmp_path)
    assert told[1] == "2 examples gone: 00000.jsonl:29, 00000.jsonl:30"


def test_another_tokenizer(tmp_path, first):
    told = both(first, bake(tmp_path, "b", tokenizer="mistral"), tmp_path)
    assert told[0].startswith("another tokenizer: name llama3 → mistral, ")
    assert told[1].startswith("30 examples → 30, whose ids cannot be compared")
    assert len(told) == 2


def test_another_template(tmp_path, first):
    told = both(first, bake(tmp_path, "b", delimiter="\n"), tmp_path)
    assert told[0] == 'another delimiter: "\\n\\n" → "\\n"'
    assert told[1].startswith("30 examples changed: ")


def test_a_shard_more(tmp_path, first):
    told = both(first, bake(tmp_path, "b", more=[entry("x"), entry("y")]), tmp_path)
    assert told == ["a shard more: 00001.jsonl", "2 examples new: 00001.jsonl:1, 00001.jsonl:2"]


def test_a_mask(tmp_path, first):
    """A mask changed by hand, and sealed."""
    other = tmp_path / "b" / "set"
    shutil.copytree(first, other)
    fields = manifest.read(other)
    path = other / fields["outputs"][0]["name"]
    table = pq.read_table(path)
    rows = table.column("loss_mask").to_pylist()
    rows[0][1] = 1
    index = table.schema.get_field_index("loss_mask")
    kind = table.schema.field(index)
    with pq.ParquetWriter(path, table.schema, **parquet.WRITER) as writer:
        writer.write_table(table.set_column(index, kind, pa.array(rows, kind.type)))
    fields["outputs"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (other / manifest.NAME).write_bytes(manifest.seal(fields))
    (told,) = both(first, other, tmp_path)
    assert re.fullmatch(r"1 example with another mask: 00000\.jsonl:\d+", told)


def test_data_sets_and_mixes(tmp_path):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path / "a"))
    run(Recipe(datasets=("squad",), tokenizer="llama3", source="sample", output=tmp_path / "b"))
    assert diff(tmp_path / "a", tmp_path / "b").data_sets == {"WikiTableQuestions": ["is gone"], "race": ["is gone"]}
    assert diff(tmp_path / "b", tmp_path / "a").data_sets == {"WikiTableQuestions": ["is new"], "race": ["is new"]}
    for seed in (0, 1):
        mix(tmp_path / "a", tmp_path / f"m{seed}", seed=seed)
    assert diff(tmp_path / "m0", tmp_path / "m0").same
    told = diff(tmp_path / "m0", tmp_path / "m1").data_sets["m0"]
    assert told[0] == "another seed: 0 → 1"
    assert told[1].startswith("only the order or the packing changed")


def test_a_fingerprint_is_small(first):
    assert len(orjson.dumps(fingerprint(first))) < 2500 + 12 * len(ROWS)


def test_what_cannot_be_compared(tmp_path, first):
    with pytest.raises(OutputError, match="is not cooked"):
        diff(first, tmp_path / "nowhere")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(OutputError, match="is not a fingerprint"):
        diff(tmp_path / "x.json", first)
    broken = fingerprint(first)
    broken["data_sets"]["set"] |= {"lines": "", "ordered": {}}
    (tmp_path / "x.json").write_bytes(orjson.dumps(broken))
    with pytest.raises(OutputError, match="is not a fingerprint"):
        diff(tmp_path / "x.json", first)


def test_the_commands(cook, tmp_path, first):
    printed = cook("fingerprint", str(first)).stdout
    (tmp_path / "golden.json").write_text(printed)
    assert cook("diff", "golden.json", str(first)).exit_code == 0
    other = bake(tmp_path, "b", seed=1)
    result = cook("diff", "golden.json", str(other))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (4, "set: another seed: 0 → 1")
    assert orjson.loads(cook("diff", "golden.json", str(other), "--json").stdout)["same"] is False
    assert cook("diff", "golden.json", "nowhere").exit_code == 1


GOLDEN = Path(__file__).parent / "data" / "sample.fingerprint.json"


def test_the_sample_is_as_committed(tmp_path):
    """What docs/ci.md tells others to do, by this project's own CI."""
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path))
    assert diff(GOLDEN, tmp_path).data_sets == {}
