"""Exports: for every target what lies on disk, by ids one can read off the page.

The cooked set that all are made from, of at most 10 tokens a sequence (1: BOS, 2: EOS; inputs in tens, outputs in
hundreds):

    sequence 0   1 10 | 100 101 2     1 20 21 | 200 2
    sequence 1   1 30 31 32 | 300 2
    sequence 2   1 40 | 2             1 50 | 500 2
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cook as package
from commands.test_mix import contents
from conftest import entry, write_shard
from cook import Exported, OutputError, OutputExists, Recipe, RecipeError, TokenizerError, export, mix, read_cooked, run
from cook.core import records
from cook.core.choices import TARGETS as NAMES
from cook.core.records import mark_trained
from cook.store import columns, kinds, manifest, write
from cook.trainers import rows, usage
from cook.trainers.exporter import TARGETS
from cook.trainers.olmo import id_dtype
from cook.trainers.tables import llama_factory_length

SEQUENCES = [
    [([1, 10], [100, 101, 2]), ([1, 20, 21], [200, 2])],
    [([1, 30, 31, 32], [300, 2])],
    [([1, 40], [2]), ([1, 50], [500, 2])],
]
PAD = 7
TOKENIZER = {
    "name": "toy", "fingerprint": "0" * 64, "vocab_size": 70_000, "bos": "<s>", "bos_id": 1, "eos": "</s>", "eos_id": 2,
    "pad_id": PAD, "special_ids": [1, 2, PAD],
}  # fmt: skip


def write_cooked(folder: Path, files, max_length: int = 10, tokenizer=TOKENIZER, split: str = "train") -> Path:
    """A cooked dataset of the sequences given, a list for each output file, as cook would have written them."""
    folder.mkdir(parents=True)
    outputs = []
    for name, sequences in zip(columns.file_names(len(files), split), files, strict=True):
        examples = [example for sequence in sequences for example in sequence]
        ids = [token for inputs, outputs_ in examples for token in (*inputs, *outputs_)]
        table = np.zeros(len(examples), records.PLACED_EXAMPLE_DTYPE)
        mask = [bit for inputs, outputs_ in examples for bit in [False] * len(inputs) + [True] * len(outputs_)]
        mark_trained(np.array(ids), np.array(mask, bool)).tofile(folder / "spool")
        table["trained"] = [len(outputs_) for _, outputs_ in examples]
        table["tokens"] = [len(inputs) + len(outputs_) for inputs, outputs_ in examples]
        table["at"] = np.cumsum(table["tokens"]) - table["tokens"]
        table["line"] = np.arange(len(examples)) + 1
        starts = np.cumsum([0, *map(len, sequences)])
        done = write.write_parquet_file(write.FileJob(str(folder / name), (str(folder / "spool"),), table, starts))
        outputs.append({"split": split, **done._asdict()})
    (folder / "spool").unlink()
    counts = dict.fromkeys(kinds.KINDS["dataset"].schema["counts"], 0) | {
        name: {} for name in ("skipped_entries", "skipped_pairs", "markers")
    }
    (folder / "cook.json").write_bytes(
        manifest.seal(
            {
                "format_version": 2,
                "kind": "dataset",
                "shape": "context-qa",
                "mask_rule": "prefix",
                "dataset": folder.name,
                "recipe": {"max_length": max_length, "packing": "in-order"},
                "tokenizer": tokenizer,
                "inputs": [],
                "outputs": outputs,
                "counts": counts,
                "figures": {"longest_entry": 10, "utilisation": 1.0, "trained_share": 0.5},
            }
        )
    )
    return folder


@pytest.fixture
def cooked(tmp_path) -> Path:
    return write_cooked(tmp_path / "root" / "toy", [SEQUENCES])


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """The bundled sample, cooked with short sequences so that several examples share some."""
    root = tmp_path_factory.mktemp("sample") / "root"
    run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=root, max_length=512, cache="none"))
    return root / "squad"


def table(exported: Exported, name: str) -> dict[str, list]:
    return pq.read_table(exported.folder / name).to_pydict()


def types(exported: Exported, name: str) -> dict[str, str]:
    return {field.name: str(field.type.value_type) for field in pq.read_schema(exported.folder / name)}


def test_trl(cooked, tmp_path):
    exported = export(cooked, "trl", tmp_path / "out")
    name = "train-00000-of-00001.parquet"
    assert types(exported, name) == {"input_ids": "int32", "labels": "int32", "seq_lengths": "int32"}
    assert table(exported, name) == {
        "input_ids": [[1, 10, 100, 101, 2, 1, 20, 21, 200, 2], [1, 30, 31, 32, 300, 2], [1, 40, 2, 1, 50, 500, 2]],
        "labels": [
            [-100, -100, 100, 101, 2, -100, -100, -100, 200, 2],
            [-100, -100, -100, -100, 300, 2],
            [-100, -100, 2, -100, -100, 500, 2],
        ],
        "seq_lengths": [[5, 5], [6], [3, 4]],
    }


def test_hf_isolated(cooked, tmp_path):
    exported = export(cooked, "hf", tmp_path / "out")
    name = "train-00000-of-00001.parquet"
    assert types(exported, name) == {"input_ids": "int32", "labels": "int32", "position_ids": "int32"}
    assert table(exported, name) == {
        "input_ids": [
            [1, 10, 100, 101, 2, 1, 20, 21, 200, 2],
            [1, 30, 31, 32, 300, 2, 7, 7, 7, 7],
            [1, 40, 2, 1, 50, 500, 2, 7, 7, 7],
        ],
        "labels": [
            [-100, -100, 100, 101, 2, -100, -100, -100, 200, 2],
            [-100, -100, -100, -100, 300, 2, -100, -100, -100, -100],
            [-100, -100, 2, -100, -100, 500, 2, -100, -100, -100],
        ],
        "position_ids": [
            [0, 1, 2, 3, 4, 0, 1, 2, 3, 4],
            [0, 1, 2, 3, 4, 5, 0, 1, 2, 3],
            [0, 1, 2, 0, 1, 2, 3, 0, 1, 2],
        ],
    }
    assert exported.manifest["export"]["attention"] == "isolated"


def test_hf_few_shot(cooked, tmp_path):
    isolated = export(cooked, "hf", tmp_path / "isolated", attention="isolated")
    exported = export(cooked, "hf", tmp_path / "out", attention="few-shot")
    name = "train-00000-of-00001.parquet"
    found = table(exported, name)
    assert found.pop("position_ids") == [list(range(10))] * 3
    other = table(isolated, name)
    assert found == {key: other[key] for key in ("input_ids", "labels")}
    assert exported.manifest["export"]["attention"] == "few-shot"
    assert usage.ATTENTION["few-shot"] in (exported.folder / usage.NAME).read_text()


def test_llama_factory(cooked, tmp_path):
    exported = export(cooked, "llama-factory", tmp_path / "out")
    with pa.ipc.open_stream(exported.folder / "train" / "data-00000-of-00001.arrow") as file:
        found = file.read_all()
    assert {field.name: str(field.type.value_type) for field in found.schema} == dict.fromkeys(
        ("input_ids", "attention_mask", "position_ids", "labels"), "int32"
    )
    ignored = [-100] * 6
    assert found.to_pydict() == {  # 10 tokens and one pad at least, in eights
        "input_ids": [
            [1, 10, 100, 101, 2, 1, 20, 21, 200, 2, 7, 7, 7, 7, 7, 7],
            [1, 30, 31, 32, 300, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
            [1, 40, 2, 1, 50, 500, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7],
        ],
        "attention_mask": [
            [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        "position_ids": [
            [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0],
            [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 2, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        "labels": [
            [-100, -100, 100, 101, 2, -100, -100, -100, 200, 2, *ignored],
            [-100, -100, -100, -100, 300, 2, -100, -100, -100, -100, *ignored],
            [-100, -100, 2, -100, -100, 500, 2, -100, -100, -100, *ignored],
        ],
    }


def test_a_llama_factory_export_is_what_load_from_disk_reads(cooked, tmp_path):
    from datasets import load_from_disk

    exported = export(cooked, "llama-factory", tmp_path / "out")
    found = load_from_disk(str(exported.folder))
    assert list(found) == ["train"]
    assert found["train"].column_names == ["input_ids", "attention_mask", "position_ids", "labels"]
    assert found["train"][2]["attention_mask"][:9] == [1, 1, 1, 2, 2, 2, 2, 0, 0]


EXAMPLES = {
    "ids": [[1, 10, 100, 101, 2], [1, 20, 21, 200, 2], [1, 30, 31, 32, 300, 2], [1, 40, 2], [1, 50, 500, 2]],
    "labels": [
        [-100, -100, 100, 101, 2],
        [-100, -100, -100, 200, 2],
        [-100, -100, -100, -100, 300, 2],
        [-100, -100, 2],
        [-100, -100, 500, 2],
    ],
}


def test_axolotl(cooked, tmp_path):
    exported = export(cooked, "axolotl", tmp_path / "out")
    name = "train-00000-of-00001.parquet"
    assert types(exported, name) == {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}
    assert table(exported, name) == {
        "input_ids": EXAMPLES["ids"],
        "attention_mask": [[1] * len(ids) for ids in EXAMPLES["ids"]],
        "labels": EXAMPLES["labels"],
    }


def test_torchtune(cooked, tmp_path):
    exported = export(cooked, "torchtune", tmp_path / "out")
    name = "train-00000-of-00001.parquet"
    assert types(exported, name) == {"tokens": "int32", "labels": "int32"}
    assert table(exported, name) == {"tokens": EXAMPLES["ids"], "labels": EXAMPLES["labels"]}


def test_megatron_bridge(cooked, tmp_path):
    exported = export(cooked, "megatron-bridge", tmp_path / "out")
    name = "train-00000-of-00001.idx.parquet"
    assert types(exported, name) == {"input_ids": "int32", "loss_mask": "int8", "seq_start_id": "int32"}
    assert table(exported, name) == {
        "input_ids": [[1, 10, 100, 101, 2, 1, 20, 21, 200, 2], [1, 30, 31, 32, 300, 2], [1, 40, 2, 1, 50, 500, 2]],
        "loss_mask": [[0, 1, 1, 1, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0], [0, 1, 0, 0, 1, 1, 0]],
        "seq_start_id": [[0, 5], [0], [0, 3]],
    }


def test_olmo_core(cooked, tmp_path):
    folder = export(cooked, "olmo-core", tmp_path / "out").folder
    ids = np.fromfile(folder / "token_ids_part_00000.npy", np.uint32)
    mask = np.fromfile(folder / "labels_mask_part_00000.npy", np.bool_)
    assert ids.tolist() == [token for example in EXAMPLES["ids"] for token in example]
    assert mask.tolist() == [label != -100 for example in EXAMPLES["labels"] for label in example]
    documents = gzip.decompress((folder / "token_ids_part_00000.csv.gz").read_bytes())
    assert documents == b"0,5\n5,10\n10,16\n16,19\n19,23\n"


def test_olmo_cores_type_is_by_the_vocabulary(tmp_path):
    assert (id_dtype(65_536), id_dtype(65_537)) == (np.uint16, np.uint32)
    small = write_cooked(tmp_path / "small", [SEQUENCES], tokenizer=TOKENIZER | {"vocab_size": 600})
    folder = export(small, "olmo-core", tmp_path / "out").folder
    assert np.fromfile(folder / "token_ids_part_00000.npy", np.uint16)[:3].tolist() == [1, 10, 100]
    assert "dtype=NumpyDatasetDType.uint16" in (folder / usage.NAME).read_text()


def test_an_id_beyond_the_vocabulary_is_refused_not_wrapped(tmp_path):
    wrong = write_cooked(tmp_path / "wrong", [SEQUENCES], tokenizer=TOKENIZER | {"vocab_size": 500})
    with pytest.raises(OutputError, match="holds ids beyond the 500"):
        export(wrong, "olmo-core", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_jsonl_is_what_the_pairs_say(tmp_path):
    rows_ = [entry("Water boils at 100 °C.", {"Q": "When?", "A": "At 100 °C"}), entry("He said </s>.")]
    write_shard(tmp_path / "data", "set", rows_)
    for model, bos, eos in (
        ("llama3", "<|begin_of_text|>", "<|end_of_text|>"),
        ("llama2", "<s>", "</s>"),
    ):
        root = tmp_path / model
        run(Recipe(datasets="set", tokenizer=model, source=tmp_path / "data", output=root, packing="in-order"))
        exported = export(root / "set", "jsonl", tmp_path / f"{model}-out")
        (line,) = (exported.folder / "train-00000-of-00001.jsonl").read_bytes().splitlines()
        found = orjson.loads(line)
        assert found.keys() == {"text", "spans"}
        trained = [found["text"][begin:end] for begin, end in found["spans"]]
        assert trained == [f"<QUE> When? <ANS> At 100 °C </END>{eos}", f"<QUE> Why? <ANS> Because. </END>{eos}"]
        untrained = [found["text"][: found["spans"][0][0]], found["text"][found["spans"][0][1] : found["spans"][1][0]]]
        if model == "llama3":
            assert untrained == [
                f"{bos} <CON> Water boils at 100 °C. </CON>\n\n",
                f"{bos} <CON> He said </s>. </CON>\n\n",
            ]


def test_jsonl_of_a_mix_names_the_dataset(tmp_path):
    for name in ("one", "two"):
        write_shard(tmp_path / "data", name, [entry(f"From {name}.")])
    run(Recipe(datasets="all", tokenizer="llama3", source=tmp_path / "data", output=tmp_path / "root"))
    mixed = mix(tmp_path / "root", tmp_path / "mixed")
    exported = export(mixed.folder, "jsonl", tmp_path / "out")
    lines = [orjson.loads(line) for line in (tmp_path / "out" / "train-00000-of-00001.jsonl").read_bytes().splitlines()]
    assert {line["dataset"] for line in lines} == {"one", "two"}
    assert all(f"From {line['dataset']}." in line["text"] for line in lines)
    assert exported.manifest["source"] == {
        "kind": "mix",
        "name": "one, two",
        "sha256": manifest.digest(mixed.manifest),
    }


def test_the_tokenizer_is_found_by_the_manifest_and_checked(tmp_path, models):
    write_shard(tmp_path / "data", "set", [entry("Some context.")])
    run(
        Recipe(
            datasets="set", tokenizer=models["qwen3"], source=tmp_path / "data", output=tmp_path / "root", cache="none"
        )
    )
    folder = tmp_path / "root" / "set"
    with pytest.raises(TokenizerError, match="pass --tokenizer"):
        export(folder, "jsonl", tmp_path / "out")
    with pytest.raises(TokenizerError, match="fingerprint"):
        export(folder, "jsonl", tmp_path / "out", tokenizer=str(write_other(models["qwen3"], tmp_path / "other")))
    exported = export(folder, "jsonl", tmp_path / "out", tokenizer=str(models["qwen3"]))
    text = orjson.loads((exported.folder / "train-00000-of-00001.jsonl").read_bytes())["text"]
    assert text == " <CON> Some context. </CON>\n\n<QUE> Why? <ANS> Because. </END><|endoftext|>"


def write_other(model: Path, folder: Path) -> Path:
    """The same tokenizer but for its bytes."""
    shutil.copytree(model, folder)
    with (folder / "tokenizer.json").open("ab") as file:
        file.write(b"\n")
    return folder


FIRST_TRAINED = [[([1, 10], [100, 2]), ([], [200, 2])]]  # cook writes no example without an input; yet if it did


@pytest.mark.parametrize("target", [name for name in NAMES if name != "jsonl"])
def test_the_first_token_of_an_example_is_never_trained(tmp_path, target):
    exported = export(write_cooked(tmp_path / "set", [FIRST_TRAINED]), target, tmp_path / "out")
    name = "train-00000-of-00001.parquet"
    if target == "olmo-core":
        mask = np.fromfile(exported.folder / "labels_mask_part_00000.npy", np.bool_).tolist()
        assert mask == [False, False, True, True, False, True]
    elif target == "megatron-bridge":
        assert table(exported, "train-00000-of-00001.idx.parquet")["loss_mask"] == [[0, 1, 1, 0, 1, 0]]
    elif target == "llama-factory":
        with pa.ipc.open_stream(exported.folder / "train" / "data-00000-of-00001.arrow") as file:
            assert file.read_all().to_pydict()["labels"][0][:7] == [-100, -100, 100, 2, -100, 2, -100]
    else:
        labels = [label for row in table(exported, name)["labels"] for label in row]
        assert labels[:6] == [-100, -100, 100, 2, -100, 2]
    assert exported.counts["trained_tokens"] == 3


@pytest.mark.parametrize("target", NAMES)
def test_a_manifest_a_page_and_the_same_bytes(sample, tmp_path, target):
    one = export(sample, target, tmp_path / "one", jobs=1)
    two = export(str(sample), target, str(tmp_path / "two"), jobs=2)
    assert not one.up_to_date
    assert {path.relative_to(one.folder): path.read_bytes() for path in one.folder.rglob("*") if path.is_file()} == {
        path.relative_to(two.folder): path.read_bytes() for path in two.folder.rglob("*") if path.is_file()
    }
    found = read_cooked(one.folder).manifest
    assert found == one.manifest
    assert (found["kind"], found["export"]["target"], found["export"]["max_length"]) == ("export", target, 512)
    source = read_cooked(sample).manifest
    assert found["source"] == {"kind": "dataset", "name": "squad", "sha256": manifest.digest(source)}
    assert found["counts"] == {
        "rows": source["counts"]["examples" if target in {"axolotl", "torchtune", "olmo-core"} else "sequences"],
        **{key: source["counts"][key] for key in ("sequences", "examples", "tokens", "trained_tokens")},
    }
    names = {path.relative_to(one.folder).as_posix() for path in one.folder.rglob("*") if path.is_file()}
    assert {output["name"] for output in found["outputs"]} == names - {"cook.json"}
    for output in found["outputs"]:
        data = (one.folder / output["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (output["bytes"], output["sha256"])
        assert b"/tmp" not in data
    page = (one.folder / usage.NAME).read_text()
    assert page.startswith(f"# {target}: squad, train\n")
    assert "Silently wrong" in page
    assert not (tmp_path / ".cook").exists()


def test_every_target_is_in_the_command_and_has_a_page():
    assert list(NAMES) == list(TARGETS)
    assert sorted(page.stem for page in usage.PAGES.iterdir()) == sorted(TARGETS)


def test_several_files_are_several_files(tmp_path):
    cooked = write_cooked(tmp_path / "set", [SEQUENCES[:1], SEQUENCES[1:]])
    exported = export(cooked, "megatron-bridge", tmp_path / "out", jobs=2)
    assert table(exported, "train-00001-of-00002.idx.parquet")["seq_start_id"] == [[0], [0, 3]]
    exported = export(cooked, "olmo-core", tmp_path / "olmo")
    assert gzip.decompress((exported.folder / "token_ids_part_00001.csv.gz").read_bytes()) == b"0,6\n6,9\n9,13\n"
    exported = export(cooked, "llama-factory", tmp_path / "lf")
    state = orjson.loads((exported.folder / "train" / "state.json").read_bytes())
    assert [row["filename"] for row in state["_data_files"]] == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
    ]


def test_padding_is_made_some_rows_at_a_time(cooked, tmp_path, monkeypatch):
    whole = export(cooked, "hf", tmp_path / "whole", jobs=1)
    monkeypatch.setattr(rows, "PADDED_TOKENS", 1)
    parts = export(cooked, "hf", tmp_path / "parts", jobs=1)
    name = "train-00000-of-00001.parquet"
    assert table(whole, name) == table(parts, name)
    assert pq.ParquetFile(parts.folder / name).num_row_groups == 3


def test_a_sequence_over_the_length_is_refused(tmp_path):
    cooked = write_cooked(tmp_path / "set", [SEQUENCES], max_length=9)
    with pytest.raises(OutputError, match="has 10 tokens, but its manifest says at most 9"):
        export(cooked, "hf", tmp_path / "out")


def test_up_to_date_or_replaced_when_asked(cooked, tmp_path):
    first = export(cooked, "hf", tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert export(cooked, "hf", tmp_path / "out").up_to_date
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == stamps
    with pytest.raises(OutputExists, match=r"(?s)another result.*export\.attention"):
        export(cooked, "hf", tmp_path / "out", attention="few-shot")
    with pytest.raises(OutputExists, match=r"export\.target"):
        export(cooked, "llama-factory", tmp_path / "out")
    replaced = export(cooked, "llama-factory", tmp_path / "out", overwrite=True)
    assert {path.name for path in replaced.folder.iterdir()} == {"cook.json", "USE.md", "dataset_dict.json", "train"}
    again = export(cooked, "trl", tmp_path / "out", overwrite=True)
    assert set(contents(again.folder)) == {"cook.json", "USE.md", "train-00000-of-00001.parquet"}
    write_cooked(tmp_path / "root2" / "toy", [SEQUENCES[:2]])
    with pytest.raises(OutputExists, match=r"source\.sha256"):
        export(tmp_path / "root2" / "toy", "trl", tmp_path / "out")


def test_what_is_not_cooks_is_left_alone(cooked, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".notes").touch()
    with pytest.raises(OutputExists, match="is not cook's"):
        export(cooked, "trl", tmp_path / "mine", overwrite=True)
    with pytest.raises(OutputExists, match="is a cooked dataset; export into another folder"):
        export(cooked, "trl", write_cooked(tmp_path / "other", [SEQUENCES]), overwrite=True)
    made = export(cooked, "trl", tmp_path / "out")
    (made.folder / "notes").mkdir()
    (made.folder / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"holds what cook did not write, and is not replaced: notes$"):
        export(cooked, "axolotl", tmp_path / "out", overwrite=True)
    assert (made.folder / "notes" / "mine.txt").exists()


@pytest.mark.parametrize("inside", [".", "out"])
def test_an_export_does_not_go_into_its_source(cooked, inside):
    before = contents(cooked)
    with pytest.raises((RecipeError, OutputExists), match="the folder that is exported"):
        export(cooked, "trl", cooked / inside, overwrite=True)
    assert contents(cooked) == before


def test_wrong_settings_are_all_named(cooked, tmp_path):
    with pytest.raises(RecipeError, match=r"(?s)for: 'nemo' is no target; there are trl, .*attention: must be"):
        export(cooked, "nemo", tmp_path / "out", attention="none")
    with pytest.raises(RecipeError, match=r"(?s)attention: is for hf only.*tokenizer: is for jsonl only"):
        export(cooked, "trl", tmp_path / "out", attention="isolated", tokenizer="llama3")
    with pytest.raises(RecipeError, match=r"split: .* has no test; it has train"):
        export(cooked, "trl", tmp_path / "out", split="test")
    with pytest.raises(RecipeError, match=r"is an export, for a trainer, .*: pass what it was made"):
        export(export(cooked, "trl", tmp_path / "out").folder, "hf", tmp_path / "again")


def test_a_damaged_source_is_refused(cooked, tmp_path):
    with (cooked / "train-00000-of-00001.parquet").open("r+b") as file:
        file.write(b"RAP1")
    with pytest.raises(OutputError, match="sha256"):
        export(cooked, "trl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_has_no_sequences_and_is_not_mixed(cooked, tmp_path):
    made = export(cooked, "trl", cooked.parent / "toy-trl")
    with pytest.raises(OutputError, match="is an export"):
        list(read_cooked(made.folder).sequences())
    mixed = mix(cooked.parent, tmp_path / "mixed")
    assert list(mixed.counts) == ["toy"]
    with pytest.raises(OutputExists, match="is an export, for a trainer; mix into another folder"):
        mix(cooked.parent, made.folder, overwrite=True)


def test_a_writer_that_fails_leaves_nothing(cooked, tmp_path, monkeypatch):
    old = contents(export(cooked, "trl", tmp_path / "out").folder)
    monkeypatch.setattr(
        "cook.trainers.usage.usage_page", lambda head: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OutputError, match="No space left"):
        export(cooked, "axolotl", tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == old
    assert not (tmp_path / ".cook").exists()


def test_memory_does_not_grow_with_the_input(tmp_path):
    """Twelve times the rows, in one file: about as much memory, for a table, padded rows and memmaps."""
    sequence = [([1, *range(10, 500)], [*range(500, 1000), 2])] * 2
    sources = {size: write_cooked(tmp_path / f"of{size}", [[sequence] * size], 2000) for size in (500, 6000)}
    code = (
        "import sys, resource; from cook import export\n"
        "export(sys.argv[1], sys.argv[2], sys.argv[3], jobs=1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    for target in ("hf", "olmo-core"):
        peaks = []
        for size, folder in sources.items():
            command = [sys.executable, "-c", code, str(folder), target, str(tmp_path / f"{target}{size}")]
            environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
            peaks.append(int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
        assert peaks[1] < peaks[0] * 1.35, f"{target}: {peaks} KiB"


def test_the_command(cook, cooked, tmp_path):
    done = cook("export", str(cooked), "--for", "hf", "--to", "out", "--attention", "few-shot", "--json", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    found = orjson.loads(done.stdout)
    assert found["export"] == {"target": "hf", "split": "train", "attention": "few-shot", "max_length": 10}
    assert found["counts"] == {"rows": 3, "sequences": 3, "examples": 5, "tokens": 23, "trained_tokens": 10}
    done = cook("export", str(cooked), "--for", "hf", "--to", "out", "--attention", "few-shot")
    assert "up to date" in done.stderr
    assert "USE.md" in done.stderr
    assert done.stdout == ""
    assert cook("export", str(cooked), "--for", "hf", "--to", "out").exit_code == 5
    assert cook("export", str(cooked), "--for", "hf", "--to", "out", "--overwrite", "-q").exit_code == 0
    assert cook("export", str(cooked), "--for", "trl", "--to", "new", "--attention", "few-shot").exit_code == 2
    assert cook("export", str(cooked), "--for", "nemo", "--to", "new").exit_code == 2
    assert cook("export", str(tmp_path), "--for", "trl", "--to", "new").exit_code == 1


def test_the_package_has_the_function_and_not_a_module():
    import cook.trainers.exporter

    assert package.export is cook.trainers.exporter.export


@pytest.fixture(scope="module")
def pairs(sample) -> dict[str, list[str]]:
    """For each example of the sample, by its shard and line, the text that must be trained."""
    import importlib.resources

    shards = importlib.resources.files("cook") / "sample" / "squad" / "shard"
    texts = []
    for shard in ("00000.jsonl", "00001.jsonl"):
        for line in (shards / shard).read_text(encoding="utf-8").splitlines():
            pairs_ = [pair for pair in orjson.loads(line)["QA_list"] if pair["Q"].strip() and pair["A"].strip()]
            texts += [f"<QUE> {pair['Q']} <ANS> {pair['A']} </END>" for pair in pairs_]
    return texts


def decoded(labels) -> list[str]:
    """The pairs that labels train, as text; what is not trained parts outputs, and EOS ends each."""
    from cook.tokenizer.loading import reference_engine, resolve_recorded

    tokenizer = resolve_recorded({"name": "llama3", **llama3()}, None)
    engine = reference_engine(tokenizer)
    trained = [int(label) for label in labels if label != -100]
    outputs = engine.decode(trained).split("<|end_of_text|>")
    assert outputs.pop() == "", "the last token of an output is not trained"
    return [text for output in outputs for text in output.split("\n\n")]


def llama3():
    from cook.tokenizer.presets import PRESETS

    preset = PRESETS["llama3"]
    return {"bos": preset.bos, "eos": preset.eos, "fingerprint": preset.fingerprint}


LIBRARIES = "is installed with `pip install trl torch --index-url …/cpu`; without it the real trainer is not run"


@pytest.fixture(scope="module")
def tiny():
    """A Llama of two layers, its weights random and seeded."""
    pytest.importorskip("torch", reason=f"torch {LIBRARIES}")
    transformers = pytest.importorskip("transformers", reason=f"transformers {LIBRARIES}")
    import torch

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=128_256, **sizes)).float().eval()


def batches(trainer):
    """What reaches the model, batch by batch."""
    return list(trainer.get_train_dataloader())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("padding_free", [True, False])
def test_the_labels_that_trl_gives_the_model_are_the_pairs(sample, pairs, tiny, tmp_path, padding_free):
    trl = pytest.importorskip("trl", reason=f"trl {LIBRARIES}")
    from datasets import load_dataset

    exported = export(sample, "trl", tmp_path / "out")
    rows_ = load_dataset("parquet", data_files=f"{exported.folder}/train-*.parquet", split="train")
    settings = {"packing": False, "padding_free": padding_free, "max_length": None, "use_cpu": True, "bf16": False}
    args = trl.SFTConfig(str(tmp_path / "run"), report_to=[], per_device_train_batch_size=2, **settings)
    trainer = trl.SFTTrainer(tiny, args=args, train_dataset=rows_, processing_class=toy_tokenizer())
    found, starts = [], 0
    for batch in batches(trainer):
        ids, labels = batch["input_ids"], batch["labels"]
        assert (labels[labels != -100] == ids[labels != -100]).all()
        if padding_free:
            assert (labels[batch["position_ids"] == 0] == -100).all()
            starts += int((batch["position_ids"] == 0).sum())
        found += decoded(labels.ravel().tolist())
    assert sorted(found) == sorted(pairs)
    assert starts == (exported.counts["examples"] if padding_free else 0)


def toy_tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, "<pad>")))
    tokenizer.pad_token = tokenizer.eos_token = "<pad>"  # noqa: S105
    return tokenizer


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("attention", ["isolated", "few-shot"])
def test_the_labels_that_hf_gives_the_model_are_the_pairs_and_what_each_sees(sample, pairs, tiny, tmp_path, attention):
    transformers = pytest.importorskip("transformers", reason=f"transformers {LIBRARIES}")
    import torch
    from datasets import load_dataset

    exported = export(sample, "hf", tmp_path / "out", attention=attention)
    data = load_dataset("parquet", data_files=f"{exported.folder}/train-*.parquet", split="train")
    args = transformers.TrainingArguments(
        str(tmp_path / "run"), report_to=[], per_device_train_batch_size=2, use_cpu=True
    )
    collator = transformers.default_data_collator
    trainer = transformers.Trainer(tiny, args, train_dataset=data, data_collator=collator)
    found = []
    for batch in batches(trainer):
        assert set(batch) == {"input_ids", "labels", "position_ids"}
        found += decoded(batch["labels"].ravel().tolist())
    assert sorted(found) == sorted(pairs)

    # The model's answer for the second example of a row: as if it stood alone, or not.
    row = next(row for row in read_cooked(sample).sequences() if len(row.seq_lengths) > 1)
    index = next(i for i, ids in enumerate(data["input_ids"]) if ids[: len(row.input_ids)] == row.input_ids.tolist())
    first, second = row.seq_lengths[:2].tolist()
    batch = collator([data[index]])
    with torch.no_grad():
        packed = tiny(**batch, use_cache=False).logits[0, first : first + second]
        alone = tiny(torch.tensor([row.input_ids[first : first + second].tolist()]), use_cache=False).logits[0]
    assert torch.allclose(packed, alone, atol=1e-5) == (attention == "isolated")


def test_a_rolled_mask_ends_with_its_example():
    """Even where the next example began with a trained token: nothing is rolled over a border."""
    two = rows.SequenceBatch(
        np.arange(4, dtype=np.int32), np.array([0, 1, 1, 1], np.int8), np.array([2, 2]), np.array([2])
    )
    assert rows.shifted_mask(two).tolist() == [1, 0, 1, 0]


def test_a_llama_factory_row_has_a_pad_at_the_least():
    assert [llama_factory_length(length) for length in (7, 8, 4095, 4096)] == [8, 16, 4096, 4104]


def test_documents_go_on_over_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "ROW_GROUP_TOKENS", 1)
    folder = export(write_cooked(tmp_path / "set", [SEQUENCES]), "olmo-core", tmp_path / "out", jobs=1).folder
    documents = gzip.decompress((folder / "token_ids_part_00000.csv.gz").read_bytes())
    assert documents == b"0,5\n5,10\n10,16\n16,19\n19,23\n"
