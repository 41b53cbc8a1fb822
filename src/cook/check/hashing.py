"""A hash of 64 bits for each of many examples, over its tokens and which of them are trained."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from cook.core.arrays import splitmix64
from cook.core.records import MarkedTokens

Hashes = npt.NDArray[np.uint64]
MIN_FACTORS = 1 << 12  # places in an example that factors are made for at least
BLOCK_TOKENS = 1 << 16  # tokens that are hashed together, so that they stay in the processor's cache


def hash_examples(raw: MarkedTokens, tokens: npt.NDArray[np.integer], seed: int) -> Hashes:
    """The hash of each example. `raw` holds the tokens of all (see `records.mark_trained`), `tokens` their numbers.

    A hash is the sum of each token times a random factor for its place (multilinear hashing, arXiv 1202.4961). Two
    different examples have equal hashes for one seed in 2^32, so draw a random seed, and compare only hashes of it.
    """
    found, begin, first = [np.empty(0, np.uint64)], 0, 0
    ends = np.cumsum(tokens, dtype=np.int64)
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK_TOKENS, side="right")))
        sizes = tokens[first:last].tolist()
        factors = _factors(seed, 1 << max(MIN_FACTORS, *sizes).bit_length())
        by_token = np.concatenate([factors[:size] for size in sizes])
        by_token *= raw[begin : ends[last - 1]].astype(np.uint64) + np.uint64(1)  # so that a token 0 at the end counts
        found.append(np.add.reduceat(by_token, ends[first:last] - tokens[first:last] - begin))
        begin, first = int(ends[last - 1]), last
    return np.concatenate(found)


@functools.lru_cache(maxsize=4)
def _factors(seed: int, count: int) -> Hashes:
    return splitmix64(np.arange(count, dtype=np.uint64) + np.uint64(seed))
