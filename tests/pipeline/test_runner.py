"""From recipe to folder: what a run writes, refuses, leaves out and accounts for."""

import dataclasses
import gzip
import os
import resource
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
import splintr

import cook
from conftest import COLLECTION, entry, needs_collection, pair, write_shard
from cook import BadLines, InputError, OutputExists, Recipe, SeveralFailed, SourceError, TooLong, mix, read_cooked, run
from cook.core import owned
from cook.core.recipe import NON_OUTPUT_SETTINGS
from cook.read import lines as entries_module
from cook.store import staging, write
from cook.store.outputs import Sequence

BOS, EOS = 128000, 128001
LLAMA3 = splintr.Tokenizer.from_pretrained("llama3")


def bake(source: Path, output: Path, name: str = "set", **settings) -> cook.Result:
    return run(Recipe(datasets=name, tokenizer="llama3", source=source, output=output, **settings)).results[0]


def rows(folder: Path) -> list[Sequence]:
    return list(read_cooked(folder).sequences())


def examples(folder: Path) -> list[tuple[int, int, list[int], list[int]]]:
    """(shard, line, input ids, output ids) of every example."""
    found = []
    for row in rows(folder):
        ends = np.cumsum(row.seq_lengths)
        for end, length, shard, line in zip(ends, row.seq_lengths, row.source_shard, row.source_line, strict=True):
            ids, mask = row.input_ids[end - length : end], row.loss_mask[end - length : end]
            border = int(np.argmax(mask))
            assert mask.tolist() == [0] * border + [1] * (length - border)
            found.append((int(shard), int(line), ids[:border].tolist(), ids[border:].tolist()))
    return found


def decode(ids: list[int]) -> str:
    return LLAMA3.decode_bytes(ids).decode()


def skipped(folder: Path) -> list[dict]:
    path = folder / "skipped.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_what_is_trained_reads_as_the_answers(tmp_path):
    """The mask, verified by decoding what it covers; and what it does not cover."""
    write_shard(tmp_path, "set", [entry("One mill.", pair("What?", "A mill"), pair("How many?", "One")), entry("Two.")])
    result = bake(tmp_path, tmp_path / "out")
    (row,) = rows(result.folder)
    first, second = examples(result.folder) if examples(result.folder)[0][1] == 1 else examples(result.folder)[::-1]
    assert first[2][0] == BOS
    assert decode(first[2][1:]) == " <CON> One mill. </CON>\n\n"
    assert decode(first[3][:-1]) == "<QUE> What? <ANS> A mill </END>\n\n<QUE> How many? <ANS> One </END>"
    assert first[3][-1] == EOS
    assert decode(second[3][:-1]) == "<QUE> Why? <ANS> Because. </END>"
    assert row.labels.tolist() == np.where(row.loss_mask == 1, row.input_ids, -100).tolist()
    assert row.input_ids.dtype == row.labels.dtype == np.int32
    assert row.loss_mask.dtype == np.int8


def test_the_label_of_each_first_token_is_ignored_even_without_bos(tmp_path):
    write_shard(tmp_path, "set", [entry("a"), entry("b"), entry("")])
    result = bake(tmp_path, tmp_path / "out", bos="none")
    for row in rows(result.folder):
        starts = np.cumsum(row.seq_lengths) - row.seq_lengths
        assert (row.labels[starts] == -100).all()


@pytest.mark.parametrize("packing", ["best-fit", "best-fit-decreasing", "in-order", "none"])
def test_every_example_once_and_whole(tmp_path, packing):
    contexts = [f"context {i} " + "word " * (i * 7 % 60) for i in range(50)]
    write_shard(tmp_path, "set", [entry(text) for text in contexts[:30]], "a.jsonl")
    write_shard(tmp_path, "set", [entry(text) for text in contexts[30:]], "b.jsonl")
    result = bake(tmp_path, tmp_path / "out", packing=packing, max_length=256)
    found = sorted(examples(result.folder))
    assert [(shard, line) for shard, line, _, _ in found] == [(0, i) for i in range(1, 31)] + [
        (1, i) for i in range(1, 21)
    ]
    assert [decode(ids[1:]) for _, _, ids, _ in found] == [f" <CON> {text} </CON>\n\n" for text in contexts]
    assert all(len(row.input_ids) <= 256 for row in rows(result.folder))
    counts = result.counts
    assert (counts["entries"], counts["examples"], counts["pairs"]) == (50, 50, 50)
    assert counts["tokens"] == sum(len(row.input_ids) for row in rows(result.folder))
    assert counts["trained_tokens"] == sum(int(row.loss_mask.sum()) for row in rows(result.folder))


