"""Text that means something elsewhere: special tokens and template markers that stand in an entry's own words.

Neither does harm here: cook encodes all text as ordinary text. But who parses what a model writes would take a `</END>`
in an answer for the end of its pair, and other tools would make a control token of `<|eot_id|>`; so they are counted.
"""

from __future__ import annotations

import json
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
        # The quick look, at a line of JSON: what holds no string as it is written holds none, unless a letter of one is
        # written as its number; and one letter alone is found ten times as fast.
        self._letters = {_in_json(string[0]) for string in every}
        self._written = re.compile(b"|".join(map(_as_written, every))) if every else None
        self._number = b"\\u00" if all(map(str.isascii, every)) else b"\\u"

    def look(self, line: bytes, entry: Entry) -> None:
        """Count an entry, of which `line` is the JSON."""
        if self._any is None or self._written is None:
            return
        lettered = any(letter in line for letter in self._letters)
        if not (lettered and self._written.search(line)) and self._number not in line:
            return
        text = "\0".join((entry.context, *chain.from_iterable(entry.pairs)))
        if self._any.search(text):
            for marker in self.by_marker:
                self.by_marker[marker] += marker in text
            self.special += bool(self._specials and self._specials.search(text))


def _as_written(string: str) -> bytes:
    """A pattern for a string as it stands in JSON."""
    return re.escape(_in_json(string)).replace(b"/", rb"\\?/")


def _in_json(string: str) -> bytes:
    return json.dumps(string, ensure_ascii=False)[1:-1].encode()
