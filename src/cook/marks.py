"""Text that means something elsewhere: special tokens and template markers that stand in an entry's own words.

Neither does harm here: cook encodes all text as ordinary text. But who parses what a model writes would take a `</END>`
in an answer for the end of its pair, and other tools would make a control token of `<|eot_id|>`; so they are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import chain, repeat
from operator import contains

from cook.entries import Entry
from cook.recipe import Recipe

NOTHING = "(?!)"  # a pattern that is found nowhere
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
        self._strings = specials
        every = {*self.by_marker, *specials}
        self._letters = {string[0] for string in every}
        heads = sorted({re.escape(string[:2]) for string in every})
        self._heads = re.compile("|".join(heads) or NOTHING)

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        """Compiled when a text may hold one: for some hundred strings that takes as long as to format ten thousand."""
        return re.compile("|".join(map(re.escape, self._strings)) or NOTHING)

    def look(self, entry: Entry) -> None:
        """Count an entry. Most hold none of the letters that strings begin with, and one letter is found at once."""
        sides = [entry.context, *chain.from_iterable(entry.pairs)]
        for letter in self._letters:
            if True in map(contains, sides, repeat(letter)):
                break
        else:
            return
        text = "\0".join(sides)
        if not self._heads.search(text):
            return
        for marker in self.by_marker:
            self.by_marker[marker] += marker in text
        self.special += bool(self._specials.search(text))
