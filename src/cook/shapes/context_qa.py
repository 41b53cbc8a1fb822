r"""The shape context-qa: a context and question-answer pairs. The pairs are trained.

    input  = BOS + " <CON> {context} </CON>" + "\n\n"
    output = "\n\n".join("<QUE> {question} <ANS> {answer} </END>" for each pair) + EOS

A row is a JSON object, `{"context": str, "QA_list": [{"Q": str, "A": str}, ...]}`, or has other keys (`Fields`). More
keys are allowed; any other deviation is a `Problem` with shard, line and field. Texts are not stripped or normalised.
BOS and EOS are added as ids. The templates are those of the context-based instruction synthesizer (Instruction
Pre-Training, arXiv 2406.14491).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from cook.core.errors import Problem, short_repr
from cook.core.escapes import find_visible
from cook.core.recipe import DEFAULT_FIELDS, Fields, Recipe
from cook.core.records import BLANK_ANSWER, BLANK_QUESTION
from cook.read.lines import JSON_TYPE_NAMES, Line, parse_line
from cook.shapes import splitting
from cook.shapes.formatter import Formatter, Pair
from cook.shapes.protocol import EncodeRequests, Lengths, MaskRule, Segments, SplitResult, boundary_ids
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.engine import Ids
from cook.tokenizer.loading import Tokenizer, token_ends


class Entry(NamedTuple):
    """A row of a shard."""

    line: int  # from 1 at the start of the part
    start: int  # its first byte, from 0 at the start of the decompressed shard
    context: str
    pairs: list[Pair]  # pairs with something visible on both sides
    left_out: list[tuple[int, int]]  # the other pairs: index in QA_list, and reason

    @property
    def units(self) -> int:
        """The count of `pairs`."""
        return len(self.pairs)

    @property
    def texts(self) -> list[str]:
        """The context, then questions and answers."""
        return [self.context, *chain.from_iterable(self.pairs)]

    def original_pair_index(self, kept: int) -> int:
        """The index in QA_list of `pairs[kept]`."""
        for blank, _ in self.left_out:
            kept += blank <= kept
        return kept


class ContextQA(NamedTuple):
    """The shape context-qa; see `shapes.protocol.Shape`. A unit is a pair."""

    recipe: Recipe
    tokenizer: Tokenizer
    name: str = "context-qa"
    mask_rule: MaskRule = "prefix"
    cut_anywhere: bool = False

    @property
    def required_field(self) -> str:
        """The context: all trained text follows it."""
        return "context"

    @property
    def formatter(self) -> Formatter:
        """The templates, compiled."""
        return _formatter(self.recipe)

    def identity(self) -> dict[str, Any]:
        """The keys of the fields, and the templates."""
        recipe = self.recipe
        templates = ("context_template", "pair_template", "delimiter")
        return {"fields": recipe.fields._asdict(), **{name: getattr(recipe, name) for name in templates}}

    def parse(self, path: str, line: int, start: int, row: Any) -> Entry | list[Problem]:
        """The entry of a row, or all problems of the row."""
        return entry_from_row(path, line, start, row, self.recipe.fields)

    def segments(self, records: Sequence[Entry]) -> Segments:
        """BOS and the input's text, not trained; the output's text and EOS, trained."""
        formatter, texts = self.formatter, list[str]()
        for entry in records:
            texts.append(formatter.input_text(entry.context))
            texts.append(formatter.output_text(entry.pairs))
        bos, eos = boundary_ids(self.tokenizer)
        return Segments(texts, [bos, None, None, eos], [False, False, True, True])

    def split(self, record: Entry, ids: Ids, trained: int) -> EncodeRequests[SplitResult]:
        """Group pairs, each group with the whole context. truncate cuts the context of a pair that does not fit."""
        bos = int(self.tokenizer.bos_id is not None)
        capacity = self.recipe.max_length - bos - 1
        head = ids[bos : len(ids) - trained]
        if self.recipe.overlong == "split":
            return splitting.split(head, record.pairs, self.formatter, capacity)
        ends = token_ends(self.tokenizer)
        return splitting.truncate(head, record.context, record.pairs, self.formatter, capacity, ends)

    def round_trips(
        self, record: Entry, split_result: SplitResult, texts: Sequence[Sequence[bytes]], decoder: Decoder
    ) -> bool:
        """Whether each piece has the context, or a head of it, and each pair that is not lost is there once."""
        lost, formatter, same = set(split_result.lost_units), self.formatter, decoder.matches_text
        left = [pair for index, pair in enumerate(record.pairs) if index not in lost]
        for (head, output), piece in zip(texts, split_result.examples, strict=True):
            if piece.truncated:  # in the order of pairs, but not by their numbers
                pair = next((pair for pair in left if same(output, formatter.output_text([pair]))), None)
                if pair is None or not self._is_context_prefix(record.context, head, decoder):
                    return False
                left.remove(pair)
        whole, remaining_pairs = formatter.input_text(record.context), iter(left)
        for (head, output), piece in zip(texts, split_result.examples, strict=True):
            pairs = [] if piece.truncated else [*islice(remaining_pairs, piece.units)]
            if pairs and not (same(head, whole) and same(output, formatter.output_text(pairs))):
                return False
        return next(remaining_pairs, None) is None

    def _is_context_prefix(self, context: str, text: bytes, decoder: Decoder) -> bool:
        """Whether an input's text holds a head of the context that is neither empty nor all of it."""
        frame = len(decoder.expected_bytes(self.formatter.input_text("")))
        size, remainder = divmod(len(text) - frame, self.recipe.context_template.count("{context}"))
        head = context.encode()[: max(size, 0)].decode(errors="ignore")
        if remainder == 0 and decoder.expected_bytes(self.formatter.input_text(head)) == text:
            return 0 < size < len(context.encode())
        return decoder.contains_truncated(text, context, self.formatter.around_context)

    def unsplittable(self, tokens: Lengths, trained: Lengths) -> npt.NDArray[np.bool_]:
        """With split: those whose context alone leaves no room for EOS."""
        return (tokens - trained >= self.recipe.max_length) & (self.recipe.overlong == "split")

    def texts(self, record: Entry) -> list[str]:
        """The context, then questions and answers."""
        return record.texts

    def template_markers(self) -> tuple[str, ...]:
        """Words of both templates."""
        return template_markers(self.recipe)

    def hash_keys(self, record: Entry) -> tuple[bytes, bytes]:
        """The context, or all of the entry if the context is blank; and all of the entry."""
        whole = orjson.dumps((record.context, record.pairs))
        return record.context.encode() if find_visible(record.context) else whole, whole


