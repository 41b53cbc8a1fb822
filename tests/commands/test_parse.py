"""Answers back to a dataset: in any order, some missing or failed, with all that is left out counted and recorded."""

import gzip
import random
from collections import Counter

import orjson
import pytest

from commands.test_prompts import PAIRS, lines, raw, write_lines
from conftest import COLLECTION, needs_collection
from cook import BadLines, OutputError, OutputExists, Recipe, RecipeError, SourceError, parse, prompts
from cook.read.lines import ByteRange, Line, LineReader
from cook.shapes.context_qa import parse_entry, template_markers
from cook.shapes.formatter import Formatter
from servers.stand_in_server import StandIn, run_batch

FIRST = {"Q": "Who?", "A": "Ada"}
TWO = [FIRST, {"Q": "When?", "A": "1843"}]


@pytest.fixture
def asked(tmp_path):
    """Prompts for five texts."""
    return prompts(raw(tmp_path, *(f"Text {i}." for i in range(5))), tmp_path / "1.jsonl", tokenizer="llama3")


def told(asked, *texts):
    return [{"custom_id": row["custom_id"], "text": text} for row, text in zip(lines(asked.file), texts, strict=False)]


def result(custom_id, text=None, status=200, error=None):
    """A line of a batch's results."""
    body = {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]} if text is not None else None
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "x", "custom_id": custom_id, "response": response, "error": error}


def entries(folder):
    return [row for path in sorted(folder.glob("shard/*.jsonl")) for row in lines(path)]


def test_answers_in_any_order_give_the_same_shards(tmp_path, asked):
    rows = told(asked, PAIRS, "No.", PAIRS[:27], "", PAIRS)
    made = parse(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "c" / "one", prompts=asked.file)
    found = entries(made.folder)
    assert [row["context"] for row in found] == [f"Text {i}." for i in range(5)]
    assert [row["QA_list"] for row in found] == [TWO, [], [FIRST], [], TWO]
    assert [row["chain"] for row in found] == list(range(5))
    for seed in range(3):
        random.Random(seed).shuffle(rows)  # noqa: S311
        other = parse(write_lines(tmp_path / f"a{seed}.jsonl", rows), tmp_path / "c" / str(seed), prompts=asked.file)
        assert (other.folder / "shard" / "00000.jsonl").read_bytes() == (
            made.folder / "shard" / "00000.jsonl"
        ).read_bytes()
        assert other.counts == made.counts
    assert made.counts == {
        "entries": 5, "answers": 5, "with_pairs": 3, "pairs": 5, "failed": 0, "missing": 0, "repeated": 0,
        "left_out": {"unfinished": 1},
    }  # fmt: skip
    assert lines(made.folder / "left-out" / "skipped.jsonl") == [
        {"custom_id": rows_id(asked, 1), "piece": 0, "reason": "unfinished", "text": "No."}
    ]


def rows_id(asked, number):
    return lines(asked.file)[number]["custom_id"]


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_batch_with_failures_is_parsed_and_its_rest_sent_again(tmp_path, endpoint):
    """Over HTTP, to the stand-in: two requests fail, one answer is lost on the way."""
    file = tmp_path / "1.jsonl"
    prompts(
        raw(tmp_path, *(f"Text {i}." for i in range(5))),
        file,
        tokenizer="llama3",
        format="openai-batch",
        endpoint=endpoint,
        model="m",
    )
    requests = file.read_bytes().splitlines(keepends=True)
    with StandIn("m", write=lambda prompt: PAIRS, trusts=True, fails={1, 3}) as server:
        first = write_lines(tmp_path / "a.jsonl", run_batch(server.url, requests, completions=True)[:-1])
        there = {row["custom_id"] for row in lines(first)}
        made = parse(first, tmp_path / "c" / "one", prompts=file)
        missing = [orjson.loads(line)["custom_id"] not in there for line in requests]
        unanswered = [number for number in range(5) if number in (1, 3) or missing[number]]
        assert [bool(row["QA_list"]) for row in entries(made.folder)] == [i not in unanswered for i in range(5)]
        rerun = (made.folder / "left-out" / "rerun.jsonl").read_bytes()
        assert rerun == b"".join(requests[number] for number in unanswered)
        reasons = {row["custom_id"]: row for row in lines(made.folder / "left-out" / "failed.jsonl")}
        assert made.counts["failed"] + made.counts["missing"] == len(unanswered)
        assert Counter(row["reason"] for row in reasons.values()) == {
            "failed": made.counts["failed"],
            "missing": made.counts["missing"],
        }
        assert {row["problem"] for row in reasons.values() if row["reason"] == "failed"} == {"EngineDeadError: it died"}
        again = write_lines(tmp_path / "again.jsonl", run_batch(server.url, rerun.splitlines(), completions=True))
    with pytest.raises(OutputExists, match="another result is there already"):
        parse([first, again], made.folder, prompts=file)
    whole = parse([first, again], made.folder, prompts=file, overwrite=True)
    assert [row["QA_list"] for row in entries(whole.folder)] == [TWO] * 5
    assert not (whole.folder / "left-out").exists()


