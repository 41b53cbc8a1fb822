"""Text -> pieces in which invisible characters and terminal controls are replaced by visible marks.

    spaces at an end of a line, or several together     ␣ each
    tab, newline                                        ⇥, ↵
    controls (C0, C1), other spaces, zero-width characters, marks of writing direction, unassigned and
    private characters, and the signs of this table     ⟦U+200B⟧
    a byte that is not UTF-8                            ⟦FF⟧

So text between ⟦ and ⟧ is always a mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from cook.core.escapes import invisible_chars

OPEN, CLOSE = "⟦⟧"
SPACE, TAB, NEWLINE = "␣⇥↵"
SIGNS = frozenset((OPEN, CLOSE, SPACE, TAB, NEWLINE))


class Piece(NamedTuple):
    """A stretch of text to print."""

    text: str
    mark: bool
    """Whether it is a mark."""


def visible_pieces(text: str) -> Iterator[Piece]:
    """The pieces of a text that was decoded with "surrogateescape". A newline stays after its mark."""
    signs = sorted(invisible_chars(text) | (SIGNS & set(text)))
    pattern = r"^ +| +$| {2,}" + (f"|[{''.join(map(re.escape, signs))}]" if signs else "")
    end = 0
    for found in re.finditer(pattern, text, re.MULTILINE):
        if found.start() > end:
            yield Piece(text[end : found.start()], False)
        yield Piece(_mark(found[0]), True)
        end = found.end()
    if end < len(text):
        yield Piece(text[end:], False)


def abbreviated(text: str, head: int, tail: int, hint: str = "") -> Iterator[Piece]:
    """The pieces of a text. If it is longer than `head` + `tail` letters, a mark replaces its middle."""
    left = len(text) - head - tail
    if left <= 0:
        yield from visible_pieces(text)
        return
    yield from visible_pieces(text[:head])
    yield Piece(f"\n{OPEN}… {left:,} letters left out{hint} …{CLOSE}\n", True)
    yield from visible_pieces(text[-tail:])


def visible(text: str) -> str:
    r"""A text with its marks, in one string.

    >>> visible("a\tb \x1b[2J")
    'a⇥b ⟦U+001B⟧[2J'
    """
    return "".join(piece.text for piece in visible_pieces(text))


def one_line(text: str) -> str:
    """A text with its marks and without line breaks, for names and headings."""
    return visible(text).replace("\n", "")


def is_right_to_left(text: str) -> bool:
    """Whether a text holds letters that are written from right to left.

    >>> [is_right_to_left(text) for text in ("abc", "אב", "a ب")]
    [False, True, True]
    """
    return not text.isascii() and any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)


def _mark(text: str) -> str:
    if text[0] == " ":
        return SPACE * len(text)
    if text == "\n":
        return NEWLINE + "\n"
    if text == "\t":
        return TAB
    code = ord(text)
    return f"{OPEN}{code - 0xDC00:02X}{CLOSE}" if 0xDC80 <= code <= 0xDCFF else f"{OPEN}U+{code:04X}{CLOSE}"
