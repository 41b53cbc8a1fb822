"""cook verify: what is right passes; whatever is changed in an output, or in its manifest, is found and named."""

import copy
import random
import shutil
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cook
from conftest import COLLECTION, entry, needs_collection, pair, write_shard
from cook import OutputError, Recipe, RecipeError, SourceError, TokenizerError, mix, run, verify
from cook.recipe import PACKINGS
from cook.rows import Findings
from cook.sources import sha256_of
from cook.store import manifest, parquet

FAULTS = 224


def told(verified):
    return [str(finding) for each in verified.data_sets for finding in each.findings]


def right(path, source):
    """Nothing is found, and all was compared."""
    verified = verify(path, deep=True, source=str(source))
    assert told(verified) == []
    assert all(each.compared for each in verified.data_sets)
    assert verify(path).found == 0
    return verified


LONG = entry("A long context. " * 12, *(pair(f"Question {i}?", f"Answer {i}.") for i in range(12)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set with all that can become of an entry, and its source."""
    root = tmp_path_factory.mktemp("made")
    rows = [
        entry(f"Context {i}, " + "a word " * (i % 9), pair(f"Q{i}?", f"Answer {i}"), pair("Why?", f"{i}é"))
        for i in range(14)
    ]
    rows += [rows[3], entry("x", pair(" ", "a"), pair("q", "a")), {"context": "none", "QA_list": []}, b"{", LONG]
    write_shard(root, "set", rows)
    write_shard(root, "set", [entry(f"Another {i}") for i in range(9)] + [entry("word " * 300)], "00001.jsonl")
    recipe = Recipe(
        datasets="set", tokenizer="llama3", source=root, output=root / "out", max_length=150, validation=0.2,
        dedup=True, on_error="skip", max_dropped=1.0, overlong="split", limit=25, cache="none",
    )  # fmt: skip
    assert run(recipe).results[0].counts["skipped_entries"] == {"no_pairs": 1, "bad_line": 1, "repeat": 1}
    right(root / "out", root)
    return root


class Bench:
    """A copy of the data set, to break."""

    def __init__(self, made: Path, folder: Path) -> None:
        self.source, self.folder = made, folder
        shutil.copytree(made / "out" / "set", folder)
        self.fields = manifest.read(folder)

    def seal(self) -> None:
        """Make sizes and hashes of files and of the manifest agree again."""
        for output in self.fields["outputs"]:
            path = self.folder / output["name"]
            output["bytes"], output["sha256"] = path.stat().st_size, sha256_of(path)
        (self.folder / manifest.NAME).write_bytes(manifest.seal(self.fields))

    def rewrite(self, name: str, table: pa.Table) -> None:
        with pq.ParquetWriter(self.folder / name, table.schema, **parquet.WRITER) as writer:
            writer.write_table(table)
        self.seal()

    def found(self) -> list[str]:
        try:
            return told(verify(self.folder, deep=True, source=str(self.source)))
        except cook.CookError as exc:  # not a pass: the source is not that of the manifest
            return [f"exit code {exc.exit_code}: {exc}"]


def parquet_name(bench, rng):
    return rng.choice([output["name"] for output in bench.fields["outputs"] if "split" in output])


def flip_a_bit(bench, rng):
    path = rng.choice(sorted(bench.folder.iterdir()))
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)
    return path.name


def drop_a_row(bench, rng):
    name = parquet_name(bench, rng)
    table = pq.read_table(bench.folder / name)
    at = rng.randrange(len(table))
    bench.rewrite(name, pa.concat_tables([table.slice(0, at), table.slice(at + 1)]))
    return ""


def exchange_rows(bench, rng):
    name = parquet_name(bench, rng)
    table = pq.read_table(bench.folder / name)
    one, other = rng.sample(range(len(table)), 2)
    order = list(range(len(table)))
    order[one], order[other] = other, one
    bench.rewrite(name, table.take(pa.array(order)))
    return name


def change_a_value(column):
    def change(bench, rng):
        name = parquet_name(bench, rng)
        table = pq.read_table(bench.folder / name)
        rows = table.column(column).to_pylist()
        row = rng.randrange(len(rows))
        at = rng.randrange(len(rows[row]))
        was = rows[row][at]
        rows[row][at] = 1 - was if column == "loss_mask" else was + rng.choice([-3, -1, 1, 2, 5])
        index = table.schema.get_field_index(column)
        kind = table.schema.field(column)
        bench.rewrite(name, table.set_column(index, kind, pa.array(rows, kind.type)))
        return ""

    return change


def move_the_border(bench, rng):
    """Mask and labels agree, and an input's last token is trained."""
    name = parquet_name(bench, rng)
    table = pq.read_table(bench.folder / name)
    ids, masks, labels = (table.column(c).to_pylist() for c in ("input_ids", "loss_mask", "labels"))
    row = rng.randrange(len(ids))
    at = masks[row].index(1) - 1
    masks[row][at], labels[row][at] = 1, ids[row][at]
    for column, rows in (("loss_mask", masks), ("labels", labels)):
        kind = table.schema.field(column)
        table = table.set_column(table.schema.get_field_index(column), kind, pa.array(rows, kind.type))
    output = next(output for output in bench.fields["outputs"] if output["name"] == name)
    split = bench.fields["counts"]["splits"][output["split"]]
    for place in (output, split, bench.fields["counts"]):
        place["trained_tokens"] += 1
    bench.rewrite(name, table)
    return ""


def numbers(fields, where=()):
    """Every number of a manifest, by its place."""
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*where, key))
        elif type(value) in (int, float):
            yield (*where, key)


