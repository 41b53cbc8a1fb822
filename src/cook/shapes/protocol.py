"""The protocol of input shapes: how a record of a shard becomes an example, whose tokens are trained or not.

    row of a shard --parse--> record --segments--> texts, encoded --assemble--> tokens, each trained or not

Each shape is a module (`context_qa`, `text`) that holds all code that depends on its fields. The other stages know
records only as `Record`, and examples only as tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from cook.core.errors import Problem
from cook.core.records import MarkedTokens, mark_trained
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.engine import Ids, Offsets
from cook.tokenizer.loading import Tokenizer

T = TypeVar("T")
Lengths = npt.NDArray[np.integer]
EncodeRequests = Generator[list[str], list[Ids], T]
"""A generator that yields texts, receives the ids of each, and returns a result."""
MaskRule = Literal["prefix", "all-but-bos", "runs"]
"""Which tokens of an example are trained. prefix: none of a prefix, all after it, and neither part is empty.
all-but-bos: every token except BOS; an example may be a piece of a text. runs: any tokens except the first."""


class Record(Protocol):
    """A record, as the other stages know it."""

    @property
    def line(self) -> int:
        """Its line, from 1 at the start of the part."""

    @property
    def start(self) -> int:
        """Its first byte, from 0 at the start of the decompressed shard."""

    @property
    def units(self) -> int:
        """The units (of context-qa: pairs) in its example."""

    @property
    def left_out(self) -> Sequence[tuple[int, int]]:
        """The other units: the index of each among all units of the record, and the reason (of SKIP_REASONS)."""


class Segments(NamedTuple):
    """The segments of a batch of examples, in order: texts to encode, and fixed ids."""

    texts: list[str]
    """Every text, in order. All are encoded as ordinary text."""
    fixed_ids: Sequence[Ids | None]
    """For each segment, its ids (BOS, EOS), or None for a text."""
    trained: Sequence[bool]
    """For each segment, whether its tokens are trained."""
    counts: npt.NDArray[np.int64] | None = None
    """Segments of each example. None: all examples are alike, and `fixed_ids` and `trained` describe one of them."""

    def example_indices(self, texts: Iterable[int]) -> list[int]:
        """For each index of a text, the index of its example."""
        is_text = np.array([each is None for each in self.fixed_ids], bool)
        if self.counts is None:
            return [text // int(is_text.sum()) for text in texts]
        example_of_text = np.repeat(np.arange(len(self.counts)), self.counts)[is_text]
        return [int(example_of_text[text]) for text in texts]


class Assembled(NamedTuple):
    """Encoded examples, concatenated."""

    raw: MarkedTokens
    """The tokens, as a spool holds them."""
    tokens: npt.NDArray[np.int64]
    """Tokens of each example."""
    trained: npt.NDArray[np.int64]
    """Trained tokens of each example."""


def boundary_ids(tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """The ids of BOS (empty where there is none) and of EOS."""
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return np.array(bos, np.uint32), np.array([tokenizer.eos_id], np.uint32)


def assemble(segments: Segments, ids: Ids, offsets: Offsets) -> Assembled:
    """Join the ids of a batch's texts with its fixed ids. Text i is `ids[offsets[i]:offsets[i + 1]]`."""
    is_text = np.array([each is None for each in segments.fixed_ids], bool)
    trained = np.array(segments.trained, bool)
    fixed = np.concatenate([np.empty(0, np.uint32), *(each for each in segments.fixed_ids if each is not None)])
    sizes = np.array([0 if each is None else len(each) for each in segments.fixed_ids], np.int64)
    counts = segments.counts
    if counts is None:
        examples = (len(offsets) - 1) // int(is_text.sum())
        is_text, trained, sizes, fixed = (np.tile(each, examples) for each in (is_text, trained, sizes, fixed))
        counts = np.full(examples, len(segments.fixed_ids))
    sizes[is_text] = np.diff(offsets)
    out = np.empty(int(sizes.sum()), np.uint32)
    of_fixed = sizes[~is_text]
    # Few tokens are fixed: their places are listed, and the texts' ids fill the rest.
    places = np.repeat(np.cumsum(sizes)[~is_text] - np.cumsum(of_fixed), of_fixed) + np.arange(len(fixed))
    text = np.ones(len(out), bool)
    text[places] = False
    out[text], out[places] = ids, fixed
    begins = np.cumsum(counts) - counts
    tokens, trained_tokens = (
        np.add.reduceat(each, begins) if len(begins) else each for each in (sizes, sizes * trained)
    )
    return Assembled(mark_trained(out, np.repeat(trained, sizes)), tokens, trained_tokens)


class SplitExample(NamedTuple):
    """One of the examples that an over-long one is split into."""

    text_ids: tuple[Ids, ...]
    """The ids of its texts, as many texts as `Shape.segments` gives an example."""
    units: int
    truncated: bool
    """Whether the end of a text was cut off."""


class SplitResult(NamedTuple):
    """The examples made from an over-long one. Every unit is in one of them, or lost."""

    examples: list[SplitExample]
    """In the order of their first units."""
    lost_units: list[int]
    """Indices among the units of the over-long example."""


class Shape(Protocol):
    """An input shape, made from a recipe and a tokenizer; immutable and picklable."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    @property
    def mask_rule(self) -> MaskRule:
        """Which tokens of an example are trained; a check can hold a row against it without the shard."""

    @property
    def required_field(self) -> str:
        """The field whose text must encode to at least one token, because trained text follows it; "" for none."""

    @property
    def cut_anywhere(self) -> bool:
        """Whether over-long examples are cut at token limits by the planner, and not by `split`."""

    def identity(self) -> dict[str, Any]:
        """All settings except the tokenizer that determine an example's tokens, as JSON values."""

    def parse(self, path: str, line: int, start: int, row: Any) -> Record | list[Problem]:
        """The record of a decoded row, or all problems of the row. `start`: the first byte of its line."""

    def segments(self, records: Sequence[Any]) -> Segments:
        """The segments of the records' examples, whole, however long."""

    def split(self, record: Any, ids: Ids, trained: int) -> EncodeRequests[SplitResult]:
        """Split an over-long example into examples that fit. `ids` are all of its ids, with BOS and EOS."""

    def round_trips(
        self, record: Any, split_result: SplitResult, texts: Sequence[Sequence[bytes]], decoder: Decoder
    ) -> bool:
        """Whether the examples that `split` made read as the record, with every unit that is not lost once.

        `texts`: for each example, the bytes that its texts decode to. `decoder` tells what a text may decode to.
        """

    def unsplittable(self, tokens: Lengths, trained: Lengths) -> npt.NDArray[np.bool_]:
        """Which over-long examples `split` makes no example of, as far as their lengths tell."""

    def texts(self, record: Any) -> list[str]:
        """The user's own texts, which are searched for special text."""

    def template_markers(self) -> tuple[str, ...]:
        """Words of the templates to search for in these texts."""

    def hash_keys(self, record: Any) -> tuple[bytes, bytes]:
        """The bytes that `validation` groups records by, and the bytes that `dedup` compares."""
