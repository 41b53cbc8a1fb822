"""Sequences gathered from files of ids: places beyond 2 GiB, and sizes that the bytes of results depend on."""

import numpy as np

from cook.core.records import PLACED_EXAMPLE_DTYPE
from cook.store import write


def test_tokens_beyond_two_gibibytes_of_a_spool(tmp_path):
    """The file is sparse: it takes a page of the disk."""
    at = (1 << 29) + 5
    with (tmp_path / "ids").open("wb") as file:
        file.seek(4 * at)
        file.write(np.array([7, 8, 9], np.uint32).tobytes())
    examples = np.array([(0, at + 1, 2, 1, 0, 1), (0, at, 1, 1, 0, 1)], PLACED_EXAMPLE_DTYPE)
    with write.mapped_files((str(tmp_path / "ids"),)) as views:
        assert write.gather_tokens(examples, views).tolist() == [8, 9, 7]


def test_where_files_and_row_groups_close():
    """Other sizes are other bytes for the same data."""
    assert (write.FILE_TOKENS, write.ROW_GROUP_TOKENS) == (16_777_216, 1_048_576)
