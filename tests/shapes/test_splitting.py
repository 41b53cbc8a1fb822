"""Over-long examples re-made: held against a plain greedy reference, with a tokenizer whose tokens one can count."""

import re
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import entry, write_shard
from cook import run as run_recipe
from cook.core.recipe import Recipe
from cook.core.records import BAD_LINE, BLANK_ANSWER, ENCODED_EXAMPLE_DTYPE, OVERLONG, SKIPPED_ROW_DTYPE
from cook.encode import parts
from cook.shapes.context_qa import Entry
from cook.shapes.formatter import Formatter
from cook.shapes.protocol import SplitExample, SplitResult
from cook.shapes.splitting import run_batched, split, truncate


# A token a word, or a mark; spaces cost nothing. "<words ." / "q words a words" / "|": a delimiter of one token.
def formatter(delimiter: str = " | ") -> Formatter:
    templates = {"context_template": "<{context} .", "pair_template": "q {question} a {answer}"}
    return Formatter(Recipe(datasets="squad", tokenizer="llama3", delimiter=delimiter, **templates))


FORMAT = formatter()


def encode(texts):
    found = [re.findall(r"\w+|[^\w\s]", text) for text in texts]
    offsets = np.cumsum([0, *map(len, found)])
    words = [word for tokens in found for word in tokens]
    return np.array([sum(word.encode()) for word in words], np.uint32), offsets


def token_ends(text):
    return np.array([match.end() for match in re.finditer(r"\w+|[^\w\s]", text)])


def count(text):
    return len(encode([text])[0])


def ids(text):
    return encode([text])[0].tolist()


def remake(policy, context, pairs, capacity, fmt=FORMAT) -> SplitResult:
    inputs = encode([fmt.input_text(context)])[0]
    if policy == "split":
        steps = split(inputs, pairs, fmt, capacity)
    else:
        steps = truncate(inputs, context, pairs, fmt, capacity, token_ends)
    return run_batched([steps], encode)[0]


def lists(piece: SplitExample):
    return *(each.tolist() for each in piece.text_ids), piece.units, piece.truncated


def test_split_by_hand():
    # "< x y . |" is 5 tokens; a pair "q one a two" is 4; two pairs and the delimiter 9; so 14 hold context and two.
    pairs = [("one", "two"), ("three", "four"), ("five", "six")]
    made = remake("split", "x y", pairs, 14)
    whole = ids("< x y . | ")
    assert [lists(piece) for piece in made.examples] == [
        (whole, ids("q one a two | q three a four"), 2, False),
        (whole, ids("q five a six"), 1, False),
    ]
    assert made.lost_units == []


def test_split_loses_a_pair_that_does_not_fit_alone_and_keeps_the_rest_together():
    pairs = [("one", "two"), ("long " * 9, "x"), ("three", "four")]
    made = remake("split", "x y", pairs, 14)
    assert [lists(piece)[1:] for piece in made.examples] == [(ids("q one a two | q three a four"), 2, False)]
    assert made.lost_units == [1]


def test_split_loses_all_when_the_context_alone_is_too_long():
    made = remake("split", "x " * 50, [("one", "two"), ("three", "four")], 14)
    assert made == SplitResult([], [0, 1])


def test_truncate_by_hand():
    # 14 tokens, of which the pair needs 4 and the frame "< . |" 3: 7 words of the context remain.
    made = remake("truncate", "a b d e f g h i j k", [("one", "two")], 14)
    assert [lists(piece) for piece in made.examples] == [(ids("<a b d e f g h . | "), ids("q one a two"), 1, True)]
    assert made.lost_units == []


def test_truncate_never_cuts_to_nothing():
    made = remake("truncate", "a b d e f g h i j k", [("long " * 9, "x")], 14)
    assert made == SplitResult([], [0])


def test_truncate_cuts_only_for_pairs_that_need_it():
    pairs = [("one", "two"), ("w " * 8, "x"), ("three", "four")]
    made = remake("truncate", "a b d e", pairs, 16)
    assert [(piece.units, piece.truncated) for piece in made.examples] == [(2, False), (1, True)]
    assert made.lost_units == []


WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "é", ","]), min_size=1, max_size=8).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=10)


def greedy(context, pairs, capacity, fmt) -> tuple[list[list[int]], list[int]]:
    room = capacity - count(fmt.input_text(context))
    groups: list[list[int]] = []
    lost = []
    for index, pair in enumerate(pairs):
        if count(fmt.output_text([pair])) > room:
            lost.append(index)
        elif groups and count(fmt.output_text([pairs[i] for i in [*groups[-1], index]])) <= room:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups, lost


FORMATS = st.sampled_from([" ", " | ", " - - - "]).map(formatter)  # delimiters of no, one and three tokens


