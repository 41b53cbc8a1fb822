"""Prompts: what they hold to the letter and to the id, what happens to texts that do not fit, and what is refused."""

import gzip

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from conftest import write_shard
from cook import (
    BadLines,
    InputError,
    OutputError,
    OutputExists,
    RecipeError,
    SourceError,
    TooLong,
    parse,
    prompts,
    read_cooked,
)
from cook.synthesis.rounds import UnansweredWarning
from reference import MODELS

PAIRS = "<QUE> Who? <ANS> Ada </END>\n\n<QUE> When? <ANS> 1843 </END>"


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


def raw(folder, *texts, name="raw.jsonl"):
    return write_lines(folder / name, [{"text": text} for text in texts])


def answer(folder, asked, text=PAIRS, name="round"):
    """Every prompt answered alike, parsed."""
    told = [{"custom_id": row["custom_id"], "text": text} for row in lines(asked.file)]
    answers = write_lines(folder / f"{name}-answers.jsonl", told)
    return parse(answers, folder / "pairs" / name, prompts=asked.file).folder


@pytest.mark.parametrize("has_bos", [True, False])
def test_a_prompt_is_what_an_example_begins_with(tmp_path, models, has_bos):
    """By the reference: BOS and EOS as ids, inputs and outputs encoded apart."""
    model = "llama2"
    reference = Tokenizer.from_file(str(models[model] / "tokenizer.json"))
    reference.encode_special_tokens = True
    bos, eos = "<s>" if has_bos else "", "</s>"

    def ids(text):
        return reference.encode(text, add_special_tokens=False).ids

    settings = {"tokenizer": str(models[model]), "rounds": 2} | ({} if has_bos else {"bos": "none"})
    source = raw(tmp_path, "One {context}.", "Zwei.")
    first = prompts(source, tmp_path / "1.jsonl", **settings)
    second = prompts(source, tmp_path / "2.jsonl", previous=answer(tmp_path, first), **settings)
    one, two = " <CON> One {context}. </CON>\n\n", " <CON> Zwei. </CON>\n\n"
    begin = [1] if has_bos else []
    assert [(row["prompt"], row["prompt_token_ids"]) for row in lines(first.file)] == [(bos + one, begin + ids(one))]
    assert [(row["prompt"], row["prompt_token_ids"]) for row in lines(second.file)] == [
        (
            bos + one + PAIRS + eos + bos + two,
            [*begin, *ids(one), *ids(PAIRS), 2, *begin, *ids(two)],
        )
    ]


@pytest.mark.parametrize("model", ["llama2", "mistral"])
def test_text_for_a_server_is_counted_as_the_server_encodes_it(tmp_path, models, model):
    """That reads BOS and EOS out of the text, adds none, and encodes all between two of them as one."""
    settings = {"tokenizer": str(models[model]), "rounds": 2, "format": "openai-batch", "model": "m"}
    settings["delimiter"] = " "  # encoded apart, an input would end in a token that is none in the whole
    source = raw(tmp_path, "One.", "Two.")
    first = prompts(source, tmp_path / "1.jsonl", **settings)
    answers = write_lines(
        tmp_path / "a.jsonl", [{"custom_id": row["custom_id"], "text": PAIRS} for row in lines(first.file)]
    )
    done = parse(answers, tmp_path / "pairs" / "1", prompts=first.file)
    second = prompts(source, tmp_path / "2.jsonl", previous=done.folder, **settings)
    [row] = lines(second.file)
    assert row["url"] == "/v1/chat/completions"
    [message] = row["body"]["messages"]
    server = Tokenizer.from_file(str(models[model] / "tokenizer.json"))
    sent = server.encode(message["content"], add_special_tokens=False).ids
    assert sent.count(MODELS[model].eos_id) == 1
    assert [i for i in sent if i in MODELS[model].bos_ids] == 2 * MODELS[model].bos_ids
    assert second.counts["tokens"] == second.counts["longest"] == len(sent)


