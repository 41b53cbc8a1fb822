"""A sequence -> its examples, each in parts that are context, trained text, or one special token."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cook.store.outputs import Sequence
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.loading import REFERENCE_ENGINE, added_ids, load_engine, resolve_recorded
from cook.views.outputs import Output


@dataclasses.dataclass(frozen=True)
class Token:
    """One token."""

    id: int
    mask: int
    text: str
    """Bytes that are not whole characters are surrogates, by the error handler "surrogateescape"."""
    special: bool
    added: bool = False
    """Whether it is an added token, special or not: the tokenizer takes its text as one piece."""


@dataclasses.dataclass(frozen=True)
class TextPart:
    """A stretch of one example of one kind."""

    kind: str
    """context, trained, or special (one special token)."""
    text: str
    begin: int
    """Its first token in the sequence."""
    end: int
    trained: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """One example of a sequence."""

    place: str
    """Its source, as FILE:LINE."""
    begin: int
    end: int
    trained_tokens: int
    parts: tuple[TextPart, ...]
    goes_on: bool = False
    """Whether it continues the text of an earlier piece."""
    cut: bool = False
    """Whether its text continues in another piece."""


class SequenceDecoder:
    """Decodes sequences by the tokenizer that a manifest records, or `named`. Raises TokenizerError."""

    def __init__(self, recorded: dict[str, Any], named: str | None = None) -> None:
        tokenizer = resolve_recorded(recorded, named)
        engine = "splintr" if tokenizer.preset else REFERENCE_ENGINE
        self._decoder = Decoder(tokenizer, load_engine(tokenizer._replace(engine=engine)))
        names = dict(tokenizer.specials) | {text: i for text, i in ((tokenizer.bos, tokenizer.bos_id),) if text}
        self.specials = {i: text for text, i in names.items() if i is not None} | {tokenizer.eos_id: tokenizer.eos}
        """The text of each special token, by id."""
        self._special = np.zeros(tokenizer.vocab_size, bool)
        self._special[list(self.specials)] = True
        self._added = added_ids(tokenizer) | set(self.specials)
        # The tokenizer may put a space before a text; it is not part of the text.
        self._before_space = self._decoder.expected_bytes(" a").removesuffix(b" a")
        self._before = self._decoder.expected_bytes("a").removesuffix(b"a")

    def decode_part(self, ids: npt.NDArray[np.int32]) -> str:
        """The text of a part, without the space that the tokenizer puts before it."""
        raw = self._decoder.decode(ids)[0].tobytes()
        before = self._before_space if raw.startswith(self._before_space + b" ") else self._before
        return raw.removeprefix(before).decode(errors="surrogateescape")

    def decode_bytes(self, ids: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of successive texts; `sizes` are the numbers of their ids. Special tokens have no bytes."""
        decoded, lengths = self._decoder.decode(ids, sizes)
        raw, at = decoded.tobytes(), 0
        for length in lengths.tolist():
            yield raw[at : at + length]
            at += length

    def tokens(self, sequence: Sequence, begin: int, end: int) -> Iterator[Token]:
        """The tokens of a range of a sequence, each with its own text."""
        ids = sequence.input_ids[begin:end]
        texts = self.decode_bytes(ids, np.ones(len(ids), np.int64))
        for i, mask, raw in zip(ids.tolist(), sequence.loss_mask[begin:end].tolist(), texts, strict=True):
            text = raw.decode(errors="surrogateescape")
            yield Token(i, mask, self.specials.get(i, text), i in self.specials, i in self._added)

    def examples(self, sequence: Sequence, output: Output) -> Iterator[Example]:
        """The examples of a sequence, with their text."""
        ends = np.cumsum(sequence.seq_lengths).tolist()
        places = zip(sequence.source_shard.tolist(), sequence.source_line.tolist(), strict=True)
        begin = 0
        for end, (shard, line) in zip(ends, places, strict=True):
            trained = int(sequence.loss_mask[begin:end].sum())
            parts = tuple(self._parts(sequence, begin, end))
            place = output.source_location(sequence.dataset, shard, line)
            yield Example(place, begin, end, trained, parts, *self._continuation(sequence, begin, end, output))
            begin = end

    @staticmethod
    def _continuation(sequence: Sequence, begin: int, end: int, output: Output) -> tuple[bool, bool]:
        """Whether an example continues the text of another, and whether its text continues after it."""
        if not output.is_corpus(sequence.dataset):
            return False, False
        recorded = output.manifest["tokenizer"]
        ids = sequence.input_ids
        return recorded["bos_id"] not in (None, ids[begin]), bool(ids[end - 1] != recorded["eos_id"])

    def _parts(self, sequence: Sequence, begin: int, end: int) -> Iterator[TextPart]:
        ids, mask = sequence.input_ids[begin:end], sequence.loss_mask[begin:end]
        special = self._special[ids]
        borders = (np.diff(mask) != 0) | special[1:] | special[:-1]
        bounds = [0, *(np.flatnonzero(borders) + 1).tolist(), end - begin]
        for first, last in itertools.pairwise(bounds):
            trained = bool(mask[first])
            if special[first]:
                kind, text = "special", self.specials[int(ids[first])]
            else:
                kind, text = "trained" if trained else "context", self.decode_part(ids[first:last])
            yield TextPart(kind, text, begin + first, begin + last, trained)
