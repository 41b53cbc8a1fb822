"""The sequence or text that `cook show` shows: the first, one by number, or one at random."""

from __future__ import annotations

import dataclasses
import os
import random
import secrets
from pathlib import Path
from typing import Any

from cook.core.errors import RecipeError, refuse_empty
from cook.store.outputs import Sequence
from cook.views.outputs import Output, find_outputs
from cook.views.parts import Example, SequenceDecoder
from cook.views.texts import ShownText, read_text


@dataclasses.dataclass(frozen=True)
class Shown:
    """A sequence, with its text."""

    output: Output
    split: str
    number: int
    """In its split, from 0: what `load_dataset(…)[number]` is, and a row that `cook verify` names."""
    sequences: int
    """How many the split has."""
    seed: int | None
    """The seed of the draw; None if it was not drawn."""
    sequence: Sequence
    examples: tuple[Example, ...]
    reader: SequenceDecoder

    def as_dict(self, tokens: bool = False) -> dict[str, Any]:
        """All of it as JSON values; each token too if `tokens`."""
        return {
            "dataset": self.sequence.dataset,
            "folder": str(self.output.folder),
            "mix": self.output.mixed,
            "split": self.split,
            "sequence": self.number,
            "sequences": self.sequences,
            "seed": self.seed,
            "max_length": self.output.max_length(self.sequence.dataset),
            "tokens": len(self.sequence.input_ids),
            "trained_tokens": int(self.sequence.loss_mask.sum()),
            "examples": [self._example(each, tokens) for each in self.examples],
        }

    def _example(self, example: Example, tokens: bool) -> dict[str, Any]:
        made: dict[str, Any] = {
            "source": example.place,
            "tokens": example.end - example.begin,
            "trained_tokens": example.trained_tokens,
            "goes_on": example.goes_on,
            "cut": example.cut,
            "parts": [
                {
                    "kind": part.kind,
                    "trained": part.trained,
                    "tokens": part.end - part.begin,
                    "text": _without_surrogates(part.text),
                }
                for part in example.parts
            ],
        }
        if tokens:
            made["token_list"] = [
                {"id": token.id, "mask": token.mask, "text": _without_surrogates(token.text), "special": token.special}
                | ({"added": True} if token.added and not token.special else {})
                for token in self.reader.tokens(self.sequence, example.begin, example.end)
            ]
        return made


def _without_surrogates(text: str) -> str:
    """The text with bytes that are not UTF-8 replaced: JSON holds no lone surrogates."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def show(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    split: str = "train",
    sequence: int | None = None,
    draw: bool = False,
    seed: int | None = None,
    tokenizer: str | None = None,
) -> Shown | ShownText:
    """A sequence of a dataset, a mix or a ROOT: the first, number `sequence`, or with `draw` one at random.

    For a corpus as text, it is one of its texts. Numbers count from 0; for a mix with `dataset`, they count the
    sequences of that dataset. The same `seed` draws the same sequence of the same output.

    Raises RecipeError if the dataset, split or sequence does not exist; OutputError, TokenizerError.
    """
    refuse_empty(path=path, tokenizer=tokenizer)
    found = _select_outputs(find_outputs(Path(path), "show"), Path(path), dataset, sequence is not None)
    numbers = [_sequence_numbers(each, split, dataset) for each in (found if draw else found[:1])]
    if not any(numbers):
        raise RecipeError(f"{path}: {split} has no sequences")
    index, place = 0, sequence or 0
    if draw:
        seed = secrets.randbelow(1 << 31) if seed is None else seed
        place = random.Random(seed).randrange(sum(map(len, numbers)))  # noqa: S311 - draws a sample, guards nothing
        while place >= len(numbers[index]):
            place -= len(numbers[index])
            index += 1
    output, count = found[index], len(numbers[index])
    if not 0 <= place < count:
        raise RecipeError(f"sequence: {output.folder}: {split} has no number {place:,}; it has {count:,}, from 0")
    number = numbers[index][place]
    if output.is_text:
        return read_text(output, split, number, seed)
    row = output.sequence(split, number)
    reader = SequenceDecoder(output.manifest["tokenizer"], tokenizer)
    examples = tuple(reader.examples(row, output))
    return Shown(output, split, number, output.count_rows(split), seed, row, examples, reader)


def _select_outputs(found: list[Output], path: Path, dataset: str | None, numbered: bool) -> list[Output]:
    """The outputs that the sequence is taken from. Raises RecipeError."""
    names = [each.name for each in found]
    if dataset is None:
        if numbered and len(found) > 1:
            raise RecipeError(f"dataset: {path} holds {', '.join(names)}; name the dataset of the sequence")
        return [each for each in found if not each.mixed] or found
    by_name = [each for each in found if each.name.lower() == dataset.lower()]
    if len(found) == 1 and found[0].mixed and dataset in found[0].shards:
        return found
    if not by_name:
        held = list(found[0].shards) if len(found) == 1 and found[0].mixed else names
        raise RecipeError(f"dataset: {path} holds no {dataset}; it holds {', '.join(held)}")
    return [each for each in by_name if each.name == dataset] or by_name


def _sequence_numbers(output: Output, split: str, dataset: str | None) -> range | list[int]:
    if output.mixed and dataset in output.shards:
        return output.sequence_numbers(split, str(dataset))
    return range(output.count_rows(split))
