"""A spool on disk: what is loaded is whole, and told to be used; what failed leaves nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from cook.core.records import ENCODED_EXAMPLE_DTYPE, SKIPPED_ROW_DTYPE
from cook.encode import spool


def test_a_spool_of_several_writes_is_loaded_and_told_to_be_used(tmp_path):
    name = str(tmp_path / "spools" / "ab" / "x")
    (tmp_path / "spools").mkdir()
    examples = np.zeros(2, ENCODED_EXAMPLE_DTYPE)
    examples["tokens"] = 3
    with spool.open_writer(name, 24) as (writer, done):
        for _ in range(2):
            writer.write(np.array([1, 2, 3], np.uint32))
        done.append(spool.SpoolIndex(examples, np.empty(0, SKIPPED_ROW_DTYPE)))
    index = Path(name + ".index")
    assert {path.name for path in index.parent.iterdir()} == {"x.ids", "x.index"}
    before = index.stat()
    os.utime(index, (1, 1))
    assert spool.load(name) is not None
    assert index.stat().st_mtime >= before.st_mtime


def test_a_spool_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "spools").mkdir()
    with pytest.raises(ZeroDivisionError), spool.open_writer(str(tmp_path / "spools" / "ab" / "x"), 9) as (writer, _):
        writer.write(np.array([1], np.uint32))
        raise ZeroDivisionError
    assert list((tmp_path / "spools" / "ab").iterdir()) == []
