"""The reference engine: Hugging Face tokenizers on a model's own tokenizer.json.

Right by definition, and slow: it makes Python lists of ids, at 2 to 3 MB a second on two cores.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cook.core.arrays import offsets
from cook.tokenizer.control import HIDDEN_MARKER, hidden_name
from cook.tokenizer.engine import Ids, Offsets, engine_errors


class HfEngine:
    """Encodes with `encode_special_tokens=True`, `add_special_tokens=False`, no truncation and no padding."""

    name = "hf"

    def __init__(self, tokenizer_json: bytes) -> None:
        import tokenizers

        self.version: str = tokenizers.__version__
        with engine_errors(f"tokenizers {self.version} cannot read this tokenizer.json"):
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._hidden_names = [
            token.content for token in added if token.content == hidden_name(token.content.strip(HIDDEN_MARKER))
        ]
        unnormalized = [token.content for token in added if not token.special and not token.normalized]
        self._unnormalized_pattern = (
            re.compile("(" + "|".join(map(re.escape, sorted(unnormalized, key=len, reverse=True))) + ")")
            if unnormalized
            else None
        )

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """See Engine."""
        arrays = [
            np.array(encoding.ids, np.uint32) for encoding in self._encode_batch(list(texts), "encode_batch_fast")
        ]
        return np.concatenate([*arrays, np.empty(0, np.uint32)]), offsets([len(ids) for ids in arrays])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens as they are written."""
        if self._tokenizer.decoder is None:  # a preset's of the Llama 2 family is made without one
            from tokenizers import decoders

            pieces = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
            self._tokenizer.decoder = decoders.Sequence(list(pieces))
        with engine_errors(f"tokenizers {self.version} failed on ids"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        for name in self._hidden_names if HIDDEN_MARKER in text else ():
            text = text.replace(name, name.strip(HIDDEN_MARKER))
        return text

    def ids_of(self, tokens: Sequence[str]) -> list[int | None]:
        """The ids that the library gives tokens by their names."""
        known = self._tokenizer.token_to_id
        return [known(token) if (i := known(hidden_name(token))) is None else i for token in tokens]

    def normalize(self, text: str) -> str:
        """The normal form of a text: what the tokenizer's normalizer makes of it, but for added tokens."""
        normalizer = self._tokenizer.normalizer
        if normalizer is None:
            return text
        parts = self._unnormalized_pattern.split(text) if self._unnormalized_pattern else [text]
        return "".join(part if i % 2 else normalizer.normalize_str(part) for i, part in enumerate(parts))

    def uncovered_chars(self, texts: Sequence[str], unknown: int | None) -> Counter[str]:
        """The characters of texts that no token holds but the unknown; not white space, which pre-tokenizers take."""
        uncovered: Counter[str] = Counter()
        for text, encoding in zip(texts, self._encode_batch(list(texts), "encode_batch"), strict=True):
            spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
            is_known = np.array(encoding.ids, np.int64) != (-1 if unknown is None else unknown)
            held = np.zeros(len(text) + 1, np.int64)
            np.add.at(held, spans[is_known, 0], 1)
            np.add.at(held, spans[is_known, 1], -1)
            gone = np.zeros(len(text) + 1, np.int64)
            np.add.at(gone, spans[~is_known, 0], 1)
            np.add.at(gone, spans[~is_known, 1], -1)
            left = (np.cumsum(held)[:-1] <= 0).nonzero()[0].tolist()
            is_gone = np.cumsum(gone) > 0
            for at in left:
                letter = text[at]
                # A mark that joins the letter before it has its place in that one's token.
                if not letter.isspace() and (is_gone[at] or not unicodedata.combining(letter)):
                    uncovered[letter] += 1
        return uncovered

    def token_ends(self, text: str) -> Offsets:
        """Where tokens end in `text`, in characters, ascending, at character borders only."""
        spans = np.array(self._encode_batch([text], "encode_batch")[0].offsets, np.int64).reshape(-1, 2)
        if not len(spans):
            return spans[:, 0]
        # Tokens that share a character (its bytes are several tokens) all get its whole span: only the last ends it.
        ends = spans[:, 1]
        is_end = np.append(spans[1:, 0] >= ends[:-1], True)
        return np.unique(ends[is_end])

    def _encode_batch(self, texts: list[str], method: str) -> list[Any]:
        with engine_errors(f"tokenizers {self.version} failed on a text"):
            encodings: list[Any] = getattr(self._tokenizer, method)(texts, add_special_tokens=False)
        return encodings
