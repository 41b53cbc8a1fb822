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
from cook.core.choices import PACKINGS
from cook.core.files import sha256_of
from cook.store import manifest
from cook.tokenizer.presets import PRESETS
from cook.trainers import tables

ROWS = [entry(f"Context {i}", pair(f"Q{i}?", f"Answer {i}")) for i in range(30)]


def bake(folder, output, rows=ROWS, more=(), **settings):
    source = folder / f"source-{output}"
    write_shard(source, "set", rows)
    if more:
        write_shard(source, "set", list(more), "00001.jsonl")
    recipe = {"tokenizer": "llama3", "max_length": 200} | settings
    return run(Recipe(datasets="set", source=source, output=folder / output, **recipe)).results[0].folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return bake(tmp_path_factory.mktemp("first"), "first", cache="none")


def both(a, b, folder):
    """The difference of two outputs, which must be that of their fingerprints but for shown text."""
    found = diff(a, b).datasets
    (folder / "golden.json").write_bytes(orjson.dumps(fingerprint(a)))
    told = diff(folder / "golden.json", b).datasets
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


def test_gone_new_and_moved(tmp_path, first):
    rows = [entry("New"), *ROWS[:-1], entry("End"), entry("End")]
    assert both(first, bake(tmp_path, "b", rows), tmp_path) == [
        "a shard changed: 00000.jsonl",
        "1 example gone: 00000.jsonl:30",
        "3 examples new: 00000.jsonl:1, 00000.jsonl:31, 00000.jsonl:32",
        "29 examples the same, from another line",
    ]
    assert both(first, bake(tmp_path, "c", ROWS[:-2]), tmp_path) == [
        "a shard changed: 00000.jsonl",
        "2 examples gone: 00000.jsonl:29, 00000.jsonl:30",
    ]
    assert both(first, bake(tmp_path, "d", [ROWS[0], *ROWS]), tmp_path)[1:] == [  # of two alike one is the one before
        "1 example new: 00000.jsonl:2",
        "29 examples the same, from another line",
    ]


def test_another_tokenizer(tmp_path, first):
    told = both(first, bake(tmp_path, "b", tokenizer="mistral"), tmp_path)
    assert told[0].startswith("another tokenizer: name llama3 → mistral, ")
    assert told[1].startswith("30 examples → 30, whose ids cannot be compared")
    assert len(told) == 2


def test_other_texts_by_another_tokenizer_have_nothing_in_common(tmp_path, first):
    rows = [entry(f"Nothing alike {i}") for i in range(20)]
    told = both(first, bake(tmp_path, "b", rows, tokenizer="mistral"), tmp_path)
    assert told[1] == "a shard changed: 00000.jsonl"
    assert told[2].startswith("30 examples → 20, whose ids cannot be compared (")
    assert len(told) == 3


def test_lines_of_the_same_shard_are_compared_though_the_tokenizer_is_another(tmp_path, first):
    told = both(first, bake(tmp_path, "b", tokenizer="mistral", limit=28), tmp_path)
    assert told[-1] == "2 examples gone: 00000.jsonl:29, 00000.jsonl:30"


def test_results_of_two_datasets_are_not_compared(cook, tmp_path, first):
    for name in ("squad", "race"):
        run(Recipe(datasets=name, tokenizer="llama3", source="sample", output=tmp_path / name))
    said = {"squad": ["race is another dataset; compare two results of the same dataset"]}
    assert diff(tmp_path / "squad", tmp_path / "race").datasets == said
    assert diff(tmp_path / "squad" / "squad", tmp_path / "race" / "race").datasets == said
    done = cook("diff", "squad", "race")
    assert (done.exit_code, done.stdout) == (4, f"squad: {said['squad'][0]}\n")


def test_a_shard_more(tmp_path, first):
    told = both(first, bake(tmp_path, "b", more=[entry("x"), entry("y")]), tmp_path)
    assert told == ["a shard more: 00001.jsonl", "2 examples new: 00001.jsonl:1, 00001.jsonl:2"]


def test_a_mask(tmp_path, first):
    """A mask changed by hand, and sealed."""
    other = tmp_path / "b" / "set"
    shutil.copytree(first, other)
    fields = manifest.read_manifest(other)
    path = other / fields["outputs"][0]["name"]
    table = pq.read_table(path)
    rows = table.column("loss_mask").to_pylist()
    rows[0][1] = 1
    index = table.schema.get_field_index("loss_mask")
    kind = table.schema.field(index)
    with pq.ParquetWriter(path, table.schema, **tables.PARQUET_OPTIONS) as writer:
        writer.write_table(table.set_column(index, kind, pa.array(rows, kind.type)))
    fields["outputs"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (other / manifest.MANIFEST_NAME).write_bytes(manifest.seal(fields))
    (told,) = both(first, other, tmp_path)
    assert re.fullmatch(r"1 example with another mask: 00000\.jsonl:\d+", told)


def test_datasets_and_mixes(tmp_path):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path / "a"))
    run(Recipe(datasets=("squad",), tokenizer="llama3", source="sample", output=tmp_path / "b"))
    assert diff(tmp_path / "a", tmp_path / "b").datasets == {"WikiTableQuestions": ["is gone"], "race": ["is gone"]}
    assert diff(tmp_path / "b", tmp_path / "a").datasets == {"WikiTableQuestions": ["is new"], "race": ["is new"]}
    for seed in (0, 1):
        mix(tmp_path / "a", tmp_path / f"m{seed}", seed=seed)
    assert diff(tmp_path / "m0", tmp_path / "m0").same
    told = diff(tmp_path / "m0", tmp_path / "m1").datasets["m0"]
    assert told[0] == "another seed: 0 → 1"
    assert told[1].startswith("only the order or the packing changed")


