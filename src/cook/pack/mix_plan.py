"""Plan a mix: the share of each dataset, and the order of all sequences."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cook.core.errors import RecipeError, suggestion
from cook.core.recipe import SETTING_CHECKS
from cook.pack.planner import random_order

Array = npt.NDArray[np.int64]
MAX_SEQUENCES = 2**31 - 1  # the most sequences of a mix


@dataclasses.dataclass(frozen=True)
class MixSettings:
    """The checked settings of a mix."""

    weights: Mapping[str, Fraction]
    sequences: int | None
    seed: int
    split: str


def check_settings(
    weights: Mapping[str, float], sequences: int | None, seed: int, split: str, jobs: int | None, held: list[str]
) -> MixSettings:
    """The settings, checked; `held` names the datasets there are. Raises RecipeError that lists every wrong setting."""
    problems, known = [], {}
    for requested_name, weight in weights.items():
        names = [name for name in held if name == requested_name] or [
            n for n in held if n.lower() == requested_name.lower()
        ]
        if len(names) != 1:
            hint = suggestion(requested_name, held) or f"there are {', '.join(held)}"
            problems.append(f"weights: {requested_name}: no such dataset; {hint}")
            continue
        if names[0] in known:
            problems.append(f"weights: {names[0]}: is named twice")
        try:
            value = float(weight)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value <= 1e6:
            problems.append(f"weights: {requested_name}: must be a number from 0 to 1,000,000 (it is {weight!r})")
            continue
        known[names[0]] = Fraction(repr(value))  # 0.1 is a tenth, as it is written
    if sequences is not None and not (type(sequences) is int and 1 <= sequences <= MAX_SEQUENCES):
        problems.append(f"sequences: must be a whole number from 1 to {MAX_SEQUENCES:,} (it is {sequences!r})")
    if wrong := SETTING_CHECKS["seed"](seed):
        problems.append(f"seed: {wrong} (it is {seed!r})")
    if wrong := SETTING_CHECKS["jobs"](jobs):
        problems.append(f"jobs: {wrong} (it is {jobs!r})")
    if problems:
        raise RecipeError(*problems)
    return MixSettings(known, sequences, seed, split)


def allocate_sequences(
    sizes: list[int], weights: list[Fraction], sequences: int | None
) -> tuple[list[Fraction], list[int]]:
    """For each dataset, the exact share of sequences and the whole number that it gives.

    Without `sequences`, the share is size times weight, and halves are rounded up. With `sequences`, the numbers sum
    to it by the largest remainder method; of equal remainders the first dataset's counts.

    >>> allocate_sequences([4, 3], [Fraction(2), Fraction(1, 2)], None)[1]
    [8, 2]
    >>> allocate_sequences([4, 3], [Fraction(1), Fraction(1)], 10)[1]
    [6, 4]
    """
    exact_shares = [size * weight for size, weight in zip(sizes, weights, strict=True)]
    if sequences is None:
        return exact_shares, [math.floor(share + Fraction(1, 2)) for share in exact_shares]
    total = sum(exact_shares)
    exact_shares = [share * sequences / total for share in exact_shares]
    given = [math.floor(share) for share in exact_shares]
    by_remainder = sorted(range(len(exact_shares)), key=lambda index: given[index] - exact_shares[index])
    for index in by_remainder[: sequences - sum(given)]:
        given[index] += 1
    return exact_shares, given


def plan_stream(names: list[str], sizes: list[int], given: list[int], seed: int) -> Array:
    """The sequences of a mix, in order: indices into the concatenated sequences of all datasets.

    A dataset gives every sequence `given // size` times, and the remainder from the start of a random order that
    depends on seed and name alone. So a larger share contains a smaller one, whatever the other datasets are.
    """
    parts, first = [np.empty(0, np.int64)], 0
    for name, size, count in zip(names, sizes, given, strict=True):
        passes, remainder = divmod(count, size)
        parts.append(np.tile(np.arange(first, first + size), passes))
        parts.append(first + np.sort(random_order(size, _order_seed(seed, name))[:remainder]))
        first += size
    taken = np.concatenate(parts)
    return taken[random_order(len(taken), _order_seed(seed, ""))]


def _order_seed(seed: int, name: str) -> int:
    """The seed of a dataset's order, or of the whole mix for the name "", which no dataset has."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "little")