def test_blank_pairs_and_entries_without_pairs_are_left_out_and_recorded(tmp_path):
    blank = entry("kept", pair("q1", "a1"), pair("  ", "a2"), pair("q3", "\n"), pair("q4", "a4"))
    write_shard(tmp_path, "set", [{"context": "x", "QA_list": []}, blank, entry("y", pair("", "")), entry("z")])
    result = bake(tmp_path, tmp_path / "out")
    assert skipped(result.folder) == [
        {"shard": "00000.jsonl", "line": 1, "pair": None, "reason": "no_pairs", "pairs": 0, "tokens": None},
        {"shard": "00000.jsonl", "line": 2, "pair": 1, "reason": "blank_question", "pairs": 1, "tokens": None},
        {"shard": "00000.jsonl", "line": 2, "pair": 2, "reason": "blank_answer", "pairs": 1, "tokens": None},
        {"shard": "00000.jsonl", "line": 3, "pair": 0, "reason": "blank_question", "pairs": 1, "tokens": None},
        {"shard": "00000.jsonl", "line": 3, "pair": None, "reason": "no_pairs", "pairs": 0, "tokens": None},
    ]
    assert {line: decode(out[:-1]) for _, line, _, out in examples(result.folder)} == {
        2: "<QUE> q1 <ANS> a1 </END>\n\n<QUE> q4 <ANS> a4 </END>",
        4: "<QUE> Why? <ANS> Because. </END>",
    }
    assert result.counts["skipped_entries"] == {"no_pairs": 2}
    assert result.counts["skipped_pairs"] == {"blank_question": 2, "blank_answer": 1}


def test_an_entry_without_pairs_counts_not_as_dropped(tmp_path):
    write_shard(tmp_path, "set", [{"context": "x", "QA_list": []}] * 9 + [entry()])
    assert bake(tmp_path, tmp_path / "out", max_dropped=0).counts["examples"] == 1


LONG = entry("A long context. " * 20, *(pair(f"Question {i}?", f"Answer {i}.") for i in range(30)))


def accounts(result: cook.Result, source: Path) -> None:
    """Every pair read is in exactly one example or in skipped.jsonl."""
    shards = sorted((source / "set" / "shard").iterdir())
    read = Counter()
    for shard, path in enumerate(shards):
        for line, text in enumerate(path.read_bytes().splitlines(), 1):
            for item in orjson.loads(text)["QA_list"]:
                read[shard, line, f"<QUE> {item['Q']} <ANS> {item['A']} </END>"] += 1
    made = Counter()
    for shard, line, _, out in examples(result.folder):
        for text in decode(out[:-1]).split("\n\n<QUE>"):
            made[shard, line, text if text.startswith("<QUE>") else "<QUE>" + text] += 1
    assert not made - read
    assert (read - made).total() == sum(row["pairs"] for row in skipped(result.folder))


def test_split_keeps_every_pair_with_its_whole_context(tmp_path):
    write_shard(tmp_path, "set", [entry("first"), LONG, entry("last")])
    result = bake(tmp_path, tmp_path / "out", max_length=200)
    made = [found for found in examples(result.folder) if found[1] == 2]
    assert len(made) > 3
    assert {decode(ids[1:]) for _, _, ids, _ in made} == {f" <CON> {LONG['context']} </CON>\n\n"}
    assert {(ids[0], out[-1]) for _, _, ids, out in made} == {(BOS, EOS)}
    accounts(result, tmp_path)
    assert skipped(result.folder) == []
    assert (result.counts["split"], result.counts["truncated"]) == (1, 0)


