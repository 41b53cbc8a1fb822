"""cook.load and cook.Collator, on rows of a few tokens written by hand."""

import math
import pickle
import sys

import datasets
import numpy as np
import pytest

import cook
from conftest import entry, write_shard

ROW = {"input_ids": [1, 5, 6, 1, 7], "labels": [-100, 5, 6, -100, 7], "seq_lengths": [3, 2]}
SHORT = {"input_ids": [1, 8], "labels": [-100, 8], "seq_lengths": [2]}
ROWS = [ROW, SHORT]
NO = -math.inf


def lists(batch):
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in batch.items()}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")


def test_flat_isolated(torch):
    batch = cook.Collator(attention="isolated")(ROWS)
    assert lists(batch) == {
        "input_ids": [[1, 5, 6, 1, 7, 1, 8]],
        "labels": [[-100, 5, 6, -100, 7, -100, 8]],
        "position_ids": [[0, 1, 2, 0, 1, 0, 1]],
        "cu_seq_lens_q": [0, 3, 5, 7],
        "cu_seq_lens_k": [0, 3, 5, 7],
        "max_length_q": 3,
        "max_length_k": 3,
        "use_cache": False,
    }
    assert {batch[key].dtype for key in ("input_ids", "labels", "position_ids")} == {torch.int64}
    assert batch["cu_seq_lens_q"].dtype == batch["cu_seq_lens_k"].dtype == torch.int32


def test_flat_few_shot_with_padding(torch):
    batch = cook.Collator(layout="flat", pad_to_multiple_of=5, pad_id=9)(ROWS)
    assert lists(batch) == {
        "input_ids": [[1, 5, 6, 1, 7, 1, 8, 9, 9, 9]],
        "labels": [[-100, 5, 6, -100, 7, -100, 8, -100, -100, -100]],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1, 0, 1, 2]],
        "cu_seq_lens_q": [0, 5, 7, 10],
        "cu_seq_lens_k": [0, 5, 7, 10],
        "max_length_q": 5,
        "max_length_k": 5,
        "use_cache": False,
    }


def test_padded_few_shot(torch):
    assert lists(cook.Collator(pad_id=9, pad_to_multiple_of=3)(ROWS)) == {
        "input_ids": [[1, 5, 6, 1, 7, 9], [1, 8, 9, 9, 9, 9]],
        "labels": [[-100, 5, 6, -100, 7, -100], [-100, 8, -100, -100, -100, -100]],
        "position_ids": [[0, 1, 2, 3, 4, 0], [0, 1, 0, 1, 2, 3]],
        "attention_mask": [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]],
    }


def test_padded_isolated(torch):
    batch = cook.Collator(attention="isolated", layout="padded", mask_dtype="bfloat16")(ROWS)
    assert batch["attention_mask"].dtype == torch.bfloat16
    found = lists(batch)
    assert found["position_ids"] == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert found["attention_mask"] == [
        [[[0, NO, NO, NO, NO], [0, 0, NO, NO, NO], [0, 0, 0, NO, NO], [NO, NO, NO, 0, NO], [NO, NO, NO, 0, 0]]],
        [[[0, NO, NO, NO, NO], [0, 0, NO, NO, NO], [NO, NO, 0, NO, NO], [NO, NO, 0, 0, NO], [NO, NO, 0, 0, 0]]],
    ]


@pytest.mark.parametrize("attention", ["few-shot", "isolated"])
@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_a_first_token_is_never_trained(torch, attention, layout):
    collate = cook.Collator(attention=attention, layout=layout)
    assert lists(collate([ROW | {"labels": ROW["input_ids"]}]))["labels"] == [ROW["labels"]]


def test_the_keys_are_those_of_transformers(torch):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[train]'")
    rows = [{"input_ids": [1, 5, 6], "labels": [-100, 5, 6]}, {"input_ids": [1, 7], "labels": [-100, 7]}]
    theirs = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)(rows)
    ours = cook.Collator(attention="isolated")([ROW])
    assert ours.pop("use_cache") is False
    assert lists(ours) == lists(theirs)
    assert {k: getattr(v, "dtype", type(v)) for k, v in ours.items()} == {
        k: getattr(v, "dtype", type(v)) for k, v in theirs.items()
    }


def test_rows_of_any_kind_give_one_batch(torch):
    arrays = {name: np.array(values, np.int32) for name, values in ROW.items()}
    for values in arrays.values():
        values.flags.writeable = False
    ones = np.ones(2, np.int32)
    sequence = cook.Sequence(**arrays, loss_mask=np.zeros(5, np.int8), source_shard=ones, source_line=ones, dataset="x")
    table = datasets.Dataset.from_list([ROW])
    collate = pickle.loads(pickle.dumps(cook.Collator(attention="isolated")))  # noqa: S301
    expected = lists(collate([ROW]))
    for row in (arrays, sequence, table[0], table.with_format("torch")[0], table.with_format("numpy")[0]):
        assert lists(collate([row])) == expected
    assert arrays["labels"].tolist() == ROW["labels"], "a row was written to"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"input_ids": [1], "labels": [1]}, "row 1 .* no seq_lengths.*remove_unused_columns=False"),
        (ROW | {"input_ids": [1, 5, 6], "labels": [-100, 5, 6]}, "max_length=None"),
        (ROW | {"labels": [-100, 5, 6]}, "must agree"),
        (ROW | {"seq_lengths": [5, 0]}, "must agree"),
    ],
)
def test_a_row_that_is_not_whole_is_refused(torch, row, told):
    with pytest.raises(cook.InputError, match=told):
        cook.Collator()([ROW, row])


def test_no_rows_are_refused(torch):
    with pytest.raises(cook.InputError, match="at least one"):
        cook.Collator()([])


def test_wrong_settings_are_told_together():
    with pytest.raises(cook.RecipeError) as caught:
        cook.Collator(attention="both", layout="long", pad_id=-1, pad_to_multiple_of=0, mask_dtype="bool")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "attention", "layout", "pad_id", "pad_to_multiple_of", "mask_dtype",
    ]  # fmt: skip


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(cook.CookError, match=r"pip install -e '\.\[train\]'"):
        cook.Collator()([ROW])


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    for name in ("one", "two"):
        write_shard(tmp_path / "in", name, [entry(f"Context {name} {i}.") for i in range(20)])
    settings = {"tokenizer": "llama3", "source": str(tmp_path / "in"), "output": tmp_path / "out", "max_length": 64}
    cook.run(cook.Recipe(datasets=("one", "two"), validation=4, **settings))
    return tmp_path / "out"


def test_load_gives_what_is_there(root):
    for split in ("train", "validation"):
        rows = [row._asdict() for row in cook.read_cooked(root / "one").sequences(split)]
        expected = [{key: value.tolist() for key, value in row.items() if key != "dataset"} for row in rows]
        assert cook.load(root / "one", split).to_list() == expected != []
    mixed = cook.mix(root, root.parent / "mix").folder
    assert set(cook.load(mixed)["dataset"]) == {"one", "two"}


def test_load_refuses_what_is_damaged_or_not_there(root):
    with pytest.raises(cook.OutputError, match=r"no split 'test'; it holds train, validation"):
        cook.load(root / "one", "test")
    [path] = (root / "one").glob("train-*.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(cook.OutputError, match="sha256"):
        cook.load(root / "one")
    with pytest.raises(cook.OutputError, match="is a folder of several results"):
        cook.load(root)
