"""cook verify: what is right passes, however it was cooked; what is wrong is told with file, row and what was expected.

Random faults are in faults/test_injected.py; here each is made by hand, and its finding read.
"""

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import splintr

import cook as package
from conftest import COLLECTION, entry, needs_collection, offline, pair, write_shard
from cook import OutputError, Recipe, RecipeError, SourceError, TokenizerError, export, mix, run, verify
from cook.check import verifier
from cook.check.rows import Findings
from cook.core.choices import PACKINGS
from cook.store import manifest, write
from cook.trainers import tables
from faults.injecting import Bench, inner

TRAIN = "train-00000-of-00001.parquet"


def told(verified):
    return [str(finding) for each in verified.datasets for finding in each.findings]


def right(path, source, **more):
    """Nothing is found, and all was compared."""
    verified = verify(path, deep=True, source=str(source), **more)
    assert told(verified) == []
    assert all(each.compared for each in verified.datasets)
    shallow = verify(path)
    assert shallow.found == 0
    assert not any(each.compared for each in shallow.datasets)
    return verified


@pytest.fixture
def bench(odd_set, tmp_path):
    return Bench(odd_set / "out" / "set", tmp_path / "set", odd_set)


def findings(bench, deep=False):
    return [str(finding) for finding in bench.findings(deep)]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("overlong", ["split", "truncate", "drop"])
def test_the_sample_is_right(tmp_path, packing, overlong):
    """At 450 tokens 9 passages of race are over-long."""
    recipe = Recipe(
        datasets="all", tokenizer="llama3", source="sample", output=tmp_path, packing=packing, overlong=overlong,
        max_length=450, max_dropped=1.0, dedup=True, validation=0.3,
    )  # fmt: skip
    race = run(recipe).results[1]
    assert (race.counts["split"], race.counts["skipped_entries"]) == (
        (0, {"overlong": 9}) if overlong == "drop" else (9, {})
    )
    verified = right(tmp_path, "sample")
    assert [(each.name, each.examples, each.tokens) for each in verified.datasets] == [
        (name, counts["examples"], counts["tokens"])
        for name in ("WikiTableQuestions", "race", "squad")
        for counts in [manifest.read_manifest(tmp_path / name)["counts"]]
    ]


DEEP_VERIFY = """
import sys
from cook import verify
from cook.check import verifier
verifier.usable_cores = lambda: 1
assert not verify(sys.argv[1], deep=True, source=sys.argv[2]).found
print(sorted({"datasets", "pandas", "cook.check.corpus", "cook.check.synthesis"} & set(sys.modules)))
"""


