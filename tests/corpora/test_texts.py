"""The texts of a corpus: how pairs are read, what may be changed in them, what styles say, and how they are cut."""

from collections import Counter

import numpy as np
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import COLLECTION, needs_collection, write_shard
from cook import OutputError, OutputExists, Recipe, RecipeError, make_corpus, mix, read_cooked, read_styles, run
from cook.corpora.documents import PartInput, empty_part, read_documents
from cook.corpora.pair_parts import reason_to_keep_order, split_pair
from cook.corpora.recipe import CorpusRecipe
from cook.corpora.render import Passage, Renderer, SeededChoice, option_name
from cook.corpora.styles import MODES, Styles, bundled_path
from cook.pack.planner import cut_at_length, plan
from cook.read.lines import ByteRange, byte_ranges

OWN = read_styles()
THINK = "\nLet's think step by step."
SO = "\nTherefore, the answer is "


def options(*texts, question="Which?"):
    return question + "\nOptions:\n- " + "\n- ".join(texts)


# What a pair is.


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("Why?", "Because.", "plain"),
        (options("yes", "no"), "yes", "options"),
        ("Why?" + THINK, "It rains." + SO + "rain", "thought"),
        (options("yes", "no") + THINK, "It rains." + SO + "yes", "options_thought"),
        (options("yes"), "yes", "plain"),  # one option is no choice
        (options("yes", "no\nDo not guess."), "yes", "plain"),  # more than options
        ("\nOptions:\n- a\n- b", "a", "plain"),  # options of nothing
        (options("a", "b") + "\nOptions:\n- c\n- d", "a", "plain"),
        ("Why?" + THINK, "It rains.", "plain"),  # half of a chain of thought
        ("Why?", "It rains." + SO + "rain", "plain"),
        ("Why?" + THINK, "It" + SO + "a" + SO + "b", "plain"),
        ("Why?" + THINK, SO + "rain", "plain"),
        (THINK, "It rains." + SO + "rain", "plain"),
    ],
)
def test_the_kind_of_a_pair(question, answer, kind):
    assert split_pair((question, answer)).kind == kind


def test_the_parts_of_a_pair():
    parsed = split_pair((options("A)Rs. 216", "B) 3") + THINK, " First this.\nThen that." + SO + "B "))
    assert parsed.question == "Which?"
    assert parsed.options_text == "Options:\n- A)Rs. 216\n- B) 3"
    assert parsed.thought == " First this.\nThen that."
    assert parsed.answer == "B "
    assert parsed.options == (("Rs. 216", "3"), ("A", "B"), 1, "3")


@pytest.mark.parametrize(
    ("texts", "answer", "right"),
    [
        (("yes", "no"), "no", 1),
        (("yes", "no"), " No. ", 1),
        (("yes", "no"), "no way", None),
        (("yes", "no"), "B", None),  # a name that no option has
        (("yes", "no"), "(b)", None),
        (("A) x", "B) y"), "B", 1),
        (("A) x", "B) y"), "(B)", 1),
        (("A) x", "B) y"), "B) y", 1),
        (("A) x", "B) y"), "y", 1),
        (("A) x", "B) y"), "C", None),
        (("A) x", "C) y"), "C", None),  # names that are none: there is no B
        (("A) B", "B) A"), "B", None),  # one by its name, the other by its text
        (("A) B", "B) x"), "B) x", 1),
        (("1) 2", "2) 1"), "2", None),
        (("1. two", "2. one"), "2", 1),
        (("1.5", "2.5"), "2", None),  # numbers, not names
        (("1.5", "2.5"), "2.5", 1),
        (("No", "no"), "NO", None),
        (("No", "no"), "no", 1),
        (("same", "same"), "same", None),
    ],
)
def test_the_option_that_an_answer_is(texts, answer, right):
    assert split_pair((options(*texts), answer)).options.answer_index == right


