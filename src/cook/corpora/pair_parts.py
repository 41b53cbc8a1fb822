r"""A pair -> its kind and its parts. Pure; no part is stripped or changed.

    options   a question that ends in "\nOptions:\n- a\n- b": two one-line options or more
    thought   a question that ends in "\nLet's think step by step." and an answer with one "\nTherefore, the answer is "

A pair may be both, or neither, which is `plain`. These strings are those that the published collection writes.

Options get other names and another order only where nothing can come to mean another thing by it.
`reason_to_keep_order` says why not: the answer is none of the options or more than one of them, or some text speaks of
an option by its name or place. It would rather leave a hundred as they are than have one answer point at the wrong
option.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from cook.shapes.formatter import Pair

OPTIONS_START = "\nOptions:\n- "
OPTION_SEPARATOR = "\n- "
THINK_PROMPT = "\nLet's think step by step."
THEREFORE = "\nTherefore, the answer is "
MAX_OPTIONS = 20  # as many as have a name in every style


class Options(NamedTuple):
    """The options of a question."""

    texts: tuple[str, ...]
    """Without the names of their own that they may have."""
    names: tuple[str, ...]
    """Their own names, as A or 1; () if they have none."""
    answer_index: int | None
    """The index of the option that the answer is; None if that is not certain."""
    answer: str
    """The answer's words for it: the option's text, or the answer as it is where it differs from that in case alone."""


class PairParts(NamedTuple):
    """A pair's parts."""

    question: str
    answer: str
    thought: str | None
    options: Options | None
    options_text: str
    """The options as they stand in the question, "Options:" and all; "" without options."""

    @property
    def kind(self) -> str:
        """One of styles.PAIR_KINDS."""
        if self.options is None:
            return "plain" if self.thought is None else "thought"
        return "options" if self.thought is None else "options_thought"


def split_pair(pair: Pair) -> PairParts:
    """The parts of a pair; a pair that clearly has none of the forms above is plain."""
    question, answer = pair
    thought = None
    if question.endswith(THINK_PROMPT) and answer.count(THEREFORE) == 1:
        before, _, final = answer.partition(THEREFORE)
        asked = question.removesuffix(THINK_PROMPT)
        if before.strip() and final.strip() and asked.strip():
            question, answer, thought = asked, final, before
    if OPTIONS_START not in question:
        return PairParts(question, answer, thought, None, "")
    stem, *rest = question.split(OPTIONS_START)
    lines = rest[0].split(OPTION_SEPARATOR)
    whole = len(rest) == 1 and len(lines) > 1 and stem.strip()
    if not whole or any("\n" in line or not line.strip() for line in lines):
        return PairParts(question, answer, thought, None, "")
    return PairParts(stem, answer, thought, _parse_options(lines, answer), question[len(stem) + 1 :])


OPTION_NAME = re.compile(r"(\(?)([A-Za-z]|\d{1,2})(?:(\))\s*|([.:])\s+)(?=\S)")


def _parse_options(lines: list[str], answer: str) -> Options:
    found = [OPTION_NAME.match(line) for line in lines]
    heads = [match for match in found if match]
    names = tuple(match[2] for match in heads)
    like = {(match[1], match[3], match[4]) for match in heads}
    if len(heads) == len(lines) and len(like) == 1 and names in _name_sequences(len(lines)):
        texts = tuple(line[match.end() :] for line, match in zip(lines, heads, strict=True))
    else:
        texts, names = tuple(lines), ()
    right, answer_text = _find_answer(lines, texts, names, answer.strip())
    return Options(texts, names, right, answer_text)


def _name_sequences(count: int) -> Iterable[tuple[str, ...]]:
    """A, B, C, …; a, b, c, …; 1, 2, 3, …: what names are."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
    return tuple(letters), tuple(letters.lower()), tuple(str(number) for number in range(1, count + 1))


def _find_answer(
    lines: list[str], texts: tuple[str, ...], names: tuple[str, ...], answer: str
) -> tuple[int | None, str]:
    """The one option that an answer can be, and the words that it has for it."""
    exact = [
        index for index, (line, text) in enumerate(zip(lines, texts, strict=True)) if answer in _stripped(line, text)
    ]
    named = [index for index, name in enumerate(names) if re.fullmatch(rf"\(?{name}[).:]?", answer)]
    if exact or named:
        candidates = {*exact, *named}
        index = min(candidates)
        return (index, texts[index]) if len(candidates) == 1 else (None, answer)
    plain = _normalized(answer)
    alike = [index for index, text in enumerate(texts) if _normalized(text) == plain]
    return (alike[0], answer) if len(alike) == 1 else (None, answer)


def _stripped(line: str, text: str) -> tuple[str, str]:
    return line.strip(), text.strip()


def _normalized(text: str) -> str:
    return text.strip().removesuffix(".").casefold()


POSITION_WORDS = re.compile(
    r"\b(?:above|below|former|latter|preceding|previous|following|both|neither|either|options?|choices?|alternatives?)\b"
    r"|\b(?:all|none|any|one|two|some|most) of (?:the|these|those|them)\b"
    r"|\b(?:first|second|third|fourth|fifth|last|next|other) (?:one|two|three|answer|statement)s?\b",
    re.IGNORECASE,
)  # an option or a chain of thought that may speak of other options, and so of their order
OPTION_MENTION = re.compile(
    r"\b(?:options?|choices?|answers?|alternatives?|ans)\b[^\w\n]{0,4}(?:(?:is|was|are|number|no)\b[^\w\n]{0,4})?"
    r"(?:[A-Z]|\d{1,2}|[a-z]\)|first|second|third|fourth|fifth|last)(?![\w'’])"
    r"|\b(?:first|second|third|fourth|fifth|last|[A-Z]) (?:options?|choices?|answers?|alternatives?)\b",
    re.IGNORECASE,
)  # any text that names an option which has no name of its own: answer is B, the second choice
LETTER_IN_BRACKETS = re.compile(r"\([A-Za-z]\)")


def reason_to_keep_order(parsed: PairParts, context: str) -> str | None:
    """Why options keep their names and order; None where they may have others."""
    options = parsed.options
    assert options is not None
    if options.answer_index is None:
        return "answer_not_certain"
    if len(options.texts) > MAX_OPTIONS or len({_normalized(text) for text in options.texts}) < len(options.texts):
        return "too_many_or_alike"
    thought = parsed.thought or ""
    if POSITION_WORDS.search("\n".join((*options.texts, options.answer, thought))):
        return "places_referred_to"
    around = "\n".join((parsed.question, thought, context))
    if options.names:
        if _name_pattern(options.names).search("\n".join((*options.texts, around))):
            return "names_referred_to"
    elif LETTER_IN_BRACKETS.search("\n".join((*options.texts, parsed.question, thought))):
        return "names_referred_to"
    return "names_referred_to" if OPTION_MENTION.search(around) else None


@lru_cache(maxsize=64)
def _name_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """What may be one of these names: b and B alike; a lower-case a, a word of its own, only in brackets."""
    either = "|".join(name if name.lower() == "a" else f"{name}|{name.swapcase()}" for name in names)
    return re.compile(rf"(?<![\w'’])(?:{either})(?![\w'’])|(?<![\w'’])[aA]\)")
