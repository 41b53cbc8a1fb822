"""Formatting: one pass over each template, nothing stripped."""

from hypothesis import given
from hypothesis import strategies as st

from cook.core.recipe import Recipe
from cook.core.templates import compile_template
from cook.shapes.formatter import Formatter

TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["{context}", "{question}", "{answer}", "{0}", "}{"]
)


def formatter(**settings: str) -> Formatter:
    return Formatter(Recipe(datasets="squad", tokenizer="llama3", **settings))


def test_the_published_templates():
    fmt = formatter()
    assert fmt.input_text("A mill.") == " <CON> A mill. </CON>\n\n"
    assert fmt.output_text([("What?", "A mill"), ("Why?", "Wind")]) == (
        "<QUE> What? <ANS> A mill </END>\n\n<QUE> Why? <ANS> Wind </END>"
    )


def test_placeholders_inside_content_stay_as_written():
    fmt = formatter()
    assert fmt.input_text("{context} {question}") == " <CON> {context} {question} </CON>\n\n"
    assert fmt.output_text([("{answer}", "{question}")]) == "<QUE> {answer} <ANS> {question} </END>"


def test_nothing_is_stripped():
    assert formatter().input_text("  x \n") == " <CON>   x \n </CON>\n\n"


def test_templates_may_turn_repeat_and_hold_braces():
    fmt = formatter(
        pair_template="{{A}}: {answer} {answer} ({question}) {x}", context_template="{context}|{context}", delimiter=""
    )
    assert fmt.output_text([("q", "a")]) == "{{A}}: a a (q) {x}"
    assert fmt.input_text("c") == "c|c"


@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_one_pass_whatever_the_texts_hold(before, between, after, question, answer):
    for text in (before, between, after):
        if "{question}" in text or "{answer}" in text:
            return
    # A placeholder must not arise at a border of template and content either, so the borders are fixed letters.
    template = f"{before}.{{question}}.{between}.{{answer}}.{after}"
    compiled = compile_template(template, ("question", "answer"))
    assert compiled.format(question, answer) == f"{before}.{question}.{between}.{answer}.{after}"