def test_run_batch_takes_no_completions_and_that_is_told(tmp_path):
    """As vLLM's own: each line comes back as an error."""
    file = tmp_path / "1.jsonl"
    prompts(raw(tmp_path, "One."), file, tokenizer="llama3", format="openai-batch", endpoint="completions", model="m")
    with StandIn("m", trusts=True) as server:
        answers = write_lines(tmp_path / "a.jsonl", run_batch(server.url, file.read_bytes().splitlines()))
    made = parse(answers, tmp_path / "c" / "one", prompts=file)
    [row] = lines(made.folder / "left-out" / "failed.jsonl")
    assert row["problem"] == "URL /v1/completions is not a supported endpoint."


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (result("", None), "the response has no choices"),
        (result("", "x", status=429), "status 429"),
        (result("", None, 400, {"error": {"message": "too\nlong", "code": 400}}), "too long"),
        (result("", None, 400, "not text"), "not text"),
        ({"custom_id": "", "response": None, "error": {"code": "expired", "message": "it expired"}}, "it expired"),
        (
            {"custom_id": "", "response": {"status_code": 200, "body": {"choices": [{"message": {"content": None}}]}}},
            "a choice of the response has no text",
        ),
    ],
)
def test_a_request_that_failed_is_told_with_its_reason(tmp_path, asked, row, problem):
    row = row | {"custom_id": rows_id(asked, 0)}
    answers = write_lines(tmp_path / "a.jsonl", [row, *told(asked, "", *[PAIRS] * 4)[1:]])
    made = parse(answers, tmp_path / "c" / "one", prompts=asked.file)
    found = lines(made.folder / "left-out" / "failed.jsonl")
    expected = orjson.dumps(row["response"]["body"]).decode() if problem == "status 429" else problem
    assert [row["problem"] for row in found] == [expected]


def test_the_first_answer_that_did_not_fail_counts(tmp_path, asked):
    [one, other, *rest] = told(asked, PAIRS, PAIRS, *[PAIRS] * 3)
    failed = result(other["custom_id"], None, 500, "no")
    rows = [one, failed, one | {"text": "<QUE> X? <ANS> x </END>"}, other, failed, *rest]
    made = parse(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "c" / "one", prompts=asked.file)
    assert [row["QA_list"] for row in entries(made.folder)] == [TWO] * 5
    assert (made.counts["repeated"], made.counts["failed"], made.counts["answers"]) == (2, 0, 5)


def test_several_texts_of_one_answer_are_all_parsed(tmp_path, asked):
    row = result(rows_id(asked, 0), PAIRS)
    row["response"]["body"]["choices"].append(
        {"index": 1, "text": "<QUE> Who? <ANS> Ada </END><QUE> X? <ANS> x </END>"}
    )
    made = parse(write_lines(tmp_path / "a.jsonl", [row]), tmp_path / "c" / "one", prompts=asked.file)
    assert entries(made.folder)[0]["QA_list"] == [*TWO, {"Q": "X?", "A": "x"}]


def test_text_of_other_keys_and_packed_is_read(tmp_path, asked):
    rows = [{"request": row["custom_id"], "out": row["text"]} for row in told(asked, *[PAIRS] * 5)]
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    fields = {"id": "request", "text": "out"}
    made = parse(tmp_path / "a.jsonl.gz", tmp_path / "c" / "one", prompts=asked.file, fields=fields)
    assert [row["QA_list"] for row in entries(made.folder)] == [TWO] * 5