def test_deep_imports_neither_pandas_nor_checks_of_other_kinds(tmp_path):
    write_shard(tmp_path / "in", "x", [entry("A.", pair("b?", "c"))])
    run(
        Recipe(
            datasets="x", tokenizer="llama3", source=str(tmp_path / "in"), output=str(tmp_path / "out"), cache="none"
        )
    )
    command = [sys.executable, "-c", DEEP_VERIFY, tmp_path / "out", tmp_path / "in"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_deep_counts_the_shards_when_it_asks_for_workers(tmp_path, monkeypatch):
    shard = write_shard(tmp_path / "in", "x", [entry("A. " * 9000, pair("b?", "c"))] * 9)
    settings = {"source": str(tmp_path / "in"), "output": str(tmp_path / "out"), "cache": "none"}
    run(Recipe(datasets="x", tokenizer="llama3", max_length=32768, **settings))
    sizes, real = [], verifier.local_executor

    def executor(jobs, size, preload=()):
        sizes.append(size)
        return real(jobs, size, preload)

    monkeypatch.setattr(verifier, "local_executor", executor)
    assert not verify(tmp_path / "out").found
    assert not verify(tmp_path / "out", deep=True, source=str(tmp_path / "in")).found
    assert sizes[1] - sizes[0] == shard.stat().st_size


@pytest.mark.parametrize("model", ["llama2", "mistral", "qwen3", "llama3"])
def test_texts_that_do_not_decode_to_themselves(tmp_path, models, model):
    """NFC, "▁", special strings, no BOS; by preset and by tokenizer.json."""
    texts = ["e\u0301 decomposed", "▁ a ▁", "</s> <|eot_id|>", " lead", "", "\x00\t\n", "🍏" * 90, "\u212b"]
    write_shard(tmp_path, "set", [entry(text, pair(text or "q", "a▁"), pair("▁", text + "!")) for text in texts])
    places = {"llama3": ["llama3"], "qwen3": [str(models["qwen3"])]}  # byte-level ones: one way each will do
    for number, tokenizer in enumerate(places.get(model, [model, str(models[model])])):
        out = tmp_path / f"out-{number}"
        run(
            Recipe(datasets="set", tokenizer=tokenizer, source=tmp_path, output=out, overlong="truncate",
                   max_length=90, max_dropped=1.0)
        )  # fmt: skip
        assert told(verify(out, deep=True, source=str(tmp_path), tokenizer=tokenizer)) == []
        broken = Bench(out / "set", tmp_path / f"broken-{number}", tmp_path)
        rows = broken.read(TRAIN)
        at = rows["loss_mask"][0].tolist().index(1) + 3
        rows["input_ids"][0][at] = rows["labels"][0][at] = rows["input_ids"][0][at - 1]
        broken.write(TRAIN, rows)
        broken.seal()
        found = verify(broken.folder, deep=True, source=str(tmp_path), tokenizer=tokenizer).datasets[0].findings
        assert [(finding.file, finding.row) for finding in found] == [(TRAIN, 0)]


def test_another_template_and_keys(tmp_path):
    row = {"passage": "{question}", "qs": [{"q": "{context}", "a": "{answer}"}, {"q": "x", "a": "y"}]}
    write_shard(tmp_path, "set", [row] * 3)
    fields = {"context": "passage", "pairs": "qs", "question": "q", "answer": "a"}
    settings = {"context_template": "{context}|{context}", "pair_template": "{answer} <- {question}", "delimiter": ""}
    run(Recipe(datasets="set", tokenizer="llama3", source=tmp_path, output=tmp_path / "o", fields=fields, **settings))
    right(tmp_path / "o", tmp_path)


@needs_collection
@pytest.mark.parametrize(("packing", "overlong"), [*zip(PACKINGS, ["split", "truncate", "drop", "split"], strict=True)])
def test_real_datasets_are_right(tmp_path, packing, overlong):
    """Some; scripts/check_verify.py takes all, with each packing and policy."""
    recipe = Recipe(
        datasets=("QED", "AQUA_RAT_yes_opt", "squad"), tokenizer="llama3", source=COLLECTION, output=tmp_path,
        packing=packing, overlong=overlong, max_length=512, max_dropped=1.0, limit=200,
    )  # fmt: skip
    run(recipe)
    right(tmp_path, COLLECTION)


def test_several_files_and_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "FILE_TOKENS", 3000)
    monkeypatch.setattr(write, "ROW_GROUP_TOKENS", 900)
    run(Recipe(datasets="race", tokenizer="llama3", source="sample", output=tmp_path, max_length=800, validation=0.3))
    assert len(list((tmp_path / "race").glob("train-*"))) > 3
    right(tmp_path, "sample")


def test_a_source_on_the_hub_is_found_by_its_commit(server, tmp_path, monkeypatch):
    files = {f"set/shard/{i:05}.jsonl": orjson.dumps(entry(f"Context {i}")) + b"\n" for i in range(2)}
    commit = server.add("org/own", files, kind="dataset")
    source = "hf://datasets/org/own"
    run(Recipe(datasets="set", tokenizer="llama3", source=source, output=tmp_path / "out"))
    assert manifest.read_manifest(tmp_path / "out" / "set")["source"]["commit"] == commit
    server.add(
        "org/own", dict.fromkeys(files, b'{"context": "other", "QA_list": []}\n'), kind="dataset"
    )  # main moves on
    asked = len(server.requests)
    right(tmp_path / "out", source)
    assert len(server.requests) == asked, "what is in the cache is not asked for"
    with pytest.raises(SourceError, match="is not the shard that"):
        verify(tmp_path / "out", deep=True, source=source + "@main")
    offline(monkeypatch)
    right(tmp_path / "out", source)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(SourceError, match=commit):
        verify(tmp_path / "out", deep=True, source=source)


@pytest.mark.parametrize(
    ("column", "at", "to", "found"),
    [
        ("input_ids", 0, 5, "token 0: input_ids is 5; expected BOS, 128000"),
        ("input_ids", 4, 128_009, "token 4: input_ids is the special id 128009; expected text"),
        ("input_ids", 4, 128_256, "token 4: input_ids is 128256; expected 0 to 128,255"),
        ("input_ids", 4, -1, "token 4: input_ids is -1; expected 0 to 128,255"),
        ("input_ids", -1, 9, "token 147: input_ids is 9; expected EOS, 128001"),
        ("labels", 1, 7, "token 1: labels is 7; expected -100"),
        ("labels", -1, -100, "token 147: labels is -100; expected 128001"),
        ("loss_mask", 1, 1, "token 1: loss_mask is 1; expected 0"),
        ("loss_mask", -2, 2, "token 146: loss_mask is 2; expected 1"),
        ("loss_mask", -1, 0, "token 147: loss_mask is 0; expected 1"),
        ("seq_lengths", 0, 40, "its seq_lengths sum to 132; expected 148"),
        ("seq_lengths", 0, -108, "its seq_lengths sum to -16; expected 148"),
        ("source_shard", 0, 2, "example 0: source_shard is 2; expected 0 to 1"),
        ("source_shard", 0, -1, "example 0: source_shard is -1; expected 0 to 1"),
        ("source_line", 0, 0, "example 0: source_line is 0; expected at least 1"),
    ],
)
def test_a_value_is_named_with_file_row_and_what_was_expected(bench, column, at, to, found):
    rows = bench.read(TRAIN)
    rows[column][0][at] = to
    bench.write(TRAIN, rows)
    bench.seal()
    of_file = [line for line in findings(bench) if line.startswith(TRAIN)]
    assert f"{TRAIN}: row 0: {found}" in of_file
    assert f"{TRAIN}: row 0: {found}" in findings(bench, deep=True)
    assert len(of_file) == (2 if (column, to) in {("input_ids", 9), ("seq_lengths", -108)} else 1)


