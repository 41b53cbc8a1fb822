"""Text that means something elsewhere: special tokens and template markers that stand in an entry's own words.

Neither does harm here: cook encodes all text as ordinary text. But who parses what a model writes would take a `</END>`
in an answer for the end of its pair, and other tools would make a control token of `<|eot_id|>`; so they are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import chain

from cook.entries import Entry
from cook.recipe import Recipe

PLACEHOLDER = re.compile(r"\{(?:context|question|answer)\}")


def markers(recipe: Recipe) -> tuple[str, ...]:
    """The words that the templates put around contexts, questions and answers.

    >>> markers(Recipe(datasets="squad", tokenizer="llama3"))
    ('<CON>', '</CON>', '<QUE>', '<ANS>', '</END>')
    """
    templates = (recipe.context_template, recipe.pair_template)
    literal = chain.from_iterable(PLACEHOLDER.split(template) for template in templates)
    words = chain.from_iterable(part.split() for part in literal)
    return tuple(dict.fromkeys(word for word in words if len(word) > 1))  # one sign alone, as in "Q: A -", says nothing


class Marks:
    """Counts the entries whose context, questions or answers hold such strings."""

    def __init__(self, markers: Iterable[str], specials: Collection[str]) -> None:
        self.by_marker = dict.fromkeys(markers, 0)
        """For each marker, the entries that hold it."""
        self.special = 0
        """Entries that hold a special token's text."""
        self._specials = re.compile("|".join(map(re.escape, specials))) if specials else None
        every = {*self.by_marker, *specials}
        self._any = re.compile("|".join(map(re.escape, every))) if every else None
        # The quick look: a line of JSON without these holds none. `\u`: any letter may be written as its number.
        self._signs = {string[0].encode() for string in every} | {b"\\u"}

    def look(self, line: bytes, entry: Entry) -> None:
        """Count an entry, of which `line` is the JSON."""
        if self._any is None or not any(sign in line for sign in self._signs):
            return
        text = "\0".join((entry.context, *chain.from_iterable(entry.pairs)))
        if self._any.search(text):
            for marker in self.by_marker:
                self.by_marker[marker] += marker in text
            self.special += bool(self._specials and self._specials.search(text))
