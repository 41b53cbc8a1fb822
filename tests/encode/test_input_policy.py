"""What an input may hold and what becomes of it: lines that are no entries, links, marks in the text."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

import cook
from conftest import entry, pair, write_shard
from cook.core.errors import BadLines, InputError, SourceError
from cook.encode import parts
from cook.shapes.context_qa import Entry, template_markers
from cook.shapes.special_text import SpecialTextCounter

BAD = {
    "broken JSON": (b'{"context": "x", "QA_list": [}', "is not JSON"),
    "cut off": (b'{"context": "x", "QA_l', "is not JSON"),
    "not an object": (b"[1]", "must be an object, not a list"),
    "no QA_list": (b'{"context": "x"}', "QA_list: is missing"),
    "a number for an answer": (b'{"context": "x", "QA_list": [{"Q": "a", "A": 1}]}', "QA_list[0].A: must be text"),
    "invalid UTF-8": (b'{"context": "\xff", "QA_list": []}', "is not UTF-8"),
    "a lone surrogate": (b'{"context": "\\ud800", "QA_list": []}', "context: holds a lone surrogate"),
    "deep nesting": (b'{"context": ' + b"[" * 5000 + b"]" * 5000 + b"}", "is not JSON"),
}


def bake(source: Path, out: Path, **settings: Any) -> cook.Result:
    recipe = cook.Recipe(datasets="set", tokenizer="llama3", source=str(source), output=str(out), **settings)
    (result,) = cook.run(recipe).results
    return result


def skipped(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "skipped.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_fails_the_dataset_or_is_left_out_and_recorded(tmp_path, kind):
    line, what = BAD[kind]
    write_shard(tmp_path, "set", [entry("first"), line, entry("third")])
    with pytest.raises(BadLines, match=r"00000\.jsonl:2") as failure:
        bake(tmp_path, tmp_path / "out")
    assert what in str(failure.value)
    assert not (tmp_path / "out").exists()
    result = bake(tmp_path, tmp_path / "out", on_error="skip")
    (row,) = skipped(result.folder)
    assert what in row.pop("problem")
    assert row == {
        "shard": "00000.jsonl", "line": 2, "pair": None, "reason": "bad_line", "pairs": 0, "tokens": None,
    }  # fmt: skip
    assert (result.counts["entries"], result.counts["examples"]) == (3, 2)
    assert result.counts["skipped_entries"] == {"bad_line": 1}
    lines = sorted(line for row in cook.read_cooked(result.folder).sequences() for line in row.source_line.tolist())
    assert lines == [1, 3]


def test_the_record_holds_names_and_words_of_any_letters(tmp_path):
    """In a JSON of its own making."""
    name = 'a "shard" \\ of é, \u2028 and \t.jsonl'
    folder = tmp_path / "set" / "shard"
    folder.mkdir(parents=True)
    bad = {"context": 'with a "\\é\n', "QA_list": [{'the "Q"\n': 1, "A": " "}]}
    good = {"context": "first", "QA_list": [{'the "Q"\n': "Why?", "A": "Because."}]}
    (folder / name).write_bytes(b"\n".join([orjson.dumps(good), orjson.dumps(bad), b'{"\\ud800": 1}']))
    result = bake(tmp_path, tmp_path / "out", on_error="skip", fields={"question": 'the "Q"\n'})
    rows = skipped(result.folder)
    assert {row["shard"] for row in rows} == {name}
    assert [row["problem"] for row in rows if row["line"] == 2] == ['QA_list[0].the "Q"\n: must be text, not a number']
    plain = (result.folder / "skipped.jsonl").read_bytes()
    assert plain == b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def test_one_bad_line_among_ten_thousand(tmp_path, cook):
    """As the command sees it: exit 3 and the place, or 9,999 examples and a record of the one."""
    rows: list[Any] = [entry(f"context {i}") for i in range(10_000)]
    rows[6_543] = b'{"context": "broken", "QA_list": [{"Q": "q"}]}'
    write_shard(tmp_path / "in", "set", rows)
    flags = ("-d", "set", "-t", "llama3", "-s", "in", "-o", "out", "--json")
    failed = cook(*flags)
    assert failed.exit_code == 3
    assert "00000.jsonl:6544: QA_list[0].A: is missing" in failed.stderr
    assert not (tmp_path / "out").exists()
    done = cook(*flags, "--on-error", "skip")
    assert done.exit_code == 0, done.stderr
    (counts,) = [dataset["counts"] for dataset in orjson.loads(done.stdout)["datasets"]]
    assert (counts["examples"], counts["skipped_entries"]) == (9_999, {"bad_line": 1})
    assert "1 line of another form than an entry's left out (skipped.jsonl)" in done.stderr
    (row,) = skipped(tmp_path / "out" / "set")
    assert (row["line"], row["problem"]) == (6544, "QA_list[0].A: is missing")


def test_what_skip_left_out_fail_does_not_pass_over(tmp_path):
    """Neither by the cache, which has the tokens of the good lines, nor by the result that is there already."""
    write_shard(tmp_path, "set", [entry(), b"{"])
    bake(tmp_path, tmp_path / "out", on_error="skip")
    with pytest.raises(InputError, match="--on-error"):
        bake(tmp_path, tmp_path / "out")
    with pytest.raises(BadLines, match=":2:"):
        bake(tmp_path, tmp_path / "other")
    assert bake(tmp_path, tmp_path / "out", on_error="skip").up_to_date


def test_without_bad_lines_both_policies_give_the_same_bytes(tmp_path):
    write_shard(tmp_path, "set", [entry("a"), entry("b")])
    bake(tmp_path, tmp_path / "out")
    assert bake(tmp_path, tmp_path / "out", on_error="skip").up_to_date


def test_lines_are_numbered_from_the_start_of_the_shard_in_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr("cook.read.lines.PART_BYTES", 200)
    rows: list[Any] = [entry(f"context {i}") for i in range(40)]
    rows[30] = rows[35] = b"bad"
    write_shard(tmp_path, "set", rows)
    result = bake(tmp_path, tmp_path / "out", on_error="skip")
    assert [row["line"] for row in skipped(result.folder)] == [31, 36]


def test_a_shard_of_rubbish_is_no_shard_even_where_bad_lines_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MAX_BAD_LINES", 10)
    write_shard(tmp_path, "set", [entry(), *[b"rubbish"] * 15])
    with pytest.raises(BadLines, match=":12:"):
        bake(tmp_path, tmp_path / "out", on_error="skip")


def test_an_input_without_a_token_is_left_out_like_a_bad_line(tmp_path):
    write_shard(tmp_path, "set", [entry("full"), entry("")])
    bare = {"context_template": "{context}", "delimiter": "", "bos": "none"}
    with pytest.raises(BadLines, match=":2: context: its input encodes to no token"):
        bake(tmp_path, tmp_path / "out", **bare)
    result = bake(tmp_path, tmp_path / "out", on_error="skip", **bare)
    assert [row["problem"] for row in skipped(result.folder)] == ["context: its input encodes to no token"]
    assert result.counts["examples"] == 1


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut off", "bits flipped", "not compressed"])
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_damaged_archive_is_an_error_whatever_the_policy(tmp_path, suffix, damage, on_error):
    data = b"".join(orjson.dumps(entry(f"context {i}", pair(f"q{i * 7919}"))) + b"\n" for i in range(2000))
    if suffix == ".gz":
        packed = bytearray(gzip.compress(data))
    else:
        import pyarrow as pa

        packed = bytearray(pa.compress(data, "zstd", asbytes=True))
    if damage == "cut off":
        packed = packed[: len(packed) // 2]
    elif damage == "bits flipped":
        packed[len(packed) // 2 : len(packed) // 2 + 40] = bytes(b ^ 0x5A for b in packed[len(packed) // 2 :][:40])
    else:
        packed = bytearray(data)
    folder = tmp_path / "set" / "shard"
    folder.mkdir(parents=True)
    (folder / f"00000.jsonl{suffix}").write_bytes(bytes(packed))
    with pytest.raises((SourceError, BadLines), match=f"00000.jsonl{suffix}"):
        bake(tmp_path, tmp_path / "out", on_error="fail")
    with pytest.raises(cook.CookError, match=f"00000.jsonl{suffix}"):
        bake(tmp_path, tmp_path / "out", on_error=on_error)
    assert not (tmp_path / "out").exists()


def test_empty_shards_are_read_and_a_dataset_of_nothing_else_is_refused(tmp_path):
    write_shard(tmp_path, "set", [], "0.jsonl")
    with pytest.raises(InputError, match="no example is left of 0 entries"):
        bake(tmp_path, tmp_path / "out")
    write_shard(tmp_path, "set", [entry()], "1.jsonl")
    assert bake(tmp_path, tmp_path / "out").counts["examples"] == 1


def test_links_out_of_the_source_are_followed_only_when_asked_for(tmp_path):
    secret = tmp_path / "private" / "diary.jsonl"
    secret.parent.mkdir()
    secret.write_bytes(orjson.dumps(entry("dear diary")) + b"\n")
    shards = tmp_path / "in" / "set" / "shard"
    shards.mkdir(parents=True)
    (shards / "00000.jsonl").symlink_to(secret)
    with pytest.raises(SourceError, match=r"leads out of the source folder, to .*diary\.jsonl.*--follow-links"):
        bake(tmp_path / "in", tmp_path / "out")
    assert bake(tmp_path / "in", tmp_path / "out", follow_links=True).counts["examples"] == 1


def test_a_folder_that_is_a_link_out_is_refused_too(tmp_path):
    write_shard(tmp_path / "elsewhere", "set", [entry()])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "set").symlink_to(tmp_path / "elsewhere" / "set")
    with pytest.raises(SourceError, match="leads out of the source folder"):
        bake(tmp_path / "in", tmp_path / "out")


def test_links_within_the_source_and_of_a_hub_snapshot_are_fine(tmp_path):
    inside = write_shard(tmp_path / "in", "set", [entry("a")], "0.jsonl")
    inside.with_name("1.jsonl").symlink_to("0.jsonl")
    assert bake(tmp_path / "in", tmp_path / "out").counts["examples"] == 2
    repo = tmp_path / "datasets--owner--name"
    shards = repo / "snapshots" / "c0ffee" / "set" / "shard"
    shards.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "abc").write_bytes(orjson.dumps(entry("b")) + b"\n")
    (shards / "00000.jsonl").symlink_to("../../../../blobs/abc")
    assert bake(repo / "snapshots" / "c0ffee", tmp_path / "hub").counts["examples"] == 1


def test_a_folder_that_is_a_link_itself_is_a_source(tmp_path):
    write_shard(tmp_path / "real", "set", [entry()])
    (tmp_path / "in").symlink_to(tmp_path / "real")
    assert bake(tmp_path / "in", tmp_path / "out").counts["examples"] == 1


def test_marks_in_the_text_are_counted_by_entry(tmp_path):
    write_shard(
        tmp_path,
        "set",
        [
            entry("plain <b>text</b>, a < b"),
            entry("a context", pair("What closes a pair?", "</END>, twice: </END>")),
            entry("<CON> nested </CON>", pair("<QUE>?", "yes")),
            entry("<|eot_id|> and <|end_of_text|>"),
            entry("splintr's own: <|think|>"),
            b'{"context": "\\u003c|eot_id|\\u003e \\u003c/END\\u003e", "QA_list": [{"Q": "escaped", "A": "yes"}]}',
        ],
    )
    counts = bake(tmp_path, tmp_path / "out").counts
    assert counts["markers"] == {"<CON>": 1, "</CON>": 1, "<QUE>": 1, "</END>": 2}
    assert counts["special_strings"] == 3


def test_marks_are_told_in_the_summary(tmp_path, cook):
    write_shard(tmp_path / "in", "set", [entry("</END>"), entry("</END> <s>")])
    done = cook("-d", "set", "-t", "llama2", "-s", "in", "-o", "out")
    assert "template markers in the text itself: </END> in 2 entries" in done.stderr
    assert "1 entry with the text of a special token, cooked as text" in done.stderr


def test_marks_are_the_same_whichever_engine_encodes_and_from_the_cache(tmp_path):
    write_shard(tmp_path / "in", "set", [entry("</END> <|user|>"), entry("<|eot_id|>")])
    found = [
        bake(tmp_path / "in", tmp_path / str(i), engine=engine, seed=i).counts
        for i, engine in enumerate(["splintr", "splintr", "hf"])
    ]
    assert found[0]["special_strings"] == 2
    assert found[0] == found[1] == found[2]


def test_markers_of_other_templates():
    recipe = cook.Recipe(
        datasets="x",
        tokenizer="llama3",
        context_template="Text: {context}",
        pair_template="Q {question}\nAnswer: {answer} -",
    )
    assert template_markers(recipe) == ("Text:", "Answer:")
    marks = SpecialTextCounter(template_markers(recipe), ())
    marks.count(Entry(1, 0, "Text: x", [("q", "My Answer: y")], []).texts)
    assert marks.marker_counts == {"Text:": 1, "Answer:": 1}
