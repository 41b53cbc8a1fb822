"""What a command made, or found to be there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class OutputResult:
    """A folder with its manifest."""

    folder: Path
    manifest: dict[str, Any]
    up_to_date: bool
    """It was there already, by the same settings from the same inputs; nothing was touched."""
    seconds: float

    @property
    def counts(self) -> dict[str, Any]:
        """What was read, made and left out; see the manifest."""
        counts: dict[str, Any] = self.manifest["counts"]
        return counts

    def as_dict(self, *fields: str) -> dict[str, Any]:
        """For JSON, with these fields of the manifest."""
        row = {"folder": str(self.folder), "up_to_date": self.up_to_date, "seconds": round(self.seconds, 3)}
        return row | {field: self.manifest[field] for field in fields}


class Result(OutputResult):
    """A dataset that is cooked."""

    @property
    def name(self) -> str:
        """The dataset's."""
        name: str = self.manifest["dataset"]
        return name


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did."""

    root: Path
    tokenizer: str
    results: list[Result]
    seconds: float
    card: bool
    """Whether ROOT's card names them, so that `load_dataset(ROOT, NAME)` finds them."""
    unnamed: tuple[str, ...] = ()
    """Added tokens of the tokenizer that look like markers, and that nothing names; see `tokenizer.control`."""
    added_tokens: str = "text"
    """What they are in data: text, or tokens."""
