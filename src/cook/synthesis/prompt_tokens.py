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
from cook.shapes.protocol import boundary_ids
from cook.synthesis.raw_texts import RawText
from cook.synthesis.rounds import Row, pairs_of
from cook.tokenizer.engine import Ids
from cook.tokenizer.loading import Tokenizer, checked_encoder, load_engine, token_ends

DROP, TRUNCATE, ERROR = OVERLONG = ("drop", "truncate", "error")


@dataclasses.dataclass
class PendingText:
    """A text of a round, with its chain."""

    chain: int
    raw_text: RawText | None  # None: the round has no text for the chain
    custom_id: str
    rows: list[Row]
    history: list[Row]  # what of the rows would go before it
    context: str


@dataclasses.dataclass
class PromptIds:
    """The ids of a prompt's parts, BOS and EOS in place."""

    own: Ids
    history_ids: list[Ids]
    tokens: int  # of the whole text as its own input, however long it is
    cut: bool = False  # whether the context was cut to the head that fits


class PromptBuilder:
    """Makes prompts of at most `room` tokens."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, room: int, overlong: str, as_text: bool) -> None:
        self.room = room
        self._tokenizer, self._overlong, self._as_text = tokenizer, overlong, as_text
        self._formatter = Formatter(recipe)
        self._bos, self._eos = boundary_ids(tokenizer)
        strings = sorted((token for token, _ in tokenizer.specials), key=len, reverse=True) if as_text else []
        self._control = re.compile("|".join(map(re.escape, strings))) if strings else None

    def build(self, batch: list[PendingText]) -> list[PromptIds]:
        """The parts of each text's prompt. A context that is too long is cut, if that is asked for.

        Raises TooLong, where that is asked for, and TokenizerError.
        """
        encode = checked_encoder(load_engine(self._tokenizer), self._tokenizer)
        parts = [[self._texts_of(row) for row in each.history] for each in batch]
        texts = []
        for each, past in zip(batch, parts, strict=True):
            texts += [self._formatter.input_text(each.context), *itertools.chain.from_iterable(past)]
        ids, offsets = encode(texts)
        pieces = iter([ids[a:b] for a, b in itertools.pairwise(offsets.tolist())])
        built = []
        for past in parts:
            own = np.concatenate([self._bos, next(pieces)])
            before = [p for part in past for p in (self._bos, *itertools.islice(pieces, len(part)), self._eos)]
            built.append(PromptIds(own, before, len(own)))
        if self._overlong != DROP:
            self._truncate_contexts(batch, built)
        return built

    def text(self, each: PendingText, follows: bool) -> str:
        """A prompt as text, BOS and EOS as their strings."""
        bos, eos = self._tokenizer.bos or "", self._tokenizer.eos
        history = [bos + "".join(self._texts_of(row)) + eos for row in each.history] if follows else []
        return "".join([*history, bos, self._formatter.input_text(each.context)])

    def contains_special_token(self, context: str) -> bool:
        """Whether a server would read a control token out of a context."""
        return bool(self._control and self._control.search(context))

    def history_contains_special_token(self, history: list[Row]) -> bool:
        """Likewise, out of earlier entries."""
        return any(self.contains_special_token(text) for row in history for text in self._texts_of(row))

    def _texts_of(self, row: Row) -> list[str]:
        """What of an earlier entry is encoded: its input and its output, or both in one."""
        texts = [self._formatter.input_text(row["context"]), self._formatter.output_text(pairs_of(row))]
        return ["".join(texts)] if self._as_text else texts

    def _truncate_contexts(self, batch: list[PendingText], built: list[PromptIds]) -> None:
        """Cut the contexts that no prompt has room for to the heads that fit; where none fits, it is left as it is."""
        long = [at for at, each in enumerate(batch) if each.raw_text and built[at].tokens > self.room]
        if long and self._overlong == ERROR:
            raw_text = batch[long[0]].raw_text
            assert raw_text is not None
            raise TooLong(
                f"{raw_text.file.path}:{raw_text.line}: its prompt has {built[long[0]].tokens:,} tokens; at most "
                f"{self.room:,} leave room for the new ones, and --overlong is error. Raise --max-length, or pass "
                "--overlong drop or truncate."
            )
        ends, room = token_ends(self._tokenizer), self.room - len(self._bos)
        steps = []
        for at in long:
            context = batch[at].context
            cuts = splitting.cut_points(context, self._formatter, ends)
            steps.append(splitting.longest_fitting_prefix(context, cuts, self._formatter, room))
        heads = splitting.run_batched(steps, checked_encoder(load_engine(self._tokenizer), self._tokenizer))
        for at, head in zip(long, heads, strict=True):
            if head is not None:
                batch[at].context, ids = head
                built[at] = dataclasses.replace(built[at], own=np.concatenate([self._bos, ids]), cut=True)