@pytest.mark.parametrize(
    ("context", "question", "texts", "answer", "why"),
    [
        ("The sky.", "Which?", ("red", "blue"), "blue", None),
        ("The sky.", "Which?", ("A) red", "B) blue"), "B", None),
        ("The sky.", "Which?", ("red", "blue"), "green", "answer_not_certain"),
        ("The sky.", "Which?", ("red", "RED.", "blue"), "blue", "too_many_or_alike"),
        ("The sky.", "Which?", tuple("abcdefghijklmnopqrstu"), "b", "too_many_or_alike"),
        ("The sky.", "Which?", ("red", "none of the above"), "red", "places_referred_to"),
        ("The sky.", "Which?", ("red", "both"), "red", "places_referred_to"),
        ("The sky.", "Which?", ("red", "the first two"), "red", "places_referred_to"),
        ("So it is B.", "Which?", ("A) red", "B) blue"), "B", "names_referred_to"),
        ("so it is b.", "Which?", ("A) red", "B) blue"), "B", "names_referred_to"),
        ("A bird is in a tree.", "Which?", ("A) red", "B) blue"), "B", "names_referred_to"),  # who can say
        ("Trees a lot.", "Which?", ("A) red", "B) blue"), "B", None),
        ("x", "Which, a) or b)?", ("A) red", "B) blue"), "B", "names_referred_to"),
        ("x", "Which?", ("A) red", "B) not A"), "B", "names_referred_to"),
        ("The answer is B.", "Which?", ("red", "blue"), "blue", "names_referred_to"),
        ("Correct option: 2", "Which?", ("red", "blue"), "blue", "names_referred_to"),
        ("So the second option.", "Which?", ("red", "blue"), "blue", "names_referred_to"),
        ("x", "Which?", ("(a)", "red"), "red", "names_referred_to"),
    ],
)
def test_when_options_stay_as_they_are(context, question, texts, answer, why):
    assert reason_to_keep_order(split_pair((options(*texts, question=question), answer)), context) == why


def test_a_chain_of_thought_may_speak_of_options_too():
    for thought, why in (
        ("It is blue.", None),
        ("Option B is.", "places_referred_to"),
        ("So (B).", "names_referred_to"),
    ):
        assert (
            reason_to_keep_order(split_pair((options("red", "blue") + THINK, thought + SO + "blue")), "The sky.") == why
        )


def test_names_of_options():
    assert [option_name(style, 3) for style in ("({A})", "{a})", "{1}.", "{i}", "-")] == [
        ("(D)", "D"),
        ("d)", "d"),
        ("4.", "4"),
        ("iv", "iv"),
        ("-", ""),
    ]


# Texts, read off the page.


def single(**changes):
    """Styles with one choice in each list: what they make can be read here."""
    data = {
        "contexts": {"before": ["{context}\n\n{pairs}"], "after": ["{pairs}\n\nOf: {context}"]},
        "pairs": {
            "plain": [pair_style("Q: ", "{question}", "A: ", "{answer}")],
            "options": [pair_style("Q: ", "{question}\n{options}", "A: ", "{answer}")],
            "thought": [pair_style("Q: ", "{question}", "A: ", "{thought} So {answer}")],
            "options_thought": [pair_style("Q: ", "{question}\n{options}", "A: ", "{thought} So {answer}")],
        },
        "options": {"starts": ["Of:\n"], "names": ["({A})"], "separators": ["\n"], "answers": ["{sign}"]},
        "modes": {
            "classic": [{"between": "\n\n"}],
            "dialogue": [{"asks": "I: ", "replies": "U: ", "between": "\n", "turns": "\n--\n"}],
            "numbered": [{"text": "{questions}\n\n{answers}", "number": "{n}) ", "between": "\n"}],
            "few_shot": [
                {"example": "{question} -> {answer}", "between": "\n", "test": "Now {question} -> {answer}"},
            ],
            "next_turn": [{"asks": "I: ", "replies": "U: ", "between": "\n", "turns": "\n--\n", "next": "\n>>\n"}],
        },
        "chains": ["\n\n====\n\n"],
        "weights": {"one": {"classic": 1}, "several": {"classic": 1}, "after": 0},
    }
    return Styles({**data, **changes})


def pair_style(asks, question, replies, answer):
    return {"asks": asks, "question": question, "between": "\n", "replies": replies, "answer": answer}


def weights(one="classic", several="classic", after=0):
    return {"one": {one: 1}, "several": {several: 1}, "after": after}


