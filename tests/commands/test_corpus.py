"""`cook corpus` from shards to files: text and sequences, whole or not at all, the same bytes twice."""

import functools
import gzip
import hashlib
import itertools
from pathlib import Path

import datasets
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

import cook as package
from conftest import entry, pair, write_shard
from cook import BadLines, CorpusRecipe, OutputError, OutputExists, RecipeError, make_corpus, read_cooked, read_styles
from cook.core.choices import CORPUS_PACKINGS as PACKINGS
from cook.corpora import text_files
from cook.corpora.render import Passage, Renderer
from reference import model_json

ROWS = [
    entry(f"Context {n}.", *[pair(f"Question {n} {k}?", f"Answer {n} {k}.") for k in range(n % 3 + 1)])
    for n in range(30)
]
ROWS[7] = entry("Sky.", pair("Which?\nOptions:\n- red\n- blue", "blue")) | {"followed_by_next": True}
ROWS[8] |= {"inherit_from_prev": True}
PASSAGES = [Passage(row["context"], [(p["Q"], p["A"]) for p in row["QA_list"]]) for row in ROWS]


def rendered(seed=0):
    """The texts that ROWS give."""
    renderer = Renderer(read_styles(), seed)
    groups = [[passage] for passage in PASSAGES[:7]] + [PASSAGES[7:9]] + [[passage] for passage in PASSAGES[9:]]
    return [renderer.render(group) for group in groups]


@pytest.fixture
def shards(tmp_path):
    write_shard(tmp_path / "collection", "x", ROWS)
    return tmp_path / "collection"


def made(source, to, **settings):
    summary = make_corpus(CorpusRecipe(source=str(source), output=str(to), **settings))
    return summary.results[0]


