"""Errors go through a pool of processes as they are, and name what is in short."""

import pickle
from pathlib import Path

import pytest

from cook import BadLines, InputError, SeveralFailed, SourceError
from cook.core.errors import Problem, write_error
from cook.core.results import Summary

PROBLEM = Problem("a.jsonl", 3, "context", "is missing")


@pytest.mark.parametrize(
    "error",
    [
        SourceError("one", "two"),
        BadLines([PROBLEM], 3, unread=2, skippable=True),
        SeveralFailed(
            {"a": InputError("bad"), "b": SourceError("worse")}, Summary(Path("out"), "llama3", [], 1.5, card=True)
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_from_a_worker_as_it_was_raised(error):
    found = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(found), str(found), found.exit_code) == (type(error), str(error), error.exit_code)
    assert repr(vars(found)) == repr(vars(error))


def test_what_a_file_takes_is_told_where_room_is_short_alone():
    assert str(write_error("f", OSError(28, "x"), 1234)) == (
        "f: cannot be written: No space left on device; it takes about 1,234 bytes there"
    )
    assert str(write_error("f", OSError(13, "x"), 1234)) == "f: cannot be written: Permission denied"
    assert str(write_error("f", OSError("words"), 1234)) == "f: cannot be written: words"