def test_what_split_loses_is_recorded_or_refused(tmp_path):
    huge = entry("word " * 500, pair("q", "a"), pair("", "a"), pair("q", "a"))
    write_shard(tmp_path, "set", [entry("fits"), huge])
    with pytest.raises(
        TooLong, match=r"set: 2 of 3 pairs \(66\.7%\) do not fit in 100 tokens, even alone .*00000.jsonl:2"
    ):
        bake(tmp_path, tmp_path / "out", max_length=100)
    assert not (tmp_path / "out" / "set").exists()
    result = bake(tmp_path, tmp_path / "out", max_length=100, max_dropped=0.667)
    tokens = skipped(result.folder)[1]["tokens"]
    assert tokens > 500
    assert skipped(result.folder) == [
        {"shard": "00000.jsonl", "line": 2, "pair": 1, "reason": "blank_question", "pairs": 1, "tokens": None},
        {"shard": "00000.jsonl", "line": 2, "pair": 0, "reason": "overlong", "pairs": 1, "tokens": tokens},
        {"shard": "00000.jsonl", "line": 2, "pair": 2, "reason": "overlong", "pairs": 1, "tokens": tokens},
        {"shard": "00000.jsonl", "line": 2, "pair": None, "reason": "overlong", "pairs": 0, "tokens": tokens},
    ]
    accounts(result, tmp_path)


def test_truncate_cuts_the_contexts_tail(tmp_path):
    context = " ".join(f"Satz {i} über Äpfel 🍏." for i in range(100))
    write_shard(tmp_path, "set", [entry(context, pair("q1", "a1"), pair("q2", "a2"))])
    result = bake(tmp_path, tmp_path / "out", max_length=128, overlong="truncate")
    made = examples(result.folder)
    assert [decode(out[:-1]) for *_, out in sorted(made)] == ["<QUE> q1 <ANS> a1 </END>", "<QUE> q2 <ANS> a2 </END>"]
    for _, _, ids, out in made:
        text = decode(ids[1:])
        head = text.removeprefix(" <CON> ").removesuffix(" </CON>\n\n")
        assert head
        assert context.startswith(head)
        assert ids == [BOS, *LLAMA3.encode_ordinary(text)]  # encoded as it stands, not cut from longer ids
        assert 120 <= len(ids) + len(out) <= 128
    assert result.counts["truncated"] == 2


def test_drop_and_error(tmp_path):
    write_shard(tmp_path, "set", [entry("fits"), LONG])
    result = bake(tmp_path, tmp_path / "out", max_length=200, overlong="drop", max_dropped=0)
    assert [line for _, line, _, _ in examples(result.folder)] == [1]
    (row,) = skipped(result.folder)
    assert (row["line"], row["pair"], row["reason"], row["pairs"]) == (2, None, "overlong", 30)
    with pytest.raises(TooLong, match=r"an example is longer than 200 tokens, and --overlong is error"):
        bake(tmp_path, tmp_path / "other", max_length=200, overlong="error")


def test_an_example_of_exactly_the_length_fits(tmp_path):
    write_shard(tmp_path, "set", [entry("a b c d e f g")])
    length = bake(tmp_path, tmp_path / "out").counts["tokens"]
    assert bake(tmp_path, tmp_path / "exact", max_length=length, overlong="error").counts["examples"] == 1
    with pytest.raises(TooLong):
        bake(tmp_path, tmp_path / "less", max_length=length - 1, overlong="error")


