"""Entries of one text + styles + a seed -> the text. Pure.

Every choice is a hash of (seed, the entries' contexts and pairs, what is chosen): a text is the same wherever its entry
stands, however a collection is cut into shards, and whatever is cooked beside it. Entries that repeat one another have
the same text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import orjson

from cook.core.templates import compile_template
from cook.corpora.pair_parts import Options, reason_to_keep_order, split_pair
from cook.corpora.styles import MODES, PLACEHOLDER, STYLES_SCHEMA, Styles, TextForm, is_text_only
from cook.shapes.formatter import Pair

T = TypeVar("T")
CONTEXT_MODE = "context"  # the mode of a text without pairs
PERCENT = 100  # of which styles' weights.after is a part
WEIGHT_SCALE = 1_000_000
ROMAN_DIGITS = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")


class Passage(NamedTuple):
    """What a text is made of: an entry's context and pairs."""

    context: str
    pairs: Sequence[Pair]


class Rendered(NamedTuple):
    """A text, and how it came about."""

    text: str
    mode: str
    context_after: bool
    """The context stands after the pairs."""
    kinds: Counter[str]
    """Pairs of each kind."""
    options: Counter[str]
    """Pairs with options: `reordered_options`, or why they are as they were."""


class SeededChoice:
    """Choices, each by its own name; see the module."""

    def __init__(self, seed: int, passages: Sequence[Passage]) -> None:
        of = orjson.dumps([seed, [[passage.context, passage.pairs] for passage in passages]])
        self._key = hashlib.blake2b(of, digest_size=32).digest()

    def hash_number(self, what: str) -> int:
        """64 bits."""
        return int.from_bytes(hashlib.blake2b(what.encode(), key=self._key, digest_size=8).digest(), "little")

    def integer_below(self, what: str, end: int) -> int:
        """A whole number from 0, below `end`."""
        return (self.hash_number(what) * end) >> 64

    def choose(self, what: str, choices: Sequence[T]) -> T:
        """One of some choices, each as likely."""
        return choices[self.integer_below(what, len(choices))]

    def choose_weighted(self, what: str, weights: Mapping[str, int]) -> str:
        """One of some names, each as likely as its part of the sum."""
        left = self.integer_below(what, sum(weights.values()))
        for name, weight in weights.items():
            left -= weight
            if left < 0:
                return name
        raise AssertionError("the number drawn is below the sum")

    def permutation(self, what: str, count: int) -> list[int]:
        """The indices below `count`, in some order."""
        return sorted(range(count), key=lambda index: self.hash_number(f"{what} {index}"))


FormatFunction = Callable[..., str]


class PairStyle(NamedTuple):
    """A style of pairs of one kind."""

    asks: str
    question: FormatFunction  # question, options
    between: str
    replies: str
    answer: FormatFunction  # answer, thought


class RenderedPair(NamedTuple):
    """A pair in words: what is asked and what is answered, and the style that goes with its kind."""

    question: str
    answer: str
    style: PairStyle


class Renderer:
    """Makes texts in some styles by a seed."""

    def __init__(self, styles: Styles, seed: int) -> None:
        data = styles.data
        self.seed = seed
        weights = data["weights"]
        # In one order, however a file lists them: styles are the same by their hash, which knows no order.
        self._weights = weights | {of: _in_mode_order(weights[of]) for of in ("one", "several")}
        self._chains: list[str] = data["chains"]
        self._contexts = {
            name: [compile_template(text, ("context", "pairs")).format for text in data["contexts"][name]]
            for name in ("before", "after")
        }
        self._modes = {
            mode: [_compile_mode(item, STYLES_SCHEMA["modes"][mode]) for item in data["modes"][mode]]
            for mode in BODY_RENDERERS
        }
        self.option_styles: Mapping[str, list[str]] = data["options"]
        self.pair_styles = {
            kind: [
                PairStyle(
                    item["asks"],
                    compile_template(item["question"], ("question", "options")).format,
                    item["between"],
                    item["replies"],
                    compile_template(item["answer"], ("answer", "thought")).format,
                )
                for item in items
            ]
            for kind, items in data["pairs"].items()
        }

    def render(self, passages: Sequence[Passage]) -> Rendered:
        """The text of entries that go together: one, or a chain. A blank context leaves no trace."""
        draw = SeededChoice(self.seed, passages)
        kinds, options = Counter[str](), Counter[str]()
        counts = [len(passage.pairs) for passage in passages if passage.pairs]
        mode, after = CONTEXT_MODE, False
        if counts:
            mode = draw.choose_weighted("mode", self._weights["several" if min(counts) > 1 else "one"])
            after = draw.integer_below("after", PERCENT * WEIGHT_SCALE) < self._weights["after"] * WEIGHT_SCALE
            frame = draw.choose("context", self._contexts["after" if after else "before"])
            words = draw.choose(mode, self._modes[mode])
            text_style = _TextStyle(draw, self)
        texts = []
        for number, passage in enumerate(passages):
            if not passage.pairs:
                texts.append(passage.context)
                continue
            sides = []
            for index, pair in enumerate(passage.pairs):
                parsed = split_pair(pair)
                kinds[parsed.kind] += 1
                written, answer = parsed.options_text, parsed.answer
                if parsed.options is not None:
                    reason = reason_to_keep_order(parsed, passage.context)
                    options[reason or "varied"] += 1
                    if reason is None:
                        written, answer = text_style.reordered_options(parsed.options, f"{number} {index}")
                style = text_style.style(parsed.kind)
                question = style.question(parsed.question, written)
                sides.append(RenderedPair(question, style.answer(answer, parsed.thought), style))
            body = BODY_RENDERERS[mode](sides, words)
            texts.append(frame(passage.context, body) if passage.context.strip() else body)
        text = draw.choose("chain", self._chains).join(texts) if len(texts) > 1 else texts[0]
        return Rendered(text, mode, after, kinds, options)


