"""Validation splits and repeats: who goes where depends on a context alone, and nothing is lost on the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import splintr
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st

import cook
from conftest import entry, pair, write_shard
from cook.core.errors import InputError, RecipeError
from cook.pack import splits
from cook.pipeline.identity import SplitWarning

LLAMA3 = splintr.Tokenizer.from_pretrained("llama3")


def bake(source: Path, out: Path, **settings: Any) -> cook.Result:
    recipe = cook.Recipe(datasets="set", tokenizer="llama3", source=str(source), output=str(out), **settings)
    (result,) = cook.run(recipe).results
    return result


def contexts(folder: Path, split: str) -> Counter[str]:
    """The contexts of a split's examples, read back from the tokens."""
    found: Counter[str] = Counter()
    for row in cook.read_cooked(folder).sequences(split):
        for end, length in zip(np.cumsum(row.seq_lengths), row.seq_lengths, strict=True):
            ids, mask = row.input_ids[end - length : end], row.loss_mask[end - length : end]
            text = LLAMA3.decode(ids[mask == 0].tolist()[1:])
            found[text.removeprefix(" <CON> ").removesuffix(" </CON>\n\n")] += 1
    return found


TEXTS = [f"context number {i}" for i in range(300)]


def test_a_share_goes_to_validation_and_the_rest_to_train(tmp_path):
    write_shard(tmp_path / "in", "set", [entry(text) for text in TEXTS])
    result = bake(tmp_path / "in", tmp_path / "out", validation=0.2)
    train, validation = contexts(result.folder, "train"), contexts(result.folder, "validation")
    assert not train & validation
    assert train + validation == Counter(TEXTS)
    assert 35 <= validation.total() <= 85  # 60 is expected; a binomial's three and a half deviations
    made = result.counts["splits"]
    assert made["validation"]["examples"] == validation.total()
    assert made["train"]["examples"] == train.total() == result.counts["examples"] - validation.total()
    for field in ("sequences", "tokens", "trained_tokens"):
        assert made["train"][field] + made["validation"][field] == result.counts[field]
    assert [output["split"] for output in result.manifest["outputs"]] == ["train", "validation"]
    loaded = {split: load_dataset(str(tmp_path / "out"), "set", split=split) for split in ("train", "validation")}
    assert {split: len(rows) for split, rows in loaded.items()} == {s: made[s]["sequences"] for s in made}


def test_a_number_takes_as_many_entries_and_contexts_whole(tmp_path):
    rows = [entry(text, pair(f"q{copy}")) for text in TEXTS[:50] for copy in range(3)]
    write_shard(tmp_path / "in", "set", rows)
    result = bake(tmp_path / "in", tmp_path / "out", validation=20)
    found = contexts(result.folder, "validation")
    assert set(found.values()) == {3}
    assert found.total() == 18  # six contexts; a seventh would be 21


def test_moving_entries_between_shards_and_turning_their_order_changes_no_split(tmp_path):
    write_shard(tmp_path / "one", "set", [entry(text) for text in TEXTS])
    for shard in range(3):
        write_shard(tmp_path / "three", "set", [entry(text) for text in TEXTS[::-1][shard::3]], f"{shard}.jsonl")
    for setting in (0.1, 25):
        found = [
            contexts(bake(tmp_path / source, tmp_path / f"{source}-{setting}", validation=setting).folder, "validation")
            for source in ("one", "three")
        ]
        assert found[0] == found[1]
        assert found[0]


def test_a_larger_setting_keeps_what_a_smaller_one_chose(tmp_path):
    write_shard(tmp_path / "in", "set", [entry(text) for text in TEXTS])
    chosen: set[str] = set()
    for setting in (0.05, 0.1, 60, 0.3, 200):
        now = set(contexts(bake(tmp_path / "in", tmp_path / str(setting), validation=setting).folder, "validation"))
        assert chosen < now
        chosen = now


def test_the_split_is_the_same_for_another_tokenizer_and_length(tmp_path, models):
    write_shard(tmp_path / "in", "set", [entry(text) for text in TEXTS])
    lines = []
    for number, (tokenizer, length) in enumerate([("llama3", 4096), ("mistral", 64), (str(models["qwen3"]), 512)]):
        recipe = cook.Recipe(
            datasets="set", tokenizer=tokenizer, source=str(tmp_path / "in"), output=str(tmp_path / str(number)),
            validation=0.1, max_length=length,
        )  # fmt: skip
        (result,) = cook.run(recipe).results
        rows = cook.read_cooked(result.folder).sequences("validation")
        lines.append(sorted(line for row in rows for line in row.source_line.tolist()))
    assert lines[0] == lines[1] == lines[2]


