"""What a reader would not see, or what steers a terminal, written out: the one rule for all that the command prints.

A sign is written out if it is no sign to see: controls (C0, C1, DEL), every space but the plain one, zero-width signs,
those that turn the direction of writing, separators of lines, lone surrogates (bytes of a name that are no UTF-8),
tags, unassigned and private ones; and variation selectors and fillers, which pass for printable and show nothing.
Letters of every script stay as they are.
"""

from __future__ import annotations

import re

# Marks and letters that show nothing: they pass for printable, but are to be ignored by who draws (Unicode's
# Default_Ignorable_Code_Point, less those that are not printable anyway).
IGNORABLE = frozenset(
    chr(code)
    for first, last in (
        (0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)  # fmt: skip


# What shows nothing where it stands, and is no white space: controls, soft hyphen, zero-width signs, joiners, marks of
# direction, of annotations, of notes and hieroglyphs, tags; and the Braille cell without a dot.
_INVISIBLE = (
    "\0-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\ufeff\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U00013430-\U0001343f\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
) + "".join(sorted(IGNORABLE))
find_visible = re.compile(rf"[^\s{_INVISIBLE}]").search
"""The first sign of a text that is to be seen; None where the text is blank."""


def invisible_chars(text: str) -> set[str]:
    """The signs of a text that are to be written out."""
    if text.isascii() and text.isprintable():
        return set()
    return {sign for sign in set(text) if not sign.isprintable() or sign in IGNORABLE}


def escape_controls(text: str) -> str:
    r"""A text as one line, its unseen signs as Python writes them; of what is escaped, the same.

    >>> print(escape_controls("a\n\x1b[31m \u202e\udcff"))
    a\n\x1b[31m \u202e\udcff
    """
    return text.translate({ord(sign): sign.encode("unicode_escape").decode() for sign in invisible_chars(text)})


def escape_json_controls(document: str) -> str:
    r"""JSON of the same value, whose strings write out, as JSON may, what is unseen.

    >>> print(escape_json_controls('["\u202e", "\U000e0041"]'))
    ["\u202e", "\udb40\udc41"]
    """
    import json

    return document.translate({ord(sign): json.dumps(sign)[1:-1] for sign in invisible_chars(document) - {"\n"}})


def is_encodable(text: str) -> bool:
    """Whether a text has a UTF-8 form: a name of bytes that are none has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