def test_requests_have_the_form_that_servers_read(tmp_path):
    source = raw(tmp_path, "One.")
    forms = {}
    for endpoint in ("chat", "completions"):
        asked = prompts(
            source,
            tmp_path / f"{endpoint}.jsonl",
            tokenizer="llama3",
            format="openai-batch",
            endpoint=endpoint,
            model="my/synthesizer",
            max_new_tokens=64,
        )
        [forms[endpoint]] = lines(asked.file)
    input_ids = [128000, 366, 5910, 29, 3861, 13, 694, 5910, 1363]
    greedy = {"model": "my/synthesizer", "temperature": 0.0, "stop_token_ids": [128001]}
    assert forms["completions"] == {
        "custom_id": forms["completions"]["custom_id"],
        "method": "POST",
        "url": "/v1/completions",
        "body": greedy | {"prompt": input_ids, "max_tokens": 64},
    }
    assert forms["chat"] == {
        "custom_id": forms["chat"]["custom_id"],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": greedy
        | {
            "messages": [{"role": "user", "content": "<|begin_of_text|> <CON> One. </CON>\n\n"}],
            "chat_template": "{{ messages[0]['content'] }}",
            "add_generation_prompt": False,
            "add_special_tokens": False,
            "max_completion_tokens": 64,
        },
    }


def test_a_history_that_does_not_fit_is_left_out_whole_and_that_is_recorded(tmp_path):
    """Two texts a round: the second chain's history is one token over."""
    source = raw(tmp_path, "One.", "One.", "Two.", "Two and.")
    settings = {"tokenizer": "llama3", "rounds": 2, "max_new_tokens": 10}
    first = prompts(source, tmp_path / "1.jsonl", max_length=100, **settings)
    before = answer(tmp_path, first)
    roomy = prompts(source, tmp_path / "2.jsonl", previous=before, max_length=100, **settings)
    lengths = [len(row["prompt_token_ids"]) for row in lines(roomy.file)]
    assert lengths[1] == lengths[0] + 1
    tight = prompts(source, tmp_path / "3.jsonl", previous=before, max_length=lengths[0] + 10, **settings)
    assert [row["prompt"].count("<CON>") for row in lines(tight.file)] == [2, 1]
    after = lines(answer(tmp_path, tight, name="tight") / "shard" / "00000.jsonl")
    assert [(row["context"], row["chain"], row["inherit_from_prev"], row["followed_by_next"]) for row in after] == [
        ("One.", 0, False, True),
        ("Two.", 0, True, False),
        ("One.", 1, False, False),
        ("Two and.", 1, False, False),
    ]
    assert tight.counts["broken"] == {"did_not_fit": 1}
    assert tight.counts["with_history"] == 1


def test_a_text_before_without_pairs_breaks_the_chain(tmp_path):
    source = raw(tmp_path, "One.", "Two.")
    first = prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", rounds=2)
    before = answer(tmp_path, first, "No question.")
    second = prompts(source, tmp_path / "2.jsonl", tokenizer="llama3", rounds=2, previous=before)
    assert [row["prompt"] for row in lines(second.file)] == ["<|begin_of_text|> <CON> Two. </CON>\n\n"]
    assert second.counts["broken"] == {"no_pairs": 1}


def test_a_round_before_that_lacks_answers_is_told(tmp_path):
    source = raw(tmp_path, "One.", "Two.", "Three.", "Four.")
    first = prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", rounds=2)
    [row, _] = lines(first.file)
    answers = write_lines(tmp_path / "a.jsonl", [{"custom_id": row["custom_id"], "text": PAIRS}])
    before = parse(answers, tmp_path / "pairs" / "1", prompts=first.file).folder
    with pytest.warns(UnansweredWarning, match="1 of its prompts have no answer, and their chains break here"):
        second = prompts(source, tmp_path / "2.jsonl", tokenizer="llama3", rounds=2, previous=before)
    assert second.counts["broken"] == {"no_pairs": 1}


def test_a_round_with_fewer_texts_leaves_the_other_chains_as_they_were(tmp_path):
    source = raw(tmp_path, "One.", "Two.", "Three.")
    first = prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", rounds=2)
    second = prompts(source, tmp_path / "2.jsonl", tokenizer="llama3", rounds=2, previous=answer(tmp_path, first))
    after = lines(answer(tmp_path, second, name="second") / "shard" / "00000.jsonl")
    assert [(row["context"], row["chain"], row["followed_by_next"]) for row in after] == [
        ("One.", 0, True),
        ("Three.", 0, False),
        ("Two.", 1, False),
    ]
    assert [len(row["QA_list"]) for row in after] == [2, 2, 2]


