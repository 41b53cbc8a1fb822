"""What a model wrote, back to pairs: each rule by hand, and the way back from the formatter for any text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cook import Recipe, RecipeError
from cook.core.escapes import find_visible
from cook.shapes.formatter import Formatter
from cook.synthesis.pair_parser import LEFT_OUT_REASONS, THOUGHTS, PairParser, count_reasons

TEMPLATE = Recipe.pair_template
MARKERS = ("<QUE>", "<ANS>", "</END>")


def parsed(text, **settings):
    pairs, left_out = PairParser(TEMPLATE, **settings)(text)
    return pairs, [(each.piece, each.reason) for each in left_out]


def test_pairs_end_at_their_marker_and_are_stripped():
    text = "<QUE> Who lit it? <ANS> Ragnhild </END>\n\n<QUE>When?\n <ANS>\t1871 </END>"
    assert parsed(text) == ([("Who lit it?", "Ragnhild"), ("When?", "1871")], [])


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        ("<QUE> Who? Ada </END>", "no_answer_marker"),
        ("<QUE> Who? <ANS> Ada <ANS> Eva </END>", "several_answer_markers"),
        ("Who? <ANS> Ada </END>", "no_question_marker"),
        (" <CON> Another text. </CON>\n\n<QUE> Who? <ANS> Ada </END>", "no_question_marker"),
        ("<QUE> \u00a0 <ANS> Ada </END>", "blank_question"),
        ("<QUE> Who? <ANS> \n </END>", "blank_answer"),
        ("</END>", "no_question_marker"),
    ],
)
def test_a_piece_that_is_no_pair_is_left_out_and_those_around_it_are_kept(piece, reason):
    before, after = "<QUE> A? <ANS> a </END>", "<QUE> B? <ANS> b </END>"
    assert parsed(f"{before}\n\n{piece}\n\n{after}") == ([("A?", "a"), ("B?", "b")], [(1, reason)])


def test_what_follows_the_last_marker_is_unfinished():
    assert parsed("<QUE> A? <ANS> a </END>\n\n<QUE> B? <ANS> b") == ([("A?", "a")], [(1, "unfinished")])
    assert parsed("I see no question.") == ([], [(0, "unfinished")])
    assert parsed("<QUE> A? <ANS> a </END>\n") == ([("A?", "a")], [])
    assert parsed("") == ([], [])


def test_a_question_that_was_begun_anew_is_mended_as_published():
    assert parsed("<QUE> Who <QUE> Who lit it? <ANS> Ada </END>") == ([("Who  Who lit it?", "Ada")], [])


def test_an_exact_repeat_is_kept_once_and_a_question_in_another_case_if_not_told_otherwise():
    text = "<QUE> A? <ANS> a </END>\n\n<QUE> a? <ANS> b </END>\n\n<QUE> A? <ANS> a </END>"
    assert parsed(text) == ([("A?", "a"), ("a?", "b")], [(2, "repeat")])
    assert parsed(text, unique_questions=True) == ([("A?", "a")], [(1, "repeated_question"), (2, "repeat")])


def test_what_is_left_out_comes_with_its_text():
    _, left_out = PairParser(TEMPLATE)("<QUE> A? </END> <QUE> B")
    assert [(each.text, each.reason) for each in left_out] == [
        ("<QUE> A?", "no_answer_marker"),
        ("<QUE> B", "unfinished"),
    ]
    assert count_reasons(left_out) == {"no_answer_marker": 1, "unfinished": 1}
    assert set(count_reasons(left_out)) <= set(LEFT_OUT_REASONS)


def test_other_templates_are_parsed_by_their_own_markers():
    parse = PairParser("[Q]{question}[A]{answer}[.]", delimiter="\n###\n")
    text = Formatter(
        Recipe(datasets="x", tokenizer="x", pair_template="[Q]{question}[A]{answer}[.]", delimiter="\n###\n")
    ).output_text([("Who?", "Ada"), ("When?", "1871")])
    assert text == "[Q]Who?[A]Ada[.]\n###\n[Q]When?[A]1871[.]"
    assert parse(text) == ([("Who?", "Ada"), ("When?", "1871")], [])


@pytest.mark.parametrize(
    "template",
    [
        "{question} <ANS> {answer} </END>",
        "Q {question} {answer} .",
        "Q {question} A {answer}",
        "Q {answer} A {question} .",
    ],
)
def test_a_template_without_three_markers_cannot_be_parsed(template):
    with pytest.raises(RecipeError, match="pair_template: cannot be parsed back"):
        PairParser(template)


TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("<>/ \n{}QUEANSD"), min_size=1, max_size=20)
SIDE = TEXT.filter(lambda text: find_visible(text) and not any(marker in text for marker in MARKERS))


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=5).flatmap(lambda p: st.permutations(p + p[:1])))
def test_pairs_without_markers_come_back_from_their_formatted_text(pairs):
    text = Formatter(Recipe(datasets="x", tokenizer="x")).output_text(pairs)
    stripped = [(question.strip(), answer.strip()) for question, answer in pairs]
    found, left_out = PairParser(TEMPLATE)(text)
    assert found == list(dict.fromkeys(stripped))
    assert {each.reason for each in left_out} == {"repeat"}
    assert len(left_out) == len(pairs) - len(found)


ANYTHING = st.lists(st.sampled_from([*MARKERS, " ", "\n", "Who?", "Ada"]), max_size=20).map("".join)


@given(ANYTHING, st.booleans())
def test_every_piece_of_any_text_is_a_pair_or_left_out_for_a_reason(text, unique):
    pairs, left_out = PairParser(TEMPLATE, unique_questions=unique)(text)
    pieces = text.split("</END>")
    count = len(pieces) - (not pieces[-1].strip())
    assert len(pairs) + len(left_out) == count
    assert len(set(pairs)) == len(pairs)
    for question, answer in pairs:
        assert question == question.strip() != ""
        assert answer == answer.strip() != ""
        assert not re.search("<ANS>|</END>|<QUE>", question)


def test_a_thought_before_the_pairs_is_passed_over():
    thought = "<think>\nFirst <QUE> what </END> …\n</think>\n\n"
    pairs, left_out = PairParser("<QUE> {question} <ANS> {answer} </END>")(thought + "<QUE> Who? <ANS> Ada </END>")
    assert (pairs, left_out) == ([("Who?", "Ada")], [])
    pairs, left_out = PairParser("<QUE> {question} <ANS> {answer} </END>")(
        "<think> never ends <QUE> Who? <ANS> Ada </END>"
    )
    assert (pairs, [each.reason for each in left_out]) == ([], ["no_question_marker"])


@pytest.mark.parametrize(("begin", "end"), THOUGHTS)
def test_a_thought_that_the_prompt_opened_is_passed_over(begin, end):
    parse, pair = PairParser("<QUE> {question} <ANS> {answer} </END>"), "<QUE> Who? <ANS> Ada </END>"
    assert parse(f"{begin} First.{end}\n{pair}") == ([("Who?", "Ada")], [])
    for thought in ("First.", "", "As <QUE> Why? <ANS> So </END>, or <QUE> what", "\n<ANS> </END>"):
        assert parse(f"{thought}{end}\n\n{pair}") == ([("Who?", "Ada")], [])
    spoken = f"<QUE> What ends it? <ANS> It ends with {end} and {end}. </END>"
    assert parse(spoken + pair) == ([("What ends it?", f"It ends with {end} and {end}."), ("Who?", "Ada")], [])


def test_an_answer_of_what_shows_nothing_is_blank():
    pairs, left_out = PairParser("<QUE> {question} <ANS> {answer} </END>")("<QUE> Who? <ANS> \u200b </END>")
    assert (pairs, [each.reason for each in left_out]) == ([], ["blank_answer"])