@functools.lru_cache(maxsize=8)
def _formatter(recipe: Recipe) -> Formatter:
    return Formatter(recipe)


PLACEHOLDER = re.compile(r"\{(?:context|question|answer)\}")


def template_markers(recipe: Recipe) -> tuple[str, ...]:
    """The words that the templates put around contexts, questions and answers.

    >>> template_markers(Recipe(datasets="squad", tokenizer="llama3"))
    ('<CON>', '</CON>', '<QUE>', '<ANS>', '</END>')
    """
    templates = (recipe.context_template, recipe.pair_template)
    literal = chain.from_iterable(PLACEHOLDER.split(template) for template in templates)
    words = chain.from_iterable(part.split() for part in literal)
    return tuple(
        dict.fromkeys(word for word in words if len(word) > 1)
    )  # a single character, as in "Q: A -", is no marker


def parse_entry(path: str, line: Line, fields: Fields = DEFAULT_FIELDS) -> Entry | list[Problem]:
    """The entry on a line, or all problems of the line."""
    return parse_line(path, line, functools.partial(entry_from_row, fields=fields))


def entry_from_row(
    path: str, line: int, start: int, row: Any, fields: Fields = DEFAULT_FIELDS
) -> Entry | list[Problem]:
    """The entry of a decoded row, or all problems of the row."""
    context_key, pairs_key, question_key, answer_key = fields
    try:
        context, rows = row[context_key], row[pairs_key]
        pairs = []
        for pair in rows:
            question, answer = pair[question_key], pair[answer_key]
            # Most texts begin with a letter: a quick first look. Both sides are looked at, so that both must be text.
            asks = "!" <= question[:1] <= "~" or find_visible(question)
            answers = "!" <= answer[:1] <= "~" or find_visible(answer)
            if asks and answers:
                pairs.append((question, answer))
    except (KeyError, TypeError, AttributeError):
        return _diagnose(path, line, row, fields)
    if type(context) is not str or type(rows) is not list:
        return _diagnose(path, line, row, fields)
    blank = []
    if len(pairs) < len(rows):
        sides = [(not find_visible(pair[question_key]), not find_visible(pair[answer_key])) for pair in rows]
        reasons = [BLANK_QUESTION if question else BLANK_ANSWER if answer else None for question, answer in sides]
        blank = [(index, reason) for index, reason in enumerate(reasons) if reason is not None]
    return Entry(line, start, context, pairs, blank)


def _diagnose(path: str, line: int, row: Any, fields: Fields) -> list[Problem]:
    """All problems of a row that is no entry; slow."""
    return [Problem(path, line, field, what) for field, what in _type_problems(row, fields)]


def _type_problems(row: Any, fields: Fields) -> Iterator[tuple[str, str]]:
    """(field, problem) for each JSON value that has no place in an entry."""

    def expect(field: str, value: Any, kind: type) -> Iterator[tuple[str, str]]:
        if type(value) is not kind:
            yield field, f"must be {JSON_TYPE_NAMES[kind]}, not {JSON_TYPE_NAMES.get(type(value), 'null')}"

    def member(holder: dict[str, Any], key: str, field: str, kind: type) -> Iterator[tuple[str, str]]:
        if key in holder:
            yield from expect(field, holder[key], kind)
        else:
            others = [other for other in holder if other not in fields]
            near = [other for other in others if other.lower() == key.lower()] or others[:5]
            there = ", ".join(short_repr(other) for other in near)
            yield field, "is missing" + (f" (there is {there}; --fields names others)" if near else "")

    yield from expect("", row, dict)
    if type(row) is not dict:
        return
    yield from member(row, fields.context, fields.context, str)
    yield from member(row, fields.pairs, fields.pairs, list)
    pairs = row.get(fields.pairs)
    for index, pair in enumerate(pairs if type(pairs) is list else ()):
        field = f"{fields.pairs}[{index}]"
        yield from expect(field, pair, dict)
        if type(pair) is dict:
            yield from member(pair, fields.question, f"{field}.{fields.question}", str)
            yield from member(pair, fields.answer, f"{field}.{fields.answer}", str)
