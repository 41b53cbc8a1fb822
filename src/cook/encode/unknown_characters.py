"""Count the characters that a tokenizer lacks, and enforce the limit on their share.

A byte-level vocabulary, or one with a token for every byte, lacks none. For other vocabularies each text is decoded in
numpy. If the result is not the text, the reference engine tells which characters have no token but the unknown one.
White space does not count: many tokenizers split at it and drop it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cook.core.errors import InputError
from cook.core.recipe import Recipe
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.engine import Ids, Offsets
from cook.tokenizer.loading import Tokenizer, load_engine, reference_engine

MAX_COMMONEST = 10  # characters that the manifest lists


class UnknownCharacters:
    """Counts the characters of texts, and those that the tokenizer lacks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.characters = 0
        """Characters of all texts."""
        self.lost = Counter[str]()
        self._tokenizer = tokenizer
        self._decoder = None if tokenizer.covers_all_text else Decoder(tokenizer, load_engine(tokenizer))

    def count(self, texts: Sequence[str], ids: Ids, offsets: Offsets) -> None:
        """Count texts. `ids` and `offsets` are what they are encoded as."""
        self.characters += sum(map(len, texts))
        if self._decoder is None:
            return
        decoded, sizes = self._decoder.decode(ids, np.diff(offsets))
        suspects = np.flatnonzero(~self._decoder.matches(decoded, sizes, texts)).tolist()
        if suspects:
            engine = reference_engine(self._tokenizer)
            self.lost += engine.uncovered_chars([texts[at] for at in suspects], self._tokenizer.unk_id)


def by_frequency(lost: Mapping[str, int]) -> list[tuple[str, int]]:
    """Characters with their counts, the commonest first."""
    return sorted(lost.items(), key=lambda item: (-item[1], item[0]))


def unknown_counts(characters: int, lost: int, commonest: Mapping[str, int]) -> dict[str, object]:
    """The manifest's field `unknown`, if the tokenizer lacks a character; else nothing."""
    if not lost:
        return {}
    return {
        "unknown": {"characters": lost, "of": characters, "commonest": dict(by_frequency(commonest)[:MAX_COMMONEST])}
    }


def describe(unknown: Mapping[str, int | Mapping[str, int]]) -> str:
    """The manifest's field `unknown` in words."""
    lost, every, commonest = unknown["characters"], unknown["of"], unknown["commonest"]
    assert isinstance(lost, int)
    assert isinstance(every, int)
    assert isinstance(commonest, Mapping)
    named = ", ".join(f"{ascii(c)[1:-1] if not c.isprintable() else c} ({n:,})" for c, n in by_frequency(commonest))
    return f"{lost:,} of {every:,} characters ({lost / every:.1%}) are none that the tokenizer holds: {named}"


def enforce_max_unknown(recipe: Recipe, name: str, found: Mapping[str, Mapping[str, int | Mapping[str, int]]]) -> None:
    """Raise InputError if the dataset with these counts loses more characters than the recipe allows."""
    if not (unknown := found.get("unknown")):
        return
    lost, every = unknown["characters"], unknown["of"]
    assert isinstance(lost, int)
    assert isinstance(every, int)
    if lost / every > recipe.max_unknown:
        raise InputError(
            f"{name}: {describe(unknown)}; at most {recipe.max_unknown:.1%} may be lost. Pass a tokenizer for its "
            f"language, or accept the loss with --max-unknown {min(1.0, lost / every + 0.001):.3f}"
        )
