"""The work of an export: one cooked file into one part of the new folder; what every target's writer is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cook.tokenizer.loading import Tokenizer
from cook.trainers.rows import SequenceBatch


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """What writers need to know beside the rows."""

    target: str
    split: str
    max_length: int
    """The most tokens that a sequence may have."""
    pad_id: int
    vocab_size: int
    few_shot: bool
    """Positions run through a sequence, and do not begin again at each example."""
    tokenizer: Tokenizer | None
    """For a target that decodes."""


@dataclasses.dataclass(frozen=True)
class ExportJob:
    """The work on one file; picklable."""

    source: str
    out: str
    index: int
    count: int
    mixed: bool
    settings: ExportSettings

    def __str__(self) -> str:
        return self.source

    def path(self, suffix: str) -> Path:
        """The file of this part, named as cook names its own: train-00000-of-00001 and the suffix."""
        return Path(self.out) / f"{self.settings.split}-{self.index:05}-of-{self.count:05}{suffix}"


@dataclasses.dataclass
class ExportDone:
    """What was written, in rows of the target, and of what."""

    files: tuple[Path, ...] = ()
    rows: int = 0
    sequences: int = 0
    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    def add(self, rows: SequenceBatch) -> SequenceBatch:
        """Count in sequences that are about to be written."""
        self.sequences += len(rows.counts)
        self.examples += len(rows.lengths)
        self.tokens += len(rows.ids)
        self.trained_tokens += int(rows.mask.sum(dtype="int64"))
        return rows


COUNT_FIELDS = ("rows", "sequences", "examples", "tokens", "trained_tokens")