def test_without_the_source_rows_and_sums_are_checked(bench):
    rows = bench.read(TRAIN)
    bench.write(TRAIN, {column: values[1:] for column, values in rows.items()})
    bench.seal()
    found = findings(bench)
    count = len(rows["input_ids"])
    assert f"cook.json: outputs: {TRAIN}: rows is {count}; expected {count - 1}" in found
    assert any(line.startswith("cook.json: counts.splits is ") for line in found)
    assert any(line.startswith("cook.json: figures.utilisation is ") for line in found)


@pytest.mark.parametrize("packing", PACKINGS)
def test_without_the_source_the_plan_is_checked(tmp_path, packing):
    run(
        Recipe(
            datasets="race", tokenizer="llama3", source="sample", output=tmp_path / "r", packing=packing, max_length=900
        )
    )
    bench = Bench(tmp_path / "r" / "race", tmp_path / "set", "sample")
    rows = bench.read(TRAIN)
    for values in rows.values():
        values[2], values[7] = values[7], values[2]
    bench.write(TRAIN, rows)
    bench.forge()
    (found,) = findings(bench)
    assert found.startswith(f"{TRAIN}: row 2: 0000")
    assert found.endswith(f": expected another example here by --packing {packing} and the seed")


def test_what_is_trained_is_told_beside_what_was_expected(bench):
    """Ids and labels agree, and are not the answer's."""
    rows = bench.read(TRAIN)
    at = len(rows["input_ids"][0]) - 3
    assert rows["loss_mask"][0][at]
    rows["input_ids"][0][at] = rows["labels"][0][at] = rows["input_ids"][0][at - 1]
    bench.write(TRAIN, rows)
    bench.forge()
    assert findings(bench) == []
    (found,) = findings(bench, deep=True)
    assert re.fullmatch(rf'{TRAIN}: row 0: 0000[01]\.jsonl:\d+: what it trains reads ".+"…?; expected ".+"…?', found)


def broken_mix(root, fields, place, value):
    changed = copy.deepcopy(fields)
    inner(changed, place)[place[-1]] = value
    (root / manifest.MANIFEST_NAME).write_bytes(manifest.seal(changed))
    return told(verify(root))


def test_a_mix(tmp_path):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path / "r", max_length=1024))
    root = tmp_path / "m"
    mix(tmp_path / "r", root, weights={"squad": 2, "race": 0.5}, seed=3)
    verified = verify(root)
    assert told(verified) == []
    assert (verified.datasets[0].name, verified.datasets[0].compared) == ("m", False)
    with pytest.raises(OutputError, match="is a mix"):
        verify(root, deep=True, source="sample")
    fields = manifest.read_manifest(root)
    tokens = fields["counts"]["tokens"]
    for place, value, found in [
        (("mix", "seed"), 4, "expected "),
        (("mix", "weights", "squad"), 1, "cook.json: datasets.squad.given.sequences is "),
        (("counts", "tokens"), tokens + 1, f"cook.json: counts is {{'sequences': {fields['counts']['sequences']}, "),
        (("datasets", "race", "given", "sequences"), 1, "cook.json: datasets.race.given is "),
        (("datasets", "race", "asked", "tokens"), 1.5, "cook.json: datasets.race.asked is "),
        (("sources", 0, "max_length"), 100, " tokens; expected 1 to 100"),
        (("tokenizer", "eos_id"), 0, f"{TRAIN}: row 0: token "),
        (("mix",), {"seed": 0, "split": "train"}, "cook.json: its fields are not those that cook writes: KeyError"),
    ]:
        assert any(found in line for line in broken_mix(root, fields, place, value)), place
    (root / manifest.MANIFEST_NAME).write_bytes(manifest.seal(fields))
    (root / "README.md").write_text("other")
    assert told(verify(root)) == ["README.md: is not the card that cook wrote with this mix"]