LONG = "wind and water " * 40


def test_a_text_over_the_length_gets_no_prompt_and_is_kept(tmp_path):
    source = raw(tmp_path, "One.", LONG)
    asked = prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", max_length=60, max_new_tokens=20)
    assert asked.counts["left_out"] == {"overlong": 1}
    assert len(lines(asked.file)) == 1
    assert lines(tmp_path / "1.jsonl.cook" / "skipped.jsonl") == [
        {"file": "raw.jsonl", "line": 2, "reason": "overlong", "tokens": 128}
    ]
    after = lines(answer(tmp_path, asked) / "shard" / "00000.jsonl")
    assert [(row["context"], len(row["QA_list"])) for row in after] == [("One.", 2), (LONG, 0)]


def test_a_text_over_the_length_is_cut_at_a_token_so_that_one_more_would_not_fit(tmp_path):
    source = raw(tmp_path, LONG)
    settings = {"tokenizer": "llama3", "overlong": "truncate", "max_new_tokens": 20}
    cut = []
    for length in (60, 61):
        asked = prompts(source, tmp_path / f"{length}.jsonl", max_length=length, **settings)
        [row] = lines(asked.file)
        assert asked.counts["truncated"] == 1
        assert len(row["prompt_token_ids"]) == length - 20
        [kept] = lines(answer(tmp_path, asked, name=str(length)) / "shard" / "00000.jsonl")
        assert row["prompt"] == f"<|begin_of_text|> <CON> {kept['context']} </CON>\n\n"
        cut.append(kept["context"])
    assert cut[1].startswith(cut[0])
    assert cut[1].removeprefix(cut[0]) in (" wind", " and", " water")
    assert LONG.startswith(cut[1])


def test_a_text_over_the_length_is_an_error_where_that_is_asked_for(tmp_path):
    source = raw(tmp_path, "One.", LONG)
    with pytest.raises(TooLong, match=r"raw\.jsonl:2: its prompt has 128 tokens; at most 40"):
        prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", max_length=60, max_new_tokens=20, overlong="error")
    assert not (tmp_path / "1.jsonl").exists()
    assert not (tmp_path / "1.jsonl.cook").exists()


def test_a_text_that_holds_a_control_token_is_not_sent_as_text(tmp_path):
    source = raw(tmp_path, "One.", "He wrote <|end_of_text|> here.")
    settings = {"tokenizer": "llama3", "format": "openai-batch", "model": "m"}
    chat = prompts(source, tmp_path / "chat.jsonl", **settings)
    assert chat.counts["left_out"] == {"special_string": 1}
    assert "end_of_text" not in chat.file.read_text().replace('"stop_token_ids"', "")
    by_ids = prompts(source, tmp_path / "ids.jsonl", endpoint="completions", **settings)
    assert by_ids.counts["prompts"] == 2
    assert 128001 not in lines(by_ids.file)[1]["body"]["prompt"]


def test_raw_texts_come_from_files_of_all_kinds_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "texts"
    raw(folder, "a1", "", "a2", " \n", name="a.jsonl")
    (folder / "b").mkdir()
    (folder / "b" / "one.txt").write_bytes(b"\xef\xbb\xbfb1\r\nsecond line\r\n")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b'{"id": 3, "text": "c1"}\n'))
    pq.write_table(pa.table({"id": [1, 2], "text": ["d1", "d2"]}), folder / "d.parquet")
    (folder / "e.txt.gz").write_bytes(gzip.compress("ë1".encode()))
    (folder / ".hidden.txt").write_text("no")
    asked = prompts(folder, tmp_path / "1.jsonl", tokenizer="llama3")
    texts = [row["context"] for row in lines(tmp_path / "1.jsonl.cook" / "entries.jsonl")]
    assert texts == ["a1", "a2", "b1\r\nsecond line", "c1", "d1", "d2", "ë1"]
    assert (asked.counts["texts"], asked.counts["blank"]) == (7, 2)
    assert [row["name"] for row in asked.manifest["inputs"]] == [
        "a.jsonl", "b/one.txt", "c.jsonl.gz", "d.parquet", "e.txt.gz",
    ]  # fmt: skip


