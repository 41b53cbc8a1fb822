"""Small functions on numpy arrays that several packages need."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SPLITMIX_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # multiples of it lie far apart


def offsets(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Where runs of these lengths begin when they follow each other, and where the last ends: one more than runs.

    >>> offsets([2, 3]).tolist()
    [0, 2, 5]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def positions(lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The place of each element in its run, from 0, for runs of these lengths that follow each other.

    >>> positions(np.array([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = offsets(lengths)
    return np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)


def ranges(begins: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The indices of all these ranges, one range after the other.

    >>> ranges(np.array([10, 20]), np.array([2, 3])).tolist()
    [10, 11, 20, 21, 22]
    """
    return np.repeat(begins, lengths) + positions(lengths)


def splitmix64(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The hash of each number: a bijection that spreads every bit (Splitmix64; Steele, Lea, Flood 2014).

    >>> splitmix64(np.array([0], np.uint64)).tolist()
    [16294208416658607535]
    """
    x = numbers + SPLITMIX_INCREMENT
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