def _in_mode_order(weights: Mapping[str, int]) -> dict[str, int]:
    return {mode: weights[mode] for mode in MODES if mode in weights}


class _TextStyle:
    """What the pairs of a text have in common; each choice is drawn when it is first needed."""

    def __init__(self, draw: SeededChoice, renderer: Renderer) -> None:
        self._draw, self._renderer = draw, renderer
        self._styles: dict[str, PairStyle] = {}

    def style(self, kind: str) -> PairStyle:
        """The style of pairs of a kind."""
        if kind not in self._styles:
            self._styles[kind] = self._draw.choose(kind, self._renderer.pair_styles[kind])
        return self._styles[kind]

    @cached_property
    def _option_style(self) -> tuple[str, str, str, FormatFunction]:
        """Start, name, separator and answer."""
        styles = self._renderer.option_styles
        name = self._draw.choose("name", styles["names"])
        answers = styles["answers"]
        if not PLACEHOLDER.search(name):
            answers = [answer for answer in answers if is_text_only(answer)]
        answer = compile_template(self._draw.choose("answer", answers), ("text", "name", "sign")).format
        return (
            self._draw.choose("start", styles["starts"]),
            name,
            self._draw.choose("separator", styles["separators"]),
            answer,
        )

    def reordered_options(self, options: Options, what: str) -> tuple[str, str]:
        """Options in another order, under names of the text's style; and the answer that is the same one."""
        start, name, separator, answer = self._option_style
        order = self._draw.permutation(what, len(options.texts))
        names = [option_name(name, place) for place in range(len(order))]
        listed = [f"{named} {options.texts[index]}" for (named, _), index in zip(names, order, strict=True)]
        assert options.answer_index is not None, "options that are not certain are not varied"
        named, sign = names[order.index(options.answer_index)]
        return start + separator.join(listed), answer(options.answer, named, sign)


def option_name(style: str, index: int) -> tuple[str, str]:
    """The name of the option at a place, from 0, and the sign in it.

    >>> option_name("({A})", 1)
    ('(B)', 'B')
    """
    found = PLACEHOLDER.search(style)
    if found is None:
        return style, ""
    if found[1] == "1":
        sign = str(index + 1)
    elif found[1] == "i":
        sign = _roman(index + 1)
    else:
        sign = chr(ord(found[1]) + index)
    return style.replace(found[0], sign), sign


def _roman(number: int) -> str:
    """A number up to 39 in small Roman figures.

    >>> _roman(14)
    'xiv'
    """
    tens, ones = divmod(number, 10)
    return "x" * tens + (ROMAN_DIGITS[ones - 1] if ones else "")


def _compile_mode(item: Mapping[str, str], shape: Mapping[str, TextForm]) -> dict[str, Any]:
    """A mode's style with its templates compiled; texts without placeholders as they are."""
    return {
        name: compile_template(item[name], form.required).format if form.required else item[name]
        for name, form in shape.items()
    }


def _classic(sides: Sequence[RenderedPair], words: Mapping[str, Any]) -> str:
    between: str = words["between"]
    return between.join([f"{s.style.asks}{s.question}{s.style.between}{s.style.replies}{s.answer}" for s in sides])


def _turn(side: RenderedPair, words: Mapping[str, Any]) -> str:
    return f"{words['asks']}{side.question}{words['between']}{words['replies']}{side.answer}"


def _dialogue(sides: Sequence[RenderedPair], words: Mapping[str, Any]) -> str:
    turns: str = words["turns"]
    return turns.join([_turn(side, words) for side in sides])


def _numbered(sides: Sequence[RenderedPair], words: Mapping[str, Any]) -> str:
    between: str = words["between"]
    numbers = [words["number"](number) for number in range(1, len(sides) + 1)]
    questions = between.join([number + side.question for number, side in zip(numbers, sides, strict=True)])
    answers = between.join([number + side.answer for number, side in zip(numbers, sides, strict=True)])
    text: str = words["text"](questions, answers)
    return text


def _few_shot(sides: Sequence[RenderedPair], words: Mapping[str, Any]) -> str:
    examples = [words["example"](side.question, side.answer) for side in sides[:-1]]
    between: str = words["between"]
    return between.join([*examples, words["test"](sides[-1].question, sides[-1].answer)])


def _next_turn(sides: Sequence[RenderedPair], words: Mapping[str, Any]) -> str:
    return f"{_dialogue(sides[:-1], words)}{words['next']}{_turn(sides[-1], words)}"


BODY_RENDERERS: dict[str, Callable[[Sequence[RenderedPair], Mapping[str, Any]], str]] = {
    "classic": _classic,
    "dialogue": _dialogue,
    "numbered": _numbered,
    "few_shot": _few_shot,
    "next_turn": _next_turn,
}
