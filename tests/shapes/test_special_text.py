"""Special strings and markers are found in an entry however its JSON is written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cook.read.lines import Line
from cook.shapes.context_qa import parse_entry
from cook.shapes.special_text import SpecialTextCounter

MARKERS = ("<CON>", "</END>", '"Q:"', "a\\b", "\tx")
SPECIALS = ("<|eot_id|>", "<｜end｜>", "🙂", "[/INST]")

pieces = st.lists(
    st.sampled_from([*MARKERS, *SPECIALS, "<", "/", "｜", "\\", '"', "u003c", "\n", "é", "word "]), max_size=4
)
texts = pieces.map("".join)


@st.composite
def spelt(draw: st.DrawFn, text: str) -> str:
    """A JSON string of a text, in which any letter may be written in any of the ways that JSON has for it."""

    def letter(one: str) -> str:
        units = one.encode("utf-16-be")
        numbers = ["\\u" + units[at : at + 2].hex() for at in range(0, len(units), 2)]
        ways = [json.dumps(one, ensure_ascii=False)[1:-1], "".join(numbers)]
        ways += ["".join(number[:2] + number[2:].upper() for number in numbers)]
        ways += ["\\/"] if one == "/" else []
        return draw(st.sampled_from(ways))

    return '"' + "".join(map(letter, text)) + '"'


@given(st.data(), texts, texts, texts)
def test_every_spelling_of_an_entry_is_counted_alike(
    data: st.DataObject, context: str, question: str, answer: str
) -> None:
    context_json, question_json, answer_json = (data.draw(spelt(text)) for text in (context, question, answer))
    line = f'{{"context": {context_json}, "QA_list": [{{"Q": {question_json}, "A": {answer_json}}}]}}'.encode()
    entry = parse_entry("", Line(1, 0, line))
    assert not isinstance(entry, list)

    marks = SpecialTextCounter(MARKERS, SPECIALS)
    marks.count(entry.texts)

    sides = [context, question, answer] if question.strip() and answer.strip() else [context]
    found = {string for string in (*MARKERS, *SPECIALS) if any(string in side for side in sides)}
    assert {marker for marker, count in marks.marker_counts.items() if count} == found & set(MARKERS)
    assert marks.special_count == bool(found & set(SPECIALS))