def test_an_export_is_refused(odd_set, tmp_path):
    export(odd_set / "out" / "set", "trl", tmp_path / "e")
    with pytest.raises(OutputError, match="is an export, for a trainer, which verify does not check"):
        verify(tmp_path / "e")


def test_what_lies_beside(odd_set, bench, tmp_path):
    shutil.copy(bench.folder / TRAIN, bench.folder / "train-00001-of-00001.parquet")
    (bench.folder / "skipped.jsonl").unlink()
    assert findings(bench) == [
        "skipped.jsonl: is missing",
        "train-00001-of-00001.parquet: is here; expected only the files that the manifest names",
    ]
    shutil.copytree(odd_set / "out", tmp_path / "root")
    card = tmp_path / "root" / "README.md"
    card.write_text(card.read_text().replace("sequences", "sentences", 1))
    assert told(verify(tmp_path / "root")) == [
        "README.md: is not the card of the datasets that are here; cook any of them to renew it"
    ]
    card.write_text("of another hand")
    assert told(verify(tmp_path / "root")) == []


def test_damaged_files_are_named_and_not_looked_into(bench):
    path = bench.folder / TRAIN
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert findings(bench, deep=True) == [
        f"{TRAIN}: has {len(whole) - 1:,} bytes; expected {len(whole):,} by its manifest"
    ]
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    (found,) = findings(bench, deep=True)
    assert re.fullmatch(
        rf"{TRAIN}: its sha256 is \w{{64}}; expected {bench.fields['outputs'][0]['sha256']} by its manifest", found
    )
    path.write_bytes(b"PAR1")
    bench.seal()
    assert findings(bench)[0].startswith(f"{TRAIN}: cannot be read: ")
    path.unlink()
    path.mkdir()
    assert findings(bench) == [f"{TRAIN}: is a folder; expected a file"]


@pytest.mark.parametrize(
    ("where", "value", "found"),
    [
        (("figures", "longest_entry"), 500, "figures.longest_entry is 500; expected "),
        (("counts", "entries"), 41, "counts.entries is 41; expected 40"),
        (("counts", "pairs"), 39, "counts.pairs is 39; expected at least one an example, and those left out"),
        (("inputs", 1, "name"), "00000.jsonl", "inputs: expected each shard once"),
        (("source",), "sample", "source is 'sample'; expected the kind of source"),
        (("tokenizer", "bos"), "<s>", "tokenizer: --bos <s>: is not one token of llama3"),
    ],
)
def test_a_field_of_the_manifest_without_the_source(plain, where, value, found):
    inner(plain.fields, where)[where[-1]] = value
    plain.seal()
    assert any(line.startswith(f"cook.json: {found}") for line in findings(plain))


@pytest.fixture
def plain(tmp_path):
    """A dataset of one example an entry, none left out."""
    run(
        Recipe(
            datasets="race", tokenizer="llama3", source="sample", output=tmp_path / "r", max_length=900, overlong="drop"
        )
    )
    return Bench(tmp_path / "r" / "race", tmp_path / "set", "sample")


def test_an_entry_twice_where_none_is_split(plain):
    rows = plain.read(TRAIN)
    plain.write(TRAIN, {column: [*values, values[1]] for column, values in rows.items()})
    plain.forge()
    assert findings(plain) == [
        f"{TRAIN}: row {len(rows['labels'])}: {plain.place(rows, 1, at)}: stands elsewhere already; expected once"
        for at in range(len(rows["seq_lengths"][1]))
    ]


def test_a_sequence_that_is_cut_in_two_between_examples(plain):
    rows = plain.read(TRAIN)
    at = [len(lengths) for lengths in rows["seq_lengths"]].index(2)
    border = int(rows["seq_lengths"][at][0])
    for column, values in rows.items():
        cut = 1 if column in ("seq_lengths", "source_shard", "source_line") else border
        values[at : at + 1] = [values[at][:cut], values[at][cut:]]
    plain.write(TRAIN, rows)
    plain.forge()
    (found,) = findings(plain)
    expected = "expected another example here by --packing best-fit and the seed"
    assert found == f"{TRAIN}: row {at}: {plain.place(rows, at, 0)}: {expected}"


def test_results_that_lie_deeper_are_checked(plain, tmp_path):
    every = tmp_path / "all"
    for place in ("root/set", "root/deeper/than/set", "beside"):
        shutil.copytree(plain.folder, every / place)
    (every / ".hidden").mkdir()
    (every / "root" / "again").symlink_to(every / "root")
    places = [each.folder.relative_to(every).as_posix() for each in verify(every).datasets]
    assert places == ["beside", "root/deeper/than/set", "root/set"]
    (every / "root" / "set" / "cook.json").unlink()
    (found,) = (each for each in verify(every).datasets if each.found)
    assert (found.name, [str(each) for each in found.findings]) == (
        "set",
        ["cook.json: is missing; move the folder away, and cook the dataset again"],
    )


