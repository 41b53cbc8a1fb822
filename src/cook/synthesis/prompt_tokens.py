"""Texts with their chains -> the ids and the text of prompts; nothing here knows files.

Encodes a batch in one call. Where a server will encode the text (`requests`), an earlier entry is one text between
BOS and EOS, as it is for the server; else its input and output are encoded apart, as they are cooked.
"""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np

from cook.core.errors import TooLong
from cook.core.recipe import Recipe
from cook.shapes import splitting
from cook.shapes.formatter import Formatter
from cook.synthesis.raw_texts import Raw
from cook.synthesis.rounds import Row, pairs_of
from cook.tokenizer.engine import Ids
from cook.tokenizer.loading import Tokenizer, checked, load_engine, token_ends

DROP, TRUNCATE, ERROR = OVERLONG = ("drop", "truncate", "error")


@dataclasses.dataclass
class Waiting:
    """A text of a round, with its chain."""

    chain: int
    place: Raw | None  # None: the round has no text for the chain
    custom_id: str
    rows: list[Row]
    past: list[Row]  # what of the rows would go before it
    context: str


@dataclasses.dataclass
class Built:
    """The ids of a prompt's parts, BOS and EOS in place."""

    own: Ids
    past: list[Ids]
    tokens: int  # of the whole text as its own input, however long it is
    cut: bool = False  # whether the context was cut to the head that fits


class Builder:
    """Makes prompts of at most `room` tokens."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, room: int, how: str, as_text: bool) -> None:
        self.room = room
        self._tokenizer, self._how, self._as_text = tokenizer, how, as_text
        self._formatter = Formatter(recipe)
        self._bos = np.array([] if tokenizer.bos_id is None else [tokenizer.bos_id], np.uint32)
        self._eos = np.array([tokenizer.eos_id], np.uint32)
        strings = sorted((token for token, _ in tokenizer.specials), key=len, reverse=True) if as_text else []
        self._control = re.compile("|".join(map(re.escape, strings))) if strings else None

    def build(self, batch: list[Waiting]) -> list[Built]:
        """The parts of each text's prompt. A context that is too long is cut, if that is asked for.

        Raises TooLong, where that is asked for, and TokenizerError.
        """
        encode = checked(load_engine(self._tokenizer), self._tokenizer)
        parts = [[self._texts_of(row) for row in each.past] for each in batch]
        texts = []
        for each, past in zip(batch, parts, strict=True):
            texts += [self._formatter.input_text(each.context), *itertools.chain.from_iterable(past)]
        ids, offsets = encode(texts)
        pieces = iter([ids[a:b] for a, b in itertools.pairwise(offsets.tolist())])
        built = []
        for past in parts:
            own = np.concatenate([self._bos, next(pieces)])
            before = [p for part in past for p in (self._bos, *itertools.islice(pieces, len(part)), self._eos)]
            built.append(Built(own, before, len(own)))
        if self._how != DROP:
            self._shorten(batch, built)
        return built

    def text(self, each: Waiting, follows: bool) -> str:
        """A prompt as text, BOS and EOS as their strings."""
        bos, eos = self._tokenizer.bos or "", self._tokenizer.eos
        past = [bos + "".join(self._texts_of(row)) + eos for row in each.past] if follows else []
        return "".join([*past, bos, self._formatter.input_text(each.context)])

    def forges(self, context: str) -> bool:
        """Whether a server would read a control token out of a context."""
        return bool(self._control and self._control.search(context))

    def past_forges(self, past: list[Row]) -> bool:
        """Likewise, out of earlier entries."""
        return any(self.forges(text) for row in past for text in self._texts_of(row))

    def _texts_of(self, row: Row) -> list[str]:
        """What of an earlier entry is encoded: its input and its output, or both in one."""
        texts = [self._formatter.input_text(row["context"]), self._formatter.output_text(pairs_of(row))]
        return ["".join(texts)] if self._as_text else texts

    def _shorten(self, batch: list[Waiting], built: list[Built]) -> None:
        """Cut the contexts that no prompt has room for to the heads that fit; where none fits, it is left as it is."""
        long = [at for at, each in enumerate(batch) if each.place and built[at].tokens > self.room]
        if long and self._how == ERROR:
            place = batch[long[0]].place
            assert place is not None
            raise TooLong(
                f"{place.file.path}:{place.line}: its prompt has {built[long[0]].tokens:,} tokens; at most "
                f"{self.room:,} leave room for the new ones, and --overlong is error. Raise --max-length, or pass "
                "--overlong drop or truncate."
            )
        ends, room = token_ends(self._tokenizer), self.room - len(self._bos)
        steps = []
        for at in long:
            context = batch[at].context
            cuts = splitting.cuts_of(context, self._formatter, ends)
            steps.append(splitting.cut(context, cuts, self._formatter, room))
        heads = splitting.run(steps, checked(load_engine(self._tokenizer), self._tokenizer))
        for at, head in zip(long, heads, strict=True):
            if head is not None:
                batch[at].context, ids = head
                built[at] = dataclasses.replace(built[at], own=np.concatenate([self._bos, ids]), cut=True)