def test_without_prompts_a_line_has_its_context_and_the_result_is_cooked(tmp_path, cook):
    rows = [{"context": f"Text {i}.", "text": PAIRS} for i in range(3)]
    made = parse(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "c" / "mine")
    assert entries(made.folder) == [{"context": f"Text {i}.", "QA_list": TWO} for i in range(3)]
    done = cook("-d", "mine", "-s", "c", "-t", "llama3", "-o", "out", "--json", "-q")
    assert done.exit_code == 0, done.stderr
    assert orjson.loads(done.stdout)["datasets"][0]["counts"]["pairs"] == 6
    assert parse(tmp_path / "a.jsonl", tmp_path / "c" / "mine").up_to_date


def test_what_is_left_out_beside_the_shards_is_no_shard(tmp_path, cook, asked):
    answers = write_lines(tmp_path / "a.jsonl", told(asked, PAIRS, "No.", PAIRS))
    parse(answers, tmp_path / "c" / "one", prompts=asked.file)
    assert {path.name for path in (tmp_path / "c" / "one" / "left-out").iterdir()} == {
        "skipped.jsonl",
        "failed.jsonl",
        "rerun.jsonl",
    }
    done = cook("-d", "one", "-s", "c", "-t", "llama3", "-o", "out", "--json", "-q")
    assert done.exit_code == 0, done.stderr
    assert orjson.loads(done.stdout)["datasets"][0]["counts"]["entries"] == 5


def test_shards_are_closed_when_full_and_a_chain_goes_on_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("cook.synthesis.answer_files.SHARD_BYTES", 1)
    source = raw(tmp_path, *"abcdef")
    before = None
    for number in ("1", "2", "3"):
        made = prompts(source, tmp_path / f"{number}.jsonl", tokenizer="llama3", rounds=3, previous=before)
        answers = write_lines(tmp_path / f"a{number}.jsonl", told(made, PAIRS, PAIRS))
        before = parse(answers, tmp_path / "c" / number, prompts=made.file).folder
    assert len(list((before / "shard").iterdir())) == 6
    assert "".join(row["context"] for row in entries(before)) == "acebdf"
    assert made.counts["with_history"] == 2
    assert [row["prompt"].count("<CON>") for row in lines(made.file)] == [3, 3]


@pytest.mark.parametrize(
    ("row", "told_"),
    [
        (b"{", r"a\.jsonl:1: is not JSON"),
        ({"custom_id": "x", "output": "y"}, r"a\.jsonl:1: text: is missing \(there is custom_id, output\); --fields"),
        ({"text": "y"}, r"a\.jsonl:1: custom_id: is missing"),
        (
            {"custom_id": "deadbeef-0", "text": "y"},
            r"a\.jsonl:1: custom_id: 'deadbeef-0' is of no prompt in .*1\.jsonl",
        ),
        ({"custom_id": 4, "text": "y"}, r"a\.jsonl:1: custom_id: must be text, not a number"),
        ({"response": {}, "error": None}, r"a\.jsonl:1: custom_id: is missing"),
        ([], r"a\.jsonl:1: must be an object, not a list"),
    ],
)
def test_lines_that_are_no_answers_are_refused_with_their_place(tmp_path, asked, row, told_):
    with pytest.raises(BadLines, match=told_):
        parse(write_lines(tmp_path / "a.jsonl", [row]), tmp_path / "c" / "one", prompts=asked.file)
    assert not (tmp_path / "c").exists()


def test_prompts_that_are_not_those_are_refused(tmp_path, asked):
    answers = write_lines(tmp_path / "a.jsonl", told(asked, PAIRS))

    def refuses(error, match, file=None, **settings):
        with pytest.raises(error, match=match):
            parse(settings.pop("answers", answers), tmp_path / "c" / "one", prompts=file, **settings)

    refuses(OutputError, "no such file; --prompts names what", tmp_path / "none.jsonl")
    refuses(OutputError, "was not written by `cook prompts`", answers)
    refuses(BadLines, "without --prompts a line must have its context")
    refuses(RecipeError, "are those of the prompts", asked.file, delimiter="\n")
    refuses(RecipeError, "fields: there is no 'body'", asked.file, fields={"body": "x"})
    refuses(RecipeError, "pair_template: cannot be parsed back", pair_template="{question} {answer}")
    refuses(SourceError, "cannot be read: No such file", asked.file, answers=tmp_path / "none.jsonl")
    other = prompts(raw(tmp_path, "Else.", name="b.jsonl"), tmp_path / "2.jsonl", tokenizer="llama3")
    refuses(BadLines, "these are answers to others", other.file)
    asked.file.write_bytes(asked.file.read_bytes() + b"\n")
    refuses(OutputError, "was changed since `cook prompts` wrote it", asked.file)