def test_the_same_arguments_give_the_same_bytes_and_twice_is_up_to_date(tmp_path):
    source = raw(tmp_path, *(f"Text {i}." for i in range(50)))
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        asked = prompts(source, folder / "1.jsonl", tokenizer="llama3", rounds=2)
        answer(folder, asked)
        made.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert made[0] == made[1]
    assert len(made[0]) == 6
    again = prompts(source, tmp_path / "a" / "1.jsonl", tokenizer="llama3", rounds=2)
    assert again.up_to_date
    assert again.counts == asked.counts


def test_other_prompts_are_replaced_only_when_told(tmp_path):
    source = raw(tmp_path, "One.")
    file = tmp_path / "1.jsonl"
    prompts(source, file, tokenizer="llama3")
    with pytest.raises(OutputExists, match=r"another result is there already(.|\n)*max_length: it has 4096"):
        prompts(source, file, tokenizer="llama3", max_length=2048)
    assert prompts(source, file, tokenizer="llama3", max_length=2048, overwrite=True).manifest["prompts"]["max_length"]
    file.write_text("edited\n")
    with pytest.raises(OutputExists, match="was changed since it was written"):
        prompts(source, file, tokenizer="llama3", max_length=2048)
    file.unlink()  # as after a kill before the last rename
    assert not prompts(source, file, tokenizer="llama3", max_length=2048).up_to_date
    foreign = tmp_path / "mine.jsonl"
    foreign.write_text("mine\n")
    with pytest.raises(OutputExists, match="is not cook's"):
        prompts(source, foreign, tokenizer="llama3", overwrite=True)
    assert foreign.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"content": "One."}, r"raw\.jsonl:2: text: is missing \(there is content\); --field names another key"),
        ({"text": 7}, r"raw\.jsonl:2: text: must be text, not a number"),
        ({"text": None}, r"raw\.jsonl:2: text: must be text, not null"),
        (b'{"text": "cut', r"raw\.jsonl:2: is not JSON"),
        ([1], r"raw\.jsonl:2: must be an object, not a list"),
    ],
)
def test_lines_that_are_no_texts_are_refused_with_their_place(tmp_path, row, told):
    source = write_lines(tmp_path / "raw.jsonl", [{"text": "One."}, row])
    with pytest.raises(BadLines, match=told):
        prompts(source, tmp_path / "1.jsonl", tokenizer="llama3")
    assert not (tmp_path / "1.jsonl").exists()


def test_files_that_hold_no_texts_are_refused(tmp_path):
    def refuses(error, match, *places, **settings):
        with pytest.raises(error, match=match):
            prompts(places, tmp_path / "1.jsonl", tokenizer="llama3", **settings)

    refuses(InputError, "no text: nothing to write", raw(tmp_path, "", " "))
    refuses(SourceError, "no such file", tmp_path / "none.jsonl")
    (tmp_path / "a.csv").write_text("text\n")
    refuses(SourceError, r"of a kind that is not read; raw texts end in \.jsonl", tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    refuses(SourceError, "holds no raw texts", tmp_path / "empty")
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    refuses(InputError, "has no column 'text'; it has id, body; --field", tmp_path / "a.parquet")
    refuses(InputError, "its column 'id' must be text, not int64", tmp_path / "a.parquet", field="id")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    refuses(SourceError, "cannot be read", tmp_path / "b.parquet")
    (tmp_path / "latin.txt").write_bytes(b"gr\xfcn")
    refuses(InputError, "is not UTF-8: .* at byte 3", tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"format": "openai-batch"}, "model: openai-batch needs the name"),
        ({"model": "m"}, "model and endpoint go with --format openai-batch"),
        ({"rounds": 0}, "rounds: must be a whole number from 1"),
        ({"max_new_tokens": 4096}, "max_new_tokens: must be a whole number from 1 to 4,094"),
        ({"overlong": "split"}, "overlong: must be one of drop, truncate, error"),
        ({"temperature": -1}, "temperature: must be a number from 0"),
        ({"context_template": "none"}, "context_template: lacks"),
        ({"max_length": 1}, "max_length: must be a whole number"),
    ],
)
def test_settings_that_are_wrong_are_refused(tmp_path, settings, told):
    with pytest.raises(RecipeError, match=told):
        prompts(raw(tmp_path, "One."), tmp_path / "1.jsonl", tokenizer="llama3", **settings)


