"""What planning counts: tallies of lengths, and tokens that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class IntHistogram(NamedTuple):
    """How often each of some numbers is there: as small for many of them as for few."""

    values: npt.NDArray[np.int64]
    """Ascending."""
    counts: npt.NDArray[np.int64]

    @classmethod
    def from_values(cls, values: npt.NDArray[np.integer]) -> IntHistogram:
        """Of these numbers."""
        found, counts = np.unique(values, return_counts=True)
        return cls(found.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def merge(cls, tallies: Sequence[IntHistogram]) -> IntHistogram:
        """Of the numbers of all of these."""
        values, where = np.unique(np.concatenate([each.values for each in tallies]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([each.counts for each in tallies]))
        return cls(values, counts)

    def quantiles(self) -> dict[str, int]:
        """The number at each of some marks: of the two that a mark lies between, the lower."""
        marks = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
        ends = np.cumsum(self.counts)
        places = np.floor((ends[-1] - 1) * np.array(list(marks.values())))
        found = self.values[np.searchsorted(ends, places, side="right")]
        return {name: int(value) for name, value in zip(marks, found, strict=True)}


class PackingStats(NamedTuple):
    """What became of a split, or of a window of it."""

    trained_tokens: int
    """Tokens that bear loss."""
    lengths: IntHistogram
    """Tokens of examples."""
    tokens: IntHistogram
    """Tokens of sequences."""

    @classmethod
    def merge(cls, stats: Sequence[PackingStats]) -> PackingStats:
        """What became of all of these."""
        lengths, tokens = (
            IntHistogram.merge([getattr(each, field) for each in stats]) for field in ("lengths", "tokens")
        )
        return cls(sum(each.trained_tokens for each in stats), lengths, tokens)

    def counts(self) -> dict[str, int]:
        """As the manifest has them."""
        return {
            "examples": int(self.lengths.counts.sum()),
            "sequences": int(self.tokens.counts.sum()),
            "tokens": int((self.tokens.values * self.tokens.counts).sum()),
            "trained_tokens": self.trained_tokens,
        }
