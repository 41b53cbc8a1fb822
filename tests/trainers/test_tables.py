"""Exports that find no room: each target says so, and leaves nothing that looks whole."""

import resource

import orjson
import pytest

from cook import OutputError, export
from cook.trainers.exporter import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_disk_that_is_full_at_the_largest_file(odd_set, tmp_path, target):
    right = export(odd_set / "out" / "set", target, tmp_path / "right", jobs=1)
    largest = max((path for path in right.folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest.stat().st_size - 1, hard))
    try:
        with pytest.raises(OutputError, match=rf"{largest.name}: cannot be written: File too large"):
            export(odd_set / "out" / "set", target, tmp_path / "full", jobs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


def test_the_state_of_a_saved_dataset_says_that_no_column_is_formatted(odd_set, tmp_path):
    made = export(odd_set / "out" / "set", "llama-factory", tmp_path / "made", jobs=1)
    state = orjson.loads((made.folder / "train" / "state.json").read_bytes())
    assert len(state.pop("_fingerprint")) == 16
    assert state == {
        "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": "train",
    }