def test_a_round_before_of_something_else_is_refused(tmp_path):
    source = raw(tmp_path, "One.", "Two.")
    first = prompts(source, tmp_path / "1.jsonl", tokenizer="llama3", rounds=2)
    before = answer(tmp_path, first)

    def refuses(error, match, raw_texts=source, previous=before, **settings):
        with pytest.raises(error, match=match):
            prompts(
                raw_texts, tmp_path / "2.jsonl", previous=previous, **{"tokenizer": "llama3", "rounds": 2, **settings}
            )

    refuses(RecipeError, r"previous: .*: the tokenizer's fingerprint was", tokenizer="mistral")
    refuses(RecipeError, "it was of other raw texts, raw.jsonl", raw(tmp_path, "One.", "Three.", name="other.jsonl"))
    refuses(RecipeError, "--rounds was 2, and is 3", rounds=3)
    refuses(RecipeError, "--delimiter was", delimiter="\n")
    alone = parse(write_lines(tmp_path / "a.jsonl", [{"context": "c", "text": PAIRS}]), tmp_path / "pairs" / "alone")
    refuses(OutputError, "was parsed without --prompts", previous=alone.folder)
    refuses(OutputError, "is a folder of several results", previous=tmp_path)
    second = prompts(source, tmp_path / "2.jsonl", tokenizer="llama3", rounds=2, previous=before)
    last = answer(tmp_path, second, name="second")
    with pytest.raises(RecipeError, match="it was round 2, the last of 2"):
        prompts(source, tmp_path / "3.jsonl", tokenizer="llama3", rounds=2, previous=last)
    shard = before / "shard" / "00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"Ada", b"Eva"))
    refuses(OutputError, "its sha256 is ")


def test_a_round_that_has_no_text_is_refused(tmp_path):
    """Four texts in three rounds are two, two and none."""
    source = raw(tmp_path, *"abcd")
    settings = {"tokenizer": "llama3", "rounds": 3}
    first = prompts(source, tmp_path / "1.jsonl", **settings)
    second = prompts(source, tmp_path / "2.jsonl", previous=answer(tmp_path, first), **settings)
    before = answer(tmp_path, second, name="second")
    with pytest.raises(InputError, match="round 3 of 3 has no text: the rounds before had all 4 of them"):
        prompts(source, tmp_path / "3.jsonl", previous=before, **settings)


def test_what_is_beside_prompts_is_no_dataset(tmp_path, cook):
    asked = prompts(raw(tmp_path, "One."), tmp_path / "cooked" / "1.jsonl", tokenizer="llama3")
    with pytest.raises(OutputError, match="which holds no sequences"):
        next(read_cooked(f"{asked.file}.cook").sequences())
    write_shard(tmp_path / "c", "mine", [{"context": "c", "QA_list": [{"Q": "q", "A": "a"}]}])
    assert cook("-d", "mine", "-s", "c", "-t", "llama3", "-o", "cooked", "-q").exit_code == 0
    assert cook("mix", "cooked", "--to", "mixed", "-q").exit_code == 0


def test_the_command_says_what_it_did(tmp_path, cook):
    raw(tmp_path, "One.", " ", LONG)
    short = ("--max-length", "60", "--max-new-tokens", "20")
    done = cook("prompts", "raw.jsonl", "--to", "1.jsonl", "-t", "llama3", *short, "--json")
    assert done.exit_code == 0, done.stderr
    assert orjson.loads(done.stdout)["counts"]["prompts"] == 1
    assert "round 1 of 1: 1 prompt for 2 of 2 texts" in done.stderr
    assert "1 text too long for a prompt: no prompt, kept without pairs (1.jsonl.cook)" in done.stderr
    assert "1 text ignored: empty or white space" in done.stderr
    wrong = cook("prompts", "raw.jsonl", "--to", "2.jsonl", "-t", "llama3", "--format", "openai-batch")
    assert wrong.exit_code == 2
    assert "cook: model: openai-batch needs the name that the server knows the model by; pass --model" in wrong.stderr
