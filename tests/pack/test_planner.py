"""Packing: every example once, whole, within the length; strategies as documented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cook.core.choices import CORPUS_PACKINGS, PACKINGS
from cook.pack import planner
from cook.pack.planner import STRATEGIES, plan, random_order

LENGTHS = st.lists(st.integers(1, 20), max_size=60)


def sequences(planned: planner.Plan) -> list[list[int]]:
    return [planned.order[a:b].tolist() for a, b in zip(planned.starts[:-1], planned.starts[1:], strict=True)]


def best_fit(lengths: list[int], order: list[int], max_length: int) -> list[list[int]]:
    """The definition: each into the fullest sequence that has room, of those the one that got to it last."""
    made: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # room, when it got it
    for step, index in enumerate(order):
        fitting = [(room, -when, at) for at, (room, when) in enumerate(rooms) if room >= lengths[index]]
        if fitting:
            at = min(fitting)[2]
        else:
            at = len(made)
            made.append([])
            rooms.append((max_length, step))
        made[at].append(index)
        rooms[at] = (rooms[at][0] - lengths[index], step)
    return made


def test_strategies_are_those_of_the_recipe():
    assert set(STRATEGIES) == set(CORPUS_PACKINGS)


def test_in_order_by_hand():
    assert sequences(plan([3, 4, 3, 9, 1, 10, 2], 10, "in-order")) == [[0, 1, 2], [3, 4], [5], [6]]


def test_none_by_hand():
    assert sequences(plan([3, 4, 3], 10, "none")) == [[0], [1], [2]]


def test_best_fit_decreasing_by_hand():
    made = sequences(plan([6, 4, 5, 5, 3, 7], 10, "best-fit-decreasing"))
    assert sorted(map(sorted, made)) == [[0, 1], [2, 3], [4, 5]]


@given(LENGTHS, st.integers(20, 50), st.sampled_from(PACKINGS), st.integers(0, 2**64 - 1))
def test_every_example_once_and_within_the_length(lengths, max_length, packing, seed):
    made = sequences(plan(lengths, max_length, packing, seed))
    assert sorted(index for sequence in made for index in sequence) == list(range(len(lengths)))
    assert all(sequence and sum(lengths[index] for index in sequence) <= max_length for sequence in made)


@given(LENGTHS, st.integers(20, 50), st.integers(0, 99))
def test_best_fit_is_best_fit(lengths, max_length, seed):
    order = random_order(len(lengths), seed).tolist()
    assert sequences(plan(lengths, max_length, "best-fit", seed)) == best_fit(lengths, order, max_length)


@given(LENGTHS, st.integers(20, 50), st.integers(0, 99))
def test_best_fit_decreasing_is_best_fit_from_long_to_short(lengths, max_length, seed):
    order = sorted(random_order(len(lengths), seed).tolist(), key=lambda index: -lengths[index])
    made = sequences(plan(lengths, max_length, "best-fit-decreasing", seed))
    expected = best_fit(lengths, order, max_length)
    assert [[lengths[i] for i in s] for s in made] == [[lengths[i] for i in s] for s in expected]


@given(st.lists(st.integers(1, 3000), max_size=80), st.integers(0, 9))
def test_best_fit_across_words_of_rooms(lengths, seed):
    order = random_order(len(lengths), seed).tolist()
    assert sequences(plan(lengths, 3000, "best-fit", seed)) == best_fit(lengths, order, 3000)


@given(LENGTHS, st.integers(20, 40))
def test_in_order_is_the_published_recipe(lengths, max_length):
    made: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not made or used + length > max_length:
            made.append([])
            used = 0
        made[-1].append(index)
        used += length
    assert sequences(plan(lengths, max_length, "in-order")) == made


@pytest.mark.parametrize("packing", PACKINGS)
def test_windows_are_planned_apart(monkeypatch, packing):
    lengths = np.array([5, 9, 3, 7, 2, 8, 6, 1, 4, 9, 3])
    monkeypatch.setattr(planner, "WINDOW", 4)
    made = sequences(plan(lengths, 10, packing, 7))
    windows = [{index // 4 for index in sequence} for sequence in made]
    assert all(len(window) == 1 for window in windows)
    assert windows == sorted(windows, key=min)
    assert sorted(index for sequence in made for index in sequence) == list(range(11))


def test_the_random_order_never_changes():
    # splitmix64 by hand; these numbers are part of the format: another order would change every cooked file.
    assert random_order(8, 0).tolist() == [6, 2, 0, 5, 1, 4, 7, 3]
    assert random_order(8, 1).tolist() == [7, 5, 6, 4, 1, 3, 2, 0]
    assert random_order(5, 2**64 - 1).tolist() == [1, 0, 4, 2, 3]


def splitmix(x: int) -> int:
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(0, 2**40))
def test_the_random_order_is_a_sort_by_a_keyed_hash(seed, count, begin):
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    key = splitmix((seed + golden) & mask)
    hashes = [splitmix(((key + begin + index + 1) * golden) & mask) for index in range(count)]
    assert random_order(count, seed, begin).tolist() == sorted(range(count), key=hashes.__getitem__)


def test_sequences_of_best_fit_mix_lengths():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.4, 0.9, 20_000).astype(int), 1, 2048)
    full = {name: lengths.sum() / (len(plan(lengths, 2048, name)) * 2048) for name in PACKINGS}
    assert full["best-fit"] > 0.98
    assert full["best-fit-decreasing"] > 0.99
    assert full["in-order"] < full["best-fit"] < full["best-fit-decreasing"]