def test_the_examples_made_of_one_entry_stay_together(tmp_path):
    long = [entry(f"{text} " * 8, *[pair(f"q{i}", f"a{i} " * 5) for i in range(12)]) for text in TEXTS[:40]]
    write_shard(tmp_path / "in", "set", long)
    result = bake(tmp_path / "in", tmp_path / "out", validation=0.3, max_length=120)
    assert result.counts["split"] == 40
    both = [set(contexts(result.folder, split)) for split in ("train", "validation")]
    assert both[0]
    assert both[1]
    assert not both[0] & both[1]


def test_none_in_validation_is_a_warning_and_all_an_error(tmp_path):
    write_shard(tmp_path / "in", "set", [entry("only")])
    with pytest.warns(SplitWarning, match="takes none of its entries"):
        result = bake(tmp_path / "in", tmp_path / "out", validation=1e-9)
    assert "splits" not in result.counts
    with pytest.raises(InputError, match="leaves none to train on"):
        bake(tmp_path / "in", tmp_path / "none", validation=5)


@pytest.mark.parametrize("setting", [0, 1.0, 1.5, -1, True, "0.1"])
def test_settings_that_are_neither_share_nor_number(setting):
    with pytest.raises(RecipeError, match="validation"):
        cook.Recipe(datasets="set", tokenizer="llama3", validation=setting)


def test_the_command_reads_a_point_as_a_share(tmp_path, cook):
    write_shard(tmp_path / "in", "set", [entry(text) for text in TEXTS])
    common = ("-d", "set", "-t", "llama3", "-s", "in", "--json")
    for flag, low, high in (("0.1", 10, 60), ("10", 10, 10)):
        done = cook(*common, "-o", flag, "--validation", flag)
        (counts,) = [dataset["counts"] for dataset in orjson.loads(done.stdout)["datasets"]]
        assert low <= counts["splits"]["validation"]["examples"] <= high
    assert cook(*common, "--validation", "some").exit_code == 2


def test_exact_repeats_are_dropped_and_recorded(tmp_path):
    write_shard(
        tmp_path / "in", "set", [entry("a", pair("q", "1"), pair("r", "2")), entry("a", pair("q", "1"))], "0.jsonl"
    )
    rows = [
        entry("b"),
        entry("a", pair("q", "1"), pair("r", "2")),
        entry("a", pair("q", "1")),
        entry("a ", pair("q", "1")),
    ]
    write_shard(tmp_path / "in", "set", rows, "1.jsonl")
    result = bake(tmp_path / "in", tmp_path / "out", dedup=True)
    assert contexts(result.folder, "train") == Counter({"a": 2, "b": 1, "a ": 1})
    assert result.counts["skipped_entries"] == {"repeat": 2}
    assert result.counts["skipped_pairs"] == {"repeat": 3}
    lines = (result.folder / "skipped.jsonl").read_bytes().splitlines()
    assert [(row["shard"], row["line"], row["reason"], row["pairs"]) for row in map(orjson.loads, lines)] == [
        ("1.jsonl", 2, "repeat", 2), ("1.jsonl", 3, "repeat", 1),
    ]  # fmt: skip
    assert bake(tmp_path / "in", tmp_path / "out", dedup=True).up_to_date
    assert bake(tmp_path / "in", tmp_path / "all").counts["examples"] == 6


def test_an_over_long_entry_that_repeats_goes_with_all_its_examples(tmp_path):
    long = entry("long " * 20, *[pair(f"q{i}", f"a{i} " * 5) for i in range(12)])
    write_shard(tmp_path / "in", "set", [long, entry("b"), long])
    once = bake(tmp_path / "in", tmp_path / "out", dedup=True, max_length=100)
    assert once.counts["skipped_entries"] == {"repeat": 1}
    assert once.counts["skipped_pairs"] == {"repeat": 12}
    found = [line for row in cook.read_cooked(once.folder).sequences() for line in row.source_line.tolist()]
    assert set(found) == {1, 2}
    assert found.count(1) > 1
    assert bake(tmp_path / "in", tmp_path / "out", dedup=True, max_length=100).up_to_date


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=30),
    st.integers(1, 40),
)
def test_repeats_and_splits_against_plain_loops(rows, number):
    """Each row: an entry's context, its pairs, and how many examples were made of it."""
    context = np.array([c * 7919 % 5 for c, _, made in rows for _ in range(made)], np.uint64)
    content = np.array([c * 10 + p for c, p, made in rows for _ in range(made)], np.uint64)
    entry = np.array([i for i, (_, _, made) in enumerate(rows) for _ in range(made)])
    seen: set[tuple[int, int]] = set()
    expected = []
    for c, p, made in rows:
        expected += [(c, p) in seen] * made
        seen.add((c, p))
    assert splits.find_repeats(context, content, entry).tolist() == expected
    taken: set[int] = set()
    left = number
    for value in sorted(set(context.tolist())):
        count = sum(c * 7919 % 5 == value for c, _, _ in rows)
        if count > left:
            break
        taken.add(value)
        left -= count
    assert splits.select_validation(number, context, entry).tolist() == [value in taken for value in context.tolist()]


