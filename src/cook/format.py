r"""Entry + templates -> the text of an input and of an output. Pure; nothing is stripped or normalised.

    input  = BOS + " <CON> {context} </CON>" + "\n\n"
    output = "\n\n".join("<QUE> {question} <ANS> {answer} </END>" for each pair) + EOS

BOS and EOS are no part of these texts: they enter as ids, in `tokenize`. The templates are those of the context-based
instruction synthesizer (Instruction Pre-Training, arXiv 2406.14491).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cook.recipe import Recipe

Pair = tuple[str, str]  # question, answer


class Formatter:
    """The templates of a recipe, compiled so that substitution is one pass over each.

    A text that itself holds "{context}", "{question}" or "{answer}" stays as written.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.delimiter = recipe.delimiter
        self._context = compile_template(recipe.context_template, ("context",)).format
        self._pair = compile_template(recipe.pair_template, ("question", "answer")).format
        self.before_context = recipe.context_template.partition("{context}")[0]
        """What stands before the context in an input's text."""

    def input_text(self, context: str) -> str:
        """The context block and the delimiter after it."""
        return self._context(context) + self.delimiter

    def output_text(self, pairs: Iterable[Pair]) -> str:
        """The pairs, joined by the delimiter."""
        pair = self._pair
        return self.delimiter.join([pair(question, answer) for question, answer in pairs])


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
