"""Every file under a dataset is read, or named, or recorded; shards named for a split go to it."""

import bz2
import os
import shutil

import orjson
import pytest

from conftest import entry, write_shard
from cook import CookError, InputError, Recipe, RecipeError, SeveralFailed, SourceError, load, preview, run, verify
from cook.cli.commands.listing import list_datasets
from cook.pack.splits import infer_splits
from cook.read.source import Folder, SourceWarning


def bake(root, out, **settings):
    given = {"datasets": "d", "tokenizer": "llama3", "source": root, "output": out, "cache": "none"} | settings
    return run(Recipe(**given)).results[0]


def put(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows or (entry(path.name),)))
    return path


ODD = {
    "a link that leads nowhere": ("1.jsonl", lambda path: path.symlink_to("gone/1.jsonl"), "leads nowhere"),
    "a link in a circle": ("1.jsonl", lambda path: path.symlink_to("1.jsonl"), "leads nowhere"),
    "a link of any name": ("data", lambda path: path.symlink_to("gone"), "leads nowhere"),
    "a pipe": ("1.jsonl", os.mkfifo, "is no file"),
    "a folder of a shard's name": ("1.jsonl", lambda path: put(path / "x.jsonl"), "is a folder"),
    "JSON": ("1.json", put, "is JSON, not JSON lines"),
    "JSON, compressed": ("1.json.gz", put, "is JSON, not JSON lines"),
    "bzip2": ("1.jsonl.bz2", lambda path: path.write_bytes(bz2.compress(b"{}\n")), "compressed"),
    "xz": ("1.JSONL.XZ", put, "compressed"),
    "a table": ("1.parquet", put, "is a table"),
    "an archive": ("1.tar", put, "is an archive"),
    "a pipe of any name": ("data", os.mkfifo, "is no file"),
    "a pipe of another suffix": ("1.jsonl.bz2", os.mkfifo, "is no file"),
    "a device": ("1.jsonl", lambda path: path.symlink_to("/dev/zero"), "is no file"),
    "another suffix": ("1.jsonlines", put, "has not a shard's name"),
    "packed otherwise": ("1.jsonl.Z", put, "has not a shard's name"),
    "half of a shard": ("1.jsonl.part", put, "has not a shard's name"),
    "a copy": ("1.jsonl~", put, "has not a shard's name"),
    "a table, compressed": ("1.csv.gz", put, "is a table"),
    "an archive, compressed": ("1.tar.gz", put, "is an archive"),
    "a linked folder below": (
        "more",
        lambda path: (path.mkdir(), (path / "in").symlink_to("/")),
        "lies in a folder below",
    ),
    "a link to nothing below": (
        "more",
        lambda path: (path.mkdir(), (path / "data").symlink_to("gone")),
        "lies in a folder below",
    ),
    "a folder below": ("more", lambda path: put(path / "deep" / "x.jsonl"), "lies in a folder below"),
}


