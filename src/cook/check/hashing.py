"""64 bits of each of many examples, from its tokens and which of them are trained: alike where examples are alike."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from cook.core.arrays import splitmix64
from cook.core.records import MarkedTokens

Hashes = npt.NDArray[np.uint64]
MIN_FACTORS = 1 << 12  # places that factors are made for
BLOCK_TOKENS = 1 << 16  # tokens: as many as stay near the processor


def hash_examples(raw: MarkedTokens, tokens: npt.NDArray[np.integer], seed: int) -> Hashes:
    """The hash of each example; `raw` has the tokens of all, as a spool holds them (see `spool.join`).

    The sum of each token times a random factor of its place. Two examples that differ have one hash for one seed in
    2^32 (multilinear hashing, arXiv 1202.4961): draw a seed, and compare hashes of that seed alone.
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
