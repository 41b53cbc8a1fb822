"""Mixing: how many sequences each dataset gives, which, in what order; and a folder that appears whole or not at all.

A tiny dataset's sequences are told apart by the line of their one example, so that counts read off the page.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cook as package
from commands.test_cli import COOK
from conftest import entry, write_shard
from cook import Mixed, OutputError, OutputExists, Recipe, RecipeError, mix, read_cooked, run
from cook.pack.mix_plan import allocate_sequences, plan_stream
from cook.store import columns, dataset_card, manifest, staging, write
from cook.trainers.tables import PARQUET_OPTIONS

SIZES = {"QED": 5, "race": 3, "squad": 10}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of 5, 3 and 10 sequences, one example each."""
    folder = tmp_path_factory.mktemp("cooked")
    for name, size in SIZES.items():
        write_shard(folder / "data", name, [entry(f"{name} {i} " + "word " * (i * 7 % 5)) for i in range(size)])
    settings = {"packing": "none", "cache": "none", "max_length": 64}
    run(Recipe(datasets="all", tokenizer="llama3", source=folder / "data", output=folder / "root", **settings))
    return folder / "root"


def taken(mixed: Mixed | Path) -> dict[str, Counter[int]]:
    """For each dataset how often each of its lines is in the mix."""
    found: dict[str, Counter[int]] = {}
    for row in read_cooked(getattr(mixed, "folder", mixed)).sequences():
        found.setdefault(row.dataset, Counter())[int(row.source_line[0])] += 1
    return found