def change_a_number(bench, rng):
    """Any number but sizes of files, which are told below; sealed again."""
    place = rng.choice([p for p in numbers(bench.fields) if (p[0], p[-1]) != ("outputs", "bytes")])
    *path, key = place
    inner = bench.fields
    for step in path:
        inner = inner[step]
    inner[key] += rng.choice([1, 2, -1]) if type(inner[key]) is int else 0.01
    if place == ("recipe", "limit"):  # of 24 entries, 25 and more leave out none
        inner[key] = 5
    if place == ("recipe", "validation"):  # the share that moves a context's hash to the other side
        inner[key] = 0.9
    bench.seal()
    return ""


def change_a_skipped_row(bench, rng):
    path = bench.folder / "skipped.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    row = rng.choice(rows)
    key = rng.choice(["line", "pair", "reason", "pairs", "tokens", "shard", None])
    if key is None:
        rows.remove(row)
    else:
        words = {"reason": "overlong" if row["reason"] == "no_pairs" else "no_pairs", "shard": "00007.jsonl"}
        row[key] = words[key] if key in words else (row[key] or 0) + 1
    path.write_bytes(b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in rows))
    bench.seal()
    return ""


BREAKS = [
    flip_a_bit,
    drop_a_row,
    exchange_rows,
    *map(change_a_value, parquet.COLUMNS),
    move_the_border,
    change_a_number,
    change_a_number,
    change_a_skipped_row,
]


def test_every_injected_fault_is_found(made, tmp_path, record_property):
    """Seeded random faults, everything sealed again but for flipped bits: detected / injected must be 1."""
    missed = []
    for seed in range(FAULTS):
        rng = random.Random(seed)  # noqa: S311 - faults
        bench = Bench(made, tmp_path / str(seed))
        breaks = BREAKS[seed % len(BREAKS)]
        named = breaks(bench, rng)
        found = bench.found()
        if not found or not any(named in line for line in found):
            missed.append((seed, breaks.__name__, found))
        shutil.rmtree(bench.folder)
    record_property("detected", f"{FAULTS - len(missed)} of {FAULTS}")
    assert missed == []


def test_every_number_of_a_manifest_is_checked(made, tmp_path):
    bench = Bench(made, tmp_path / "set")
    whole = copy.deepcopy(bench.fields)
    missed = []
    for place in numbers(whole):
        if (place[0], place[-1]) == ("outputs", "bytes") or place[0] == "recipe":
            continue
        bench.fields = copy.deepcopy(whole)
        inner = bench.fields
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] += 1
        bench.seal()
        if not bench.found():
            missed.append(place)
    assert missed == []