def test_folders_that_are_not_checked_are_named(cook, odd_set, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(odd_set / "out", root)
    export(root / "set", "trl", root / "for-trl")
    (root / "notes").mkdir()
    done = cook("verify", "root")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines()[1:] == [
        "root/for-trl: is an export, for a trainer, and is not checked",
        "root/notes: has no cook.json, and is not checked",
    ]
    named = orjson.loads(cook("verify", "root", "--json").stdout)["unchecked"]
    assert [each["folder"] for each in named] == ["root/for-trl", "root/notes"]


def test_one_that_cannot_be_checked_does_not_stop_the_others(cook, tmp_path):
    """Of a source that lacks a dataset, and of a manifest of another cook; a mix is checked without its shards."""
    root = tmp_path / "root"
    run(Recipe(datasets=("squad", "race", "WikiTableQuestions"), tokenizer="llama3", source="sample", output=root))
    mix(root, root / "mix", weights={"race": 0})
    shutil.copytree(Path(package.__file__).parent / "sample", tmp_path / "source")
    shutil.rmtree(tmp_path / "source" / "squad")
    old = root / "race" / "cook.json"
    old.write_bytes(manifest.seal(manifest.read_manifest(root / "race") | {"format_version": 1}))
    done = cook("verify", "root", "--deep", "--source", "source")
    assert done.exit_code == 4
    assert [line for line in done.stdout.splitlines() if "README.md" not in line] == [
        "root/race/cook.json: cannot be checked: root/race/cook.json: is of format version 1, and this cook reads 2: "
        "make it again, with --overwrite or into another folder",
        "root/squad/cook.json: cannot be checked: source: holds no dataset squad, which root/squad was cooked from",
    ]
    said = done.stderr.splitlines()
    assert re.fullmatch(r"root/WikiTableQuestions: OK: .*; equal to its shards", said[0])
    assert re.fullmatch(r"root/mix: OK: [^;]*", said[1])
    assert said[-1] == "root/mix: is a mix, whose datasets belong to shards, and is checked without --deep"


def test_what_all_datasets_have_in_common_is_said_once(cook, tmp_path):
    run(Recipe(datasets=("squad", "race"), tokenizer="llama3", source="sample", output=tmp_path / "root"))
    done = cook("verify", "root", "--deep", "--source", "nowhere")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("cook: nowhere: no such folder; ")
    assert len(done.stderr.splitlines()) == 1


def test_files_of_other_names(plain):
    for name in ("skipped.jsonl", "notes.txt", ".DS_Store"):
        (plain.folder / name).write_bytes(b"")
    (plain.folder / "more").mkdir()
    here = "is here; expected only the files that the manifest names"
    assert findings(plain) == [f"more: {here}", f"notes.txt: {here}", f"skipped.jsonl: {here}"]
    for name in ("skipped.jsonl", "notes.txt"):
        (plain.folder / name).unlink()
    (plain.folder / "more").rmdir()
    other = "train-00003-of-00009.parquet"
    (plain.folder / TRAIN).rename(plain.folder / other)
    plain.fields["outputs"][0]["name"] = other
    plain.seal()
    assert findings(plain) == [f"cook.json: outputs: of split train are {other}; expected {TRAIN}"]


def test_other_columns(plain):
    table = pq.read_table(plain.folder / TRAIN)
    for other, found in [
        (table.drop_columns(["labels"]), "its columns are input_ids list<element: int32>, loss_mask"),
        (
            table.set_column(1, "labels", pa.array([None] * len(table), table.schema.field(1).type)),
            "its column labels holds null",
        ),
    ]:
        with pq.ParquetWriter(plain.folder / TRAIN, other.schema, **tables.PARQUET_OPTIONS) as writer:
            writer.write_table(other)
        plain.seal()
        assert any(line.startswith(f"{TRAIN}: {found}") for line in findings(plain)), findings(plain)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"line": 1}, "skipped.jsonl: leaves out 00000.jsonl:1, which has examples"),
        ({"line": 15}, "skipped.jsonl: line 2: expected the order of the shards"),
    ],
)
def test_rows_of_what_was_left_out_that_do_not_fit(bench, more, found):
    path = bench.folder / "skipped.jsonl"
    row = {"shard": "00000.jsonl", "pair": None, "reason": "bad_line", "pairs": 0, "tokens": None} | more
    path.write_bytes(orjson.dumps({**row, "line": row["line"]}) + b"\n" + path.read_bytes() if more["line"] == 1
                     else path.read_bytes().split(b"\n")[1] + b"\n" + path.read_bytes())  # fmt: skip
    bench.seal()
    assert found in findings(bench)
    assert any(line.startswith("cook.json: outputs: skipped.jsonl: rows is ") for line in findings(bench))
    assert any(line.startswith("cook.json: counts.skipped_") for line in findings(bench))


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("special_ids", [], "tokenizer.special_ids: expected ascending ids, with those of BOS and EOS among them"),
        ("special_ids", [0, 2], "tokenizer.special_ids: expected ascending ids, with those of BOS and EOS among them"),
        (
            "special_ids",
            [0, 2, 1],
            "tokenizer.special_ids: expected ascending ids, with those of BOS and EOS among them",
        ),
        ("pad_id", 32_000, "tokenizer.pad_id is 32000; expected an id below 32,000"),
        ("bos", None, "tokenizer.bos_id is 1, and tokenizer.bos None; expected both or neither"),
    ],
)
def test_what_a_manifest_says_of_a_tokenizer_of_ones_own(tmp_path, models, field, value, found):
    write_shard(tmp_path, "set", [entry()])
    run(Recipe(tokenizer=str(models["llama2"]), datasets="set", source=tmp_path, output=tmp_path / "out"))
    bench = Bench(tmp_path / "out" / "set", tmp_path / "set-2", tmp_path)
    bench.fields["tokenizer"] |= {"name": "own", field: value}
    bench.seal()
    assert f"cook.json: {found}" in findings(bench)