def order(mixed: Mixed) -> list[tuple[str, int]]:
    return [(row.dataset, int(row.source_line[0])) for row in read_cooked(mixed.folder).sequences()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_by_default_every_sequence_of_every_dataset_once(root, tmp_path):
    mixed = mix(root, tmp_path / "mixed")
    assert taken(mixed) == {name: Counter(range(1, size + 1)) for name, size in SIZES.items()}
    assert {name: counts["given"]["sequences"] for name, counts in mixed.counts.items()} == SIZES
    assert order(mixed) != sorted(order(mixed)), "it is shuffled"
    assert not (tmp_path / ".cook").exists()


@pytest.mark.parametrize(
    ("weights", "sequences", "expected"),
    [
        ({"squad": 2, "QED": 0}, None, {"race": 3, "squad": 20}),
        ({"squad": 0.5, "QED": 0.5, "race": 0.1}, None, {"QED": 3, "squad": 5}),  # 2.5 is rounded up, 0.3 to nothing
        ({"squad": 0.1, "race": 2.5}, None, {"QED": 5, "race": 8, "squad": 1}),
        ({"squad": 0.15, "QED": 0, "race": 0}, None, {"squad": 2}),  # 1.5 as it is written; in binary it is less
        ({}, 9, {"QED": 3, "race": 1, "squad": 5}),  # 2.5, 1.5 and 5: the first of equal remainders
        ({}, 18, {"QED": 5, "race": 3, "squad": 10}),
        ({"race": 10, "squad": 0}, 10, {"QED": 1, "race": 9}),  # 10/7 and 60/7: 1 and 8, and one to the larger rest
        ({"QED": 0.2, "race": 0, "squad": 0.1}, 11, {"QED": 6, "squad": 5}),  # 1 to 1: 5.5 each
        ({"QED": 1e-9, "race": 0, "squad": 1e-9}, 3, {"QED": 1, "squad": 2}),
    ],
)
def test_what_weights_and_sequences_ask_for(root, tmp_path, weights, sequences, expected):
    found = taken(mix(root, tmp_path / "mixed", weights=weights, sequences=sequences))
    assert {name: counts.total() for name, counts in found.items()} == expected
    for name, counts in found.items():
        passes, more = divmod(expected[name], SIZES[name])
        every = [counts[line] for line in range(1, SIZES[name] + 1)]
        assert sorted(every) == [passes] * (SIZES[name] - more) + [passes + 1] * more


def test_the_manifest_says_what_was_asked_and_given(root, tmp_path):
    mixed = mix(root, tmp_path / "mixed", weights={"SQUAD": 0.25, "race": 1, "QED": 0}, seed=7)
    data = (mixed.folder / "cook.json").read_bytes()
    found = orjson.loads(data)
    assert found.pop("sha256") == hashlib.sha256(manifest.canonical_bytes(found)).hexdigest()
    assert found == mixed.manifest == read_cooked(mixed.folder).manifest
    assert (found["format_version"], found["kind"]) == (2, "mix")
    assert found["mix"] == {"seed": 7, "sequences": None, "split": "train", "weights": {"QED": 0.0, "squad": 0.25}}
    made = {name: read_cooked(root / name).manifest for name in SIZES}
    assert found["sources"] == [
        {"name": name, "sha256": orjson.loads((root / name / "cook.json").read_bytes())["sha256"],
         "tokenizer": "llama3", "max_length": 64, "kind": "dataset", "mask_rule": "prefix"}
        for name in ("race", "squad")
    ]  # fmt: skip
    assert found["tokenizer"] == made["squad"]["tokenizer"]
    assert set(found["versions"]) == {"cook", "numpy", "pyarrow", "zstandard"}
    assert b"/tmp" not in data
    assert str(tmp_path).encode() not in data
    rows = [row for row in read_cooked(mixed.folder).sequences() if row.dataset == "squad"]
    assert found["datasets"]["squad"] == {
        "held": {"sequences": 10, **{key: made["squad"]["counts"][key] for key in ("tokens", "trained_tokens")}},
        "asked": {
            "sequences": 2.5,
            **{key: made["squad"]["counts"][key] / 4 for key in ("tokens", "trained_tokens")},
        },
        "given": {
            "sequences": 3,
            "tokens": sum(len(row.input_ids) for row in rows),
            "trained_tokens": sum(int(row.loss_mask.sum()) for row in rows),
        },
    }
    (output,) = found["outputs"]
    path = mixed.folder / output["name"]
    assert output == {
        "split": "train", "name": "train-00000-of-00001.parquet", "rows": 6, "tokens": found["counts"]["tokens"],
        "trained_tokens": found["counts"]["trained_tokens"], "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert str(pq.read_schema(path).field("dataset").type) == "string"
    assert pq.read_schema(path).names == [*columns.SEQUENCE_COLUMNS, "dataset"]


def test_the_same_bytes_for_the_same_arguments_and_another_order_for_another_seed(root, tmp_path, monkeypatch):
    one = mix(root, tmp_path / "one", weights={"squad": 1.5}, seed=3)
    two = mix(str(root), str(tmp_path / "two"), weights={"squad": "1.50", "race": 1.0}, seed=3, jobs=1)
    assert contents(one.folder) == contents(two.folder)
    other = mix(root, tmp_path / "other", weights={"squad": 1.5}, seed=4)
    assert order(other) != order(one)
    assert taken(other)["squad"] != taken(one)["squad"], "another half goes round once more"
    assert order(mix(root, tmp_path / "again", seed=0)) != order(mix(root, tmp_path / "over", seed=1))


def test_a_larger_share_holds_a_smaller_one(root, tmp_path):
    small = taken(mix(root, tmp_path / "small", weights={"squad": 0.3}))["squad"]
    large = taken(mix(root, tmp_path / "large", weights={"squad": 0.7, "race": 0}))["squad"]
    assert small < large


def test_load_dataset_reads_it(root, tmp_path):
    import datasets  # a second that the other tests need not wait

    mixed = mix(root, tmp_path / "mixed", sequences=7)
    found = datasets.load_dataset(str(mixed.folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["dataset"] == [name for name, _ in order(mixed)]
    assert found.column_names == [*columns.SEQUENCE_COLUMNS, "dataset"]
    text = (mixed.folder / "README.md").read_text()
    assert dataset_card.CARD_MARK in text
    assert "- [squad](https://rajpurkar.github.io/SQuAD-explorer/): CC BY-SA 4.0 (attribution, share alike)" in text
    assert "| squad | 10 | 4 |" in text


TABLES = st.lists(st.tuples(st.integers(1, 40), st.fractions(0, 4, max_denominator=20)), min_size=1, max_size=6)


@given(TABLES, st.none() | st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_any_plan(tables, sequences, seed):
    sizes, weights = [size for size, _ in tables], [weight for _, weight in tables]
    if not any(weights):
        return
    names = [str(index) for index in range(len(sizes))]
    asked, given_ = allocate_sequences(sizes, weights, sequences)
    total = sum(size * weight for size, weight in tables)
    for share, number, size, weight in zip(asked, given_, sizes, weights, strict=True):
        assert share == (size * weight if sequences is None else Fraction(sequences) * size * weight / total)
        assert abs(number - share) <= Fraction(1, 2) if sequences is None else abs(number - share) < 1
    assert sequences is None or sum(given_) == sequences
    planned = plan_stream(names, sizes, given_, seed)
    assert planned.tolist() == plan_stream(names, sizes, given_, seed).tolist()
    times = np.split(np.bincount(planned, minlength=sum(sizes)), np.cumsum(sizes)[:-1])
    assert [int(each.sum()) for each in times] == given_
    assert all(each.max() - each.min() <= 1 for each in times)


def write_dataset(root: Path, name: str, rows: list[list[tuple[int, int]]], group: int, per_file: int) -> Path:
    """A cooked dataset of given sequences, each of examples of (input, output) tokens, without cooking any."""
    folder = root / name
    folder.mkdir(parents=True)
    outputs, token = [], 0
    ranges = [rows[begin : begin + per_file] for begin in range(0, len(rows), per_file)]
    for index, (part, file) in enumerate(zip(ranges, columns.file_names(len(ranges)), strict=True)):
        made = []
        for at, examples in enumerate(part):
            mask = [bit for inputs, outs in examples for bit in [0] * inputs + [1] * outs]
            ids = list(range(token, token + len(mask)))
            token += len(mask)
            labels = [i if bit else -100 for i, bit in zip(ids, mask, strict=True)]
            lengths = [inputs + outs for inputs, outs in examples]
            made.append([ids, labels, mask, lengths, [index] * len(lengths), [at + 1] * len(lengths)])
        table = pa.table(
            dict(zip(columns.SEQUENCE_COLUMNS, zip(*made, strict=True), strict=True)), columns.parquet_schema()
        )
        pq.write_table(table, folder / file, row_group_size=group, **PARQUET_OPTIONS)
        data = (folder / file).read_bytes()
        masks = [row[2] for row in made]
        outputs.append({
            "split": "train", "name": file, "rows": len(part), "tokens": sum(map(len, masks)), "bytes": len(data),
            "trained_tokens": sum(map(sum, masks)), "sha256": hashlib.sha256(data).hexdigest(),
        })  # fmt: skip
    tokenizer = {"name": "toy", "fingerprint": "f", "bos": None, "bos_id": None, "eos": "</s>", "eos_id": 2}
    fields = {
        "format_version": 2, "kind": "dataset", "shape": "context-qa", "mask_rule": "prefix", "dataset": name,
        "recipe": {"max_length": 100, "packing": "none"}, "tokenizer": tokenizer,
        "inputs": [], "outputs": outputs,
        "counts": dict.fromkeys(
            ("entries", "pairs", "examples", "sequences", "tokens", "trained_tokens", "split", "truncated",
             "special_strings"), 0
        ) | {"skipped_entries": {}, "skipped_pairs": {}, "markers": {}},
        "figures": {"longest_entry": 0, "utilisation": 1.0, "trained_share": 1.0},
    }  # fmt: skip
    (folder / "cook.json").write_bytes(manifest.seal(fields))
    return folder


EXAMPLES = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=4)
DATASET = st.tuples(st.lists(EXAMPLES, min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 12))


def row_bytes(row) -> tuple[bytes, ...]:
    return tuple(row[index].tobytes() for index in range(6))


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from("abcd"), DATASET, min_size=1), st.data())
def test_every_sequence_is_whole_and_equal_to_its_source(tmp_path_factory, sets, data):
    """Whatever the row groups and files on either side."""
    folder = tmp_path_factory.mktemp("any")
    held: dict[str, list[tuple[bytes, ...]]] = {}
    for name, (rows, group, per_file) in sets.items():
        write_dataset(folder / "root", name, rows, group, per_file)
        held[name] = [row_bytes(row) for row in read_cooked(folder / "root" / name).sequences()]
    most = data.draw(st.integers(1, 200))
    weights = {name: data.draw(st.sampled_from([0, 0.5, 1, 2.5])) for name in sorted(sets)}
    sequences = data.draw(st.none() | st.integers(1, 30))
    if sum(weights.values()) == 0:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "FILE_TOKENS", most)
        patch.setattr(write, "ROW_GROUP_TOKENS", data.draw(st.integers(1, 60)))
        mixed = mix(folder / "root", folder / "mixed", weights=weights, sequences=sequences, jobs=1)
    found: dict[str, Counter[tuple[bytes, ...]]] = {name: Counter() for name in held}
    for row in read_cooked(mixed.folder).sequences():
        found[row.dataset][row_bytes(row)] += 1
    for name, rows in held.items():
        assert set(found[name]) <= set(rows)
        times = [found[name][row] for row in rows]  # ids count on from row to row, so that no two are equal
        assert max(times) - min(times) <= 1
        assert sum(times) == mixed.counts.get(name, {"given": {"sequences": 0}})["given"]["sequences"]
    assert sum(output["rows"] for output in mixed.manifest["outputs"]) == mixed.manifest["counts"]["sequences"]
    for output in mixed.manifest["outputs"]:
        assert output["tokens"] <= most or output["rows"] == 1


def test_only_row_groups_that_are_needed_are_read(tmp_path, monkeypatch):
    write_dataset(tmp_path / "root", "set", [[(1, 1)]] * 100, group=10, per_file=50)
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, **kw: (read.append(i), original(self, i, **kw))[1]
    )
    mix(tmp_path / "root", tmp_path / "three", sequences=3)
    assert 1 <= len(read) <= 3
    read.clear()
    mix(tmp_path / "root", tmp_path / "many", weights={"set": 3})
    assert len(read) == 10, "each once, however often its rows are taken"


