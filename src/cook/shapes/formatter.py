r"""Format an entry by templates: the text of its input and of its output. Nothing is stripped or normalised.

    input  = BOS + " <CON> {context} </CON>" + "\n\n"
    output = "\n\n".join("<QUE> {question} <ANS> {answer} </END>" for each pair) + EOS

BOS and EOS are not part of these texts: they are added as ids. The templates are those of the context-based
instruction synthesizer (Instruction Pre-Training, arXiv 2406.14491).
"""

from __future__ import annotations

from collections.abc import Iterable

from cook.core.recipe import Recipe
from cook.core.templates import compile_template

Pair = tuple[str, str]  # question, answer


def split_pair_template(template: str) -> tuple[str, str, str] | None:
    """The text before, between and after question and answer; None unless each stands once, in this order.

    >>> split_pair_template("Q: {question} A: {answer}.")
    ('Q: ', ' A: ', '.')
    """
    before, _, rest = template.partition("{question}")
    between, answer, after = rest.partition("{answer}")
    once = template.count("{question}") == template.count("{answer}") == 1
    return (before, between, after) if once and answer else None


class Formatter:
    """The templates of a recipe, compiled for substitution in one pass.

    So "{context}", "{question}" or "{answer}" in a user's text stays as it is.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.delimiter = recipe.delimiter
        self.before_context = recipe.context_template.partition("{context}")[0]
        """The text before the context in an input."""
        *parts, last = recipe.context_template.split("{context}")
        self.around_context = *parts, last + recipe.delimiter
        """The texts before, between and after the places of the context in an input."""
        self._pair = compile_template(recipe.pair_template, ("question", "answer")).format
        self._around = split_pair_template(recipe.pair_template)

    def input_text(self, context: str) -> str:
        """The context block and the delimiter after it."""
        return context.join(self.around_context)

    def output_text(self, pairs: Iterable[Pair]) -> str:
        """The pairs, joined by the delimiter."""
        if self._around is None:
            return self.delimiter.join([self._pair(question, answer) for question, answer in pairs])
        before, between, after = self._around  # the same result in half the time
        return before + (after + self.delimiter + before).join(map(between.join, pairs)) + after
