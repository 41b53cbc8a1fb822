"""The table, the windows and the files of a dataset: in pieces the same as at once."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from cook.core import records
from cook.core.recipe import Recipe
from cook.corpora.recipe import CorpusRecipe
from cook.pack import files as pack_files
from cook.pack import planner
from cook.pack import windows as windows_module
from cook.pack.statistics import IntHistogram, PackingStats
from cook.pack.windows import plan_window
from cook.store import columns, write

numbers = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@given(numbers, st.integers(1, 20))
def test_tallies_joined_are_those_of_all(values, size):
    pieces = [np.array(values[at : at + size]) for at in range(0, len(values), size)]
    joined = IntHistogram.merge([IntHistogram.from_values(piece) for piece in pieces])
    assert list(np.repeat(joined.values, joined.counts)) == sorted(values)
    marks = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
    assert list(joined.quantiles().values()) == np.quantile(values, marks, method="lower").tolist()


def test_quantiles_of_ten():
    ten = IntHistogram.from_values(np.array([10, 1, 9, 2, 8, 3, 7, 4, 6, 5]))
    assert ten.quantiles() == {"min": 1, "p5": 1, "p25": 3, "p50": 5, "p75": 7, "p95": 9, "max": 10}


@given(numbers, st.integers(1, 20), st.integers(1, 100))
@example([3, 3, 4, 2, 6], 2, 6)  # each file is full to the last token, within a window
@example([3, 3, 4, 2, 6], 1, 6)  # and across windows
def test_files_close_where_they_would_without_windows(tokens, size, most):
    """A sequence that alone has more than a file may hold is a file of its own."""
    with tempfile.TemporaryDirectory() as name, _set(write, "FILE_TOKENS", most):
        folder, names = Path(name), []
        for at in range(0, len(tokens), size):
            names.append(f"train-{at}")
            np.array(tokens[at : at + size], np.int64).tofile(folder / f"{names[-1]}.tokens")
        files = pack_files.output_file_jobs(folder / "out", folder, folder, "train", names)
    begins = dict(zip(names, range(0, len(tokens), size), strict=True))
    rows = [
        [begins[window] + i for window, first, last in file.sequence_ranges for i in range(first, last)]
        for file in files
    ]
    assert rows == [list(range(*ends)) for ends in records.split_rows(np.array(tokens, np.int64), most)]
    assert [Path(file.path).name for file in files] == columns.file_names(len(files))


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=50),
    st.integers(1, 30),
    st.booleans(),
)
def test_windows_come_to_the_plan_of_all(lengths, window, chosen):
    """Also of a split that has only every other example."""
    rows = np.arange(0, len(lengths), 2) if chosen else slice(0, len(lengths))
    placed = np.zeros(len(lengths), records.PLACED_EXAMPLE_DTYPE)
    inputs, placed["trained"] = np.array(lengths).T
    placed["tokens"] = inputs + placed["trained"]
    recipe = Recipe(datasets="x", tokenizer="x", max_length=20)
    totals = placed["tokens"][rows].astype(np.int64)
    with tempfile.TemporaryDirectory() as name, _set(planner, "WINDOW", window):
        folder = Path(name)
        placed.tofile(folder / "placed")
        whole = planner.plan(totals, 20, recipe.packing, recipe.seed)
        windows = list(windows_module.window_jobs(folder, "train", rows if chosen else slice(None), recipe))
        made = PackingStats.merge([plan_window(each) for each in windows])
        order = np.concatenate([np.fromfile(folder / f"{each.name}.order", np.int64) for each in windows])
        tokens = np.concatenate([np.fromfile(folder / f"{each.name}.tokens", np.int64) for each in windows])
    assert list(order) == list(np.arange(len(placed))[rows][whole.order])
    assert list(tokens) == list(records.tokens_per_sequence(whole.starts, totals[whole.order]))
    assert made.counts() == {
        "examples": len(totals),
        "sequences": len(whole),
        "tokens": int(totals.sum()),
        "trained_tokens": int(placed["trained"][rows].sum()),
    }


@given(st.lists(st.integers(1, 60), min_size=1, max_size=50), st.integers(1, 60))
def test_windows_of_texts_in_pieces_come_to_the_plan_of_all(lengths, window):
    """With wrap a window ends where a sequence does."""
    recipe = CorpusRecipe(source="x", tokenizer="x", output="x", max_length=20, packing="wrap")
    pieces = planner.cut_at_length(np.array(lengths), 20, 0).length
    placed = np.zeros(len(pieces), records.PLACED_EXAMPLE_DTYPE)
    placed["tokens"] = placed["trained"] = pieces
    with tempfile.TemporaryDirectory() as name, _set(planner, "WINDOW", window):
        folder = Path(name)
        placed.tofile(folder / "placed")
        windows = list(windows_module.window_jobs(folder, "train", slice(None), recipe))
        made = PackingStats.merge([plan_window(each) for each in windows])
        order = np.concatenate([np.fromfile(folder / f"{each.name}.order", np.int64) for each in windows])
        tokens = np.concatenate([np.fromfile(folder / f"{each.name}.tokens", np.int64) for each in windows])
    assert list(order) == list(range(len(pieces)))
    assert list(tokens[:-1]) == [20] * (len(tokens) - 1)
    assert made.counts()["tokens"] == sum(lengths) == tokens.sum()


class _set:  # noqa: N801 - monkeypatch does not go with hypothesis
    """A module's constant, other for a with block."""

    def __init__(self, module, name, value):
        self.module, self.name, self.value = module, name, value

    def __enter__(self):
        self.before = getattr(self.module, self.name)
        setattr(self.module, self.name, self.value)

    def __exit__(self, *_):
        setattr(self.module, self.name, self.before)