TWO = [Passage("It rains.", [("Why?", "A cloud."), ("How {question}?", "{answer} {context}")])]


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("classic", "It rains.\n\nQ: Why?\nA: A cloud.\n\nQ: How {question}?\nA: {answer} {context}"),
        ("dialogue", "It rains.\n\nI: Why?\nU: A cloud.\n--\nI: How {question}?\nU: {answer} {context}"),
        ("numbered", "It rains.\n\n1) Why?\n2) How {question}?\n\n1) A cloud.\n2) {answer} {context}"),
        ("few_shot", "It rains.\n\nWhy? -> A cloud.\nNow How {question}? -> {answer} {context}"),
        ("next_turn", "It rains.\n\nI: Why?\nU: A cloud.\n>>\nI: How {question}?\nU: {answer} {context}"),
    ],
)
def test_the_five_modes(mode, text):
    assert Renderer(single(weights=weights(several=mode)), 0).render(TWO).text == text


def test_the_context_after_the_pairs():
    made = Renderer(single(weights=weights(after=100)), 0).render(TWO)
    assert made.text == "Q: Why?\nA: A cloud.\n\nQ: How {question}?\nA: {answer} {context}\n\nOf: It rains."
    assert made.context_after


def test_a_chain_is_one_text_in_one_mode():
    one = Passage("Wind.", [("What?", "Air.")])
    made = Renderer(single(weights=weights(one="dialogue")), 0).render([*TWO, one])
    assert made.mode == "dialogue", "one of the two has one pair"
    assert made.text.endswith("{answer} {context}\n\n====\n\nWind.\n\nI: What?\nU: Air.")
    assert Renderer(single(weights=weights(several="numbered")), 0).render([*TWO, *TWO]).text.count("2) ") == 4


def test_a_context_alone_and_pairs_alone():
    renderer = Renderer(single(), 0)
    assert renderer.render([Passage(" Wind.\n", [])])[:3] == (" Wind.\n", "context", False)
    assert renderer.render([Passage(" ", [("What?", "Air.")])]).text == "Q: What?\nA: Air."


def test_a_chain_of_thought():
    made = Renderer(single(), 0).render([Passage("x", [("Why?" + THINK, "It rains." + SO + "rain")])])
    assert made.text == "x\n\nQ: Why?\nA: It rains. So rain"
    assert made.kinds == {"thought": 1}


def test_options_that_stay_are_written_as_they_were():
    made = Renderer(single(), 0).render([Passage("So B.", [(options("A)red", "B)blue"), "B")])])
    assert made.text == "So B.\n\nQ: Which?\nOptions:\n- A)red\n- B)blue\nA: B"
    assert made.options == {"names_referred_to": 1}


def test_a_name_without_a_sign_takes_an_answer_of_the_text_alone():
    styles = {"starts": [""], "names": ["-"], "separators": [" "], "answers": ["{sign}", "{name}: {text}", "{text}"]}
    for seed in range(8):
        made = Renderer(single(options=styles), seed).render([Passage("x", [(options("red", "blue"), "red")])])
        assert made.text.endswith("\nA: red")


WORD = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=8).filter(str.strip)


@given(st.lists(WORD, min_size=2, max_size=6), st.data())
def test_an_answer_names_the_right_option_whatever_names_and_order(texts, data):
    right = data.draw(st.integers(0, len(texts) - 1))
    named = data.draw(st.booleans())
    lines = [f"{chr(65 + index)}) {text}" for index, text in enumerate(texts)] if named else texts
    answer = data.draw(st.sampled_from([texts[right], lines[right], *([chr(65 + right)] if named else [])]))
    made = Renderer(single(), data.draw(st.integers(0, 99))).render([Passage("x", [(options(*lines), answer)])])
    listed, _, told = made.text.partition("Of:\n")[2].rpartition("\nA: ")
    if not made.options["varied"]:
        assert made.text == f"x\n\nQ: {options(*lines)}\nA: {answer}"
        return
    found = dict(line.split(" ", 1) for line in listed.split("\n"))
    assert sorted(found.values()) == sorted(texts if not named else [line[3:].lstrip() for line in lines])
    assert found[f"({told})"].strip() == texts[right].strip()


def test_names_and_order_do_vary():
    """The property above would hold of options that always stay."""
    seen = {
        Renderer(OWN, 0).render([Passage(f"Sky {n}.", [(options("red", "blue", "green"), "blue")])]).text
        for n in range(100)
    }
    assert len({text.index("red") < text.index("green") for text in seen}) == 2
    assert any("(A) " in text for text in seen)
    assert any("\n- " in text for text in seen)


