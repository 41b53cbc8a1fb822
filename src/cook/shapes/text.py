"""The shape text: one text an entry. Every token is trained except BOS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.errors import Problem
from cook.core.recipe import Recipe
from cook.shapes.protocol import EncodeRequests, Lengths, MaskRule, Segments, SplitResult, boundary_ids
from cook.tokenizer.engine import Ids
from cook.tokenizer.loading import Tokenizer

TEXT_FIELD = "text"


class TextRecord(NamedTuple):
    """A text."""

    line: int  # its first line, from 1 at the start of the part
    start: int
    text: str
    units: int = 1  # units of the data that it was made from; of a corpus: pairs
    left_out: Sequence[tuple[int, int]] = ()


class TextShape(NamedTuple):
    """The shape text; see `protocol.Shape`. A unit is a text. Over-long texts are cut at token limits."""

    recipe: Recipe
    tokenizer: Tokenizer
    name: str = "text"
    mask_rule: MaskRule = "all-but-bos"
    cut_anywhere: bool = True
    required_field: str = ""

    def identity(self) -> dict[str, Any]:
        """The key of the text."""
        return {"field": TEXT_FIELD}

    def parse(self, path: str, line: int, start: int, row: Any) -> TextRecord | list[Problem]:
        """The record of a JSON object with the key "text"."""
        text = row.get(TEXT_FIELD) if isinstance(row, dict) else None
        if not isinstance(text, str):
            return [Problem(path, line, TEXT_FIELD, "must be text")]
        return TextRecord(line, start, text, int(bool(text.strip())))

    def segments(self, records: Sequence[TextRecord]) -> Segments:
        """BOS, not trained; the text and EOS, trained."""
        bos, eos = boundary_ids(self.tokenizer)
        return Segments([record.text for record in records], [bos, None, eos], [False, True, True])

    def split(self, record: TextRecord, ids: Ids, trained: int) -> EncodeRequests[SplitResult]:  # noqa: ARG002 - Shape's
        """Not called: the planner cuts texts."""
        raise AssertionError("the planner cuts texts")

    def round_trips(self, record: TextRecord, split_result: SplitResult, texts: Any, decoder: Any) -> bool:  # noqa: ARG002 - Shape's
        """Not called: the planner cuts texts."""
        raise AssertionError("the planner cuts texts")

    def unsplittable(self, tokens: Lengths, trained: Lengths) -> npt.NDArray[np.bool_]:  # noqa: ARG002 - Shape's
        """None of them."""
        return np.zeros(len(tokens), bool)

    def texts(self, record: TextRecord) -> list[str]:
        """The text."""
        return [record.text]

    def template_markers(self) -> tuple[str, ...]:
        """None: there is no template."""
        return ()

    def hash_keys(self, record: TextRecord) -> tuple[bytes, bytes]:
        """The text, twice."""
        return record.text.encode(), record.text.encode()