@pytest.mark.parametrize("column", parquet.COLUMNS)
def test_what_is_found_names_the_row(made, tmp_path, column):
    bench = Bench(made, tmp_path / "set")
    name = "train-00000-of-00001.parquet"
    table = pq.read_table(bench.folder / name)
    rows = table.column(column).to_pylist()
    rows[3][0] += 1
    kind = table.schema.field(column)
    bench.rewrite(name, table.set_column(table.schema.get_field_index(column), kind, pa.array(rows, kind.type)))
    assert any(line.startswith(f"{name}: row 3: ") for line in bench.found())


def test_without_the_source_rows_and_sums_are_checked(made, tmp_path):
    for breaks in (drop_a_row, change_a_value("labels"), change_a_value("loss_mask"), change_a_value("seq_lengths")):
        for seed in range(5):
            bench = Bench(made, tmp_path / f"{breaks.__name__}-{seed}")
            breaks(bench, random.Random(seed))  # noqa: S311 - faults
            assert verify(bench.folder).found
            shutil.rmtree(bench.folder)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("overlong", ["split", "truncate", "drop"])
def test_the_sample_is_right(tmp_path, packing, overlong):
    recipe = Recipe(
        datasets="all", tokenizer="llama3", source="sample", output=tmp_path, packing=packing, overlong=overlong,
        max_length=300, max_dropped=1.0, dedup=True, validation=0.3,
    )  # fmt: skip
    run(recipe)
    assert len(right(tmp_path, "sample").data_sets) == 3


@pytest.mark.parametrize("model", ["llama2", "mistral", "qwen3", "llama3"])
def test_texts_that_do_not_decode_to_themselves(tmp_path, models, model):
    """NFC, "▁", special strings, no BOS; by preset and by tokenizer.json."""
    texts = ["e\u0301 decomposed", "▁ a ▁", "</s> <|eot_id|>", " lead", "", "\x00\t\n", "🍏" * 90, "\u212b"]
    write_shard(tmp_path, "set", [entry(text, pair(text or "q", "a▁"), pair("▁", text + "!")) for text in texts])
    for tokenizer in {model, str(models[model])} - {"qwen3"}:
        out = tmp_path / tokenizer.replace("/", "_")
        run(
            Recipe(datasets="set", tokenizer=tokenizer, source=tmp_path, output=out, overlong="truncate",
                   max_length=90, max_dropped=1.0)
        )  # fmt: skip
        verified = verify(out, deep=True, source=str(tmp_path), tokenizer=tokenizer)
        assert told(verified) == []


def test_another_template_and_keys(tmp_path):
    row = {"passage": "{question}", "qs": [{"q": "{context}", "a": "{answer}"}, {"q": "x", "a": "y"}]}
    write_shard(tmp_path, "set", [row] * 3)
    fields = {"context": "passage", "pairs": "qs", "question": "q", "answer": "a"}
    settings = {"context_template": "{context}|{context}", "pair_template": "{answer} <- {question}", "delimiter": ""}
    run(Recipe(datasets="set", tokenizer="llama3", source=tmp_path, output=tmp_path / "o", fields=fields, **settings))
    right(tmp_path / "o", tmp_path)


@needs_collection
@pytest.mark.parametrize(("packing", "overlong"), [*zip(PACKINGS, ["split", "truncate", "drop", "split"], strict=True)])
def test_real_data_sets_are_right(tmp_path, packing, overlong):
    recipe = Recipe(
        datasets=("QED", "AQUA_RAT_yes_opt", "squad"), tokenizer="llama3", source=COLLECTION, output=tmp_path,
        packing=packing, overlong=overlong, max_length=512, max_dropped=1.0, limit=400,
    )  # fmt: skip
    run(recipe)
    right(tmp_path, COLLECTION)