def test_rows_that_are_not_as_cook_writes_them_are_refused(tmp_path):
    folder = write_dataset(tmp_path / "root", "set", [[(2, 1), (0, 2)], [(1, 3)]], group=5, per_file=5)
    (file,) = folder.glob("*.parquet")
    whole = pq.read_table(file).to_pydict()
    for column, row, value in (
        ("loss_mask", 0, [0, 1, 0, 1, 1]),
        ("labels", 1, [-100, 6, 7, -100]),
        ("seq_lengths", 0, [2, 2]),
        ("source_line", 0, [1]),
        ("labels", 0, [-100, -100, 2, 3]),
    ):
        spoilt = {name: [value if (name, at) == (column, row) else each for at, each in enumerate(values)]
                  for name, values in whole.items()}  # fmt: skip
        pq.write_table(pa.table(spoilt, columns.parquet_schema()), file)
        fields = manifest.canonical_bytes(orjson.loads((folder / "cook.json").read_bytes()))
        fields = {key: each for key, each in orjson.loads(fields).items() if key != "sha256"}
        data = file.read_bytes()
        fields["outputs"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / "cook.json").write_bytes(manifest.seal(fields))
        with pytest.raises(OutputError, match="of its rows do not agree, as cook writes them"):
            mix(tmp_path / "root", tmp_path / "mixed")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_up_to_date_another_and_overwrite(root, tmp_path):
    first = mix(root, tmp_path / "mixed")
    before = [path.stat().st_mtime_ns for path in sorted(first.folder.iterdir())]
    again = mix(root, tmp_path / "mixed", overwrite=True)
    assert (again.up_to_date, first.up_to_date) == (True, False)
    assert again.manifest == first.manifest
    assert [path.stat().st_mtime_ns for path in sorted(first.folder.iterdir())] == before
    with pytest.raises(OutputExists, match=r"mix\.seed: it has 0, this run 1") as caught:
        mix(root, tmp_path / "mixed", seed=1, weights={"race": 0})
    assert "sources: race" in str(caught.value)
    assert not mix(root, tmp_path / "mixed", seed=1, overwrite=True).up_to_date
    (first.folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"holds what cook did not write, and is not replaced: notes\.txt"):
        mix(root, tmp_path / "mixed", overwrite=True)
    (first.folder / "notes.txt").unlink()
    (first.folder / "README.md").write_text("mine")
    with pytest.raises(OutputExists, match=r"is not replaced: README\.md"):
        mix(root, tmp_path / "mixed", overwrite=True)