# Every pair is in its text.


def found_in(text, context, pairs):
    """What should stand in a text of the classic mode and does not."""
    missing = [] if context in text else [context]
    for pair in pairs:
        parsed = split_pair(pair)
        pieces = [parsed.question]
        if parsed.thought is not None:
            pieces.append(parsed.thought)
        if parsed.options is None or reason_to_keep_order(parsed, context):
            pieces += [parsed.answer, parsed.options_text]
        else:
            pieces += parsed.options.texts
        missing += [piece for piece in pieces if piece not in text]
    return missing


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
SIDE = TEXTS.filter(str.strip)
A_PAIR = st.one_of(
    st.tuples(SIDE, SIDE),
    st.builds(
        lambda texts, question, thought, which: (
            options(*texts, question=question) + (THINK if thought else ""),
            (thought + SO if thought else "") + texts[which % len(texts)],
        ),
        st.lists(WORD, min_size=2, max_size=5),
        SIDE,
        st.one_of(st.just(""), SIDE),
        st.integers(0, 4),
    ),
)


@given(TEXTS.filter(str.strip), st.lists(A_PAIR, min_size=1, max_size=4), st.integers(0, 2**64 - 1))
def test_every_pair_is_in_its_classic_text(context, pairs, seed):
    made = Renderer(Styles({**OWN.data, "weights": weights()}), seed).render([Passage(context, pairs)])
    assert found_in(made.text, context, pairs) == []
    assert sum(made.kinds.values()) == len(pairs)


@needs_collection
@pytest.mark.parametrize("name", ["squad", "QED", "PubMedQA_no_opt", "AQUA_RAT_yes_opt", "WikiTableQuestions"])
def test_every_real_pair_is_in_its_classic_text(name):
    renderer = Renderer(OWN, 0)
    classic = 0
    for path in sorted((COLLECTION / name / "shard").iterdir())[:1]:
        for line in path.read_bytes().splitlines()[:300]:
            row = orjson.loads(line)
            pairs = [(pair["Q"], pair["A"]) for pair in row["QA_list"]]
            made = renderer.render([Passage(row["context"], pairs)])
            if made.mode == "classic":
                classic += 1
                assert found_in(made.text, row["context"], pairs) == []
    assert classic > 25


# Frequencies, and what a text depends on.


@pytest.mark.parametrize("pairs", [1, 3])
def test_modes_come_as_often_as_their_weights_say(pairs):
    renderer, count = Renderer(single(weights=OWN.data["weights"]), 0), 10_000
    made = [renderer.render([Passage(f"Entry {n}.", [("Q?", "A.")] * pairs)]) for n in range(count)]
    modes = Counter(text.mode for text in made)
    expected = OWN.data["weights"]["one" if pairs == 1 else "several"]
    assert set(modes) == set(expected)
    for mode, weight in expected.items():
        assert modes[mode] / count == pytest.approx(weight / 100, abs=0.01), mode
    assert sum(text.context_after for text in made) / count == pytest.approx(0.05, abs=0.01)


def test_weights_are_parts_of_their_sum():
    renderer = Renderer(single(weights={"one": {"classic": 2, "dialogue": 1}, "several": {}, "after": 0.5}), 0)
    made = [renderer.render([Passage(f"Entry {n}.", [("Q?", "A.")])]) for n in range(2000)]
    assert sum(text.mode == "dialogue" for text in made) / 2000 == pytest.approx(1 / 3, abs=0.04)
    assert 0 < sum(text.context_after for text in made) < 30


def test_the_published_weights():
    assert OWN.data["weights"] == {
        "one": {"classic": 95, "dialogue": 5},
        "several": dict.fromkeys(MODES, 5) | {"classic": 80},
        "after": 5,
    }


def test_every_style_of_a_list_is_drawn():
    renderer = Renderer(OWN, 0)
    texts = [renderer.render([Passage(f"Entry {n}.", [("Q?", "A.")])]).text for n in range(600)]
    for style in OWN.data["pairs"]["plain"]:
        asked = f"{style['asks']}Q?{style['between']}{style['replies']}A."
        assert any(asked in text for text in texts), style