def test_a_tokenizer_of_ones_own_is_held_against_the_manifest_with_its_shards(tmp_path, models):
    write_shard(tmp_path, "set", [entry()])
    settings = {"datasets": "set", "source": tmp_path, "output": tmp_path / "out"}
    run(Recipe(tokenizer=str(models["llama2"]), **settings))
    bench = Bench(tmp_path / "out" / "set", tmp_path / "set-2", tmp_path)
    bench.fields["tokenizer"]["pad_id"] = 7
    bench.seal()
    verified = verify(bench.folder, deep=True, source=str(tmp_path), tokenizer=str(models["llama2"]))
    assert told(verified) == ["cook.json: tokenizer.pad_id is 7; expected 2"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda row: row | {"line": 0}, "line, pair, pairs, tokens are 0, None, 0, None"),
        (lambda row: row | {"shard": "x"}, "its shard is 'x'"),
        (lambda row: row | {"more": 1}, "its fields are shard, line, pair, reason, pairs, tokens, more"),
        (lambda row: row | {"reason": "mood"}, "tuple.index(x): x not in tuple"),
        (lambda row: row | {"reason": "blank_answer"}, "its pair is None and its pairs 0 with reason blank_answer"),
        (lambda row: row | {"tokens": 151}, "it has 151 tokens with reason no_pairs"),
        (lambda row: [], "list indices must be integers or slices, not str"),
    ],
)
def test_a_row_of_what_was_left_out(bench, change, found):
    path = bench.folder / "skipped.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    at = [row["reason"] for row in rows].index("no_pairs")
    rows[at] = change(rows[at])
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    bench.seal()
    assert f"skipped.jsonl: line {at + 1}: {found}; expected a row as cook writes it" in findings(bench)


def test_what_was_left_out_for_no_reason(bench):
    """An entry's examples and all sums of them are gone, and it stands among those left out."""
    path = bench.folder / "skipped.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    rows = [row for row in rows if row["reason"] != "bad_line"]
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    next(output for output in bench.fields["outputs"] if output["name"] == path.name)["rows"] -= 1
    bench.fields["counts"]["entries"] -= 1
    del bench.fields["counts"]["skipped_entries"]["bad_line"]
    bench.seal()
    assert findings(bench) == []
    found = findings(bench, deep=True)
    assert "skipped.jsonl: line 4: 00000.jsonl:18: leaves out nothing; expected the entry (bad_line)" in found
    assert "cook.json: counts.entries is 24; expected 25" in found


def leave_out(bench, row):
    """Add a row to skipped.jsonl, in its place, with all sums."""
    path = bench.folder / "skipped.jsonl"
    rows = [*(orjson.loads(line) for line in path.read_bytes().splitlines()), row]
    rows.sort(key=lambda row: (row["shard"], row["line"]))
    path.write_bytes(b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in rows))
    next(output for output in bench.fields["outputs"] if output["name"] == path.name)["rows"] += 1
    counts = bench.fields["counts"]
    for key, amount in (("skipped_entries", int(row["pair"] is None)), ("skipped_pairs", row["pairs"])):
        if amount:
            counts[key][row["reason"]] = counts[key].get(row["reason"], 0) + amount
    bench.seal()


