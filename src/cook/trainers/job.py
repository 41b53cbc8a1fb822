"""The job of a target's writer: one cooked file into one part of the export."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cook.tokenizer.loading import Tokenizer
from cook.trainers.rows import SequenceBatch


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """Settings for writers."""

    target: str
    split: str
    max_length: int
    """The most tokens of a sequence."""
    pad_id: int
    vocab_size: int
    few_shot: bool
    """Whether positions run through a sequence; else they start again at each example."""
    tokenizer: Tokenizer | None
    """None unless the target decodes."""


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
        """The file of this part, such as train-00000-of-00001 with the suffix."""
        return Path(self.out) / f"{self.settings.split}-{self.index:05}-of-{self.count:05}{suffix}"


@dataclasses.dataclass
class ExportDone:
    """The files that a job wrote, with the counts of rows in the target and of sequences, examples and tokens."""

    files: tuple[Path, ...] = ()
    rows: int = 0
    sequences: int = 0
    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    def add(self, rows: SequenceBatch) -> SequenceBatch:
        """Count sequences, and return them."""
        self.sequences += len(rows.counts)
        self.examples += len(rows.lengths)
        self.tokens += len(rows.ids)
        self.trained_tokens += int(rows.mask.sum(dtype="int64"))
        return rows


COUNT_FIELDS = ("rows", "sequences", "examples", "tokens", "trained_tokens")
