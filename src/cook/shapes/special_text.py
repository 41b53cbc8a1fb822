"""Count entries whose own text holds a special token or a template marker.

Both are harmless in cook, which encodes all text as ordinary text. But a parser of a model's output takes `</END>` in
an answer for the end of the pair, and other tools turn `<|eot_id|>` into a control token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import repeat
from operator import contains

NEVER_MATCHES = "(?!)"  # a pattern that matches nothing


class SpecialTextCounter:
    """Counts the entries whose texts hold markers or special tokens."""

    def __init__(self, markers: Iterable[str], specials: Collection[str]) -> None:
        self.marker_counts = dict.fromkeys(markers, 0)
        """For each marker, the entries with it."""
        self.special_count = 0
        """Entries with the text of a special token."""
        self._strings = [string for string in specials if string]
        every = {*self.marker_counts, *self._strings}
        self._letters = {string[0] for string in every}
        heads = sorted({re.escape(string[:2]) for string in every})
        self._heads = re.compile("|".join(heads) or NEVER_MATCHES)

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        """All special tokens. Compiled on first use: that takes as long as formatting ten thousand entries."""
        return re.compile("|".join(map(re.escape, self._strings)) or NEVER_MATCHES)

    def count(self, texts: list[str]) -> None:
        """Count an entry with these texts. The first check is fast: most texts hold no first letter of a string."""
        for letter in self._letters:
            if True in map(contains, texts, repeat(letter)):
                break
        else:
            return
        text = "\0".join(texts)
        if not self._heads.search(text):
            return
        for marker in self.marker_counts:
            self.marker_counts[marker] += marker in text
        self.special_count += bool(self._specials.search(text))
