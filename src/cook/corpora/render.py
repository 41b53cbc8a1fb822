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
from cook.corpora.pair_parts import Options, fixed, parse
from cook.corpora.styles import MODES, PLACEHOLDER, SHAPE, Styles, Text, text_alone
from cook.shapes.formatter import Pair

T = TypeVar("T")
CONTEXT = "context"  # the mode of a text without pairs
AFTER = 100  # of which styles' weights.after is a part
SHARPNESS = 1_000_000
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")


class Passage(NamedTuple):
    """What a text is made of: an entry's context and pairs."""

    context: str
    pairs: Sequence[Pair]


class Rendered(NamedTuple):
    """A text, and how it came about."""

    text: str
    mode: str
    after: bool
    """The context stands after the pairs."""
    kinds: Counter[str]
    """Pairs of each kind."""
    options: Counter[str]
    """Pairs with options: `varied`, or why they are as they were."""


class Draw:
    """Choices, each by its own name; see the module."""

    def __init__(self, seed: int, passages: Sequence[Passage]) -> None:
        of = orjson.dumps([seed, [[passage.context, passage.pairs] for passage in passages]])
        self._key = hashlib.blake2b(of, digest_size=32).digest()

    def number(self, what: str) -> int:
        """64 bits."""
        return int.from_bytes(hashlib.blake2b(what.encode(), key=self._key, digest_size=8).digest(), "little")

    def below(self, what: str, end: int) -> int:
        """A whole number from 0, below `end`."""
        return (self.number(what) * end) >> 64

    def one(self, what: str, choices: Sequence[T]) -> T:
        """One of some choices, each as likely."""
        return choices[self.below(what, len(choices))]

    def weighted(self, what: str, weights: Mapping[str, int]) -> str:
        """One of some names, each as likely as its part of the sum."""
        left = self.below(what, sum(weights.values()))
        for name, weight in weights.items():
            left -= weight
            if left < 0:
                return name
        raise AssertionError("the number drawn is below the sum")

    def order(self, what: str, count: int) -> list[int]:
        """The indices below `count`, in some order."""
        return sorted(range(count), key=lambda index: self.number(f"{what} {index}"))


Fill = Callable[..., str]


class PairStyle(NamedTuple):
    """A style of pairs of one kind."""

    asks: str
    question: Fill  # question, options
    between: str
    replies: str
    answer: Fill  # answer, thought