@pytest.mark.parametrize("shard", [True, False], ids=["DATASET/shard", "DATASET"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_not_read_is_an_error_or_recorded(tmp_path, kind, shard):
    name, make, told = ODD[kind]
    folder = tmp_path / "s" / "d" / ("shard" if shard else "")
    put(folder / "0.jsonl")
    make(folder / name)
    put(tmp_path / "s" / "other" / "0.jsonl")
    with pytest.raises(SourceError, match=told) as caught:
        bake(tmp_path / "s", tmp_path / "out")
    assert f"{folder / name}" in str(caught.value)
    assert "--on-error skip" in str(caught.value)
    [listed] = [row for row in list_datasets(str(tmp_path / "s")) if row["name"] == "d"]
    assert (listed["shards"], told in listed["problem"]) == (1, True)
    with pytest.raises(CookError, match=told):
        bake(tmp_path / "s", tmp_path / "all", datasets="all")
    assert (tmp_path / "all" / "other" / "cook.json").exists(), "another dataset is stopped"
    done = bake(tmp_path / "s", tmp_path / "out", on_error="skip")
    assert [
        told_of.startswith(str((folder / name).relative_to(tmp_path / "s"))) for told_of in done.manifest["unread"]
    ] == [True]
    [checked] = verify(tmp_path / "out", deep=True, source=str(tmp_path / "s")).datasets
    assert (checked.found, [*checked.unread]) == (0, done.manifest["unread"])
    seen = preview(Recipe(datasets="d", tokenizer="llama3", source=tmp_path / "s", on_error="skip"))
    assert len(seen.unread["d"]) == 1
    with pytest.raises(SourceError, match=told):  # though the result is up to date
        bake(tmp_path / "s", tmp_path / "out")


def test_what_lies_beside_datasets_is_named(tmp_path):
    put(tmp_path / "s" / "d" / "0.jsonl")
    for name in ("q.json", "q.jsonl.bz2", "README.md", "dataset_infos.json"):
        (tmp_path / "s" / name).write_text("{}")
    with pytest.warns(SourceWarning, match=r"not read: q.json: is JSON.*; q.jsonl.bz2: is compressed[^;]*$"):
        assert Folder("local", tmp_path / "s").names() == ["d"]


def test_verify_finds_what_came_after(tmp_path):
    put(tmp_path / "s" / "d" / "0.jsonl")
    bake(tmp_path / "s", tmp_path / "out")
    put(tmp_path / "s" / "d" / "1.json")
    with pytest.raises(SourceError, match="is JSON"):
        verify(tmp_path / "out", deep=True, source=str(tmp_path / "s"))


def test_what_is_read_beside_jsonl(tmp_path):
    for name in ("a.jsonl", "b.JSONL", "c.ndjson", "e.Jsonl"):
        put(tmp_path / "s" / "d" / name)
    assert [row["name"] for row in bake(tmp_path / "s", tmp_path / "out").manifest["inputs"]] == [
        *("a.jsonl", "b.JSONL", "c.ndjson", "e.Jsonl")
    ]
    put(tmp_path / "t" / "d.NDJSON")
    assert bake(tmp_path / "t", tmp_path / "alone").counts["entries"] == 1


def test_other_files_are_named_and_hidden_ones_are_not(tmp_path):
    put(tmp_path / "s" / "d" / "0.jsonl")
    for name in ("README.md", "dataset_infos.json", ".gitattributes"):
        (tmp_path / "s" / "d" / name).write_text("{}")
    with pytest.warns(SourceWarning, match=r"not read, by their names: README.md, dataset_infos.json$"):
        assert "unread" not in bake(tmp_path / "s", tmp_path / "out").manifest


@pytest.mark.parametrize("name", ["all", "cook.json", "README.md", "x.lock", "X.OLD", os.fsdecode(b"caf\xe9")])
def test_a_name_that_no_dataset_can_have_stops_no_other(tmp_path, name):
    put(tmp_path / "s" / "d" / "0.jsonl")
    put(tmp_path / "s" / name / "0.jsonl")
    with pytest.warns(SourceWarning, match="no dataset can have these names"):
        assert Folder("local", tmp_path / "s").names() == ["d"]
    with pytest.warns(SourceWarning):
        bake(tmp_path / "s", tmp_path / "out", datasets="all")
    if name != "all":
        with pytest.warns(SourceWarning), pytest.raises(RecipeError, match=r"needs for itself|cannot name a dataset"):
            bake(tmp_path / "s", tmp_path / "out", datasets=name)


def test_a_dataset_that_is_a_link_to_nothing(tmp_path):
    put(tmp_path / "s" / "d" / "0.jsonl")
    (tmp_path / "s" / "e").symlink_to("gone")
    (tmp_path / "s" / "f.jsonl").symlink_to("gone.jsonl")
    (tmp_path / "s" / "LICENSE.txt").symlink_to("gone.txt")
    assert Folder("local", tmp_path / "s").names() == ["d", "e", "f"]
    with pytest.raises(SeveralFailed) as caught:
        bake(tmp_path / "s", tmp_path / "out", datasets="all")
    assert caught.value.failures.keys() == {"e", "f"}
    assert (tmp_path / "out" / "d" / "cook.json").exists()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.jsonl", "dev.jsonl", "test-00000.jsonl.gz"], ["train", "validation", "test"]),
        (["d_val_1.jsonl", "d.valid.jsonl", "Validation.JSONL"], ["validation", "train", "validation"]),
        (["training.jsonl", "eval.jsonl", "tests_1.jsonl"], ["train", "test", "test"]),
        (["latest.jsonl", "contest1.jsonl", "device.jsonl"], ["train"] * 3),
        (["d.jsonl"], ["train"]),
        (["test.jsonl"], ["test"]),
    ],
)
def test_splits_by_names(names, splits):
    assert infer_splits("d", names) == splits


@pytest.fixture
def three(tmp_path):
    for name, rows in (("train", 60), ("validation", 5), ("test", 4)):
        put(tmp_path / "s" / "d" / f"{name}.jsonl", *(entry(f"{name} {i}") for i in range(rows)))
    return tmp_path / "s"


@pytest.mark.parametrize("more", [{}, {"dedup": True}])
def test_shards_named_for_a_split_go_to_it(three, tmp_path, more):
    done = bake(three, tmp_path / "out", **more)
    counted = {split: made["examples"] for split, made in done.counts["splits"].items()}
    assert counted == {"train": 60, "validation": 5, "test": 4}
    assert done.manifest["recipe"]["splits"] == "names"
    assert verify(tmp_path / "out", deep=True, source=str(three)).found == 0
    assert len(load(tmp_path / "out" / "d", "test")) == 1


def test_all_train_trains_on_all(three, tmp_path):
    done = bake(three, tmp_path / "out", splits="all-train")
    assert "splits" not in done.counts
    assert (done.counts["examples"], done.manifest["recipe"]["splits"]) == (69, "all-train")
    assert verify(tmp_path / "out", deep=True, source=str(three)).found == 0
    with pytest.raises(CookError, match=r"recipe\.splits"):
        bake(three, tmp_path / "out")