def rows_of(folder):
    rows = []
    for path in sorted(folder.glob("train-*")):
        if path.suffix == ".jsonl":
            rows += map(orjson.loads, path.read_bytes().splitlines())
        else:
            rows += pq.read_table(path).to_pylist()
    return rows


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_texts(shards, tmp_path, kind):
    result = made(shards, tmp_path / "out", format=kind)
    rows = rows_of(result.folder)
    assert [row["text"] for row in rows] == [text.text for text in rendered()]
    assert [row["mode"] for row in rows] == [text.mode for text in rendered()]
    assert [row["context_after"] for row in rows] == [text.context_after for text in rendered()]
    assert [row["source_line"] for row in rows] == [*range(1, 9), *range(10, 31)]
    assert [row["entries"] for row in rows] == [1] * 7 + [2] + [1] * 21
    counts = result.counts
    assert counts["texts"] == sum(counts["modes"].values()) == 29
    assert counts["kinds"] == {"options": 1, "plain": sum(len(row["QA_list"]) for row in ROWS) - 1}
    assert counts["options"] == {"varied": 1}
    assert counts["chains"] == {"texts": 1, "entries": 2}
    assert counts["letters"] == sum(len(text.text) for text in rendered())
    assert result.manifest["recipe"]["styles"] == read_styles().sha256
    assert result.manifest["styles"] == read_styles().data
    assert list(package.load(result.folder)["text"]) == [row["text"] for row in rows]
    loaded = datasets.load_dataset(str(tmp_path / "out"), "x", split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["mode"][:] == [row["mode"] for row in rows]


@pytest.mark.parametrize("settings", [{}, {"format": "parquet"}, {"tokenizer": "llama3", "packing": "wrap"}])
def test_the_same_bytes_twice_and_on_more_cores(shards, tmp_path, settings):
    made(shards, tmp_path / "a", jobs=1, **settings)
    made(shards, tmp_path / "b", jobs=3, **settings)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_shards_change_no_text(shards, tmp_path, monkeypatch):
    lines = [orjson.dumps(row) + b"\n" for row in ROWS]
    more = tmp_path / "more" / "x" / "shard"
    more.mkdir(parents=True)
    (more / "0.jsonl").write_bytes(b"".join(lines[:5]))
    (more / "1.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[5:20])))
    (more / "2.jsonl").write_bytes(b"\n" + b"".join(lines[20:]))
    expected = [text.text for text in rendered()]
    for part in (100, 500, 1 << 20):
        monkeypatch.setattr("cook.read.lines.PART_BYTES", part)
        monkeypatch.setattr(text_files, "FILE_BYTES", part)
        for name, source in (("one", shards), ("more", tmp_path / "more")):
            rows = rows_of(made(source, tmp_path / f"{name}-{part}").folder)
            assert [row["text"] for row in rows] == expected
            if name == "one":
                assert [row["source_line"] for row in rows] == [*range(1, 9), *range(10, 31)]
    assert len(list((tmp_path / "one-100").rglob("train-*"))) > 5, "one file was made, so this test sees nothing"


@functools.cache
def reference():
    """What Hugging Face's own tokenizer makes of the texts."""
    tokenizer = Tokenizer.from_str(model_json("llama3").decode())
    return [tokenizer.encode(text.text, add_special_tokens=False).ids for text in rendered()]


@pytest.mark.parametrize(("begin", "packing"), [*((None, packing) for packing in PACKINGS), ("none", "wrap")])
def test_every_token_of_every_text_is_there_and_trained(shards, tmp_path, begin, packing):
    """Against the model's own tokenizer.json."""
    result = made(shards, tmp_path / "out", tokenizer="llama3", packing=packing, max_length=48, bos=begin)
    about = result.manifest["tokenizer"]
    bos = [] if about["bos_id"] is None else [about["bos_id"]]
    documents = [[*bos, *ids, about["eos_id"]] for ids in reference()]
    pieces = {}
    for sequence in read_cooked(result.folder).sequences():
        ids, at = sequence.input_ids, 0
        assert 0 < len(ids) <= 48
        if bos:
            assert (sequence.loss_mask == (ids != bos[0])).all()
        else:
            assert sequence.loss_mask.all()
        assert (sequence.labels == np.where(sequence.loss_mask == 1, ids, -100)).all()
        for length, line in zip(sequence.seq_lengths, sequence.source_line, strict=True):
            pieces.setdefault(int(line), []).append(ids[at : at + length].tolist())
            at += length
        assert at == len(ids)
    lines = [*range(1, 9), *range(10, 31)]
    if packing in ("wrap", "in-order"):
        assert [[*itertools.chain(*pieces[line])] for line in lines] == documents
    assert [sorted(itertools.chain(*pieces[line])) for line in lines] == [sorted(document) for document in documents]
    total = sum(map(len, documents))
    assert result.counts["tokens"] == total
    assert result.counts["trained_tokens"] == total - len(bos) * len(documents)
    if packing == "wrap":
        lengths = [len(sequence.input_ids) for sequence in read_cooked(result.folder).sequences()]
        assert lengths == [48] * (total // 48) + ([total % 48] if total % 48 else [])


def test_sequences_are_as_cooked_ones_are(shards, tmp_path):
    """Mixed, exported, opened: what reads a dataset reads them."""
    result = made(shards, tmp_path / "out", tokenizer="llama3", packing="wrap", max_length=64)
    mixed = package.mix(tmp_path / "out", tmp_path / "mixed")
    assert mixed.manifest["counts"]["tokens"] == result.counts["tokens"]
    assert mixed.manifest["counts"]["trained_tokens"] == result.counts["trained_tokens"]
    exported = package.export(result.folder, "jsonl", tmp_path / "text")
    read = "".join(path.read_text() for path in exported.folder.glob("*.jsonl"))
    assert "Question 5 2?" in read
    rows = package.load(result.folder)
    assert rows.column_names[:3] == ["input_ids", "labels", "loss_mask"]
    assert len(rows) == result.counts["sequences"]


def test_text_is_no_sequences(shards, tmp_path):
    folder = made(shards, tmp_path / "out").folder
    with pytest.raises(OutputError, match="is a corpus as text"):
        next(read_cooked(folder).sequences())
    with pytest.raises(RecipeError, match="is a corpus as text"):
        package.export(folder, "trl", tmp_path / "trl")
    with pytest.raises(OutputError, match="holds no cooked dataset"):
        package.mix(tmp_path / "out", tmp_path / "mixed")


def test_what_is_left_out(tmp_path):
    blank = {"context": "C.", "QA_list": [pair(" ", "A."), pair("Q?", "A.")]}
    rows = [{"context": "Alone.", "QA_list": []}, {"context": " ", "QA_list": []}, blank, b"{}", entry("", pair())]
    write_shard(tmp_path / "collection", "x", rows)
    result = made(tmp_path / "collection", tmp_path / "out", on_error="skip")
    assert [row["source_line"] for row in rows_of(result.folder)] == [1, 3, 5]
    assert rows_of(result.folder)[0]["text"] == "Alone."
    assert result.counts["modes"]["context"] == 1
    skipped = [orjson.loads(line) for line in (result.folder / "skipped.jsonl").read_bytes().splitlines()]
    assert [(row["line"], row["reason"]) for row in skipped] == [
        (2, "no_pairs"),
        (3, "blank_question"),
        (4, "bad_line"),
    ]
    packed = made(tmp_path / "collection", tmp_path / "packed", on_error="skip", tokenizer="llama3")
    assert packed.counts["modes"] == result.counts["modes"]
    assert packed.counts["skipped_entries"] == result.counts["skipped_entries"]
    for settings in ({}, {"tokenizer": "llama3"}):
        with pytest.raises(BadLines, match=r"00000.jsonl:4: context: is missing"):
            made(tmp_path / "collection", tmp_path / "none", **settings)
    for folder, settings in (("out", {}), ("packed", {"tokenizer": "llama3"})):
        with pytest.raises(package.InputError, match="--on-error is fail"):
            made(tmp_path / "collection", tmp_path / folder, **settings)
    assert not (tmp_path / "none").exists()


def test_nothing_is_an_error(tmp_path):
    write_shard(tmp_path / "collection", "x", [{"context": "", "QA_list": []}])
    for settings in ({}, {"tokenizer": "llama3"}):
        with pytest.raises(package.InputError, match="is left of 1 entries"):
            made(tmp_path / "collection", tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_contexts_alone_are_a_corpus(tmp_path):
    write_shard(tmp_path / "collection", "x", [{"context": "One.", "QA_list": []}, {"context": "Two.", "QA_list": []}])
    assert made(tmp_path / "collection", tmp_path / "text").counts["modes"] == {"context": 2}
    assert made(tmp_path / "collection", tmp_path / "out", tokenizer="llama3").counts["texts"] == 2


@pytest.mark.parametrize("settings", [{}, {"tokenizer": "llama3"}])
def test_up_to_date_or_in_the_way(shards, tmp_path, settings):
    first = made(shards, tmp_path / "out", **settings)
    assert made(shards, tmp_path / "out", **settings).up_to_date
    with pytest.raises(OutputExists, match=r"recipe\.seed"):
        made(shards, tmp_path / "out", seed=1, **settings)
    mine = tmp_path / "mine.yaml"
    mine.write_text("weights: {after: 100}")
    with pytest.raises(OutputExists, match=r"recipe\.styles"):
        made(shards, tmp_path / "out", styles=read_styles(mine), **settings)
    again = made(shards, tmp_path / "out", styles=read_styles(mine), overwrite=True, **settings)
    assert again.counts["context_after"] == again.counts["texts"] == first.counts["texts"]
    (again.folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"notes\.txt"):
        made(shards, tmp_path / "out", overwrite=True, **settings)


def test_text_is_not_replaced_by_sequences(shards, tmp_path):
    made(shards, tmp_path / "out")
    with pytest.raises(OutputExists):
        made(shards, tmp_path / "out", tokenizer="llama3", overwrite=True)
    made(shards, tmp_path / "packed", tokenizer="llama3")
    with pytest.raises(OutputExists, match="is a corpus of sequences"):
        made(shards, tmp_path / "packed", overwrite=True)


def test_a_limit(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("cook.read.lines.PART_BYTES", 300)
    rows = rows_of(made(shards, tmp_path / "out", limit=8).folder)
    assert [row["source_line"] for row in rows] == list(range(1, 9))
    assert rows[7]["entries"] == 1, "its chain ends at the limit"
    assert made(shards, tmp_path / "packed", limit=8, tokenizer="llama3").counts["texts"] == 8


def test_settings_are_checked():
    with pytest.raises(RecipeError) as told:
        CorpusRecipe(source="sample", output="x", packing="tight", format="csv", styles="mine.yaml")
    assert [line.partition(":")[0] for line in str(told.value).splitlines()] == ["packing", "styles", "format"]
    with pytest.raises(RecipeError, match="output"):
        make_corpus(CorpusRecipe(source="sample"))
    with pytest.raises(RecipeError, match="packing"):
        package.Recipe(datasets="x", tokenizer="llama3", packing="wrap")


def test_the_command(cook, tmp_path):
    done = cook("corpus", "sample", "--to", "corpus", "-d", "race", "--json")
    assert done.exit_code == 0, done.stderr
    [told] = orjson.loads(done.stdout)["datasets"]
    assert told["counts"]["texts"] == 40
    assert "options with other names and order" in done.stderr
    assert "load_dataset('corpus', 'race', split=\"train\")" in done.stderr
    assert "up to date" in cook("corpus", "sample", "--to", "corpus", "-d", "race").stderr
    packed = cook("corpus", "sample", "--to", "packed", "-t", "llama3", "--packing", "wrap", "--max-length", "256")
    assert packed.exit_code == 0, packed.stderr
    assert len(list(tmp_path.glob("packed/*/cook.json"))) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["sample"], 2, "--to"),
        (["sample", "--to", "x", "--packing", "wrap"], 2, "--packing goes with --tokenizer"),
        (["sample", "--to", "x", "-t", "llama3", "--format", "parquet"], 2, "--format is for text"),
        (["sample", "--to", "x", "--styles", "mine.yaml"], 2, "mine.yaml:1: chains: must be a list"),
        (["sample", "--to", "x", "--styles", "none.yaml"], 2, "cannot be read"),
        (["sample", "--to", "x", "--seed", "-1"], 2, "seed: must be"),
        (["sample", "--to", "x", "-d", "nothing"], 2, "nothing"),
        (["nowhere", "--to", "x"], 1, "no such folder"),
        (["bad", "--to", "x"], 3, "00000.jsonl:1: context: is missing"),
    ],
)
def test_the_command_s_errors(cook, tmp_path, arguments, code, told):
    (tmp_path / "mine.yaml").write_text("chains: a")
    write_shard(tmp_path / "bad", "x", [{}])
    done = cook("corpus", *arguments)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert not (tmp_path / "x").exists()


def test_several_datasets_stand_alone(cook, tmp_path):
    write_shard(tmp_path / "two", "good", [entry()])
    write_shard(tmp_path / "two", "worse", [{}])
    write_shard(tmp_path / "two", "worst", [{}])
    done = cook("corpus", "two", "--to", "x")
    assert done.exit_code == 3
    assert (tmp_path / "x" / "good" / "cook.json").exists()
    assert "good: modes: " in done.stderr
    assert "worse/shard/00000.jsonl:1: context: is missing" in done.stderr
    assert "worst/shard/00000.jsonl:1: context: is missing" in done.stderr


def test_other_keys(cook, tmp_path):
    write_shard(tmp_path / "mine", "x", [{"passage": "Oil.", "asked": [{"Q": "What?", "A": "Oil."}]}])
    done = cook("corpus", "mine", "--to", "out", "--fields", "context=passage,pairs=asked")
    assert done.exit_code == 0, done.stderr
    assert rows_of(tmp_path / "out" / "x")[0]["text"].count("Oil.") == 2


def test_the_styles_that_are_printed_can_be_read(cook, tmp_path):
    done = cook("corpus", "--print-styles")
    (tmp_path / "styles.yaml").write_text(done.stdout, encoding="utf-8")
    assert read_styles(tmp_path / "styles.yaml") == read_styles()


def test_bytes_are_pinned(tmp_path):
    """The sample's texts are those that they were, on every machine; styles or draws that change change this."""
    result = make_corpus(CorpusRecipe(source="sample", output=str(tmp_path / "out"), datasets="squad")).results[0]
    data = b"".join(path.read_bytes() for path in sorted(result.folder.glob("train-*")))
    assert hashlib.sha256(data).hexdigest() == SQUAD
    assert Path(result.folder, "cook.json").exists()


SQUAD = "de2a45ee043bc05d81c84ac8539c8974d51af0906a62863cecb96049c75b68b1"
