"""Find repeated entries and choose splits. Pure functions of names, hashes and lines.

`encode.parts` makes the hashes: 64 bits of a context, and of a context with its pairs. The examples of one over-long
entry share its line and hashes, and so stay together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


SPLIT_NAMES = ("train", "validation", "test")
SPLIT_OF_WORD = {  # words of a shard's name
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tests", "eval", "evaluation"), "test"),  # as `datasets` reads them
}


def infer_splits(dataset: str, shards: Sequence[str]) -> list[str]:
    """The split that each shard's name says; of several words the last one counts, and train is the default.

    A single shard with the dataset's own name is for train.

    >>> infer_splits("d", ["00000.jsonl", "d-dev-00001.jsonl.gz", "test.jsonl", "latest.jsonl"])
    ['train', 'validation', 'test', 'train']
    """
    if len(shards) == 1 and shards[0].startswith(f"{dataset}."):
        return ["train"]
    words = [re.findall(r"[a-z]+", name.lower().partition(".")[0]) for name in shards]
    found = [[SPLIT_OF_WORD[word] for word in each if word in SPLIT_OF_WORD] for each in words]
    return [each[-1] if each else "train" for each in found]


def entry_numbers(shards: npt.NDArray[Any], lines: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The number of each example's entry, from 0. Consecutive examples of one line of one shard are one entry."""
    new = np.ones(len(lines), bool)
    new[1:] = (np.diff(shards) != 0) | (np.diff(lines) != 0)
    return np.cumsum(new) - 1


def find_repeats(context: Hashes, content: Hashes, entry: npt.NDArray[np.int64]) -> Mask:
    """Which examples are of an entry with the hashes (128 bits: context, and content) of an earlier entry."""
    both = np.empty(len(context), [("context", "u8"), ("content", "u8")])
    both["context"], both["content"] = context, content
    _, first, group = np.unique(both, return_index=True, return_inverse=True)
    differ: Mask = entry[first][group] != entry
    return differ


def select_validation(setting: float, context: Hashes, entry: npt.NDArray[np.int64]) -> Mask:
    """Which examples are for validation: those with the lowest hashes of their contexts.

    A float setting is a share of the range of hashes; an int is the most entries, with contexts kept together. So the
    split of an entry depends on its context alone (for an int, also on the other contexts), a larger setting keeps
    all that a smaller one chose, and no context is in both splits.
    """
    if isinstance(setting, float):
        return context < np.uint64(min(int(setting * 2**64), 2**64 - 1))
    first = np.unique(entry, return_index=True)[1]
    hashes, counts = np.unique(context[first], return_counts=True)
    taken = int(np.searchsorted(np.cumsum(counts), setting, side="right"))
    return context < hashes[taken] if taken < len(hashes) else np.ones(len(context), bool)