def test_what_is_not_a_mix_is_never_replaced(root, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".notes").touch()
    with pytest.raises(OutputExists, match="is not cook's"):
        mix(root, tmp_path / "mine", overwrite=True)
    before = contents(root / "squad")
    with pytest.raises(OutputExists, match="is a cooked dataset"):
        mix(root, root / "squad", overwrite=True)
    assert contents(root / "squad") == before


def test_a_mix_beside_its_datasets_is_none_of_them(tmp_path):
    run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=tmp_path / "root"))
    first = mix(tmp_path / "root", tmp_path / "root" / "mixed")
    assert mix(tmp_path / "root", tmp_path / "root" / "mixed").up_to_date
    assert set(mix(tmp_path / "root", tmp_path / "other").counts) == set(first.counts)
    text = (tmp_path / "root" / "README.md").read_text()
    dataset_card.write_card(tmp_path / "root")
    assert (tmp_path / "root" / "README.md").read_text() == text
    with pytest.raises(OutputExists):
        mix(tmp_path / "root", tmp_path / "root" / "mixed", seed=9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"sqad": 2}}, "weights: sqad: no such dataset; did you mean squad?"),
        ({"weights": {"squad": -1}}, r"weights: squad: must be a number from 0 to 1,000,000 \(it is -1\)"),
        ({"weights": {"squad": "x"}}, "weights: squad: must be a number"),
        ({"weights": {"squad": float("nan")}}, "weights: squad: must be a number"),
        ({"weights": {"squad": 1, "SQUAD": 2}}, "weights: squad: is named twice"),
        ({"weights": dict.fromkeys(SIZES, 0)}, "weights: all datasets are left out"),
        ({"weights": dict.fromkeys(SIZES, 0.001)}, "weights: the mix would have 0 sequences"),
        ({"sequences": 0}, "sequences: must be a whole number from 1"),
        ({"seed": -1}, "seed: must be a whole number from 0"),
        ({"split": "validation"}, "split: QED, race, squad has no validation"),
        ({"jobs": 0}, "jobs: must be a whole number from 1"),
    ],
)
def test_settings_that_are_wrong(root, tmp_path, settings, message):
    with pytest.raises(RecipeError, match=message):
        mix(root, tmp_path / "mixed", **settings)
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_wrong_is_told_at_once(root, tmp_path):
    with pytest.raises(RecipeError) as caught:
        mix(root, tmp_path / "mixed", weights={"x": 1, "race": -1}, sequences=-1, seed=-1)
    assert len(str(caught.value).splitlines()) == 4


