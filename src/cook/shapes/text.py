"""The shape text: a text of its own, every token of it trained; BOS before it is not."""

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

    line: int  # that it begins on, counted from the start of the part
    start: int
    text: str
    units: int = 1  # what is in it of the data that it was made from; of a corpus: pairs
    left_out: Sequence[tuple[int, int]] = ()


class TextShape(NamedTuple):
    """Texts as an input shape; see `protocol.Shape`. A unit is a text, and what is over-long is cut into pieces."""

    recipe: Recipe
    tokenizer: Tokenizer
    name: str = "text"
    mask_rule: MaskRule = "all-but-bos"
    cut_anywhere: bool = True
    required_field: str = ""

    def identity(self) -> dict[str, Any]:
        """See Shape."""
        return {"field": TEXT_FIELD}

    def parse(self, path: str, line: int, start: int, row: Any) -> TextRecord | list[Problem]:
        """See Shape: a JSON object that has the text under "text"."""
        text = row.get(TEXT_FIELD) if isinstance(row, dict) else None
        if not isinstance(text, str):
            return [Problem(path, line, TEXT_FIELD, "must be text")]
        return TextRecord(line, start, text, int(bool(text.strip())))

    def segments(self, records: Sequence[TextRecord]) -> Segments:
        """See Shape: BOS; the text, EOS."""
        bos, eos = boundary_ids(self.tokenizer)
        return Segments([record.text for record in records], [bos, None, eos], [False, True, True])

    def split(self, record: TextRecord, ids: Ids, trained: int) -> EncodeRequests[SplitResult]:  # noqa: ARG002 - likewise
        """See Shape: never asked for."""
        raise AssertionError("a text is cut into pieces")

    def round_trips(self, record: TextRecord, split_result: SplitResult, texts: Any, decoder: Any) -> bool:  # noqa: ARG002 - likewise
        """See Shape: never asked for."""
        raise AssertionError("a text is cut into pieces")

    def unsplittable(self, tokens: Lengths, trained: Lengths) -> npt.NDArray[np.bool_]:  # noqa: ARG002 - Shape's
        """See Shape: none."""
        return np.zeros(len(tokens), bool)

    def texts(self, record: TextRecord) -> list[str]:
        """See Shape."""
        return [record.text]

    def template_markers(self) -> tuple[str, ...]:
        """See Shape."""
        return ()

    def hash_keys(self, record: TextRecord) -> tuple[bytes, bytes]:
        """See Shape: the text, both times."""
        return record.text.encode(), record.text.encode()