def test_a_mix(tmp_path, made):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path / "r", max_length=1024))
    mix(tmp_path / "r", tmp_path / "m", weights={"squad": 2, "race": 0.5}, seed=3)
    assert told(verify(tmp_path / "m")) == []
    with pytest.raises(OutputError, match="is a mix"):
        verify(tmp_path / "m", deep=True, source="sample")
    fields = manifest.read(tmp_path / "m")
    for place in [("mix", "seed"), ("counts", "tokens"), ("data_sets", "race", "given", "sequences")]:
        changed = copy.deepcopy(fields)
        inner = changed
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] += 1
        (tmp_path / "m" / manifest.NAME).write_bytes(manifest.seal(changed))
        assert told(verify(tmp_path / "m"))


def test_what_lies_beside(made, tmp_path):
    bench = Bench(made, tmp_path / "set")
    shutil.copy(bench.folder / "train-00000-of-00001.parquet", bench.folder / "train-00001-of-00001.parquet")
    (bench.folder / "skipped.jsonl").unlink()
    assert bench.found() == [
        "skipped.jsonl: is missing",
        "train-00001-of-00001.parquet: is here; expected only the files that the manifest names",
    ]
    shutil.copytree(made / "out", tmp_path / "root")
    card = tmp_path / "root" / "README.md"
    card.write_text(card.read_text().replace("sequences", "sentences", 1))
    assert told(verify(tmp_path / "root")) == [
        "README.md: is not the card of the data sets that are here; cook any of them to renew it"
    ]


def test_what_cannot_be_checked_is_an_error(made, tmp_path, models):
    with pytest.raises(OutputError, match="is not cooked"):
        verify(tmp_path)
    with pytest.raises(RecipeError):
        verify(made / "out", deep=True)
    with pytest.raises(SourceError, match="holds no data set set"):
        verify(made / "out", deep=True, source="sample")
    with pytest.raises(SourceError, match="no such folder"):
        verify(made / "out", deep=True, source=str(tmp_path / "nowhere"))
    with pytest.raises(TokenizerError, match="is not the tokenizer"):
        verify(made / "out", deep=True, source=str(made), tokenizer=str(models["llama2"]))
    write_shard(tmp_path, "set", [entry("other")])
    with pytest.raises(SourceError, match="is not the shard"):
        verify(made / "out", deep=True, source=str(tmp_path))
    (tmp_path / "set" / "shard" / "00000.jsonl").rename(tmp_path / "set" / "shard" / "x.jsonl")
    with pytest.raises(SourceError, match=r"holds no shard 00000\.jsonl"):
        verify(made / "out", deep=True, source=str(tmp_path))


def test_the_command(cook, made, tmp_path):
    assert cook("verify", str(made / "out"), "--deep", "--source", str(made)).exit_code == 0
    bench = Bench(made, tmp_path / "set")
    (bench.folder / manifest.NAME).write_bytes(b"{")
    result = cook("verify", "set")
    assert (result.exit_code, result.stdout) == (4, "set/cook.json: is damaged: not JSON: "
                                                 "unexpected end of data: line 1 column 2 (char 1)\n")  # fmt: skip
    found = orjson.loads(cook("verify", "set", "--json").stdout)
    assert (found["right"], found["data_sets"][0]["found"]) == (False, 1)
    assert cook("verify", "nowhere").exit_code == 1
    assert cook("verify", str(made / "out"), "--deep").exit_code == 2


def test_findings_are_counted_beyond_those_that_are_kept(monkeypatch, made, tmp_path, cook):
    findings = Findings()
    for row in range(10_005):
        findings.note("file", row, "x")
    assert (len(findings.kept), len(findings)) == (10_000, 10_005)
    bench = Bench(made, tmp_path / "set")
    name = "train-00000-of-00001.parquet"
    table = pq.read_table(bench.folder / name)
    lines = [np.full(len(row), 0) for row in table.column("source_line").to_pylist()]
    kind = table.schema.field("source_line")
    rows = pa.concat_tables([table.set_column(5, kind, pa.array(lines, kind.type))] * 4)
    bench.rewrite(name, rows)
    shown = cook("verify", "set").stdout.splitlines()
    assert sum(name in line and "row" in line for line in shown) == 20
    assert "more (--json lists them)" in shown[-1]
