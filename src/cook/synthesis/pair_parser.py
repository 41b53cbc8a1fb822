"""What a synthesizer wrote -> its pairs. Pure; the way back from `shapes.context_qa`.

    <QUE> {question} <ANS> {answer} </END>

A piece of text that ends in the last marker is a pair if it begins with the first, holds the middle one once, and has
text on both sides of it. Questions and answers are stripped of the white space around them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from cook.core.errors import RecipeError
from cook.core.escapes import find_visible
from cook.shapes.formatter import Pair, split_pair_template

# Why a piece is no pair, or why a pair is left out.
UNFINISHED = "unfinished"
NO_QUESTION_MARKER = "no_question_marker"
NO_ANSWER_MARKER = "no_answer_marker"
SEVERAL_ANSWER_MARKERS = "several_answer_markers"
BLANK_QUESTION = "blank_question"
BLANK_ANSWER = "blank_answer"
REPEAT = "repeat"
REPEATED_QUESTION = "repeated_question"
LEFT_OUT_REASONS = (
    UNFINISHED, NO_QUESTION_MARKER, NO_ANSWER_MARKER, SEVERAL_ANSWER_MARKERS, BLANK_QUESTION, BLANK_ANSWER, REPEAT,
    REPEATED_QUESTION,
)  # fmt: skip

# How models begin and end what they think before they answer.
THOUGHTS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning", "seed:think")),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)


class LeftOut(NamedTuple):
    """A piece of a text that gave no pair."""

    piece: int  # its place among the text's pieces, from 0
    reason: str
    text: str


class PairParser:
    """The markers of a pair template, and which pairs are kept.

    Raises RecipeError for a template that has no text before, between or after question and answer, in this order.
    """

    def __init__(self, pair_template: str, delimiter: str = "\n\n", unique_questions: bool = False) -> None:
        marks = [part.strip() for part in split_pair_template(pair_template) or ("",)]
        if not all(marks):
            raise RecipeError(
                "pair_template: cannot be parsed back: it must have text before the question, between question and "
                f"answer, and after the answer (it is {pair_template!r})"
            )
        self._question, self._answer, self._end = marks
        self._delimiter = delimiter.strip()
        self._unique = unique_questions
        self._thinking_pattern = _thought(self._question)

    def __call__(self, text: str) -> tuple[list[Pair], list[LeftOut]]:
        r"""The pairs of a text, in order, and what was left out, in order.

        >>> parse = PairParser("<QUE> {question} <ANS> {answer} </END>")
        >>> parse("<QUE> Who? <ANS> Ada </END>\n\n<QUE> When? <ANS> 18")
        ([('Who?', 'Ada')], [LeftOut(piece=1, reason='unfinished', text='<QUE> When? <ANS> 18')])
        """
        text = self._thinking_pattern.sub("", text, count=1)
        pairs: dict[Pair, None] = {}
        questions = set()
        left_out = []
        for piece, found in enumerate(self._pieces(text)):
            reason = found if isinstance(found, str) else None
            if isinstance(found, tuple):
                question = found[0].lower()
                if found in pairs:
                    reason = REPEAT
                elif self._unique and question in questions:
                    reason = REPEATED_QUESTION
                else:
                    pairs[found] = None
                    questions.add(question)
            if reason:
                left_out.append(LeftOut(piece, reason, self._text_of(text, piece)))
        return list(pairs), left_out

    def _pieces(self, text: str) -> Iterator[Pair | str]:
        """For each piece its pair, or the reason that it is none."""
        *pieces, unfinished = text.split(self._end)
        for piece in pieces:
            yield self._pair(piece.strip())
        if unfinished.strip():
            yield UNFINISHED

    def _pair(self, piece: str) -> Pair | str:
        if self._delimiter:
            piece = piece.removeprefix(self._delimiter).lstrip()
        if not piece.startswith(self._question):
            return NO_QUESTION_MARKER
        sides = piece.split(self._answer)
        if len(sides) != 2:
            return SEVERAL_ANSWER_MARKERS if len(sides) > 2 else NO_ANSWER_MARKER
        # A second marker within the question goes, as in the published procedure: the model began it anew.
        question, answer = sides[0].replace(self._question, "").strip(), sides[1].strip()
        if not find_visible(question):
            return BLANK_QUESTION
        return (question, answer) if find_visible(answer) else BLANK_ANSWER

    def _text_of(self, text: str, piece: int) -> str:
        return text.split(self._end)[piece].strip()


def _thought(question: str) -> re.Pattern[str]:
    """What a model that thinks puts before its answer; what it does not end holds no pair.

    Where the prompt opened the thought, it ends before a question, or before any question was begun: an answer may
    speak of such marks.
    """
    ends, begun = "|".join(re.escape(end) for _, end in THOUGHTS), re.escape(question)
    whole = "|".join(f"{re.escape(begin)}.*?{re.escape(end)}" for begin, end in THOUGHTS)
    opened = rf"(?:(?!{begun}).)*?(?:{ends})|.*?(?:{ends})(?=\s*{begun})"
    return re.compile(rf"\A(?:\s*(?:{whole})|{opened})", re.DOTALL)


def count_reasons(left_out: list[LeftOut]) -> Counter[str]:
    """How many were left out for each reason."""
    return Counter(each.reason for each in left_out)
