"""Which examples repeat others, and which are for which split. Pure; sees hashes, and where examples came from.

Hashes are those of `parts`: 64 bits of a context, and of a context with its pairs. An over-long entry may have been
made into several examples, which share line and hashes, and so stay together.
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
SPLIT_OF_WORD = {  # of shards' names, between what are no letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tests", "eval", "evaluation"), "test"),  # as `datasets` reads them
}


def infer_splits(dataset: str, shards: Sequence[str]) -> list[str]:
    """The split that each shard of a dataset is for by its name, of several words the last; train where it has none.

    A shard alone that has the dataset's name is the dataset.

    >>> infer_splits("d", ["00000.jsonl", "d-dev-00001.jsonl.gz", "test.jsonl", "latest.jsonl"])
    ['train', 'validation', 'test', 'train']
    """
    if len(shards) == 1 and shards[0].startswith(f"{dataset}."):
        return ["train"]
    words = [re.findall(r"[a-z]+", name.lower().partition(".")[0]) for name in shards]
    found = [[SPLIT_OF_WORD[word] for word in each if word in SPLIT_OF_WORD] for each in words]
    return [each[-1] if each else "train" for each in found]


def entry_numbers(shards: npt.NDArray[Any], lines: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A number for the entry of each example: those of one line of one shard, which stand together, share it."""
    new = np.ones(len(lines), bool)
    new[1:] = (np.diff(shards) != 0) | (np.diff(lines) != 0)
    return np.cumsum(new) - 1


def find_repeats(context: Hashes, content: Hashes, entry: npt.NDArray[np.int64]) -> Mask:
    """The examples whose entry has the context and the pairs of an earlier one: 128 bits of hashes are alike."""
    both = np.empty(len(context), [("context", "u8"), ("content", "u8")])
    both["context"], both["content"] = context, content
    _, first, group = np.unique(both, return_index=True, return_inverse=True)
    differ: Mask = entry[first][group] != entry
    return differ


def select_validation(setting: float, context: Hashes, entry: npt.NDArray[np.int64]) -> Mask:
    """The examples for validation: those whose context's hash is lowest, by share of all hashes or number of entries.

    So an entry's split depends on nothing but its context (for a number: and on the other contexts), a larger setting
    keeps what a smaller one chose, and one context never stands on both sides. Of a number, at most that many entries,
    contexts whole.
    """
    if isinstance(setting, float):
        return context < np.uint64(min(int(setting * 2**64), 2**64 - 1))
    first = np.unique(entry, return_index=True)[1]
    hashes, counts = np.unique(context[first], return_counts=True)
    taken = int(np.searchsorted(np.cumsum(counts), setting, side="right"))
    return context < hashes[taken] if taken < len(hashes) else np.ones(len(context), bool)
