"""Rows on disk, whole or not at all."""

import resource

import numpy as np
import pytest

from cook import OutputError
from cook.core.files import memory_mapped, write_atomically


@pytest.mark.parametrize("room", [0, 4000, 7992, 7999])
def test_rows_that_find_no_room_are_an_error(tmp_path, room):
    """Also where the last block alone finds none: what is cut between two rows would seem whole."""
    rows = np.arange(1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(
            OutputError, match="rows: cannot be written: File too large; it takes about 8,000 bytes there"
        ):
            write_atomically(tmp_path / "rows", rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "rows").exists()
    write_atomically(tmp_path / "rows", rows)
    assert memory_mapped(tmp_path / "rows", np.int64).tolist() == rows.tolist()
