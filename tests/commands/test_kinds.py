"""verify, diff, fingerprint, show and report on corpora, prompts and parsed datasets: what is right passes, faults are
named, and no command ends in a traceback, whatever the folder holds."""

import functools
import importlib.util
import shutil

import numpy as np
import orjson
import pytest

from conftest import entry, pair, write_shard
from cook import (
    CorpusRecipe,
    OutputError,
    diff,
    fingerprint,
    make_corpus,
    mix,
    parse,
    prompts,
    read_styles,
    show,
    verify,
)
from cook.core.choices import CORPUS_PACKINGS as PACKINGS
from cook.core.files import sha256_of
from cook.store import manifest
from faults.injecting import Bench

JSONL, PARQUET = "train-00000-of-00001.jsonl", "train-00000-of-00001.parquet"
WORDS = "the mill by the river grinds rye and oats all winter long "
ROWS = [
    entry(f"Mill {n}: " + WORDS * (n % 5), *[pair(f"Question {n} {k}?", f"Answer {n} {k}.") for k in range(n % 3 + 1)])
    for n in range(12)
]
ROWS[5] = entry("Sky.", pair("Which?\nOptions:\n- red\n- blue", "blue")) | {"followed_by_next": True}
ROWS[6] |= {"inherit_from_prev": True}
ROWS[9] = {"context": " ", "QA_list": []}
ROWS[10] = entry("Only this.", pair(" ", "x"))
FORMATS = {JSONL: {}, PARQUET: {"format": "parquet"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the shards of `x`, corpora of them, prompts and a parsed dataset."""
    root = tmp_path_factory.mktemp("kinds")
    write_shard(root / "in", "x", ROWS[:8])
    write_shard(root / "in", "x", ROWS[8:], "00001.jsonl")
    for name, settings in (
        ("text", {}),
        ("table", {"format": "parquet"}),
        ("limited", {"limit": 6}),
        *((packing, {"tokenizer": "llama3", "packing": packing, "max_length": 40}) for packing in PACKINGS),
    ):
        make_corpus(CorpusRecipe(source=str(root / "in"), output=str(root / name), cache="none", **settings))
    (root / "raw.jsonl").write_bytes(b"".join(orjson.dumps({"text": f"Text {n}."}) + b"\n" for n in range(4)))
    prompts(root / "raw.jsonl", root / "p.jsonl", tokenizer="llama3", rounds=2, cache="none")
    prompts(root / "raw.jsonl", root / "b.jsonl", tokenizer="llama3", format="openai-batch", model="m", cache="none")
    ids = [orjson.loads(line)["custom_id"] for line in (root / "p.jsonl").read_bytes().splitlines()]
    written = [{"custom_id": ids[0], "text": "<QUE> What? <ANS> That. </END>\n\n<QUE> Why"}]
    (root / "a.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in written))
    parse(root / "a.jsonl", root / "pairs" / "new", prompts=root / "p.jsonl")
    return root


def told(path, **more):
    return [str(finding) for each in verify(path, **more).datasets for finding in each.findings]


@pytest.mark.parametrize("name", ["text", "table", "limited", *PACKINGS])
def test_corpora_are_right_and_equal_to_their_shards(made, name):
    assert told(made / name) == []
    deep = verify(made / name, deep=True, source=str(made / "in"))
    assert [(each.found, each.compared) for each in deep.datasets] == [(0, True)]
    assert deep.datasets[0].holds["texts"] == (6 if name == "limited" else 10)


def test_what_no_shards_belong_to(made):
    for name, what in (("p.jsonl", "is of prompts"), ("b.jsonl.cook", "is of prompts"), ("pairs", "was parsed")):
        assert told(made / name) == []
        with pytest.raises(OutputError, match=what):
            verify(made / name, deep=True, source=str(made / "in"))


def test_a_mix_of_corpora_is_right(made, tmp_path):
    mix(made / "wrap", tmp_path / "mixed")
    assert told(tmp_path / "mixed") == []


@pytest.fixture
def copied(made, tmp_path):
    """Copy a dataset, to break it; with sizes and hashes made right again by `seal`."""

    def copy(name):
        return Bench(made / name, tmp_path / "broken", made / "in")

    return copy


def lines_of(bench):
    return [orjson.loads(line) for line in (bench.folder / JSONL).read_bytes().splitlines()]


def rewritten(bench, rows):
    (bench.folder / JSONL).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    bench.seal()


@pytest.mark.parametrize("name", ["text/x", "table/x", "wrap/x", "pairs/new"])
def test_a_flipped_byte(copied, name):
    bench = copied(name)
    for output in bench.fields["outputs"]:
        path = bench.folder / output["name"]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert f"{output['name']}: its sha256 is" in told(bench.folder)[0]
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert told(bench.folder) == []


def test_a_text_that_was_changed(copied, made):
    bench = copied("text/x")
    rows = lines_of(bench)
    rows[3]["text"] = rows[3]["text"].replace("Mill", "Hill", 1)
    rewritten(bench, rows)
    assert told(bench.folder) == []  # as many letters: without the shards nobody can tell
    [found] = told(bench.folder, deep=True, source=str(made / "in"))
    assert found.startswith(f"{JSONL}: line 4: 00000.jsonl:4: text is ")
    assert "Hill 3" in found
    assert "expected" in found


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda rows: rows[2].update(text=rows[2]["text"] + "!"), "counts.letters is"),
        (lambda rows: rows[2].update(mode="sonnet"), "line 3: mode is 'sonnet'"),
        (lambda rows: rows[2].update(mode="context"), "counts.modes is"),
        (lambda rows: rows[2].update(context_after=1), "line 3: context_after is 1; expected true or false"),
        (lambda rows: rows[2].update(entries=2), "counts.chains is"),
        (lambda rows: rows[2].update(source_shard=2), "line 3: source_shard is 2; expected 0 to 1"),
        (lambda rows: rows[2].pop("mode"), "line 3: its columns are"),
        (lambda rows: rows.insert(0, rows.pop()), "expected the order of the shards"),
        (lambda rows: rows.pop(), "rows is 10; expected 9"),
    ],
)
def test_a_row_of_a_text_corpus(copied, change, finding):
    bench = copied("text/x")
    rows = lines_of(bench)
    change(rows)
    rewritten(bench, rows)
    assert any(finding in each for each in told(bench.folder)), told(bench.folder)


def test_a_text_gone_is_missed_though_all_counts_agree(copied, made):
    bench = copied("text/x")
    *rows, gone = lines_of(bench)
    counts = bench.fields["counts"]
    assert (gone["source_line"], gone["mode"]) == (4, gone["mode"])
    bench.fields["outputs"][0]["rows"] -= 1
    for key, less in (("texts", 1), ("entries", 1), ("letters", len(gone["text"]))):
        counts[key] -= less
    counts["modes"][gone["mode"]] -= 1
    counts["context_after"] -= gone["context_after"]
    rewritten(bench, rows)
    assert any("00001.jsonl:4: its text is missing" in each
               for each in told(bench.folder, deep=True, source=str(made / "in")))  # fmt: skip


@pytest.mark.parametrize("name", ["text/x", "wrap/x"])
@pytest.mark.parametrize(
    ("key", "inside"),
    [("entries", None), ("pairs", None), ("texts", None), ("modes", "classic"), ("kinds", "plain"),
     ("options", "varied"), ("chains", "entries"), ("skipped_pairs", "blank_question")],
)  # fmt: skip
def test_a_count_that_was_sealed_anew(copied, name, key, inside):
    bench = copied(name)
    counts = bench.fields["counts"]
    if inside:
        counts[key][inside] += 1
    else:
        counts[key] += 1
    bench.seal()
    assert told(bench.folder), f"{key} is anything"


def broken_rows(bench, change):
    rows = bench.read(PARQUET)
    change(rows)
    bench.write(PARQUET, rows)
    bench.seal()
    return told(bench.folder)


def test_tokens_of_a_packed_corpus(copied, tmp_path):
    def change(values, name, row, at):
        values[name][row][at] = 0 if name == "loss_mask" else 77

    for column, finding in (
        ("loss_mask", "row 1: token 5: loss_mask is 0; expected 1"),
        ("labels", "row 1: token 5: labels is 77"),
    ):
        bench = copied("wrap/x")
        assert any(finding in each for each in broken_rows(bench, functools.partial(change, name=column, row=1, at=5)))
        shutil.rmtree(bench.folder)
    for new, finding in ((128000, "is the special id 128000"), (128256, "expected 0 to 128,255")):
        bench = copied("wrap/x")

        def put(values, new=new):
            values["input_ids"][1][5] = values["labels"][1][5] = new

        assert any(finding in each for each in broken_rows(bench, put))
        shutil.rmtree(bench.folder)


def test_a_bos_or_eos_that_is_none(copied):
    def unbegun(values):
        assert values["input_ids"][0][0] == 128000
        values["input_ids"][0][0] = values["labels"][0][0] = 77
        values["loss_mask"][0][0] = 1

    assert any(
        "its text has 0 pieces with BOS; expected one" in each for each in broken_rows(copied("wrap/x"), unbegun)
    )


def test_an_end_that_is_none(copied):
    def unended(values):
        end = np.cumsum(values["seq_lengths"][0])[0] - 1
        assert values["input_ids"][0][end] == 128001
        values["input_ids"][0][end] = values["labels"][0][end] = 77

    assert any(
        "its text has 0 pieces with EOS; expected one" in each for each in broken_rows(copied("in-order/x"), unended)
    )


@pytest.mark.parametrize("name", PACKINGS)
def test_another_word_in_a_packed_text(copied, made, name):
    def change(values):
        at = len(values["input_ids"][2]) // 2
        values["input_ids"][2][at] = values["labels"][2][at] = 77

    bench = copied(f"{name}/x")
    assert broken_rows(bench, change) == []
    [found] = told(bench.folder, deep=True, source=str(made / "in"))
    assert "what it trains reads" in found
    assert "expected" in found


@pytest.mark.parametrize("name", ["best-fit", "wrap", "none"])
def test_sequences_in_another_order(copied, name):
    def swap(values):
        for column in values.values():
            column[0], column[1] = column[1], column[0]

    assert any("expected another example here" in each for each in broken_rows(copied(f"{name}/x"), swap))


def test_prompts_that_were_changed(made, tmp_path):
    for name in ("p.jsonl", "p.jsonl.cook"):
        (shutil.copytree if (made / name).is_dir() else shutil.copy)(made / name, tmp_path / name)
    file, side = tmp_path / "p.jsonl", tmp_path / "p.jsonl.cook"
    rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    rows[1]["prompt_token_ids"] = rows[1]["prompt_token_ids"][1:] * 900
    rows[0]["custom_id"] = "other-0"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert "expected" in told(file)[0]
    fields = manifest.read_manifest(side)
    fields["requests"] |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (side / manifest.MANIFEST_NAME).write_bytes(manifest.seal(fields))
    found = told(file)
    for words in ("line 1: custom_id is 'other-0'", "expected 1 to 3,696", "expected BOS, 128000", "counts.tokens is"):
        assert any(words in each for each in found), found
    file.unlink()
    assert told(side) == ["p.jsonl: is missing"]


def test_a_parsed_dataset_that_was_changed(copied):
    bench = copied("pairs/new")
    path = bench.folder / "shard" / "00000.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    rows[0]["QA_list"].append({"Q": "More?", "A": "No."})
    rows[1] |= {"inherit_from_prev": True}
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    bench.seal()
    found = told(bench.folder)
    for words in ("counts.pairs is 1; expected 2", "line 2: inherit_from_prev is true; expected false"):
        assert any(words in each for each in found), found


def test_texts_that_changed_are_told(made, tmp_path):
    assert diff(made / "text", made / "text").same
    [formats] = diff(made / "text", made / "table").datasets.values()
    assert formats == ['another format: "jsonl" → "parquet"', "the texts are the same"]
    rows = [*ROWS[:3], entry("Mill 3: " + WORDS * 3, pair("Question 3 0?", "Another.")), *ROWS[4:8]]
    write_shard(tmp_path / "in", "x", rows)
    write_shard(tmp_path / "in", "x", ROWS[8:], "00001.jsonl")
    make_corpus(CorpusRecipe(source=str(tmp_path / "in"), output=str(tmp_path / "text"), styles=read_styles()))
    (tmp_path / "print.json").write_bytes(orjson.dumps(fingerprint(made / "text")))
    [sentences] = diff(tmp_path / "print.json", tmp_path / "text").datasets.values()
    assert sentences == ["a shard changed: 00000.jsonl", "1 text changed: 00000.jsonl:4"]
    [sentences] = diff(made / "text", tmp_path / "text").datasets.values()
    assert sentences[:-1] == ["a shard changed: 00000.jsonl", "1 text changed: 00000.jsonl:4"]
    assert sentences[-1].startswith("  00000.jsonl:4: ")
    [sentences] = diff(made / "wrap", made / "in-order").datasets.values()
    assert any("pieces" in sentence for sentence in sentences)
    assert diff(made / "p.jsonl", made / "p.jsonl").same
    assert any("lines" in each for each in diff(made / "p.jsonl", made / "b.jsonl").datasets["p.jsonl.cook"])


def test_a_piece_that_goes_on_is_shown_so(made):
    shown = show(made / "wrap", sequence=1).examples
    ids = show(made / "wrap", sequence=1).sequence.input_ids
    assert [each.goes_on for each in shown] == [ids[each.begin] != 128000 for each in shown]
    assert [each.cut for each in shown] == [ids[each.end - 1] != 128001 for each in shown]
    assert shown[0].goes_on
    assert shown[0].parts[0].kind == "trained"
    assert show(made / "text", sequence=5).as_dict()["entries"] == 2


@pytest.fixture(scope="module")
def zoo(made):
    """A ROOT with one of each kind."""
    for name in ("text/x", "wrap/x", "pairs/new"):
        shutil.copytree(made / name, made / "zoo" / name.replace("/", "-"))
    return made


@pytest.mark.filterwarnings("default::cook.store.outputs.DepthWarning")
@pytest.mark.parametrize(
    "name", ["text", "table/x", "wrap", "p.jsonl", "b.jsonl.cook", "pairs/new", "pairs", "zoo", "."]
)
def test_no_command_ends_in_a_traceback(cook, zoo, name):
    """`.` is a folder of prompts and of raw texts."""
    made = zoo
    for command in ("show", "report", "verify", "fingerprint"):
        if command == "report" and not importlib.util.find_spec("jinja2"):
            continue
        done = cook(command, str(made / name))
        assert done.exit_code in (0, 1), done.output
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        if done.exit_code:
            assert done.stderr.startswith("cook: ")
            assert "cook" in done.stderr.split(":", 2)[2]


def test_the_order_of_weights_in_a_file_changes_no_text(made, tmp_path):
    """Styles are the same by a hash that knows no order, and a manifest keeps none: so texts must not know it."""
    found = []
    for number, modes in enumerate(("{dialogue: 5, classic: 5}", "{classic: 5, dialogue: 5}")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(f"weights:\n  one: {modes}\n  several: {modes}\n")
        recipe = CorpusRecipe(source=str(made / "in"), output=str(tmp_path / str(number)), styles=read_styles(file))
        found.append((make_corpus(recipe).results[0].folder / JSONL).read_bytes())
    assert found[0] == found[1]