def test_a_row_left_out_of_a_line_that_there_is_not(bench):
    bench.fields["counts"]["entries"] += 1
    leave_out(
        bench, {"shard": "00001.jsonl", "line": 99, "pair": None, "reason": "bad_line", "pairs": 0, "tokens": None}
    )
    what = r"skipped.jsonl: line \d: 00001.jsonl:99: leaves out the entry \(bad_line\); expected nothing"
    assert any(re.fullmatch(what, line) for line in findings(bench, deep=True))


def test_a_pair_left_out_that_is_not_blank(bench):
    leave_out(
        bench, {"shard": "00000.jsonl", "line": 16, "pair": 1, "reason": "blank_answer", "pairs": 1, "tokens": None}
    )
    expected = (
        "00000.jsonl:16: leaves out pair 0 (blank_question); pair 1 (blank_answer); expected pair 0 (blank_question)"
    )
    assert any(expected in line for line in findings(bench, deep=True))


def test_an_entry_left_out_as_a_repeat_that_repeats_none(bench):
    rows = bench.read(TRAIN)
    at = rows["source_line"][0].tolist()
    assert len(set(at)) == len(at)
    shard, line = (int(rows[column][0][0]) for column in ("source_shard", "source_line"))
    name = bench.fields["inputs"][shard]["name"]
    size = int(rows["seq_lengths"][0][0])
    for column, values in rows.items():
        values[0] = values[0][1 if column in ("seq_lengths", "source_shard", "source_line") else size :]
    bench.write(TRAIN, rows)
    pairs = 2 if shard == 0 else 1
    leave_out(bench, {"shard": name, "line": line, "pair": None, "reason": "repeat", "pairs": pairs, "tokens": None})
    bench.forge()
    found = findings(bench, deep=True)
    assert f"cook.json: {name}:{line}: its example is missing; expected once" in found
    what = f"{name}:{line}: leaves out the entry (repeat, {pairs} pairs); expected nothing"
    assert any(re.fullmatch(rf"skipped.jsonl: line \d: {re.escape(what)}", each) for each in found)


def test_the_same_text_by_other_ids_and_a_row_over_the_length(bench):
    rows = bench.read(TRAIN)
    tokenizer = splintr.Tokenizer.from_pretrained("llama3")
    ids = rows["input_ids"][0].tolist()
    at = next(i for i, token in enumerate(ids[:40]) if i and len(tokenizer.decode_token_bytes(token)) > 3)
    text = tokenizer.decode_token_bytes(ids[at]).decode()
    other = [*tokenizer.encode_ordinary(text[:2]), *tokenizer.encode_ordinary(text[2:])]
    assert b"".join(map(tokenizer.decode_token_bytes, other)).decode() == text
    mask = int(rows["loss_mask"][0][at])
    for column, new in (("input_ids", other), ("labels", other if mask else [-100] * len(other))):
        rows[column][0] = np.array([*rows[column][0][:at], *new, *rows[column][0][at + 1 :]])
    rows["loss_mask"][0] = np.insert(rows["loss_mask"][0], at, [mask] * (len(other) - 1))
    rows["seq_lengths"][0][0] += len(other) - 1
    bench.write(TRAIN, rows)
    bench.forge()
    found = [line for line in findings(bench, deep=True) if line.startswith(f"{TRAIN}: row 0: ")]
    assert "has other ids than the tokenizer gives for the text" in found[0]
    bench.fields["recipe"]["max_length"] = len(rows["input_ids"][0]) - 1
    bench.forge()
    size = len(rows["input_ids"][0])
    assert f"{TRAIN}: row 0: has {size} tokens; expected 1 to {size - 1}" in findings(bench)


def test_what_cannot_be_checked_is_an_error(odd_set, tmp_path, models):
    out = odd_set / "out"
    with pytest.raises(OutputError, match="is not cooked"):
        verify(tmp_path)
    with pytest.raises(RecipeError, match="give both, or neither"):
        verify(out, deep=True)
    with pytest.raises(RecipeError, match="give both, or neither"):
        verify(out, source="sample")
    with pytest.raises(SourceError, match="holds no dataset set"):
        verify(out, deep=True, source="sample")
    with pytest.raises(SourceError, match="no such folder"):
        verify(out, deep=True, source=str(tmp_path / "nowhere"))
    with pytest.raises(TokenizerError, match="was cooked with llama3, of fingerprint"):
        verify(out, deep=True, source=str(odd_set), tokenizer=str(models["llama2"]))
    shutil.copytree(models["llama3"], tmp_path / "model")
    other = (tmp_path / "model" / "tokenizer.json").read_bytes().rstrip() + b" "
    (tmp_path / "model" / "tokenizer.json").write_bytes(other)
    with pytest.raises(TokenizerError, match="is another tokenizer, of fingerprint"):
        verify(out, deep=True, source=str(odd_set), tokenizer=str(tmp_path / "model"))
    write_shard(tmp_path, "set", [entry("other")])
    with pytest.raises(SourceError, match="is not the shard"):
        verify(out, deep=True, source=str(tmp_path))
    (tmp_path / "set" / "shard" / "00000.jsonl").rename(tmp_path / "set" / "shard" / "x.jsonl")
    with pytest.raises(SourceError, match=r"holds no shard 00000\.jsonl"):
        verify(out, deep=True, source=str(tmp_path))