@pytest.mark.parametrize("number", ["", "x", "٣", "-1", "5", "1" * 5000, "0" * 19])
def test_an_id_that_is_none_of_the_prompts(tmp_path, asked, number):
    custom_id = lines(asked.file)[0]["custom_id"].rpartition("-")[0] + f"-{number}"
    with pytest.raises(BadLines, match=r"a\.jsonl:1: "):
        parse(
            write_lines(tmp_path / "a.jsonl", [{"custom_id": custom_id, "text": PAIRS}]),
            tmp_path / "c" / "one",
            prompts=asked.file,
        )


def test_a_file_that_changes_while_it_is_parsed(tmp_path, asked):
    answers = write_lines(tmp_path / "a.jsonl", told(asked, PAIRS))
    with pytest.raises(SourceError, match=r"a\.jsonl: changed while it was read; run again"):
        parse(
            answers,
            tmp_path / "c" / "one",
            prompts=asked.file,
            progress=lambda stage, done, ahead=0, /: answers.write_bytes(b"{}\n"),
        )
    assert not (tmp_path / "c").exists()


def test_a_question_that_comes_twice_is_kept_unless_otherwise_asked(tmp_path, asked):
    twice = PAIRS + "\n\n" + PAIRS.replace("Ada", "Eve")
    answers = write_lines(tmp_path / "a.jsonl", told(asked, twice))
    for name, settings, count in (("one", {}, 3), ("two", {"unique_questions": True}, 2)):
        made = parse(answers, tmp_path / "c" / name, prompts=asked.file, **settings)
        assert made.counts["pairs"] == count


def test_the_command_says_what_it_did(tmp_path, cook, asked):
    write_lines(tmp_path / "a.jsonl", [*told(asked, PAIRS, "No.", PAIRS), result(rows_id(asked, 3), None, 500, "no")])
    done = cook("parse", "a.jsonl", "--prompts", "1.jsonl", "--to", "c/one", "--json")
    assert done.exit_code == 0, done.stderr
    assert orjson.loads(done.stdout)["counts"]["pairs"] == 4
    assert "4 pairs for 2 of 5 entries" in done.stderr
    assert "1 piece left out: unfinished (left-out/skipped.jsonl)" in done.stderr
    assert "2 prompts without an answer (1 failed): send c/one/left-out/rerun.jsonl" in done.stderr
    wrong = cook("parse", "1.jsonl", "--prompts", "1.jsonl", "--to", "c/two")
    assert wrong.exit_code == 3
    assert "cook: 1.jsonl:1: text: is missing" in wrong.stderr


@needs_collection
@pytest.mark.parametrize("name", ["squad", "AQUA_RAT_yes_opt", "QED"])
def test_real_entries_come_back_from_their_formatted_output(tmp_path, name):
    """All datasets at length: scripts/round_trip.py."""
    formatter = Formatter(Recipe(datasets="x", tokenizer="x"))
    known = template_markers(Recipe(datasets="x", tokenizer="x"))[2:]
    rows, expected = [], []
    for path in sorted((COLLECTION / name / "shard").glob("*.jsonl")):
        for line in LineReader(ByteRange(str(path), 0, None)):
            assert isinstance(line, Line)
            entry = parse_entry(str(path), line)
            if not entry.pairs or any(marker in text for pair in entry.pairs for text in pair for marker in known):
                continue
            rows.append({"context": entry.context, "text": formatter.output_text(entry.pairs)})
            expected.append(list(dict.fromkeys((q.strip(), a.strip()) for q, a in entry.pairs)))
    made = parse(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "c" / "again")
    found = [[(pair["Q"], pair["A"]) for pair in row["QA_list"]] for row in entries(made.folder)]
    assert found == expected
    assert len(found) > 30
    assert set(made.counts["left_out"]) <= {"repeat"}
