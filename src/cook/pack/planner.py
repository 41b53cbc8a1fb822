"""Plan which examples make which sequence. Pure functions of example lengths.

Each strategy puts every example, whole, into one sequence of at most `max_length` tokens:

    best-fit             in a seeded random order, each example into the fullest sequence that has room for it
    best-fit-decreasing  the same, from the longest example to the shortest (Best-fit Packing, arXiv 2404.10830)
    in-order             in shard order; a new sequence when the next example does not fit (the published recipe)
    none                 one example a sequence
    wrap                 in order, every sequence full; for texts of a corpus that `cut_at_length` cut

The plan depends on nothing but lengths, strategy, max_length and seed. A dataset of more than WINDOW examples is
planned in windows of WINDOW examples, in shard order; with wrap a window ends where a sequence ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.arrays import SPLITMIX_INCREMENT, offsets, positions, splitmix64

Array = npt.NDArray[np.int64]
WINDOW = 1 << 22  # examples


class Plan(NamedTuple):
    """Which examples make which sequence: sequence i holds examples order[starts[i]:starts[i + 1]], in that order."""

    order: Array  # every example once
    starts: Array  # one more than there are sequences

    def __len__(self) -> int:
        return len(self.starts) - 1


def plan(lengths: Array, max_length: int, packing: str, seed: int = 0) -> Plan:
    """The plan of a whole dataset. `lengths`: tokens of each example, from 1 to max_length."""
    lengths = np.asarray(lengths, np.int64)
    assert len(lengths) == 0 or (lengths.min() > 0 and lengths.max() <= max_length), (
        "over-long examples are split before they are packed"
    )
    size = max(1, len(lengths)) if packing == "wrap" else WINDOW
    windows = [
        pack_window(lengths[begin : begin + size], begin, max_length, packing, seed)
        for begin in range(0, len(lengths), size)
    ]
    if len(windows) == 1:
        return windows[0]
    order = np.concatenate([np.empty(0, np.int64), *[window.order for window in windows]])
    counts = [np.diff(window.starts) for window in windows]
    return Plan(order, offsets(np.concatenate([np.empty(0, np.int64), *counts])))


def pack_window(lengths: Array, begin: int, max_length: int, packing: str, seed: int) -> Plan:
    """The plan of one window; `begin` is the index of its first example in the dataset."""
    placing, sequence_of = STRATEGIES[packing](lengths, begin, max_length, seed)
    order = placing[np.argsort(sequence_of, kind="stable")]  # within a sequence, as placed
    starts = offsets(np.bincount(sequence_of))
    return Plan(order + begin, starts)


# The order in which a strategy places examples, and for each, in that order, its sequence, counted from 0.
Placement = tuple[Array, Array]


def _best_fit(lengths: Array, begin: int, max_length: int, seed: int) -> Placement:
    placing = random_order(len(lengths), seed, begin)
    return placing, _assign_best_fit(lengths[placing], np.ones(len(lengths), np.int64), max_length)


def _best_fit_decreasing(lengths: Array, begin: int, max_length: int, seed: int) -> Placement:
    shuffled = random_order(len(lengths), seed, begin)
    placing = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    sizes, counts = np.unique(lengths, return_counts=True)
    return placing, _assign_best_fit(sizes[::-1], counts[::-1], max_length)


WORD_BITS = 9  # log2 of the bits in a word
CHUNK = 1 << 12


def _assign_best_fit(lengths: Array, counts: Array, max_length: int) -> Array:
    """The sequence of each example, by best fit: `counts[i]` examples of `lengths[i]` tokens, for each i in turn.

    Examples of one length fill a sequence before the next is taken, so they go in together. The loop takes most of a
    plan's time, and one call an example is 6 % of that: so it has but the one call.
    """
    stacks: list[list[int]] = [[]] * (
        max_length + 1
    )  # by room left: open sequences; nothing is added to the empty list
    words, full = [0] * ((max_length >> WORD_BITS) + 1), 0  # see `_find_room`
    opened = 0
    sequence_of = array("q")
    append = sequence_of.append
    for length, count in _length_counts(lengths, counts):
        left = count
        while left:
            if room := _find_room(words, full, length):
                stack = stacks[room]
                sequence = stack.pop()
                if not stack:
                    words[room >> WORD_BITS] ^= 1 << (room & 511)
                    if not words[room >> WORD_BITS]:
                        full ^= 1 << (room >> WORD_BITS)
            else:
                room, sequence = max_length, opened
                opened += 1
            placed = 1 if left == 1 else min(left, room // length)
            if placed == 1:
                append(sequence)
            else:
                sequence_of.extend([sequence] * placed)
            left -= placed
            if room := room - placed * length:
                if stack := stacks[room]:
                    stack.append(sequence)
                else:
                    stacks[room] = [sequence]
                    words[room >> WORD_BITS] |= 1 << (room & 511)
                    full |= 1 << (room >> WORD_BITS)
    return np.frombuffer(sequence_of, np.int64)


def _find_room(words: list[int], full: int, length: int) -> int:
    """The smallest room, from `length` up, that an open sequence has left; 0 where none has so much.

    Bit `room & 511` of `words[room >> 9]` says that a sequence has this room left, and bit i of `full` that word i is
    not 0. So the search takes a few steps, whatever max_length is.
    """
    word = length >> WORD_BITS
    bits = words[word] >> (length & 511)
    if bits:
        return length + (bits & -bits).bit_length() - 1
    if higher := full >> (word + 1):
        word += (higher & -higher).bit_length()
        bits = words[word]
        return (word << WORD_BITS) + (bits & -bits).bit_length() - 1
    return 0


def _length_counts(lengths: Array, counts: Array) -> Iterator[tuple[int, int]]:
    """Lengths with their counts as Python integers, CHUNK at a time: they take ten times the memory of an array."""
    parts = (slice(begin, begin + CHUNK) for begin in range(0, len(lengths), CHUNK))
    return chain.from_iterable(zip(lengths[part].tolist(), counts[part].tolist(), strict=True) for part in parts)


def _in_order(lengths: Array, begin: int, max_length: int, seed: int) -> Placement:  # noqa: ARG001 - a strategy's signature
    sequence_of = array("q")
    sequence, used = -1, max_length
    for length in lengths.tolist():
        used += length
        if used > max_length:
            sequence += 1
            used = length
        sequence_of.append(sequence)
    return np.arange(len(lengths)), np.frombuffer(sequence_of, np.int64)


def _none(lengths: Array, begin: int, max_length: int, seed: int) -> Placement:  # noqa: ARG001 - a strategy's signature
    return np.arange(len(lengths)), np.arange(len(lengths))


def _wrap(lengths: Array, begin: int, max_length: int, seed: int) -> Placement:  # noqa: ARG001 - a strategy's signature
    return np.arange(len(lengths)), (np.cumsum(lengths) - 1) // max_length


STRATEGIES: dict[str, Callable[[Array, int, int, int], Placement]] = {
    "best-fit": _best_fit,
    "best-fit-decreasing": _best_fit_decreasing,
    "in-order": _in_order,
    "none": _none,
    "wrap": _wrap,
}


class TextPieces(NamedTuple):
    """The pieces of texts, in order: arrays of one length."""

    text: Array  # which text
    begin: Array  # the first of its tokens
    length: Array


def cut_at_length(lengths: Array, max_length: int, stream_offset: int | None = None) -> TextPieces:
    """Cut texts into pieces of at most max_length tokens; no token is lost. `lengths`: tokens of each text.

    Without `stream_offset` each text is cut from its own first token. With it the texts form one stream, whose first
    text starts at token `stream_offset`; cuts are at the stream's multiples of max_length.

    >>> [piece.tolist() for piece in cut_at_length(np.array([3, 5]), 4, 0)]
    [[0, 1, 1], [0, 0, 1], [3, 1, 4]]
    """
    lengths = np.asarray(lengths, np.int64)
    start = np.zeros(len(lengths), np.int64) if stream_offset is None else stream_offset + np.cumsum(lengths) - lengths
    block = start // max_length
    counts = (start + lengths - 1) // max_length - block + 1
    text = np.repeat(np.arange(len(lengths)), counts)
    number = positions(counts)
    edge = (block[text] + number) * max_length - start[text]
    begin, end = np.maximum(edge, 0), np.minimum(edge + max_length, lengths[text])
    return TextPieces(text, begin, end - begin)


def full_sequence_starts(lengths: Array, max_length: int) -> Array:
    """Indices of the pieces of a stream that start a sequence, and the count of pieces. `lengths`: of the pieces."""
    ends = offsets(lengths)
    starts = np.flatnonzero(ends[:-1] % max_length == 0)
    return np.append(starts, len(lengths)).astype(np.int64)


def random_order(count: int, seed: int, begin: int = 0) -> Array:
    """The indices 0 to count - 1, sorted by a hash of (seed, begin + index).

    The hash is splitmix64 (Steele, Lea, Flood 2014). It is a bijection for each seed, so there are no ties, and no
    version of a library can change the order.
    """
    with np.errstate(over="ignore"):
        x = np.arange(begin, begin + count, dtype=np.uint64)
        x += splitmix64(np.array([seed], np.uint64))
        return np.argsort(splitmix64(x * SPLITMIX_INCREMENT), kind="stable")
