"""Three rounds on a thousand texts, held against the published procedure and against the real tokenizer."""

import random

import orjson
import pytest
from tokenizers import Tokenizer

import published_rounds as published
from cook import parse, prompts
from cook.synthesis.rounds import history, round_range

TEXTS, ROUNDS, MAX_LENGTH, NEW = 1000, 3, 2048, 400
ROOM = MAX_LENGTH - NEW
PLAIN = "the old mill by river turned when rain came and stood still in august while grain waited under a roof"
LONG = "Wasserstandsmeldung überschwemmungsgefährdet Ölpreisentwicklung зернохранилище 風車 Mühlenbetriebsordnung"


def a_text(draw):
    known = PLAIN.split() + LONG.split() * draw.randrange(4)
    words = draw.choices(known, k=draw.choice([3, 20, 80, 200, 400, 700, 900]))
    return " ".join(words).replace("the old", "the\nold")


def a_generation(draw, context):
    """What a model may write: mostly pairs; some repeated, empty, doubled, cut off, or nothing of the kind."""
    words = context.split()
    pairs = [
        f"<QUE> Is {draw.choice(words)} {i}? <ANS> {draw.choice(words)} </END>" for i in range(draw.randrange(1, 6))
    ]
    spoil = {
        0: list,
        1: lambda: ["I see no question here."],
        2: lambda: [*pairs, pairs[0], pairs[-1].upper().replace("</END>", "</END>")],
        3: lambda: [*pairs, "<QUE> Who? <ANS>  </END>", "<QUE> A? <ANS> b <ANS> c </END>"],
        4: lambda: [*pairs, "<QUE> What was it that the"],
        5: lambda: ["<QUE> Where <QUE> is it? <ANS> here </END>", *pairs],
    }
    return "\n\n".join(spoil.get(draw.randrange(12), lambda: pairs)())


def lines(path):
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    """For each round its prompts and the rows of the dataset after it."""
    folder = tmp_path_factory.mktemp("rounds")
    draw = random.Random(7)  # noqa: S311 - a seeded draw of texts
    texts = [a_text(draw) for _ in range(TEXTS)]
    raw = folder / "raw.jsonl"
    raw.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
    made, before = [], None
    for number in (1, 2, 3):
        asked = prompts(
            raw, folder / f"{number}.jsonl", tokenizer="llama3", rounds=ROUNDS, max_length=MAX_LENGTH, previous=before,
            cache="none",
        )  # fmt: skip
        rows = lines(asked.file)
        answers = folder / f"answers-{number}.jsonl"
        told = [
            {"custom_id": row["custom_id"], "text": a_generation(draw, row["prompt"].split("<CON>")[-1])}
            for row in rows
        ]
        draw.shuffle(told)
        answers.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in told))
        before = folder / "pairs" / str(number)
        parse(answers, before, prompts=asked.file, unique_questions=True)
        texts_of = {row["custom_id"]: row["text"] for row in told}
        made.append((asked, rows, texts_of, lines(before / "shard" / "00000.jsonl")))
    return texts, made


def test_no_prompt_is_longer_than_the_limit(rounds, models):
    """By the ids, and by the reference's own count of the text, control tokens read."""
    reference = Tokenizer.from_file(str(models["llama3"] / "tokenizer.json"))
    _, made = rounds
    counted = 0
    for asked, rows, _, _ in made:
        lengths = [len(row["prompt_token_ids"]) for row in rows]
        assert max(lengths) == asked.counts["longest"] <= ROOM
        assert sum(lengths) == asked.counts["tokens"]
        for row in rows:
            if len(row["prompt_token_ids"]) > 0.95 * ROOM:
                counted += 1
                assert reference.encode(row["prompt"], add_special_tokens=False).ids == row["prompt_token_ids"]
    assert counted > 10, "hardly a prompt comes near the limit, so this test sees nothing"


def test_prompts_are_those_of_the_published_procedure_wherever_lengths_are_judged_alike(rounds):
    texts, made = rounds
    collections = [[] for _ in range(len(published.runs(texts, ROUNDS)[0]))]
    judged = {True: 0, False: 0}
    otherwise = 0
    for (_, rows, generated, after), run in zip(made, published.runs(texts, ROUNDS), strict=True):
        now = {}
        for row in after:
            now.setdefault(row["chain"], []).append(row)
        own = {row["custom_id"].rpartition("-")[2]: row for row in rows}
        first = texts.index(run[0])
        for chain, text in enumerate(run):
            row = own.get(str(first + chain))
            entry = now[chain][-1]
            assert entry["context"] == text
            if row is None:
                assert entry["QA_list"] == []
                continue
            asked = published.ask(collections[chain], text, MAX_LENGTH, NEW)
            ours = row["prompt"] != asked.alone
            assert row["prompt"] in (asked.alone, asked.with_history)
            if asked.with_history is not None:
                if ours == asked.follows:
                    judged[ours] += 1
                    assert row["prompt"] == (asked.with_history if asked.follows else asked.alone)
                else:
                    otherwise += 1
            assert entry["QA_list"] == published.pairs_in(generated[row["custom_id"]])
            assert entry["inherit_from_prev"] == (ours and bool(entry["QA_list"]))
            if collections[chain]:
                assert now[chain][-2]["followed_by_next"] == ours
        collections = [now[chain] for chain in range(len(collections))]
    assert judged[True] > 100, judged
    assert judged[False] > 20, judged
    assert otherwise > 0, "the word estimate never erred, so half of this test sees nothing"


def test_the_rows_of_all_rounds_are_all_texts_once(rounds):
    texts, made = rounds
    after = made[-1][3]
    assert sorted(row["context"] for row in after) == sorted(texts)
    assert [row["chain"] for row in after] == sorted(row["chain"] for row in after)
    assert made[-1][0].counts["texts"] == TEXTS
    assert {"did_not_fit", "no_pairs"} <= set(made[1][0].counts["broken"])


def test_texts_are_shared_out_as_published():
    for count in range(1, 30):
        for number in range(1, 6):
            texts = list(map(str, range(count)))
            assert [[texts[i] for i in round_range(count, number, n + 1)] for n in range(number)] == published.runs(
                texts, number
            )


def a_row(pairs, inherits):
    return {"context": "c", "QA_list": [{"Q": "q", "A": "a"}] * pairs, "inherit_from_prev": inherits}


def test_a_history_goes_back_to_the_last_break():
    rows = [a_row(1, False), a_row(2, False), a_row(1, True), a_row(3, True)]
    assert history(rows) == rows[1:]
    assert history(rows[:1]) == rows[:1]
    assert history([]) == []
    assert history([*rows, a_row(0, False)]) == []
