"""Rows of the tables that stages hand on: examples, their places, what was left out; masks and labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cook.core.arrays import offsets

# A row of it, read back: index of its shard, and as spool.SKIPPED has it.
SKIPPED_RECORD_DTYPE = np.dtype(
    [("shard", "i4"), ("line", "i4"), ("unit", "i4"), ("reason", "i1"), ("units", "i4"), ("tokens", "i4")]
)
ReasonCounts = npt.NDArray[np.int64]
# Why something was left out, in words: "2 entries without pairs".
REASON_WORDS = {
    "no_pairs": "without pairs",
    "blank_question": "with a blank question",
    "blank_answer": "with a blank answer",
    "overlong": "too long for a sequence",
    "bad_line": "of another form than an entry's",
    "repeat": "that repeat another",
}

# One row an example: its tokens (BOS and EOS counted), how many are trained, its line (from the start of the part), its
# units (of context-qa: pairs), at which token of the file it lies, the byte of the shard that its line starts at, and,
# where the recipe asks for them, hashes of its context and of all of it.
ENCODED_EXAMPLE_DTYPE = np.dtype(
    {
        "names": ["tokens", "trained", "line", "units", "at", "start", "context", "content"],
        "formats": ["i4", "i4", "i4", "i4", "i8", "i8", "u8", "u8"],
    }
)
# What the plan needs of them, with fewer bytes.
EXAMPLE_POSITION_DTYPE = np.dtype([("tokens", "i4"), ("trained", "i4"), ("line", "i4"), ("at", "i8")])
# What tells splits and repeats, where the recipe asks for them.
EXAMPLE_HASHES_DTYPE = np.dtype([("units", "i4"), ("context", "u8"), ("content", "u8")])
# One row an entry or unit left out: its line, the unit (from 0; -1: the entry), SKIP_REASONS[reason], how many units go
# with it, and the tokens of the entry as one example (0: not encoded).
SKIPPED_ROW_DTYPE = np.dtype([("line", "i4"), ("unit", "i4"), ("reason", "u1"), ("units", "i4"), ("tokens", "i4")])
SKIP_REASONS = ("no_pairs", "blank_question", "blank_answer", "overlong", "bad_line", "repeat")
NO_PAIRS, BLANK_QUESTION, BLANK_ANSWER, OVERLONG, BAD_LINE, REPEAT = range(len(SKIP_REASONS))

StructuredArray = npt.NDArray[np.void]
MarkedTokens = npt.NDArray[np.uint32]
TRAINED_BIT = np.uint32(1 << 31)

IGNORE_INDEX = -100  # the label of a token that bears no loss (PyTorch's ignore_index)

# An example as a file's work has it: which of the spool files, at which token of it, its tokens, how many are trained,
# shard, line.
PLACED_EXAMPLE_DTYPE = np.dtype(
    [("file", "i4"), ("at", "i8"), ("tokens", "i4"), ("trained", "i4"), ("shard", "i4"), ("line", "i4")]
)


def entry_key(shard: int, line: int) -> int:
    """The shard and line of an entry as one number that sorts like both; `split_entry_key` is the inverse."""
    return shard << 32 | line


def split_entry_key(key: int) -> tuple[int, int]:
    """The shard and line of an entry, from its key."""
    return key >> 32, key & 0xFFFF_FFFF


def entry_keys(shards: npt.NDArray[np.integer], lines: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The key of each entry; see `entry_key`."""
    keys: npt.NDArray[np.int64] = shards.astype(np.int64) << 32 | lines
    return keys


def count_skipped(skipped: StructuredArray) -> tuple[ReasonCounts, ReasonCounts]:
    """How many entries, and how many pairs, these rows say were left out for each of SKIP_REASONS."""
    entries = np.bincount(skipped["reason"][skipped["unit"] < 0], minlength=len(SKIP_REASONS))
    pairs = np.bincount(skipped["reason"], skipped["units"], minlength=len(SKIP_REASONS)).astype(np.int64)
    return entries, pairs


def skipped_counts(entries: ReasonCounts, pairs: ReasonCounts) -> dict[str, dict[str, int]]:
    """The manifest's counts of what was left out, by reason."""
    return {
        key: {reason: int(amount) for reason, amount in zip(SKIP_REASONS, amounts, strict=True) if amount}
        for key, amounts in (("skipped_entries", entries), ("skipped_pairs", pairs))
    }


def total_tokens(examples: StructuredArray) -> int:
    """The tokens of examples."""
    return int(examples["tokens"].sum(dtype=np.int64))


def mark_trained(ids: npt.NDArray[np.integer], trained: npt.NDArray[np.bool_]) -> MarkedTokens:
    """Tokens as a spool holds them: each id, and whether it is trained, as one uint32. ids: 0 to 2^31 - 1."""
    raw: MarkedTokens = np.left_shift(trained, np.uint32(31), dtype=np.uint32)
    np.bitwise_or(raw, ids, out=raw, casting="unsafe")
    return raw


def token_ids(raw: MarkedTokens) -> npt.NDArray[np.int32]:
    """The ids of tokens that a spool holds, in their place: `raw` loses what `trained_mask` tells of it."""
    return np.bitwise_and(raw, ~TRAINED_BIT, out=raw).view(np.int32)


def trained_mask(raw: MarkedTokens) -> npt.NDArray[np.bool_]:
    """Whether each token that a spool holds is trained."""
    return raw >= TRAINED_BIT


def split_rows(tokens: npt.NDArray[np.int64], max_tokens: int) -> list[tuple[int, int]]:
    """Ranges of rows, each of at most `max_tokens` tokens, or of one row that alone has more."""
    ends = np.cumsum(tokens)
    ranges = []
    first = 0
    while first < len(tokens):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + max_tokens, side="right")))
        ranges.append((first, last))
        first = last
    return ranges


def labels_of(ids: npt.NDArray[np.int32], mask: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """The ids where the mask is 1, else -100; not shifted."""
    return np.where(mask == 1, ids, np.int32(IGNORE_INDEX))


def tokens_per_sequence(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The tokens of each sequence, from example lengths in plan order."""
    return np.diff(offsets(lengths)[starts])
