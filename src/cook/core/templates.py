"""Templates with named fields, compiled for substitution in one pass."""

from __future__ import annotations

import re


def compile_template(template: str, fields: tuple[str, ...]) -> str:
    """A format string for `str.format` with one positional argument a field; every other brace is literal.

    >>> compile_template("{a {question}: {answer}", ("question", "answer"))
    '{{a {0}: {1}'
    """
    pattern = "|".join(re.escape("{" + field + "}") for field in fields)
    parts = re.split(f"({pattern})", template)
    literal = [part.replace("{", "{{").replace("}", "}}") for part in parts]
    literal[1::2] = ["{" + str(fields.index(part[1:-1])) + "}" for part in parts[1::2]]
    return "".join(literal)
