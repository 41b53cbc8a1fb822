"""Text that means something elsewhere: special tokens and template markers that stand in an entry's own words.

Neither does harm here: cook encodes all text as ordinary text. But who parses what a model writes would take a `</END>`
in an answer for the end of its pair, and other tools would make a control token of `<|eot_id|>`; so they are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import repeat
from operator import contains

NEVER_MATCHES = "(?!)"  # a pattern that is found nowhere


class SpecialTextCounter:
    """Counts the entries whose texts hold such strings."""

    def __init__(self, markers: Iterable[str], specials: Collection[str]) -> None:
        self.marker_counts = dict.fromkeys(markers, 0)
        """For each marker, the entries that hold it."""
        self.special_count = 0
        """Entries that hold a special token's text."""
        self._strings = [string for string in specials if string]
        every = {*self.marker_counts, *self._strings}
        self._letters = {string[0] for string in every}
        heads = sorted({re.escape(string[:2]) for string in every})
        self._heads = re.compile("|".join(heads) or NEVER_MATCHES)

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        """Compiled when a text may hold one: for some hundred strings that takes as long as to format ten thousand."""
        return re.compile("|".join(map(re.escape, self._strings)) or NEVER_MATCHES)

    def count(self, texts: list[str]) -> None:
        """Count an entry of these texts. Most hold none of the letters that strings begin with: a quick first look."""
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
