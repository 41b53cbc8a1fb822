"""What of a text a tokenizer cannot hold: counted, character by character, and held against a limit.

A byte-level vocabulary, or one with a token for every byte, holds all text. Of any other each text is decoded, at the
speed of numpy; where that is not the text, the reference says which of its characters have no token but the unknown.
White space is not counted: many tokenizers split at it and drop it.
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

MAX_COMMONEST = 10


class UnknownCharacters:
    """Counts what is lost of texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.characters = 0
        """Of all texts."""
        self.lost = Counter[str]()
        self._tokenizer = tokenizer
        self._decoder = None if tokenizer.covers_all_text else Decoder(tokenizer, load_engine(tokenizer))

    def count(self, texts: Sequence[str], ids: Ids, offsets: Offsets) -> None:
        """Count texts, and their ids."""
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
    """The manifest's count of what is lost; nothing where all is held."""
    if not lost:
        return {}
    return {
        "unknown": {"characters": lost, "of": characters, "commonest": dict(by_frequency(commonest)[:MAX_COMMONEST])}
    }


def describe(unknown: Mapping[str, int | Mapping[str, int]]) -> str:
    """A manifest's count in words, without its noun."""
    lost, every, commonest = unknown["characters"], unknown["of"], unknown["commonest"]
    assert isinstance(lost, int)
    assert isinstance(every, int)
    assert isinstance(commonest, Mapping)
    named = ", ".join(f"{ascii(c)[1:-1] if not c.isprintable() else c} ({n:,})" for c, n in by_frequency(commonest))
    return f"{lost:,} of {every:,} characters ({lost / every:.1%}) are none that the tokenizer holds: {named}"


def enforce_max_unknown(recipe: Recipe, name: str, found: Mapping[str, Mapping[str, int | Mapping[str, int]]]) -> None:
    """Raise InputError where a dataset of these counts loses more than the recipe allows."""
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