def test_a_fingerprint_is_small(first):
    assert len(orjson.dumps(fingerprint(first))) < 2500 + 12 * len(ROWS)


def test_what_cannot_be_compared(tmp_path, first):
    with pytest.raises(OutputError, match="nowhere: no such folder"):
        diff(first, tmp_path / "nowhere")
    with pytest.raises(OutputError, match="is not cooked: neither it nor"):
        diff(first, tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(OutputError, match="is not a fingerprint"):
        diff(tmp_path / "x.json", first)
    broken = fingerprint(first)
    broken["datasets"]["set"] |= {"lines": "", "ordered": {}}
    (tmp_path / "x.json").write_bytes(orjson.dumps(broken))
    with pytest.raises(OutputError, match="is not a fingerprint"):
        diff(tmp_path / "x.json", first)


ONE_ANSWER = [*ROWS[:12], entry("Context 12", pair("Q12?", "Another answer")), *ROWS[13:]]
LLAMA3, MISTRAL = (PRESETS[name].fingerprint for name in ("llama3", "mistral"))


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({}, ""),
        (
            {"seed": 1},
            "set: another seed: 0 → 1\n"
            "set: only the order or the packing changed: the same examples (5 sequences → 5)\n",
        ),
        ({"rows": ROWS[::-1]}, "set: a shard changed: 00000.jsonl\nset: 30 examples the same, from another line\n"),
        ({"rows": ONE_ANSWER}, "set: a shard changed: 00000.jsonl\nset: 1 example changed: 00000.jsonl:13\n"),
        (
            {"tokenizer": "mistral"},
            "set: another tokenizer: name llama3 → mistral, bos <|begin_of_text|> → <s>, bos_id 128000 → 1, "
            f"eos <|end_of_text|> → </s>, eos_id 128001 → 2, fingerprint {LLAMA3} → {MISTRAL}, pad_id 128001 → 2, "
            "vocab_size 128256 → 32000\n"
            "set: 30 examples → 30, whose ids cannot be compared (5 sequences → 5)\n",
        ),
        (
            {"pair_template": "Q: {question} A: {answer}"},
            'set: another pair template: "<QUE> {question} <ANS> {answer} </END>" → "Q: {question} A: {answer}"\n'
            "set: 30 examples changed: 00000.jsonl:1, 00000.jsonl:2, 00000.jsonl:3, 00000.jsonl:4, 00000.jsonl:5, …\n",
        ),
        ({"more": [entry("x")]}, "set: a shard more: 00001.jsonl\nset: 1 example new: 00001.jsonl:1\n"),
        (
            {"validation": 0.3},
            "set: another validation: null → 0.3\n"
            "set: the same examples, in other splits or sequences (5 sequences → 5)\n",
        ),
    ],
)
def test_what_the_command_prints(cook, tmp_path, first, settings, printed):
    """Exactly, against a committed fingerprint; exit code 4 where anything differs, else 0."""
    other = bake(tmp_path, "b", **settings)
    (tmp_path / "golden.json").write_text(cook("fingerprint", str(first)).stdout)
    done = cook("diff", "golden.json", str(other))
    assert (done.exit_code, done.stdout, done.stderr) == (4 if printed else 0, printed, "" if printed else "same\n")
    found = orjson.loads(cook("diff", "golden.json", str(other), "--json").stdout)
    lines = [line.removeprefix("set: ") for line in printed.splitlines()]
    assert found == {"same": not printed, "datasets": {"set": lines} if printed else {}}
    assert cook("diff", str(other), str(other)).exit_code == 0


def test_the_text_of_what_changed_is_shown_and_cannot_steer_a_terminal(cook, tmp_path, first):
    rows = [*ROWS[:12], entry("Context 12", pair("Q12?", "Another \x1b[2J\x9b2J\u202e answer")), *ROWS[13:]]
    done = cook("diff", str(first), str(bake(tmp_path, "b", rows)))
    assert done.stdout.splitlines()[2] == (
        r'set:   00000.jsonl:13: …"\n<QUE> Q12? <ANS> Answer 12 </END>" → '
        r'…"\n<QUE> Q12? <ANS> Another \u001b[2J\x9b2J\u202e answer </END>"'
    )


def test_the_commands_that_fail(cook, first):
    assert cook("diff", str(first), "nowhere").exit_code == 1
    assert cook("diff", "nowhere", str(first)).exit_code == 1
    assert cook("fingerprint", "nowhere").exit_code == 1
    assert cook("diff", str(first)).exit_code == 2


FINGERPRINTS = Path(__file__).parents[1] / "data" / "fingerprints"


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_sample_is_as_committed(packing, tmp_path):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", packing=packing, output=tmp_path))
    assert diff(FINGERPRINTS / f"{packing}.json", tmp_path).datasets == {}