def test_a_manifest_of_another_cook_is_an_error_and_a_damaged_one_a_finding(bench):
    path = bench.folder / manifest.MANIFEST_NAME
    for change, error in [({"format_version": 1}, "is of format version 1"), ({"kind": "soup"}, "is of kind 'soup'")]:
        path.write_bytes(manifest.seal(bench.fields | change))
        with pytest.raises(OutputError, match=error):
            verify(bench.folder)
    path.write_bytes(path.read_bytes().replace(b'"kind": "soup"', b'"kind": "soap"'))
    assert findings(bench)[0].startswith("cook.json: is damaged: its sha256 does not match")
    path.write_bytes(manifest.seal({"format_version": 2}))
    assert findings(bench)[0].startswith("cook.json: is not a manifest of cook: wrong or missing: kind")


def test_the_command(cook, odd_set, bench):
    out = str(odd_set / "out")
    done = cook("verify", out, "--deep", "--source", str(odd_set))
    assert (done.exit_code, done.stdout) == (0, "")
    assert re.fullmatch(
        rf"{out}/set: OK: \d+ sequences, \d+ examples, [\d,]+ tokens; equal to its shards\n", done.stderr
    )
    (bench.folder / manifest.MANIFEST_NAME).write_bytes(b"{")
    result = cook("verify", "set")
    assert (result.exit_code, result.stdout) == (4, "set/cook.json: is damaged: not JSON: "
                                                 "unexpected end of data: line 1 column 2 (char 1)\n")  # fmt: skip
    found = orjson.loads(cook("verify", "set", "--json").stdout)
    assert (found["right"], found["datasets"][0]["found"]) == (False, 1)
    assert cook("verify", "nowhere").exit_code == 1
    assert cook("verify", out, "--deep", "--source", "nowhere").exit_code == 1
    assert cook("verify", out, "--deep").exit_code == 2


def test_findings_are_counted_beyond_those_that_are_kept(bench, cook):
    kept = Findings()
    for row in range(10_005):
        kept.note("file", row, "x")
    assert (len(kept.listed), len(kept)) == (10_000, 10_005)
    rows = {column: values * 4 for column, values in bench.read(TRAIN).items()}
    rows["source_line"] = [np.zeros_like(lines) for lines in rows["source_line"]]
    bench.write(TRAIN, rows)
    bench.seal()
    done = cook("verify", "set")
    shown = done.stdout.splitlines()
    wrong = len(rows["source_line"])
    assert sum(line.startswith(f"set/{TRAIN}: row ") for line in shown) == 20 < wrong
    more = re.fullmatch(r"set: … and (\d+) more \(--json lists them\)", shown[-1])
    counted, from_where = done.stderr.splitlines()
    assert counted == f"set: {len(shown) - 1 + int(more[1])} findings"
    assert from_where.startswith("rows count from 0, as `cook show --sequence` does; lines")
    listed = orjson.loads(cook("verify", "set", "--json").stdout)["datasets"][0]["findings"]
    assert [row["row"] for row in listed if row["file"] == TRAIN] == list(range(wrong))


def test_the_public_names():
    assert {"Checked", "Finding", "Verified", "verify"} <= {*package.__all__}


def test_a_row_of_what_was_left_out_that_stands_twice(bench):
    path = bench.folder / "skipped.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([rows[0], *rows]))
    bench.seal()
    [found] = [line for line in findings(bench, deep=True) if ": leaves out " in line and "; expected " in line]
    once, _, expected = found.partition(": leaves out ")[2].partition("; expected ")
    assert once == f"{expected}; {expected}"


def test_columns_of_other_lengths(plain):
    rows = plain.read(TRAIN)
    tokens, examples = len(rows["input_ids"][0]), len(rows["seq_lengths"][0])
    rows["labels"][0], rows["source_line"][0] = rows["labels"][0][:-1], np.append(rows["source_line"][0], 1)
    plain.write(TRAIN, rows)
    plain.seal()
    found = findings(plain)
    assert f"{TRAIN}: row 0: labels has {tokens - 1} values; expected {tokens}, as many as input_ids" in found
    assert (
        f"{TRAIN}: row 0: source_line has {examples + 1} values; expected {examples}, as many as seq_lengths" in found
    )
