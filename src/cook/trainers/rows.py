"""Batches of cooked sequences, and the arrays that trainers need of them. Arrays are flat: examples are concatenated.

A mask is 1 on trained tokens and aligned to its own token. It is 0 on the first token of each example, which nothing
in the example precedes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cook.core.arrays import offsets, positions
from cook.core.records import labels_of
from cook.store.read import examples_of, read_columns

Array = npt.NDArray[np.int64]
PADDED_TOKENS = 1 << 20  # tokens of padded rows made at a time


@dataclasses.dataclass(frozen=True)
class SequenceBatch:
    """Some sequences, concatenated."""

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.int8]
    lengths: Array
    """The tokens of each example."""
    counts: Array
    """The examples of each sequence."""

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The ids where the mask is 1, else -100; not shifted."""
        return labels_of(self.ids, self.mask)

    @property
    def example_offsets(self) -> Array:
        """The token at which each example starts, and the end of the last."""
        return offsets(self.lengths)

    @property
    def sequence_offsets(self) -> Array:
        """The token at which each sequence starts, and the end of the last."""
        return self.example_offsets[offsets(self.counts)]

    def parts(self, tokens: int) -> Iterator[SequenceBatch]:
        """The sequences in smaller batches, of at most PADDED_TOKENS if each is padded to `tokens`."""
        step = max(1, PADDED_TOKENS // tokens)
        in_examples, in_tokens = offsets(self.counts), self.sequence_offsets
        for first in range(0, len(self.counts), step):
            last = min(first + step, len(self.counts))
            token_slice = slice(in_tokens[first], in_tokens[last])
            lengths = self.lengths[in_examples[first] : in_examples[last]]
            yield SequenceBatch(self.ids[token_slice], self.mask[token_slice], lengths, self.counts[first:last])


def read_sequences(path: str | os.PathLike[str]) -> Iterator[SequenceBatch]:
    """The row groups of a cooked file. Raises OutputError, also for rows that cook would not write."""
    for columns in read_columns(path):
        table, counts = examples_of(os.fspath(path), columns)
        ids = np.ascontiguousarray(columns["input_ids"][0], np.int32)
        mask = np.array(columns["loss_mask"][0], np.int8)
        lengths = table["tokens"].astype(np.int64)
        mask[offsets(lengths)[:-1]] = 0
        yield SequenceBatch(ids, mask, lengths, counts)


def segment_ids(rows: SequenceBatch) -> npt.NDArray[np.int32]:
    """The number of each token's example in its sequence, from 1."""
    return np.repeat(positions(rows.counts).astype(np.int32) + np.int32(1), rows.lengths)


def starts_in_sequence(rows: SequenceBatch) -> npt.NDArray[np.int32]:
    """The token of its sequence at which each example starts: 0 for the first of each sequence."""
    begin = np.repeat(rows.sequence_offsets[:-1], rows.counts)
    return (rows.example_offsets[:-1] - begin).astype(np.int32)


def shifted_mask(rows: SequenceBatch) -> npt.NDArray[np.int8]:
    """The mask shifted left by one in each example, for trainers whose mask is of the NEXT token."""
    mask = np.append(rows.mask[1:], np.int8(0))
    mask[rows.example_offsets[1:] - 1] = 0
    return mask


def pad_rows(
    values: npt.NDArray[np.integer], begins: Array, length: int, fill: int | npt.NDArray[np.integer]
) -> npt.NDArray[np.int32]:
    """Pad flat rows to `length` with `fill`; flat again. `begins`: row offsets, one more than there are rows.

    >>> pad_rows(np.array([5, 6, 7]), np.array([0, 1, 3]), 3, -1).tolist()
    [5, -1, -1, 6, 7, -1]
    """
    tokens = np.diff(begins)
    out = np.empty((len(tokens), length), np.int32)
    out[:] = fill if isinstance(fill, int) else fill.reshape(out.shape)
    out[np.arange(length) < tokens[:, None]] = values
    return out.ravel()