@given(WORDS, PAIRS, st.integers(5, 60), FORMATS)
def test_split_is_greedy_in_pair_order(context, pairs, capacity, fmt):
    groups, lost = greedy(context, pairs, capacity, fmt)
    made = remake("split", context, pairs, capacity, fmt)
    whole = ids(fmt.input_text(context))
    assert made.lost_units == lost
    assert [lists(piece) for piece in made.examples] == [
        (whole, ids(fmt.output_text([pairs[i] for i in group])), len(group), False) for group in groups
    ]


@given(WORDS, PAIRS, st.integers(5, 60), FORMATS)
def test_truncate_keeps_every_pair_that_any_context_leaves_room_for(context, pairs, capacity, fmt):
    groups, unfit = greedy(context, pairs, capacity, fmt)
    made = remake("truncate", context, pairs, capacity, fmt)
    assert sum(piece.units for piece in made.examples) + len(made.lost_units) == len(pairs)
    assert [piece.units for piece in made.examples if not piece.truncated] == [len(group) for group in groups]
    ends = [end - len("<") for end in token_ends(fmt.input_text(context))]
    heads = [context[:end] for end in ends if 0 < end < len(context)]
    expected = []
    for index in unfit:
        room = capacity - count(fmt.output_text([pairs[index]]))
        fitting = [head for head in heads if count(fmt.input_text(head)) <= room]
        if fitting:
            expected.append((ids(fmt.input_text(fitting[-1])), ids(fmt.output_text([pairs[index]])), 1, True))
    assert [lists(piece) for piece in made.examples if piece.truncated] == expected
    assert len(made.lost_units) == len(unfit) - len(expected)


def test_many_entries_share_each_round():
    rounds = []

    def counted(texts):
        rounds.append(len(texts))
        return encode(texts)

    inputs = encode([FORMAT.input_text("x y")])[0]
    pairs = [(f"w{i}", "x") for i in range(4)]
    made = run_batched([split(inputs, pairs, FORMAT, 14) for _ in range(50)], counted)
    assert len(made) == 50
    assert rounds[0] == 200
    assert len(rounds) <= 8


@given(st.lists(st.tuples(st.integers(1, 3), st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 99))))
def test_entries_that_are_lost_whole_are_told_as_if_each_were_looked_at(made):
    """A gap between lines, a flag a pair (whether it is blank), and the tokens of the input; of one pair at least."""
    rows, blank, expected = [], [], []
    line = 0
    for gap, flags, tokens in made:
        line += gap
        blanks = [(at, BLANK_ANSWER) for at, flag in enumerate(flags) if flag]
        one = Entry(line, 0, "", [("q", "a")] * flags.count(False), blanks)
        blank += [(line, at, BLANK_ANSWER, 1, 0) for at, _ in blanks]
        if gap < 3 and one.pairs:  # else it is not among those lost
            rows.append((tokens + 5, 5, line, len(one.pairs), 0, 0, 0, 0))
            expected += [
                (line, one.original_pair_index(kept), OVERLONG, 1, tokens + 5) for kept in range(len(one.pairs))
            ]
            expected.append((line, -1, OVERLONG, 0, tokens + 5))
    lost = parts._dropped_rows(
        np.array(rows, ENCODED_EXAMPLE_DTYPE), np.array([(1, -1, BAD_LINE, 0, 0), *blank], SKIPPED_ROW_DTYPE)
    )
    assert lost.dtype == SKIPPED_ROW_DTYPE
    assert lost.tolist() == expected


@pytest.mark.parametrize("room", [-1, 0, 1, 40])
def test_around_the_length_at_which_a_context_leaves_no_room(tmp_path, room):
    """What is told without a look at the entry is what a look at it tells."""
    pairs = [{"Q": q, "A": a} for q, a in (("", "blank"), ("q", "a"), ("r", " "), ("s", "b " * 60))]
    write_shard(tmp_path, "set", [entry("many words " * 30, *pairs), entry("few")])

    def cooked(most: int, out: str) -> Any:
        settings = {"max_length": most, "overlong": "split", "output": tmp_path / out, "max_dropped": 1.0}
        return run_recipe(Recipe(datasets="set", tokenizer="llama3", source=tmp_path, cache="none", **settings))

    cooked(4096, "long")
    inputs = [
        row.index(1)
        for row in pq.read_table(tmp_path / "long/set/train-00000-of-00001.parquet")["loss_mask"].to_pylist()
    ]
    most = max(inputs) + 1 + room  # of the input, EOS, and as many of its pairs
    cooked(most, "out")
    left = [orjson.loads(line) for line in (tmp_path / "out/set/skipped.jsonl").read_bytes().splitlines()]
    blank = [(0, "blank_question"), (2, "blank_answer")]
    lost = [(3, "overlong")] if room == 40 else [(1, "overlong"), (3, "overlong"), (None, "overlong")]
    assert [(row["pair"], row["reason"]) for row in left if row["line"] == 1] == blank + lost