def test_other_keys_of_a_line(tmp_path, cook):
    path = tmp_path / "in" / "mine.jsonl"
    path.parent.mkdir()
    good = {"passage": "p", "questions": [{"query": "why?", "reply": "so."}]}
    path.write_bytes(
        orjson.dumps(good) + b"\n" + orjson.dumps({"passage": "p", "questions": [{"query": "why?"}]}) + b"\n"
    )
    flags = ("-d", "mine", "-t", "llama3", "-s", "in", "-o", "out")
    fields = ("--fields", "context=passage,pairs=questions,question=query,answer=reply")
    failed = cook(*flags, *fields)
    assert failed.exit_code == 3
    assert "mine.jsonl:2: questions[0].reply: is missing" in failed.stderr
    assert cook(*flags, *fields, "--on-error", "skip").exit_code == 0
    assert contexts(tmp_path / "out" / "mine", "train") == Counter({"p": 1})
    (tmp_path / "recipe.yaml").write_text(
        "fields: {context: passage, pairs: questions, question: query, answer: reply}\n"
    )
    again = cook(*flags, "--config", "recipe.yaml", "--on-error", "skip", "--json")
    assert orjson.loads(again.stdout)["datasets"][0]["up_to_date"]
    assert cook(*flags, "--fields", "text=passage").exit_code == 2
    assert cook(*flags, "--fields", "passage").exit_code == 2
    assert cook(*flags, "--fields", "context=x,pairs=x").exit_code == 2


@pytest.mark.parametrize("name", ["mine.jsonl", "mine/a.jsonl", "mine/shard/a.jsonl", "mine.jsonl.gz"])
def test_layouts(tmp_path, name):
    import gzip

    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    data = orjson.dumps(entry("text")) + b"\n"
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    recipe = cook.Recipe(datasets="all", tokenizer="llama3", source=str(tmp_path / "in"), output=str(tmp_path / "out"))
    (result,) = cook.run(recipe).results
    assert (result.name, result.counts["examples"]) == ("mine", 1)
    assert result.manifest["inputs"][0]["name"] == path.name


def test_two_layouts_of_one_dataset_are_refused_and_others_cooked(tmp_path):
    write_shard(tmp_path / "in", "set", [entry()])
    (tmp_path / "in" / "set.jsonl").write_bytes(orjson.dumps(entry()) + b"\n")
    write_shard(tmp_path / "in", "good", [entry()])
    recipe = cook.Recipe(datasets="all", tokenizer="llama3", source=str(tmp_path / "in"), output=str(tmp_path / "out"))
    with pytest.raises(cook.SeveralFailed, match="in two places") as failed:
        cook.run(recipe)
    assert [result.name for result in failed.value.summary.results] == ["good"]


def test_tokens_in_the_cache_that_were_not_hashed_are_not_split(tmp_path):
    write_shard(tmp_path / "in", "set", [entry(text) for text in TEXTS])
    bake(tmp_path / "in", tmp_path / "plain")
    fresh = bake(tmp_path / "in", tmp_path / "fresh", validation=0.2, cache=str(tmp_path / "cache"))
    again = bake(tmp_path / "in", tmp_path / "again", validation=0.2)
    assert again.counts == fresh.counts
    assert "splits" in again.counts


def test_tokens_in_the_cache_are_those_of_the_same_keys(tmp_path):
    path = tmp_path / "in" / "set.jsonl"
    path.parent.mkdir()
    path.write_bytes(orjson.dumps(entry("one") | {"other": "two"}) + b"\n")
    assert contexts(bake(tmp_path / "in", tmp_path / "a").folder, "train") == Counter(["one"])
    other = bake(tmp_path / "in", tmp_path / "b", fields={"context": "other"})
    assert contexts(other.folder, "train") == Counter(["two"])
