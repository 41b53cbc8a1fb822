"""Statistics of packed splits: histograms of example and sequence lengths, and counts of trained tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class IntHistogram(NamedTuple):
    """How often each value occurs. Its size grows with the distinct values, not with the count of them."""

    values: npt.NDArray[np.int64]
    """Ascending."""
    counts: npt.NDArray[np.int64]

    @classmethod
    def from_values(cls, values: npt.NDArray[np.integer]) -> IntHistogram:
        """The histogram of these values."""
        found, counts = np.unique(values, return_counts=True)
        return cls(found.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def merge(cls, histograms: Sequence[IntHistogram]) -> IntHistogram:
        """One histogram of the values of all."""
        values, where = np.unique(np.concatenate([each.values for each in histograms]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([each.counts for each in histograms]))
        return cls(values, counts)

    def quantiles(self) -> dict[str, int]:
        """Quantiles by their names in the manifest. Between two values the lower one counts."""
        marks = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
        ends = np.cumsum(self.counts)
        places = np.floor((ends[-1] - 1) * np.array(list(marks.values())))
        found = self.values[np.searchsorted(ends, places, side="right")]
        return {name: int(value) for name, value in zip(marks, found, strict=True)}


class PackingStats(NamedTuple):
    """Statistics of a split, or of one window of it."""

    trained_tokens: int
    """Tokens with a loss."""
    lengths: IntHistogram
    """Tokens of examples."""
    tokens: IntHistogram
    """Tokens of sequences."""

    @classmethod
    def merge(cls, stats: Sequence[PackingStats]) -> PackingStats:
        """The statistics of all together."""
        lengths, tokens = (
            IntHistogram.merge([getattr(each, field) for each in stats]) for field in ("lengths", "tokens")
        )
        return cls(sum(each.trained_tokens for each in stats), lengths, tokens)

    def counts(self) -> dict[str, int]:
        """The manifest's counts."""
        return {
            "examples": int(self.lengths.counts.sum()),
            "sequences": int(self.tokens.counts.sum()),
            "tokens": int((self.tokens.values * self.tokens.counts).sum()),
            "trained_tokens": self.trained_tokens,
        }