def test_datasets_must_be_of_one_tokenizer_bos_and_eos(tmp_path):
    for name, own in {"squad": {}, "race": {"bos": "none"}, "WikiTableQuestions": {"tokenizer": "llama2"}}.items():
        run(Recipe(datasets=name, source="sample", output=tmp_path / "root", **{"tokenizer": "llama3"} | own))
    with pytest.raises(OutputError) as caught:
        mix(tmp_path / "root", tmp_path / "mixed")
    text = str(caught.value)
    first = f"{tmp_path}/root/WikiTableQuestions of llama2"
    assert f"{tmp_path}/root/race: is of tokenizer llama3, {first}: fingerprint '" in text
    assert f"{tmp_path}/root/squad: is of tokenizer llama3, {first}: fingerprint '" in text
    assert "bos '<|begin_of_text|>' and '<s>', bos_id 128000 and 1, eos '<|end_of_text|>' and '</s>'" in text
    with pytest.raises(OutputError) as caught:
        mix(tmp_path / "root", tmp_path / "mixed", weights={"WikiTableQuestions": 0})
    told = f"{tmp_path}/root/squad: is of tokenizer llama3, {tmp_path}/root/race of llama3: "
    assert str(caught.value).startswith(told + "bos '<|begin_of_text|>' and None, bos_id 128000 and None\n")
    weights = {"WikiTableQuestions": 0, "race": 0}
    assert list(mix(tmp_path / "root", tmp_path / "mixed", weights=weights).counts) == ["squad"]