def test_a_text_is_its_seed_s_and_its_entry_s():
    rendered = [Renderer(OWN, seed).render(TWO).text for seed in range(30)]
    assert rendered == [Renderer(OWN, seed).render(list(TWO)).text for seed in range(30)]
    assert len(set(rendered)) > 15


def test_draws_are_pinned():
    """What a seed gives is what it gave: another way to draw would change every corpus that was made."""
    draw = SeededChoice(0, [Passage("It rains.", [("Why?", "A cloud.")])])
    assert draw.hash_number("mode") == NUMBER
    assert SeededChoice(1, [Passage("It rains.", [("Why?", "A cloud.")])]).hash_number("mode") != NUMBER


NUMBER = 10784566744114754798


# Styles of one's own.


def test_the_bundled_styles_are_right(tmp_path):
    """They pass their own check, and there are as many as the page says."""
    copy = tmp_path / "styles.yaml"
    copy.write_bytes(bundled_path().read_bytes())
    assert read_styles(copy) == OWN
    counts = {kind: len(styles) for kind, styles in OWN.data["pairs"].items()}
    assert counts["plain"] >= 12
    assert min(counts.values()) >= 3
    assert min(len(styles) for styles in OWN.data["modes"].values()) >= 3


def test_a_file_replaces_or_extends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("chains: ['|']\nmodes: {classic: [{between: '/'}]}\nweights: {after: 0}\n")
    mine = read_styles(path)
    assert mine.data["chains"] == ["|"]
    assert mine.data["modes"]["classic"] == [{"between": "/"}]
    assert mine.data["modes"]["dialogue"] == OWN.data["modes"]["dialogue"]
    assert mine.data["weights"] == OWN.data["weights"] | {"after": 0}
    path.write_text("extend: true\nchains: ['|']\nmodes: {classic: [{between: '/'}]}\n")
    more = read_styles(path)
    assert more.data["chains"] == [*OWN.data["chains"], "|"]
    assert more.data["modes"]["classic"] == [*OWN.data["modes"]["classic"], {"between": "/"}]
    assert len({OWN.sha256, mine.sha256, more.sha256}) == 3
    path.write_text("")
    assert read_styles(path) == OWN


WRONG = """\
extend: perhaps
colour: red
contexts:
  before:
    - "{pairs} {context}"
    - "{context}"
    - 7
  beside: []
pairs:
  plain:
    - {asks: "{question}", question: "{question}", between: "", replies: "", answer: "{anwser}"}
    - {asks: "", question: "{question} {question}", answer: "{answer}"}
    - text
  thought: {}
options:
  names: ["{A}{1}", "{b}"]
  answers: ["It is this."]
chains: []
modes: dialogue
weights:
  one: {numbered: 5}
  several: {classic: 0, dialog: 5}
  after: 101
"""
TOLD = """\
2: colour: is not known: contexts, pairs, options, modes, chains, weights, extend
1: extend: must be true or false (it is 'perhaps')
8: contexts.beside: is not known: before, after
5: contexts.before[0]: must hold {context}, {pairs} in this order
6: contexts.before[1]: lacks {pairs}
7: contexts.before[2]: must be text, not a number; quote it
11: pairs.plain[0].asks: holds {question}, which is nothing here; it is text alone
11: pairs.plain[0].answer: holds {anwser}, which is nothing here; it may hold {answer}
11: pairs.plain[0].answer: lacks {answer}
12: pairs.plain[1]: lacks between
12: pairs.plain[1]: lacks replies
12: pairs.plain[1].question: holds {question} 2 times; once is meant
13: pairs.plain[2]: must be a mapping of asks, between, replies, question, answer, not text
14: pairs.thought: must be a list of one style or more, not a mapping
16: options.names[0]: must hold one of {A}, {a}, {1}, {i}, or none
16: options.names[1]: holds {b}, which is nothing here; it may hold {A}, {a}, {1}, {i}
17: options.answers[0]: must hold one of {text}, {name}, {sign}
19: modes: must be a mapping of classic, dialogue, numbered, few_shot, next_turn, not text
18: chains: must be a list of one style or more, not an empty one
21: weights.one.numbered: needs two pairs or more, and stands under several
22: weights.several.dialog: is not known; did you mean dialogue?
23: weights.after: must be a number from 0 to 100, in a hundred (it is 101)
"""