def test_bad_lines_are_all_named_and_nothing_is_written(tmp_path):
    bad = [b"{", entry(), {"context": 1, "QA_list": []}, {"context": "c"}]
    write_shard(tmp_path, "set", [entry()] * 40, "a.jsonl")
    path = write_shard(tmp_path, "set", bad + [b"x"] * 30, "b.jsonl")
    with pytest.raises(BadLines) as caught:
        bake(tmp_path, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert lines[1] == f"{path}:3: context: must be text, not a number"
    assert len(lines) == 22
    assert lines[20] == "… and 13 more"
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_bad_lines_of_a_large_shard_have_their_own_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(entries_module, "PART_BYTES", 1000)
    path = write_shard(tmp_path, "set", [entry(f"context {i}") for i in range(99)] + [b"{", entry()])
    with pytest.raises(BadLines, match=rf"^{path}:100: is not JSON"):
        bake(tmp_path, tmp_path / "out")


def test_an_input_of_no_token_is_an_error(tmp_path):
    write_shard(tmp_path, "set", [entry("x"), entry("")])
    with pytest.raises(BadLines, match=r"00000\.jsonl:2: context: its input encodes to no token"):
        bake(tmp_path, tmp_path / "out", bos="none", context_template="{context}", delimiter="")


def test_an_empty_folder_is_no_result(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    (tmp_path / "out" / "set").mkdir(parents=True)
    first = bake(tmp_path, tmp_path / "out")
    assert sorted(path.name for path in first.folder.iterdir()) == ["cook.json", "train-00000-of-00001.parquet"]
    (tmp_path / "mixed").mkdir()
    assert mix(tmp_path / "out", tmp_path / "mixed").counts["set"]
    assert not (tmp_path / ".cook").exists()


def test_nothing_left(tmp_path):
    write_shard(tmp_path, "set", [{"context": "x", "QA_list": []}, entry("y", pair("q", " ")), {"Context": "z"}])
    told = (
        r"no example is left of 3 entries: nothing to write; left out: entries without pairs \(2\), "
        r"lines of another form than an entry's \(1\), pairs with a blank answer \(1\)$"
    )
    with pytest.raises(InputError, match=told):
        bake(tmp_path, tmp_path / "out", on_error="skip")


@pytest.mark.parametrize("shard", [b'[{"context": "c", "QA_list": []}]', b'{\n"context": "c"}'])
def test_what_is_no_json_lines_is_told_how_to_be(tmp_path, shard):
    write_shard(tmp_path, "set", [shard])
    with pytest.raises(BadLines, match=r"00000\.jsonl:1: (?s:.*)\(each line of a \.jsonl file is a JSON object; `jq "):
        bake(tmp_path, tmp_path / "out")


def test_the_same_bytes_whatever_the_parts(tmp_path, monkeypatch):
    write_shard(tmp_path, "set", [entry(f"context {i} " + "word " * (i % 50)) for i in range(200)] + [LONG])
    one = bake(tmp_path, tmp_path / "one", max_length=300)
    monkeypatch.setattr(entries_module, "PART_BYTES", 777)
    two = bake(tmp_path, tmp_path / "two", max_length=300)
    assert contents(one.folder) == contents(two.folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_bytes_whatever_the_compression_but_for_the_inputs(tmp_path):
    path = write_shard(tmp_path / "plain", "set", [entry(f"context {i}") for i in range(50)] + [LONG])
    other = tmp_path / "packed" / "set" / "shard" / "00000.jsonl.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(gzip.compress(path.read_bytes()))
    one, two = (bake(tmp_path / kind, tmp_path / f"out-{kind}", max_length=300) for kind in ("plain", "packed"))
    assert one.manifest["outputs"] == two.manifest["outputs"]


def test_more_parts_than_a_process_may_have_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr(entries_module, "PART_BYTES", 100)
    write_shard(tmp_path, "set", [entry(f"context {i}") for i in range(600)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 60, hard))
    try:
        result = bake(tmp_path, tmp_path / "out", jobs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.counts["examples"] == 600


def test_several_files_and_row_groups(tmp_path, monkeypatch):
    write_shard(tmp_path, "set", [entry(f"context {i} " + "word " * (i % 50)) for i in range(200)])
    one = bake(tmp_path, tmp_path / "one", max_length=100)
    monkeypatch.setattr(write, "FILE_TOKENS", 3000)
    monkeypatch.setattr(write, "ROW_GROUP_TOKENS", 700)
    many = bake(tmp_path, tmp_path / "many", max_length=100)
    names = [output["name"] for output in many.manifest["outputs"]]
    assert names == [f"train-{i:05}-of-{len(names):05}.parquet" for i in range(len(names))]
    assert len(names) > 2
    assert all(output["tokens"] <= 3000 for output in many.manifest["outputs"])
    found = [[field.tolist() for field in row[:6]] for row in rows(many.folder)]
    assert found == [[field.tolist() for field in row[:6]] for row in rows(one.folder)]


def test_up_to_date_or_another_result(tmp_path):
    path = write_shard(tmp_path, "set", [entry()])
    out = tmp_path / "out"
    bake(tmp_path, out)
    before = {p: p.stat().st_mtime_ns for p in (out / "set").iterdir()}
    again = bake(tmp_path, out, jobs=1)
    assert again.up_to_date
    assert {p: p.stat().st_mtime_ns for p in (out / "set").iterdir()} == before
    with pytest.raises(OutputExists, match=r"--overwrite(.|\n)*recipe\.seed: it has 0, this run 5"):
        bake(tmp_path, out, seed=5)
    with pytest.raises(OutputExists, match=r"tokenizer\.fingerprint"):
        run(Recipe(datasets="set", tokenizer="mistral", source=tmp_path, output=out))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(OutputExists, match=r"inputs: 00000\.jsonl"):
        bake(tmp_path, out)
    assert bake(tmp_path, out, overwrite=True).counts["entries"] == 2
    written = out / "set" / "train-00000-of-00001.parquet"
    data = written.read_bytes()
    for damaged, message in (
        (b"", "has 0 bytes, its manifest says"),
        (data[:99] + b"x" + data[100:], "its sha256 is not"),
    ):
        written.write_bytes(damaged)
        with pytest.raises(OutputExists, match=message):
            bake(tmp_path, out)
        assert not bake(tmp_path, out, overwrite=True).up_to_date
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "set"]


def test_an_older_result_is_held_to_the_same_limit_of_loss(tmp_path):
    write_shard(tmp_path, "set", [entry("fits"), entry("word " * 500)])
    bake(tmp_path, tmp_path / "out", max_length=100, max_dropped=1)
    with pytest.raises(TooLong, match=r"1 of 2 pairs \(50\.0%\) do not fit"):
        bake(tmp_path, tmp_path / "out", max_length=100)


def test_the_card_is_put_back(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    bake(tmp_path, tmp_path / "out")
    (tmp_path / "out" / "README.md").unlink()
    assert bake(tmp_path, tmp_path / "out").up_to_date
    assert "set/train-*.parquet" in (tmp_path / "out" / "README.md").read_text()


def test_overwriting_spares_what_cook_did_not_write(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    bake(tmp_path, tmp_path / "out")
    (tmp_path / "out" / "set" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"holds what cook did not write, and is not replaced: notes\.txt"):
        bake(tmp_path, tmp_path / "out", seed=1, overwrite=True)


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    work = tmp_path / "out" / ".cook"
    (work / "other" / "out").mkdir(parents=True)
    (work / "other" / "out" / "half.parquet").write_bytes(b"x")
    (work / "other.lock").write_bytes(staging.LOCK_CONTENT)
    owned.mark_folder(work / "other", owned.STAGING_PURPOSE)
    bake(tmp_path, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "set"]


def test_a_folder_that_is_not_cooks_is_never_replaced(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    mine = tmp_path / "out" / "set"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExists, match="is not cook's"):
        bake(tmp_path, tmp_path / "out", overwrite=True)
    assert (mine / "thesis.txt").exists()


def test_a_limit_reads_the_first_entries(tmp_path):
    write_shard(tmp_path, "set", [entry(f"a{i}") for i in range(5)], "a.jsonl")
    write_shard(tmp_path, "set", [entry(f"b{i}") for i in range(4)] + [b"not read"], "b.jsonl")
    result = bake(tmp_path, tmp_path / "out", limit=7)
    assert sorted((shard, line) for shard, line, _, _ in examples(result.folder)) == [
        (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 1), (1, 2),
    ]  # fmt: skip
    assert bake(tmp_path, tmp_path / "five", limit=5).counts["entries"] == 5


def test_one_that_fails_does_not_stop_the_others(tmp_path):
    write_shard(tmp_path, "bad", [b"{"])
    write_shard(tmp_path, "good", [entry()])
    (tmp_path / "empty" / "shard").mkdir(parents=True)
    write_shard(tmp_path, "long", [LONG])
    recipe = Recipe(
        datasets="all", tokenizer="llama3", source=tmp_path, output=tmp_path / "out", max_length=100, overlong="error"
    )
    with pytest.raises(SeveralFailed) as caught:
        run(recipe)
    assert {name: type(error) for name, error in caught.value.failures.items()} == {
        "empty": SourceError,
        "bad": BadLines,
        "long": TooLong,
    }
    assert caught.value.exit_code == 3
    assert [result.name for result in caught.value.summary.results] == ["good"]
    assert (tmp_path / "out" / "good" / "cook.json").exists()
    assert "good/train-*.parquet" in (tmp_path / "out" / "README.md").read_text()


def test_a_shard_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = write_shard(tmp_path, "set", [entry()])
    real = cook.pipeline.build.write_files

    def meddle(*args):
        with path.open("ab") as file:
            file.write(b"\n")
        return real(*args)

    monkeypatch.setattr(cook.pipeline.build, "write_files", meddle)
    with pytest.raises(SourceError, match=r"00000\.jsonl: changed while it was read"):
        bake(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "set").exists()


def test_nothing_of_the_machine_is_in_the_result(tmp_path, monkeypatch):
    write_shard(tmp_path / "here", "set", [entry()])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    one = bake(tmp_path / "here", tmp_path / "one")
    monkeypatch.setenv("HOSTNAME", "elsewhere")
    os.utime(tmp_path / "there" / "set" / "shard" / "00000.jsonl", (0, 0))
    two = bake(tmp_path / "there", tmp_path / "two", jobs=1)
    assert contents(one.folder) == contents(two.folder)
    assert str(tmp_path).encode() not in contents(one.folder)["cook.json"]


def test_large_inputs_go_through_a_pool_and_give_the_same_bytes(tmp_path, monkeypatch):
    write_shard(tmp_path, "set", [entry(f"context {i} " + "word " * (i % 50)) for i in range(400)])
    one = bake(tmp_path, tmp_path / "one", jobs=1, max_length=300)
    monkeypatch.setattr(cook.executors.local, "POOL_BYTES", 0)
    monkeypatch.setattr(entries_module, "PART_BYTES", 20_000)
    two = bake(tmp_path, tmp_path / "two", jobs=2, max_length=300)
    assert contents(one.folder) == contents(two.folder)


def test_a_recipe_that_determines_other_bytes_is_another_recipe():
    """Each setting either is in the manifest or changes no byte."""
    recipe = Recipe(datasets="squad", tokenizer="llama3")
    settings = {field.name for field in dataclasses.fields(recipe)}
    resolved = {"tokenizer", "bos", "eos", "source", "datasets"}  # the manifest holds what they come to
    told = {"splits", "added_tokens"}  # in the manifest where they change anything
    assert settings - set(recipe.determining()) - resolved - told == set(NON_OUTPUT_SETTINGS)


@needs_collection
def test_tables_at_512_keep_every_pair_that_can_fit(tmp_path):
    name = "WikiTableQuestions"
    result = bake(COLLECTION, tmp_path, name, max_length=512, max_dropped=1, limit=300)
    text = {}
    for shard, path in enumerate(sorted((COLLECTION / name / "shard").glob("*.jsonl"))):
        for line, raw in enumerate(path.read_bytes().splitlines(), 1):
            text[shard, line] = orjson.loads(raw)
    lost = {(row["line"], row["pair"]) for row in skipped(result.folder) if row["pair"] is not None}
    made = examples(result.folder)
    for shard, line, ids, out in made:
        assert decode(ids[1:]) == f" <CON> {text[shard, line]['context']} </CON>\n\n"
        assert len(ids) + len(out) <= 512
    assert lost
    for line, index in lost:
        row = text[0, line]
        item = row["QA_list"][index]
        ids = LLAMA3.encode_ordinary(f" <CON> {row['context']} </CON>\n\n")
        ids += LLAMA3.encode_ordinary(f"<QUE> {item['Q']} <ANS> {item['A']} </END>")
        assert len(ids) + 2 > 512
    assert result.counts["pairs"] == sum(decode(out[:-1]).count("</END>") for *_, out in made) + len(lost)


@needs_collection
def test_long_papers_are_refused_and_can_be_cut(tmp_path):
    with pytest.raises(TooLong, match=r"(?s)COVID_QA: .* of 1,380 pairs .*--overlong truncate.*--max-dropped 0\.\d+"):
        bake(COLLECTION, tmp_path, "COVID_QA")
    result = bake(COLLECTION, tmp_path, "COVID_QA", overlong="truncate")
    assert result.counts["skipped_pairs"] == {}
    assert result.manifest["figures"]["utilisation"] > 0.95
