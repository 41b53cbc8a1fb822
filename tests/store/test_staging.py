"""On disk and back: the Parquet, the manifest, the card, and a folder that appears whole or not at all."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import entry, write_shard
from cook import OutputError, Recipe, read_cooked, run
from cook.core import files, records
from cook.store import dataset_card, manifest, pages, staging, write
from cook.store.dataset_card import CardWarning

EXAMPLES = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=9), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans())))
def test_a_token_and_its_mask_are_one_value(tokens):
    ids, mask = (np.array([token[at] for token in tokens], kind) for at, kind in enumerate((np.int32, bool)))
    raw = records.mark_trained(ids, mask)
    assert raw.dtype == np.uint32
    assert records.trained_mask(raw).tolist() == mask.tolist()
    found = records.token_ids(raw)
    assert found.dtype == np.int32
    assert found.tolist() == ids.tolist()


@given(EXAMPLES, st.data())
def test_what_is_gathered_is_what_was_spooled(tmp_path_factory, made, data):
    """Examples of any ids and masks in several spool files, in any order and grouping, come back as they were."""
    folder = tmp_path_factory.mktemp("store")
    spools: list[list[tuple[int, bool]]] = [[], [], [], []]
    table = np.zeros(len(made), records.PLACED_EXAMPLE_DTYPE)
    for index, (tokens, file) in enumerate(made):
        trained = sum(bit for _, bit in tokens)
        table[index] = (file, len(spools[file]), len(tokens), trained, index % 3, index + 1)
        spools[file] += tokens
    for file, tokens in enumerate(spools):
        ids, mask = np.array(tokens, np.int64).reshape(-1, 2).T
        records.mark_trained(ids, mask == 1).tofile(folder / f"{file}.spool")
    order = data.draw(st.permutations(range(len(made))))
    ends = sorted({*data.draw(st.lists(st.integers(1, len(made)))), len(made)})
    starts = np.array([0, *ends])
    paths = tuple(str(folder / f"{file}.spool") for file in range(4))
    path = folder / "train.parquet"
    done = write.write_parquet_file(write.FileJob(str(path), paths, table[list(order)], starts))
    assert done.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    found = pq.read_table(path).to_pylist()
    assert (done.rows, done.tokens) == (len(found), sum(len(tokens) for tokens, _ in made))
    for row, begin, end in zip(found, starts[:-1], starts[1:], strict=True):
        examples = [(made[i][0], i) for i in order[begin:end]]
        assert row["input_ids"] == [token for tokens, _ in examples for token, _ in tokens]
        assert row["loss_mask"] == [bit for tokens, _ in examples for _, bit in tokens]
        assert row["labels"] == [t if m else -100 for t, m in zip(row["input_ids"], row["loss_mask"], strict=True)]
        assert row["seq_lengths"] == [len(tokens) for tokens, _ in examples]
        assert row["source_shard"] == [i % 3 for _, i in examples]
        assert row["source_line"] == [i + 1 for _, i in examples]


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 60))
def test_rows_are_split_in_order_and_within_the_most(tokens, most):
    ranges = records.split_rows(np.array(tokens, np.int64), most)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(len(tokens)))
    for first, last in ranges:
        assert sum(tokens[first:last]) <= most or last == first + 1


@pytest.fixture
def cooked(tmp_path) -> Path:
    write_shard(tmp_path, "set", [entry(f"context {i}") for i in range(20)])
    run(Recipe(datasets="set", tokenizer="llama3", source=tmp_path, output=tmp_path / "out"))
    return tmp_path / "out" / "set"


def test_columns_and_types(cooked):
    schema = pq.read_schema(cooked / "train-00000-of-00001.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "input_ids": "list<element: int32>",
        "labels": "list<element: int32>",
        "loss_mask": "list<element: int8>",
        "seq_lengths": "list<element: int32>",
        "source_shard": "list<element: int32>",
        "source_line": "list<element: int32>",
    }
    group = pq.ParquetFile(cooked / "train-00000-of-00001.parquet").metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert [column.path_in_schema.split(".")[0] for column in columns if column.has_dictionary_page] == [
        "input_ids", "labels", "loss_mask",
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=9),
    st.sampled_from([0, 128_255, pages.MAX_CODED_VALUE - 1, pages.MAX_CODED_VALUE]),
)
def test_what_is_laid_out_of_ids_is_what_is_read(tmp_path_factory, lengths, highest):
    """Of small vocabularies and large ones, by a dictionary and, where the ids of a row group are too many, without."""
    path = tmp_path_factory.mktemp("rows") / "file.parquet"
    ids_file, many = path.with_suffix(".ids"), pages.MAX_DICTIONARY + 1 if highest == pages.MAX_CODED_VALUE - 1 else 0
    inputs, outputs = (np.array(part, np.int32) for part in zip(*lengths, strict=True))
    inputs[-1] += many
    ids = np.linspace(0, highest, int((inputs + outputs).sum())).astype(np.int32)
    mask = [
        bit for of_input, of_output in zip(inputs, outputs, strict=True) for bit in [0] * of_input + [1] * of_output
    ]
    ids_file.write_bytes(records.mark_trained(ids, np.array(mask) == 1).tobytes())
    examples = np.zeros(len(lengths), records.PLACED_EXAMPLE_DTYPE)
    examples["tokens"], examples["trained"], examples["line"] = inputs + outputs, outputs, np.arange(len(lengths)) + 1
    examples["at"] = np.cumsum(inputs + outputs) - (inputs + outputs)
    done = write.write_parquet_file(
        write.FileJob(str(path), (str(ids_file),), examples, np.arange(len(lengths) + 1, dtype=np.int64))
    )
    table = pq.read_table(path)
    assert [i for row in table["input_ids"].to_pylist() for i in row] == ids.tolist()
    assert [bit for row in table["loss_mask"].to_pylist() for bit in row] == mask
    assert [label for row in table["labels"].to_pylist() for label in row] == [
        i if bit else -100 for i, bit in zip(ids.tolist(), mask, strict=True)
    ]
    assert [list(map(len, table[name].to_pylist())) for name in ("input_ids", "labels", "loss_mask")] == [
        (inputs + outputs).tolist()
    ] * 3
    assert (done.tokens, done.trained_tokens) == (len(ids), sum(mask))
    assert pq.read_metadata(path).row_group(0).column(0).has_dictionary_page == (highest < pages.MAX_CODED_VALUE - 1)


def test_the_manifest_by_its_fields(cooked):
    data = (cooked / "cook.json").read_bytes()
    found = orjson.loads(data)
    sealed = found.pop("sha256")
    assert sealed == hashlib.sha256(manifest.canonical_bytes(found)).hexdigest()
    assert manifest.seal(found) == data
    assert found["format_version"] == 2
    assert found["recipe"] == {
        "max_length": 4096, "packing": "best-fit", "overlong": "split", "seed": 0, "limit": None, "delimiter": "\n\n",
        "validation": None, "dedup": False,
        "fields": {"context": "context", "pairs": "QA_list", "question": "Q", "answer": "A"},
        "context_template": " <CON> {context} </CON>", "pair_template": "<QUE> {question} <ANS> {answer} </END>",
    }  # fmt: skip
    assert found["source"] == {"kind": "local"}
    shard = cooked.parents[1] / "set" / "shard" / "00000.jsonl"
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    assert found["inputs"] == [{"name": "00000.jsonl", "bytes": shard.stat().st_size, "sha256": digest}]
    (output,) = found["outputs"]
    assert output["sha256"] == hashlib.sha256((cooked / output["name"]).read_bytes()).hexdigest()
    packages = {"cook": "instruct-cook", "numpy": "numpy", "pyarrow": "pyarrow", "zstandard": "zstandard"}
    assert found["versions"] == {name: version(package) for name, package in packages.items()}
    assert {key: found["tokenizer"][key] for key in ("name", "bos_id", "eos_id", "pad_id")} == {
        "name": "llama3", "bos_id": 128000, "eos_id": 128001, "pad_id": 128001,
    }  # fmt: skip


def refused(cooked: Path) -> str:
    with pytest.raises(OutputError) as caught:
        read_cooked(cooked)
    return str(caught.value)


def test_the_reader_refuses_what_is_not_whole(cooked):
    parquet_file = cooked / "train-00000-of-00001.parquet"
    data = parquet_file.read_bytes()
    parquet_file.write_bytes(data[:-1])
    assert "by its manifest" in refused(cooked)
    parquet_file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert "its sha256 is " in refused(cooked)
    parquet_file.unlink()
    assert "is missing" in refused(cooked)
    text = (cooked / "cook.json").read_bytes()
    for damaged, message in (
        (text.replace(b'"seed": 0', b'"seed": 1'), "is damaged: its sha256"),
        (text[:-20], "is damaged: not JSON"),
        (
            text.replace(b'"format_version": 2', b'"format_version": 1'),
            "of format version 1, and this cook reads 2: make it again",
        ),
        (b"{}", "is not a manifest of cook"),
    ):
        (cooked / "cook.json").write_bytes(damaged)
        assert message in refused(cooked)
    (cooked / "cook.json").unlink()
    assert "not a cook output: it has no cook.json" in refused(cooked)


def resealed(cooked: Path, change) -> str:
    """Why a manifest is refused that was changed and sealed anew."""
    path = cooked / "cook.json"
    fields = orjson.loads(path.read_bytes())
    del fields["sha256"]
    change(fields)
    path.write_bytes(manifest.seal(fields))
    return refused(cooked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("outputs"), "wrong or missing: outputs"),
        (lambda fields: fields.update(outputs="x"), "wrong or missing: outputs"),
        (lambda fields: fields["outputs"][0].pop("bytes"), "wrong or missing: outputs.bytes"),
        (lambda fields: fields["counts"].update(entries="9"), "wrong or missing: counts.entries"),
        (lambda fields: fields["counts"].update(skipped_pairs={"overlong": "x"}), "counts.skipped_pairs"),
        (lambda fields: fields["outputs"][0].update(name="../x.parquet"), "names a file outside of its folder: '../x"),
        (lambda fields: fields["outputs"][0].update(name="/etc/hostname"), "names a file outside of its folder: '/etc"),
    ],
)
def test_a_manifest_that_is_sealed_but_wrong(cooked, change, message):
    assert message in resealed(cooked, change)


def test_a_manifest_nested_deeper_than_it_can_be_written(cooked):
    path = cooked / "cook.json"
    fields = path.read_bytes().rstrip().removesuffix(b"}")
    path.write_bytes(fields + b',"deep":' + b"[" * 400 + b"]" * 400 + b"}")
    assert "is damaged" in refused(cooked)


def test_the_card_names_every_dataset_with_its_duty(cooked):
    root = cooked.parent
    run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=root))
    text = (root / "README.md").read_text()
    assert text.index('config_name: "set"') < text.index('config_name: "squad"')
    assert "- squad, of the sample that comes with cook: MIT (keep the notice)" in text
    assert "- set: not of the collection" in text
    assert "cheng-etal-2024-instruction" in text


def test_a_readme_of_someone_else_is_left_alone(cooked):
    readme = cooked.parent / "README.md"
    readme.write_text("mine")
    with pytest.warns(CardWarning, match="cook did not write it"):
        dataset_card.write_card(cooked.parent)
    assert readme.read_text() == "mine"


def test_the_card_is_the_same_when_nothing_changed(cooked):
    readme = cooked.parent / "README.md"
    before = readme.stat().st_mtime_ns
    dataset_card.write_card(cooked.parent)
    assert readme.stat().st_mtime_ns == before


def staged(root: Path, text: str) -> None:
    with staging.staging_folder(root, "set") as folder:
        out = folder / "out"
        out.mkdir()
        files.write_bytes(out / "file", text.encode())
        staging.publish(out, root, "set")


@pytest.mark.parametrize("exchanges", [True, False])
def test_publishing_over_an_older_result(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(staging, "swap_folders", lambda one, other: False)
    for text in ("first", "second"):
        staged(tmp_path, text)
        assert (tmp_path / "set" / "file").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_failure_leaves_the_older_result(tmp_path):
    staged(tmp_path, "first")
    with pytest.raises(RuntimeError), staging.staging_folder(tmp_path, "set") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert (tmp_path / "set" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_kill_between_two_renames_is_recovered(cooked):
    root = cooked.parent
    (root / staging.WORK_DIR).mkdir()
    os.rename(cooked, staging.backup_path(root, "set"))
    assert len(list(read_cooked(cooked).sequences())) == 1  # the reader finds it
    with staging.staging_folder(root, "set"):  # and the next cook puts it back
        assert cooked.is_dir()
    assert not (root / staging.WORK_DIR).exists()


def test_many_at_once_in_one_root_do_not_disturb_each_other(tmp_path):
    """Folders that one run removes because they are empty are those that another is just making."""

    def many(name: str) -> None:
        for _ in range(100):
            with staging.staging_folder(tmp_path / "root", name):
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, "abcd"))
    assert not (tmp_path / "root").exists()


HOLD = """
import sys, time
from pathlib import Path
import cook.store.staging
with cook.store.staging.staging_folder(Path(sys.argv[1]), "set"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_at_once_and_a_killed_one(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run is cooking this dataset"):
            staged(tmp_path, "x")
        holder.kill()
    staged(tmp_path, "x")  # a lock is never stuck, and what was left is cleared
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_files_and_folder_are_synced_before_they_are_published(tmp_path, monkeypatch):
    """A power cut after the rename must find the bytes that it names; what is watched are the real calls."""
    write_shard(tmp_path / "in", "set", [{"context": "x", "QA_list": []}, entry("a")])
    events: list[tuple[str, str | int]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle: int) -> None:
        events.append(("fsync", os.fstat(handle).st_ino))
        fsync(handle)

    def watched_rename(source: str, target: str) -> None:
        events.append(("rename", str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    root = tmp_path / "out"
    run(Recipe(datasets="set", tokenizer="llama3", source=tmp_path / "in", output=root, jobs=1))
    published = events.index(("rename", str(root / "set")))
    before = {number for kind, number in events[:published] if kind == "fsync"}  # inodes: a rename leaves them
    names = {path.name for path in (root / "set").iterdir()}
    assert names == {"train-00000-of-00001.parquet", "skipped.jsonl", "cook.json"}
    assert before >= {path.stat().st_ino for path in (root / "set", *(root / "set").iterdir())}
    assert ("fsync", root.stat().st_ino) in events[published:]


@pytest.mark.parametrize("exchanges", [True, False])
def test_the_folder_of_results_is_synced_after_a_result_is_in_place(tmp_path, monkeypatch, exchanges):
    staged(tmp_path, "first")
    if not exchanges:
        monkeypatch.setattr(staging, "swap_folders", lambda one, other: False)
    seen: list[tuple[str, str]] = []
    synced = staging.fsync_folder

    def watched(folder: Path) -> None:
        seen.append((folder.name, (tmp_path / "set" / "file").read_text()))
        synced(folder)

    monkeypatch.setattr(staging, "fsync_folder", watched)
    staged(tmp_path, "second")
    assert seen == [("out", "first"), (tmp_path.name, "second")]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_lock_that_its_owner_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between the opening of the file and its lock: what was locked then keeps nobody out."""
    path, lock, gone = tmp_path / "x.lock", staging.fcntl.flock, [True]

    def removed(handle: int, how: int) -> None:
        lock(handle, how)
        if gone.pop() if gone else False:
            path.unlink()

    monkeypatch.setattr(staging.fcntl, "flock", removed)
    with staging.locked(path, "busy"):
        assert path.exists()
        with pytest.raises(OutputError, match=r"^busy$"), staging.locked(path, "busy"):
            pass
    assert not path.exists()


def test_a_lock_is_waited_for_a_while(tmp_path, monkeypatch):
    now, held = [0.0], staging.locked(tmp_path / "x.lock", "busy")
    monkeypatch.setattr(staging.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(staging.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    with held, pytest.raises(OutputError, match=r"^busy$"), staging.locked(tmp_path / "x.lock", "busy"):
        pass
    assert now[0] == pytest.approx(staging.LOCK_TIMEOUT, abs=0.02)


def test_a_lock_whose_file_is_gone_at_the_end_is_freed(tmp_path):
    path = tmp_path / "x.lock"
    with staging.locked(path, "busy"):
        path.unlink()
    with staging.locked(path, "busy"):
        assert path.exists()