def test_all_that_is_wrong_is_told_at_its_place(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(WRONG)
    with pytest.raises(RecipeError) as told:
        read_styles(path)
    assert sorted(str(told.value).splitlines()) == sorted(f"{path}:{line}" for line in TOLD.splitlines())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "mine.yaml:1: must be a mapping of contexts, pairs"),
        ("weights: {one: {classic: 0}}", "mine.yaml:1: weights.one: must give a weight above 0 to one mode"),
        ("weights: {one: {classic: 0.5}}", "weights.one.classic: must be a whole number"),
        ("options: {answers: ['{sign}']}", "options.names: '-' has no sign"),
        ("chains: [{a: 1}]", "chains[0]: must be text, not a mapping"),
        ('chains: ["\\ud800"]', "mine.yaml"),
        ("chains: [*a]", "is not YAML"),
        ("a: [", "is not YAML"),
    ],
)
def test_wrong_styles(tmp_path, text, told):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError) as error:
        read_styles(tmp_path / "mine.yaml")
    assert told in str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda of: (
            st.lists(of, max_size=3)
            | st.dictionaries(
                st.sampled_from([*OWN.data, *OWN.data["pairs"], *MODES, "one", "after", "asks"]), of, max_size=4
            )
        ),
    )
)
def test_any_styles_are_taken_or_refused(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("styles") / "mine.yaml"
    path.write_text(yaml.safe_dump(value))
    try:
        made = read_styles(path)
    except RecipeError as error:
        assert str(path) in str(error)  # noqa: PT017 - either will do
    else:
        assert Renderer(made, 0).render(TWO).text


# Chains over the parts of a shard.


def row(number, pairs=1, **flags):
    return {"context": f"Entry {number}.", "QA_list": [{"Q": f"Q{number}?", "A": "A."}] * pairs, **flags}


CHAIN = {"inherit_from_prev": True}
ROWS = st.lists(
    st.sampled_from([{}, {}, CHAIN, CHAIN, CHAIN, {"followed_by_next": False}, {**CHAIN, "followed_by_next": False},
                     {**CHAIN, "followed_by_next": True}, "bad", "empty", "empty chain", "", {"inherit_from_prev": 1}]),
    min_size=1, max_size=12,
)  # fmt: skip


def line(number, kind):
    if kind == "bad":
        return b'{"context": 1}'
    if kind == "":
        return b""
    if isinstance(kind, str):
        return orjson.dumps({"context": " ", "QA_list": [], **(CHAIN if "chain" in kind else {})})
    return orjson.dumps(row(number, **kind))


def all_documents(path, parts):
    """What the parts of a shard give together, with lines counted from its start."""
    recipe = CorpusRecipe(source="x", output="y", on_error="skip")
    found, skipped, bad, told, entries, base = [], [], [], Counter(), 0, 0
    for part in parts:
        result = empty_part()
        found += [(base + text.line, text.passages) for text in read_documents(PartInput(recipe, part, None), result)]
        skipped += [(base + line, *rest) for line, *rest in result.skipped.tolist()]
        bad += [(base + line, what) for line, what in result.bad]
        told += result.extra
        entries += result.entries
        base += result.lines
    return found, sorted(skipped), sorted(bad), told, entries, base


@given(ROWS, st.lists(st.integers(1, 2000), max_size=4))
def test_chains_are_the_same_however_a_shard_is_cut(tmp_path_factory, kinds, cuts):
    path = write_shard(tmp_path_factory.mktemp("cut"), "x", [line(n, kind) for n, kind in enumerate(kinds)])
    size = path.stat().st_size
    edges = sorted({0, *(cut for cut in cuts if cut < size)})
    parts = [ByteRange(str(path), start, end) for start, end in zip(edges, [*edges[1:], size], strict=True)]
    whole = all_documents(path, [ByteRange(str(path), 0, size)])
    assert all_documents(path, parts) == whole
    texts = [passage.context for _, passages in whole[0] for passage in passages]
    assert texts == sorted(texts, key=lambda text: int(text[6:-1])), "an entry is lost, moved or there twice"
    assert len(texts) + len({number for number, *_ in whole[1]}) == whole[4]


def test_a_chain_goes_on_until_an_entry_begins_anew(tmp_path):
    rows = [row(0, followed_by_next=True), row(1, **CHAIN), row(2, **CHAIN, followed_by_next=False), row(3), row(4)]
    path = write_shard(tmp_path, "x", rows)
    found, *_ = all_documents(path, byte_ranges(path, path.stat().st_size))
    assert [(line, [passage.context for passage in passages]) for line, passages in found] == [
        (1, ["Entry 0.", "Entry 1.", "Entry 2."]),
        (4, ["Entry 3."]),
        (5, ["Entry 4."]),
    ]


def test_contradictions_of_a_chain_are_bad_lines(tmp_path):
    rows = [row(0, **CHAIN), row(1, followed_by_next=False), row(2, **CHAIN), row(3, followed_by_next="yes")]
    path = write_shard(tmp_path, "x", rows)
    result = empty_part()
    list(read_documents(PartInput(CorpusRecipe(source="x", output="y"), ByteRange(str(path), 0, None), None), result))
    assert [str(problem).removeprefix(f"{path}:") for problem in result.problems] == [
        "1: inherit_from_prev: is true on the first line of a shard, which has none before it",
        "3: inherit_from_prev: is true, but followed_by_next is false on the line before",
        "4: followed_by_next: must be true or false",
    ]


# Cutting.

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(LENGTHS, st.integers(2, 17))
def test_wrapping_loses_no_token_and_keeps_order(lengths, most):
    stream = [(text, token) for text, length in enumerate(lengths) for token in range(length)]
    pieces = cut_at_length(np.array(lengths), most, 0)
    planned = plan(pieces.length, most, "wrap")
    rows = [
        [
            (int(pieces.text[i]), int(pieces.begin[i]) + token)
            for i in planned.order[a:b]
            for token in range(pieces.length[i])
        ]
        for a, b in zip(planned.starts[:-1], planned.starts[1:], strict=True)
    ]
    assert rows == [stream[at : at + most] for at in range(0, len(stream), most)]


@given(LENGTHS, st.integers(2, 17), st.integers(1, 30))
def test_wrapping_in_portions_is_wrapping(lengths, most, portion):
    at, found = 0, []
    for begin in range(0, len(lengths), portion):
        some = np.array(lengths[begin : begin + portion])
        pieces = cut_at_length(some, most, at)
        found += zip((pieces.text + begin).tolist(), pieces.begin.tolist(), pieces.length.tolist(), strict=True)
        at += int(some.sum())
    whole = cut_at_length(np.array(lengths), most, 0)
    assert found == list(zip(*(part.tolist() for part in whole), strict=True))


@given(LENGTHS, st.integers(2, 17))
def test_other_packings_cut_only_what_is_too_long(lengths, most):
    pieces = cut_at_length(np.array(lengths), most)
    expected = [
        (text, at, min(most, length - at)) for text, length in enumerate(lengths) for at in range(0, length, most)
    ]
    assert list(zip(*(part.tolist() for part in pieces), strict=True)) == expected


def test_corpora_and_cooked_datasets_do_not_share_a_root(tmp_path):
    common = {"datasets": "squad", "source": "sample"}
    run(Recipe(**common, tokenizer="llama3", output=tmp_path / "cooked", cache="none"))
    make_corpus(CorpusRecipe(**common, output=str(tmp_path / "texts")))
    for tokenizer in ("none", "llama3"):
        with pytest.raises(OutputExists, match="cooked: holds cooked datasets"):
            make_corpus(CorpusRecipe(**common, tokenizer=tokenizer, output=str(tmp_path / "cooked"), cache="none"))
    with pytest.raises(OutputExists, match="texts: holds corpora"):
        run(Recipe(**common, tokenizer="llama3", output=tmp_path / "texts", cache="none"))


def test_nothing_is_made_in_a_result(tmp_path):
    make_corpus(CorpusRecipe(datasets="squad", source="sample", tokenizer="llama3", output=str(tmp_path), cache="none"))
    with pytest.raises(OutputError, match=r"squad/race: lies in .*squad, a result that holds nothing else"):
        make_corpus(CorpusRecipe(datasets="race", source="sample", output=str(tmp_path / "squad")))
    with pytest.raises(OutputError, match=rf"name one of them: {tmp_path}/squad$"):
        read_cooked(tmp_path)
    with pytest.raises(OutputExists, match="is a folder of several results"):
        mix(tmp_path, tmp_path)
