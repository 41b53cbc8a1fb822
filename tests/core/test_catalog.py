"""The catalog and the names of datasets: the 35, found in any case, never a path."""

import shutil

import pytest

from conftest import entry, write_shard
from cook import Recipe, RecipeError, SourceError, preview
from cook.core.catalog import CATALOG, is_dataset_name, is_safe, select_datasets
from cook.read.source import SourceWarning
from cook.read.sources import open_source

PUBLISHED = """
squad, TopiOCQA, HotpotQA, WikiTableQuestions, Quac, QED, FairyTaleQA, mctest, NarrativeQA, race, race_c,
ReClor, LogiQA, AQUA_RAT_yes_opt, TriviaQA, CosmosQA, ECQA,
NLQuAD, NewsQA, tweet_qa, quail, dream, multirc, ROPES, QuaRTz, CoQA, DoQA,
qasper, PubMedQA_no_opt, PubMedQA_yes_opt, COVID_QA, ConvFinQA, SpartQA, bAbI, QASC
"""
HELD = [row.name for row in CATALOG]


def test_the_catalog_is_the_35():
    assert [name.strip() for name in PUBLISHED.split(",")] == HELD
    assert len(set(HELD)) == 35


def test_names_match_in_any_case_and_once():
    assert select_datasets(["SQuAD", "squad", "aqua_rat", "QED"], HELD) == ["squad", "AQUA_RAT_yes_opt", "QED"]
    assert select_datasets(["all"], ["b", "A", "a"]) == ["A", "a", "b"]
    assert select_datasets(["a"], ["A", "a"]) == ["a"]
    with pytest.raises(RecipeError, match="AB: is Ab or aB"):
        select_datasets(["AB"], ["Ab", "aB"])
    assert select_datasets(["race"], HELD) == ["race"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqad", "no dataset of that name; did you mean squad"),
        ("PubMedQA", "did you mean PubMedQA_no_opt or PubMedQA_yes_opt"),
        ("zzz", "no dataset of that name; this source holds AQUA_RAT_yes_opt, COVID_QA"),
        ("squad,race", "is not one name; repeat --dataset"),
        ("../squad", "cannot name a dataset"),
        ("/etc", "cannot name a dataset"),
        (".", "cannot name a dataset"),
        ("..", "cannot name a dataset"),
        ("a\nb", "cannot name a dataset"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(RecipeError) as caught:
        select_datasets([name], HELD)
    assert message.lower() in str(caught.value).lower()


def test_a_name_of_the_catalog_that_the_source_lacks():
    with pytest.raises(RecipeError, match="is in the catalog, but this source does not hold it; it holds QED"):
        select_datasets(["squad"], ["QED"])


@pytest.mark.parametrize("name", ["a", "my set", "Ünï", "a.b", "x" * 128])
def test_safe_names(name):
    assert is_safe(name)


@pytest.mark.parametrize(
    "name",
    ["", "README.md", ".", "..", ".cook", "a/b", "a\\b", "-x", "a*", "a[1]", "a ", "a.", "\x00", "x" * 129],
)
def test_unsafe_names(name):
    assert not is_dataset_name(name)


def test_a_folder_may_hold_more_than_the_catalog(tmp_path):
    for name in ("mine", "squad", ".hidden"):
        write_shard(tmp_path, name, [entry()])
    (tmp_path / "no shards").mkdir()
    assert open_source(str(tmp_path)).names() == ["mine", "squad"]


def test_shards_in_bytewise_order_of_their_decompressed_names(tmp_path):
    for shard in ("10.jsonl", "9.jsonl", "00001.jsonl", "00001-b.jsonl", "Z.jsonl", "a.jsonl", "notes.txt", ".x.jsonl"):
        write_shard(tmp_path, "set", [entry()], shard)
    with pytest.warns(SourceWarning, match=r"not read, by their names: notes\.txt$"):
        names = [shard.name for shard in open_source(str(tmp_path)).shards("set")]
    assert names == ["00001-b.jsonl", "00001.jsonl", "10.jsonl", "9.jsonl", "Z.jsonl", "a.jsonl"]


def test_a_shard_twice_is_an_error(tmp_path):
    path = write_shard(tmp_path, "set", [entry()])
    shutil.copy(path, path.with_name("00000.jsonl.gz"))
    with pytest.raises(SourceError, match=r"00000\.jsonl and .*00000\.jsonl\.gz are the same shard twice"):
        open_source(str(tmp_path)).shards("set")


def test_a_path_that_is_near_the_source(tmp_path):
    collection = tmp_path / "collection"
    path = write_shard(collection, "set", [entry()])
    for deeper in (path.parent, path.parents[1]):
        with pytest.raises(RecipeError, match=f"\nsource: the folder that holds set is {collection}$"):
            preview(Recipe(datasets="set", tokenizer="llama3", source=deeper))
    with pytest.raises(SourceError, match=f"{path}: is a file; a source is the folder .*: {collection}$"):
        open_source(str(path))
    with pytest.raises(SourceError, match=f"{tmp_path}: holds no dataset; .*; is {collection} meant"):
        open_source(str(tmp_path))
    (collection / "flat").mkdir()
    (collection / "flat" / "0.jsonl").touch()
    with pytest.raises(RecipeError, match=f"this source holds 0\nsource: the folder that holds flat is {collection}$"):
        preview(Recipe(datasets="Flat", tokenizer="llama3", source=collection / "flat"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Sampel", "did you mean sample"),
        ("owner/name", "one on the Hub is hf://datasets/owner/name$"),
        ("https://huggingface.co/datasets/owner/name/", "one on the Hub is hf://datasets/owner/name$"),
        (
            "/no/where",
            r"a source is a folder laid out DATASET/shard/\*\.jsonl, sample, hub, modelscope, or hf://",
        ),
    ],
)
def test_what_may_be_meant_by_a_source(name, hint):
    with pytest.raises(SourceError, match=f"^{name}: no such folder; {hint}"):
        open_source(name)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        open_source(str(tmp_path / "none"))
    with pytest.raises(SourceError, match=r"holds no dataset; a source is laid out DATASET/shard/\*\.jsonl$"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match="holds no shard"):
        (tmp_path / "set" / "shard").mkdir(parents=True)
        open_source(str(tmp_path)).shards("set")


def test_the_sample_is_whole():
    sample = open_source("sample")
    assert sample.names() == ["WikiTableQuestions", "race", "squad"]
    for name in sample.names():
        assert len(sample.shards(name)) == 2
        assert name in HELD
