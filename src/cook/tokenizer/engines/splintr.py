"""The default engine: splintr, from a bundled vocabulary (presets) or from a tokenizer.json.

Its batch call recognises special tokens in the text and applies the post-processor. So a tokenizer.json is loaded
without its post-processor and its special added tokens; and on a bundled vocabulary, which also has agent tokens of
splintr's own with ids beyond the model's, the few texts that hold a special string go one by one through
`encode_ordinary`.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence

import numpy as np
import orjson
import splintr

from cook.core.arrays import offsets as run_offsets
from cook.tokenizer.engine import Ids, Offsets, engine_errors
from cook.tokenizer.presets import Preset, load_vocabulary


class SplintrEngine:
    """Encodes a batch in Rust threads, as many as RAYON_NUM_THREADS says when the first batch is encoded."""

    name = "splintr"
    version: str = splintr.__version__

    def __init__(
        self, tokenizer: splintr.AnyTokenizer, special_tokens: Sequence[str] = (), space_added: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self.specials = tuple(special_tokens)
        """What the batch call would take for special tokens: those of a bundled vocabulary."""
        self._special_prefixes = _special_prefixes(special_tokens)
        self._exact_bytes = bool(
            special_tokens
        )  # bundled vocabularies have no normalizer that token_ends must see through
        self._space_added = space_added

    @classmethod
    def from_preset(cls, preset: Preset) -> SplintrEngine:
        """From a bundled vocabulary; no file, no network."""
        tokenizer = load_vocabulary(preset)
        return cls(tokenizer, tuple(tokenizer.special_tokens()), space_added=tokenizer.family == "Spm")

    @classmethod
    def from_json(cls, tokenizer_json: bytes) -> SplintrEngine:
        """From a tokenizer.json. Raises TokenizerError where splintr cannot read it."""
        document = orjson.loads(tokenizer_json)
        added = document.get("added_tokens") or ()
        document["added_tokens"] = [token for token in added if not token.get("special")]
        document |= {"post_processor": None, "truncation": None, "padding": None}
        with engine_errors(f"splintr {cls.version} cannot read this tokenizer.json"):
            return cls(splintr.from_json_bytes(orjson.dumps(document)))

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """See Engine."""
        # Texts that the batch call would get wrong; from a tokenizer.json it prepends its space even to the empty text.
        single_texts = sorted({i for i, text in enumerate(texts) if not text} | self._with_special(texts))
        with engine_errors(f"splintr {self.version} failed on a text"):
            if not single_texts:
                raw_ids, raw_offsets = self._tokenizer.encode_batch_flat(texts)
            else:
                excluded = set(single_texts)
                raw_ids, raw_offsets = self._tokenizer.encode_batch_flat(
                    [text for i, text in enumerate(texts) if i not in excluded]
                )  # first: unlike encode_ordinary, it lets other threads run while what is slow to make is made
                one_by_one = [self._tokenizer.encode_ordinary(texts[i]) if texts[i] else [] for i in single_texts]
        ids, offsets = np.frombuffer(raw_ids, np.uint32), np.frombuffer(raw_offsets, np.uint64).astype(np.int64)
        if not single_texts:
            return ids, offsets
        arrays = [np.array(row, np.uint32) for row in one_by_one]
        before = np.array(single_texts) - np.arange(len(single_texts))  # texts of the batch before each of them
        pieces = np.split(ids, offsets[before])
        merged = [pieces[0], *(part for pair in zip(arrays, pieces[1:], strict=True) for part in pair)]
        lengths = np.insert(np.diff(offsets), before, [len(array) for array in arrays])
        return np.concatenate(merged), run_offsets(lengths)

    def _with_special(self, texts: Sequence[str]) -> set[int]:
        """Which texts hold a special string. The signs are a quick first look: most texts hold none."""
        # Most texts lack the last letter of a sign, too: one letter alone is found ten times as fast.
        return {
            i
            for sign in self._special_prefixes
            for i, text in enumerate(texts)
            if sign[-1] in text and sign in text and self._holds_special(text, sign)
        }

    def _holds_special(self, text: str, sign: str) -> bool:
        """Whether one begins where the sign stands. (No pattern: to compile one takes longer than to load the rest.)"""
        at = text.find(sign)
        while at >= 0:
            if text.startswith(self.specials, at):
                return True
            at = text.find(sign, at + 1)
        return False

    def token_ends(self, text: str) -> Offsets | None:
        """Where tokens end in `text`, in characters, ascending, at character borders only.

        From the bytes of each token, on bundled vocabularies; None where that cannot tell.
        """
        if not self._exact_bytes:
            return None
        utf8 = np.frombuffer(text.encode(), np.uint8)
        token_bytes = self._tokenizer.decode_token_bytes
        sizes = [len(token_bytes(i)) for i in self._tokenizer.encode_ordinary(text)]
        ends = np.cumsum(sizes, dtype=np.int64) - self._space_added
        if len(ends) == 0 or ends[-1] != len(utf8):  # a "▁" in the text itself is three bytes there, one here
            return None
        starts_character = np.append((utf8 & 0xC0) != 0x80, True)
        ends = np.unique(ends[(ends > 0) & starts_character[ends]])
        return np.cumsum(starts_character)[ends] - 1


def _special_prefixes(tokens: Sequence[str]) -> tuple[str, ...]:
    """Strings of which every token begins with one: the common beginnings of those that share two letters.

    >>> _special_prefixes(["<s>", "</s>", "<|user|>", "<|think|>"])
    ('<s>', '</s>', '<|')
    """
    groups: dict[str, list[str]] = {}
    for token in tokens:
        groups.setdefault(token[:2], []).append(token)
    return tuple(os.path.commonprefix(group) for group in groups.values())  # noqa: RUF071 - by character is meant
