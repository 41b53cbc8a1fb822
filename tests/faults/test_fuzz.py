"""Damaged and hostile files: an error of cook's own, or the right result; never a crash, a hang, or a line lost.

A few seconds of it, always the same; `scripts/fuzz.py` goes on for as long as one likes.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from faults.fuzzing import TARGETS, forget_example


@pytest.fixture(scope="module", autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    forget_example()


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_file_holds(name):
    target = TARGETS[name]
    quick = settings(max_examples=target.examples, suppress_health_check=[*HealthCheck])
    quick(given(**target.inputs)(target.check))()
