"""The published procedure for worked examples, followed from its description, for tests to compare with.

From microsoft/LMOps, instruction_pretrain: what it does, in code of our own. Texts are shared out in runs of N/M,
rounded up; each position in a run has a collection of entries that grows by one a round. A new text is asked for after
all entries of its collection back to the last that does not inherit, if the last one has pairs and 1.5 times the words
of the prompt leave room for the new tokens; else alone. An entry inherits if it was asked for so and got pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Entry = dict[str, Any]
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"  # the published ones are Mistral's


class Asked(NamedTuple):
    """A prompt of the published procedure."""

    alone: str
    with_history: str | None  # None: there is none to put before it
    follows: bool  # whether the word estimate lets the history in


def runs(texts: list[str], rounds: int) -> list[list[str]]:
    """The texts of each round."""
    size = (len(texts) + rounds - 1) // rounds
    return [texts[number * size : (number + 1) * size] for number in range(rounds)]


def context_block(text: str) -> str:
    return f"{BOS} <CON> {text} </CON>\n\n"


def worked(entry: Entry) -> str:
    pairs = [f"<QUE> {pair['Q']} <ANS> {pair['A']} </END>" for pair in entry["QA_list"]]
    return context_block(entry["context"]) + "\n\n".join(pairs) + EOS


def ask(collection: list[Entry], text: str, max_length: int, max_new_tokens: int) -> Asked:
    """The prompt for a text whose collection this is."""
    alone = context_block(text)
    if not collection or not collection[-1]["QA_list"]:
        return Asked(alone, None, False)
    before = [collection[-1]]
    while before[0]["inherit_from_prev"]:
        before.insert(0, collection[len(collection) - 1 - len(before)])
    whole = "".join(map(worked, before)) + alone
    return Asked(alone, whole, len(whole.split(" ")) * 1.5 <= max_length - max_new_tokens)


def pairs_in(text: str) -> list[dict[str, str]]:
    """The pairs of a generation, by the published rules; questions asked before, in any case, left out."""
    found: list[dict[str, str]] = []
    for piece in text.split("</END>")[:-1]:
        question, *answers = (side.strip() for side in piece.split("<ANS>"))
        if len(answers) == 1 and answers[0] and question.startswith("<QUE>"):
            question = question.replace("<QUE>", "").strip()
            if question.lower() not in {pair["Q"].lower() for pair in found}:
                found.append({"Q": question, "A": answers[0]})
    return found
