"""What a mix counts: each sequence's tokens, however many sequences there are."""

import numpy as np

from cook.core.records import PLACED_EXAMPLE_DTYPE
from cook.pipeline.mixing import _MixBuilder


def test_the_sums_of_more_sequences_than_are_summed_at_once():
    counts = np.arange(2 * (1 << 16) + 3) % 3 + 1
    mixing = object.__new__(_MixBuilder)
    mixing.starts = np.concatenate([[0], np.cumsum(counts)])
    mixing.placed = np.zeros(mixing.starts[-1], PLACED_EXAMPLE_DTYPE)
    mixing.placed["tokens"] = np.arange(len(mixing.placed)) % 7 + 1
    expected = np.add.reduceat(mixing.placed["tokens"].astype(np.int64), mixing.starts[:-1])
    assert mixing._sum_by_sequence("tokens").tolist() == expected.tolist()