def test_different_lengths_are_allowed_and_recorded(tmp_path):
    for name, length in {"squad": 512, "race": 1024}.items():
        settings = {"tokenizer": "llama3", "source": "sample", "max_length": length}
        run(Recipe(datasets=name, output=tmp_path / "root", **settings))
    sources = mix(tmp_path / "root", tmp_path / "mixed").manifest["sources"]
    assert [(row["name"], row["max_length"]) for row in sources] == [("race", 1024), ("squad", 512)]


def test_a_damaged_dataset_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "root", "a", [[(1, 1)]], 1, 1)
    write_dataset(tmp_path / "root", "b", [[(1, 1)]], 1, 1)
    (file,) = folder.glob("*.parquet")
    data = file.read_bytes()
    file.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    with pytest.raises(OutputError, match=r"a/train-00000-of-00001\.parquet: its sha256 is"):
        mix(tmp_path / "root", tmp_path / "mixed")
    text = (folder / "cook.json").read_bytes()
    (folder / "cook.json").write_bytes(text.replace(b'"format_version": 2', b'"format_version": 9'))
    with pytest.raises(OutputError, match="is of format version 9"):
        mix(tmp_path / "root", tmp_path / "mixed")
    assert list(mix(tmp_path / "root", tmp_path / "mixed", weights={"a": 0}).counts) == ["b"]
    shutil.rmtree(tmp_path / "mixed")
    with pytest.raises(OutputError, match="holds no cooked dataset"):
        mix(tmp_path / "nowhere", tmp_path / "mixed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_dataset_that_a_kill_left_aside_is_found(tmp_path):
    folder = write_dataset(tmp_path / "root", "a", [[(1, 1)]], 1, 1)
    write_dataset(tmp_path / "root", "b", [[(1, 1)]], 1, 1)
    (tmp_path / "root" / staging.WORK_DIR).mkdir()
    folder.rename(staging.backup_path(tmp_path / "root", "a"))
    assert list(mix(tmp_path / "root", tmp_path / "mixed").counts) == ["a", "b"]


def test_a_dataset_that_is_replaced_meanwhile_is_noticed(tmp_path, monkeypatch):
    folder = write_dataset(tmp_path / "root", "a", [[(1, 1)], [(1, 2)]], 1, 2)

    def replaced(job):
        done = original(job)
        fields = orjson.loads((folder / "cook.json").read_bytes()) | {"more": 1}
        fields.pop("sha256")
        (folder / "cook.json").write_bytes(manifest.seal(fields))
        return done

    original = write.write_parquet_file
    monkeypatch.setattr(write, "write_parquet_file", replaced)
    with pytest.raises(OutputError, match="root/a: changed while it was read"):
        mix(tmp_path / "root", tmp_path / "mixed", jobs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_the_reader_refuses_a_mix_that_is_not_whole(root, tmp_path):
    mixed = mix(root, tmp_path / "mixed")
    text = (mixed.folder / "cook.json").read_bytes()
    for damaged, message in (
        (text.replace(b'"seed": 0', b'"seed": 1'), "is damaged: its sha256"),
        (text.replace(b'"format_version": 2', b'"format_version": 1'), "is of format version 1"),
        (manifest.seal({"format_version": 2, "kind": "stew", "outputs": []}), "is of kind 'stew'"),
    ):
        (mixed.folder / "cook.json").write_bytes(damaged)
        with pytest.raises(OutputError, match=message):
            read_cooked(mixed.folder)
    (mixed.folder / "cook.json").write_bytes(text)
    (mixed.folder / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(OutputError, match="is missing"):
        read_cooked(mixed.folder)


def test_the_command(cook, root, tmp_path):
    done = cook("mix", str(root), "--to", "mixed", "--weights", "squad=2,QED=0.5", "--seed", "1")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "load_dataset('mixed', split=\"train\")" in done.stderr
    assert "26 sequences, " in done.stderr
    assert taken(tmp_path / "mixed")["QED"].total() == 3
    again = cook(
        "mix", str(root), "--to", "mixed", "--weights", "squad=2", "--weights", "QED=0.5", "--seed", "1", "--json", "-q"
    )
    assert again.stderr == ""
    found = orjson.loads(again.stdout)
    assert found["up_to_date"]
    assert found["datasets"]["QED"]["asked"]["sequences"] == 2.5
    other = cook("mix", str(root), "--to", "mixed", "--sequences", "4")
    assert other.exit_code == 5
    assert "mix.sequences: it has null, this run 4" in other.stderr
    assert cook("mix", str(root), "--to", "mixed", "--sequences", "4", "--overwrite").exit_code == 0
    assert package.read_cooked(tmp_path / "mixed").manifest["counts"]["sequences"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--weights", "squad"), 2, "'squad' is not NAME=X"),
        (("--weights", "squad=1,squad=2"), 2, "squad is named twice"),
        (("--weights", "nope=1"), 2, "there are QED, race, squad"),
        (("--sequences", "0"), 2, "sequences: must be"),
        (("--split", "test"), 2, "has no test"),
        (("--to", ".."), 5, "is not cook's"),
        (("--to", "/"), 2, "cannot name a folder"),
    ],
)
def test_errors_of_the_command(cook, root, arguments, code, message):
    done = cook("mix", str(root), "--to", "mixed", *arguments)
    assert message in done.stderr
    assert done.exit_code == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_kill_in_the_middle_leaves_nothing(root, tmp_path, sent, code):
    """Nothing that is not whole; and after a kill that nothing can handle, the next mix clears what was left."""
    command = [COOK, "mix", str(root), "--to", str(tmp_path / "here" / "mixed"), "--sequences", "3000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "here" / ".cook" / "mixed" / "out").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(sent)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in error
    assert not (tmp_path / "here" / "mixed").exists()
    assert sent == signal.SIGKILL or not (tmp_path / "here").exists()
    mixed = mix(root, tmp_path / "here" / "mixed", sequences=3)
    assert os.listdir(tmp_path / "here") == ["mixed"]
    assert read_cooked(mixed.folder).manifest["counts"]["sequences"] == 3


def test_mixing_never_imports_datasets_or_pandas(root, tmp_path):
    code = (
        "import sys; from cook.cli.app import main\n"
        f"main(['mix', {str(root)!r}, '--to', {str(tmp_path / 'mixed')!r}, '-q'], standalone_mode=False)\n"
        "print(sorted({'datasets', 'pandas', 'tokenizers', 'splintr'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
