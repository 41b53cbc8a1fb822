"""What an input shape is: how a record of a shard becomes the segments of an example, each trained or not.

    a row of a shard --parse--> record --segments--> texts, encoded --assemble--> tokens, each trained or not

A shape is a module of its own (`context_qa`, `text`) that holds all that depends on its fields. The stages around it
know records only by `Record`, and examples only by their tokens.
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
"""Yields texts, is sent the ids of each, and returns a result."""
MaskRule = Literal["prefix", "all-but-bos", "runs"]
"""Which tokens of an example are trained: prefix: all from the first trained one on, and neither part is empty;
all-but-bos: every token but a BOS, and an example may be a piece of a text; runs: any, but for the first token."""


class Record(Protocol):
    """An entry, as the stages around a shape know it."""

    @property
    def line(self) -> int:
        """Its line, from 1, counted from the start of the part."""
        ...

    @property
    def start(self) -> int:
        """Its first byte, counted from the start of the decompressed shard."""
        ...

    @property
    def units(self) -> int:
        """How many units (of context-qa: pairs) are trained on."""
        ...

    @property
    def left_out(self) -> Sequence[tuple[int, int]]:
        """The units that are not: the place of each among all of the record's, and why (a code of REASONS)."""
        ...


class Segments(NamedTuple):
    """What a batch of examples is made of, one after the other: texts to encode, and ids that are no text."""

    texts: list[str]
    """Every text, in order. All are encoded as ordinary text."""
    fixed_ids: Sequence[Ids | None]
    """For each segment, its ids where it is no text (BOS, EOS), else None."""
    trained: Sequence[bool]
    """For each segment, whether its tokens are trained."""
    counts: npt.NDArray[np.int64] | None = None
    """Segments of each example; None: `fixed_ids` and `trained` are those of one example, and all are alike."""

    def example_indices(self, texts: Iterable[int]) -> list[int]:
        """The number of the example that each of these texts is of."""
        is_text = np.array([each is None for each in self.fixed_ids], bool)
        if self.counts is None:
            return [text // int(is_text.sum()) for text in texts]
        example_of_text = np.repeat(np.arange(len(self.counts)), self.counts)[is_text]
        return [int(example_of_text[text]) for text in texts]


class Assembled(NamedTuple):
    """Encoded examples, one after the other."""

    raw: MarkedTokens
    """Their tokens, as a spool holds them."""
    tokens: npt.NDArray[np.int64]
    """Tokens of each example."""
    trained: npt.NDArray[np.int64]
    """Trained tokens of each."""


def boundary_ids(tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """The ids of BOS (empty where there is none) and of EOS."""
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return np.array(bos, np.uint32), np.array([tokenizer.eos_id], np.uint32)


def assemble(segments: Segments, ids: Ids, offsets: Offsets) -> Assembled:
    """The examples of a batch, from the ids of its texts, flat, and where each text begins in them (one more)."""
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
    by_token = np.repeat(is_text.view(np.uint8) | trained.view(np.uint8) << np.uint8(1), sizes)
    text = (by_token & 1).view(np.bool_)
    out = np.empty(len(text), np.uint32)
    out[text], out[~text] = ids, fixed
    begins = np.cumsum(counts) - counts
    tokens, trained_tokens = (
        np.add.reduceat(each, begins) if len(begins) else each for each in (sizes, sizes * trained)
    )
    return Assembled(mark_trained(out, by_token > 1), tokens, trained_tokens)


class SplitExample(NamedTuple):
    """One example made of an over-long one."""

    text_ids: tuple[Ids, ...]
    """The ids of its texts, as many as `Shape.segments` has for an example."""
    units: int
    truncated: bool
    """Whether the tail of a text is cut."""


class SplitResult(NamedTuple):
    """What became of an over-long example: every unit stands in one piece or is lost."""

    examples: list[SplitExample]
    """In the order of their first units."""
    lost_units: list[int]
    """Indices of units, among those that are trained on."""


class Shape(Protocol):
    """An input shape; made from a recipe and a tokenizer, frozen, and picklable for workers."""

    @property
    def name(self) -> str:
        """As the manifest says it."""
        ...

    @property
    def mask_rule(self) -> MaskRule:
        """Which tokens of an example are trained: what a check may demand of a row without its shard."""
        ...

    @property
    def required_field(self) -> str:
        """The field whose text may not encode to nothing, since what is trained comes after it; "" for none."""
        ...

    @property
    def cut_anywhere(self) -> bool:
        """Whether what is over-long is cut into pieces of text, by the planner, and not by `split`."""
        ...

    def identity(self) -> dict[str, Any]:
        """All settings that determine an example's tokens, beside the tokenizer. JSON values."""
        ...

    def parse(self, path: str, line: int, start: int, row: Any) -> Record | list[Problem]:
        """The record of a decoded row on this line, which starts at this byte; or all that is wrong with the row."""
        ...

    def segments(self, records: Sequence[Any]) -> Segments:
        """The examples of records, whole, however long."""
        ...

    def split(self, record: Any, ids: Ids, trained: int) -> EncodeRequests[SplitResult]:
        """Make several examples that fit of an over-long one, as the recipe says. ids: all of it, BOS and EOS too."""
        ...

    def round_trips(
        self, record: Any, split_result: SplitResult, texts: Sequence[Sequence[bytes]], decoder: Decoder
    ) -> bool:
        """Whether what `split` made is the record, and every unit that is not lost is there once.

        texts: of each piece, what its texts decode to by the decoder, which tells what they may decode to.
        """
        ...

    def unsplittable(self, tokens: Lengths, trained: Lengths) -> npt.NDArray[np.bool_]:
        """Which over-long examples `split` makes nothing of, as their lengths alone tell."""
        ...

    def texts(self, record: Any) -> list[str]:
        """The user's own texts, in which special text is looked for."""
        ...

    def template_markers(self) -> tuple[str, ...]:
        """Words of the templates to look for in them."""
        ...

    def hash_keys(self, record: Any) -> tuple[bytes, bytes]:
        """What `validation` groups records by, and what `dedup` compares."""
        ...
