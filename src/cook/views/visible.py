"""Text in which nothing is invisible: what a reader would not see is written out, and what commands a terminal too.

    spaces at the ends of a line, or several together   ␣ each
    tab, newline                                        ⇥, ↵
    any other character that is no sign: controls (C0, C1), other spaces, zero-width ones, those that
    turn the direction of writing, unassigned and private ones; and the signs of this table   ⟦U+200B⟧
    a byte that is no text                              ⟦FF⟧

So what stands between ⟦ and ⟧ is never the text's own.
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
    """A stretch of text as it is shown."""

    text: str
    mark: bool
    """Whether it stands for something invisible."""


def visible_pieces(text: str) -> Iterator[Piece]:
    """A text, decoded with "surrogateescape", as pieces; a newline's mark is followed by the newline."""
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
    """The pieces of a text of more than `head` and `tail` letters with the rest left out, which a mark says."""
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
    """Likewise, of a name or a heading: without line breaks."""
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