class Sides(NamedTuple):
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
        self._weights = weights | {of: _ordered(weights[of]) for of in ("one", "several")}
        self._chains: list[str] = data["chains"]
        self._contexts = {
            name: [compile_template(text, ("context", "pairs")).format for text in data["contexts"][name]]
            for name in ("before", "after")
        }
        self._modes = {mode: [_compiled(item, SHAPE["modes"][mode]) for item in data["modes"][mode]] for mode in BODIES}
        self.options: Mapping[str, list[str]] = data["options"]
        self.pairs = {
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
        draw = Draw(self.seed, passages)
        kinds, options = Counter[str](), Counter[str]()
        counts = [len(passage.pairs) for passage in passages if passage.pairs]
        mode, after = CONTEXT, False
        if counts:
            mode = draw.weighted("mode", self._weights["several" if min(counts) > 1 else "one"])
            after = draw.below("after", AFTER * SHARPNESS) < self._weights["after"] * SHARPNESS
            frame = draw.one("context", self._contexts["after" if after else "before"])
            words = draw.one(mode, self._modes[mode])
            look = _Look(draw, self)
        texts = []
        for number, passage in enumerate(passages):
            if not passage.pairs:
                texts.append(passage.context)
                continue
            sides = []
            for index, pair in enumerate(passage.pairs):
                parsed = parse(pair)
                kinds[parsed.kind] += 1
                written, answer = parsed.written, parsed.answer
                if parsed.options is not None:
                    reason = fixed(parsed, passage.context)
                    options[reason or "varied"] += 1
                    if reason is None:
                        written, answer = look.varied(parsed.options, f"{number} {index}")
                style = look.style(parsed.kind)
                question = style.question(parsed.question, written)
                sides.append(Sides(question, style.answer(answer, parsed.thought), style))
            body = BODIES[mode](sides, words)
            texts.append(frame(passage.context, body) if passage.context.strip() else body)
        text = draw.one("chain", self._chains).join(texts) if len(texts) > 1 else texts[0]
        return Rendered(text, mode, after, kinds, options)


def _ordered(weights: Mapping[str, int]) -> dict[str, int]:
    return {mode: weights[mode] for mode in MODES if mode in weights}


class _Look:
    """What the pairs of a text have in common; each choice is drawn when it is first needed."""

    def __init__(self, draw: Draw, renderer: Renderer) -> None:
        self._draw, self._renderer = draw, renderer
        self._styles: dict[str, PairStyle] = {}

    def style(self, kind: str) -> PairStyle:
        """The style of pairs of a kind."""
        if kind not in self._styles:
            self._styles[kind] = self._draw.one(kind, self._renderer.pairs[kind])
        return self._styles[kind]

    @cached_property
    def _of_options(self) -> tuple[str, str, str, Fill]:
        """Start, name, separator and answer."""
        styles = self._renderer.options
        name = self._draw.one("name", styles["names"])
        answers = styles["answers"]
        if not PLACEHOLDER.search(name):
            answers = [answer for answer in answers if text_alone(answer)]
        answer = compile_template(self._draw.one("answer", answers), ("text", "name", "sign")).format
        return (
            self._draw.one("start", styles["starts"]),
            name,
            self._draw.one("separator", styles["separators"]),
            answer,
        )

    def varied(self, options: Options, what: str) -> tuple[str, str]:
        """Options in another order, under names of the text's style; and the answer that is the same one."""
        start, name, separator, answer = self._of_options
        order = self._draw.order(what, len(options.texts))
        names = [name_of(name, place) for place in range(len(order))]
        listed = [f"{named} {options.texts[index]}" for (named, _), index in zip(names, order, strict=True)]
        assert options.right is not None, "options that are not certain are not varied"
        named, sign = names[order.index(options.right)]
        return start + separator.join(listed), answer(options.answer, named, sign)


def name_of(style: str, place: int) -> tuple[str, str]:
    """The name of the option at a place, from 0, and the sign in it.

    >>> name_of("({A})", 1)
    ('(B)', 'B')
    """
    found = PLACEHOLDER.search(style)
    if found is None:
        return style, ""
    if found[1] == "1":
        sign = str(place + 1)
    elif found[1] == "i":
        sign = _roman(place + 1)
    else:
        sign = chr(ord(found[1]) + place)
    return style.replace(found[0], sign), sign


def _roman(number: int) -> str:
    """A number up to 39 in small Roman figures.

    >>> _roman(14)
    'xiv'
    """
    tens, ones = divmod(number, 10)
    return "x" * tens + (ROMAN[ones - 1] if ones else "")


def _compiled(item: Mapping[str, str], shape: Mapping[str, Text]) -> dict[str, Any]:
    """A mode's style with its templates compiled; texts without placeholders as they are."""
    return {
        name: compile_template(item[name], form.needs).format if form.needs else item[name]
        for name, form in shape.items()
    }


def _classic(sides: Sequence[Sides], words: Mapping[str, Any]) -> str:
    between: str = words["between"]
    return between.join([f"{s.style.asks}{s.question}{s.style.between}{s.style.replies}{s.answer}" for s in sides])


def _turn(side: Sides, words: Mapping[str, Any]) -> str:
    return f"{words['asks']}{side.question}{words['between']}{words['replies']}{side.answer}"


def _dialogue(sides: Sequence[Sides], words: Mapping[str, Any]) -> str:
    turns: str = words["turns"]
    return turns.join([_turn(side, words) for side in sides])


def _numbered(sides: Sequence[Sides], words: Mapping[str, Any]) -> str:
    between: str = words["between"]
    numbers = [words["number"](number) for number in range(1, len(sides) + 1)]
    questions = between.join([number + side.question for number, side in zip(numbers, sides, strict=True)])
    answers = between.join([number + side.answer for number, side in zip(numbers, sides, strict=True)])
    text: str = words["text"](questions, answers)
    return text


def _few_shot(sides: Sequence[Sides], words: Mapping[str, Any]) -> str:
    examples = [words["example"](side.question, side.answer) for side in sides[:-1]]
    between: str = words["between"]
    return between.join([*examples, words["test"](sides[-1].question, sides[-1].answer)])


def _next_turn(sides: Sequence[Sides], words: Mapping[str, Any]) -> str:
    return f"{_dialogue(sides[:-1], words)}{words['next']}{_turn(sides[-1], words)}"


BODIES: dict[str, Callable[[Sequence[Sides], Mapping[str, Any]], str]] = {
    "classic": _classic,
    "dialogue": _dialogue,
    "numbered": _numbered,
    "few_shot": _few_shot,
    "next_turn": _next_turn,
}
