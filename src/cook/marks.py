"""Text that means something elsewhere: special tokens and template markers that stand in an entry's own words.

Neither does harm here: cook encodes all text as ordinary text. But who parses what a model writes would take a `</END>`
in an answer for the end of its pair, and other tools would make a control token of `<|eot_id|>`; so they are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import chain

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
        # The quick look, at a line of JSON: what holds no two letters that a string begins with, as they are written,
        # holds none, unless a letter is written as its number; and one letter alone is found ten times as fast.
        self._letters = {_in_json(string[0]) for string in every}
        self._heads = re.compile(b"|".join(sorted({_as_written(string[:2]) for string in every})) or NOTHING.encode())
        self._number = b"\\u00" if all(map(str.isascii, every)) else b"\\u"

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        """Compiled when a text may hold one: for some hundred strings that takes as long as to format ten thousand."""
        return re.compile("|".join(map(re.escape, self._strings)) or NOTHING)

    def look(self, line: bytes, entry: Entry) -> None:
        """Count an entry, of which `line` is the JSON."""
        lettered = any(letter in line for letter in self._letters)
        if not (lettered and self._heads.search(line)) and self._number not in line:
            return
        text = "\0".join((entry.context, *chain.from_iterable(entry.pairs)))
        for marker in self.by_marker:
            self.by_marker[marker] += marker in text
        self.special += bool(self._specials.search(text))


def _as_written(string: str) -> bytes:
    """A pattern for a string as it stands in JSON."""
    return re.escape(_in_json(string)).replace(b"/", rb"\\?/")


def _in_json(string: str) -> bytes:
    return json.dumps(string, ensure_ascii=False)[1:-1].encode()