def test_a_share_for_validation_beside_names(three, tmp_path):
    with pytest.raises(InputError, match="has shards named for validation: leave --validation out"):
        bake(three, tmp_path / "out", validation=0.5)
    (three / "d" / "validation.jsonl").unlink()
    done = bake(three, tmp_path / "out", validation=20)
    counted = {split: made["examples"] for split, made in done.counts["splits"].items()}
    assert counted == {"train": 40, "validation": 20, "test": 4}
    assert verify(tmp_path / "out", deep=True, source=str(three)).found == 0
    (three / "d" / "train.jsonl").unlink()
    with pytest.raises(InputError, match="all of its shards are named for test"):
        bake(three, tmp_path / "out")


def test_without_such_names_the_manifest_says_nothing_of_splits(tmp_path):
    put(tmp_path / "s" / "d" / "0.jsonl")
    assert "splits" not in bake(tmp_path / "s", tmp_path / "out").manifest["recipe"]
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    assert bake(tmp_path / "t", tmp_path / "out", splits="all-train").up_to_date


WRONG = {
    b'{"context":"c","QA_list":[{"Q":"q","A":"a"}],"x":NaN}': ("NaN and Infinity are no JSON", True),
    b"{'context':'c','QA_list':[]}": ("double quotes", True),
    b'{"context":"c","QA_list":[],}': ("a comma before a closing bracket", True),
    b'{"context":"c\tc","QA_list":[]}': ("control character", True),
    b'[{"context":"c"}]': ("jq -c", False),
    b"[\n{}\n]": ("jq -c", False),
    '{"context":"c","QA_list":[]}'.encode("utf-16"): ("is UTF-16", False),
    '{"context":"c","QA_list":[]}'.encode("utf-16-be"): ("is UTF-16", False),
    b"\x1f\x8b\x08\0\0\0\0\0\0\3": ("is compressed, and its name does not say so", False),
    b"BZh9": ("compressed in a way that is not read", False),
    b"PK\x03\x04": ("is an archive", False),
    b"PAR1": ("is a table", False),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9": ("stands for a file that is elsewhere", False),
    b"/annex/objects/SHA256E-s3--0": ("stands for a file that is elsewhere", False),
    b"<!DOCTYPE html>": ("is a page or a document", False),
    '{"context":"c","QA_list":[]}'.encode("utf-32"): ("is UTF-32", False),
    '{"context":"c","QA_list":[]}'.encode("utf-32-be"): ("is UTF-32", False),
    b'{"context":"c"': ("unexpected end of data", True),
    b"3": ("must be an object", True),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_said_of_a_line(tmp_path, line):
    told, skippable = WRONG[line]
    write_shard(tmp_path, "d", [line])
    with pytest.raises(InputError) as caught:
        bake(tmp_path, tmp_path / "out")
    assert told in str(caught.value)
    assert ("--on-error skip" in str(caught.value)) == skippable
    assert ("jq -c" in str(caught.value)) == (told == "jq -c")


BLANK = (
    "\u200b",
    "\ufeff",
    "\u2060",
    "\u00a0",
    "\u3000",
    " \u200d\n",
    "\u00ad",
    "\u115f",
    "\ufe0f",
    "\x07",
    "\x00",
    "\x9f",
    "\u2800",
    "\ufff9",
    "\U000e0041",
)


def test_a_name_of_another_compression(tmp_path):
    for name in ("0.jsonl.gz", "0.jsonl.zst"):
        put(tmp_path / name / "d" / name)
        with pytest.raises(SourceError, match="it is not compressed as its name says"):
            bake(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("text", BLANK)
def test_pairs_of_what_shows_nothing_are_blank(tmp_path, text):
    rows = [{"Q": "q", "A": "a"}, {"Q": text, "A": "a"}, {"Q": "q", "A": text}, {"Q": f"{text}q", "A": "a"}]
    write_shard(tmp_path, "d", [{"context": "c", "QA_list": rows}])
    done = bake(tmp_path, tmp_path / "out")
    assert done.counts["skipped_pairs"] == {"blank_question": 1, "blank_answer": 1}
    assert done.counts["pairs"] == 4


def test_entries_without_context_are_split_one_by_one(tmp_path):
    rows = [{"context": "", "QA_list": [{"Q": f"task {i}?", "A": "done"}]} for i in range(600)]
    rows += [{"context": f"text {i}", "QA_list": [{"Q": "what?", "A": "done"}]} for i in range(400)]
    write_shard(tmp_path, "d", rows)
    for setting, least, most in ((0.1, 70, 130), (0.9, 870, 930), (500, 500, 500)):
        done = bake(tmp_path, tmp_path / f"out{setting}", validation=setting)
        assert least <= done.counts["splits"]["validation"]["examples"] <= most
    held = load(tmp_path / "out500" / "d", "validation")
    lines = [line for row in held["source_line"] for line in row]
    assert 200 < sum(line <= 600 for line in lines) < 400
