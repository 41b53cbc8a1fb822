"""Fixtures of the tests of faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.ground import Server, write_source, write_tokenizer

FIGURES: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.line("faults: " + ", ".join(f"{count:,} {what}" for what, count in FIGURES.items()))


@pytest.fixture(scope="session")
def figures() -> Counter[str]:
    """What the summary at the end tells of."""
    return FIGURES


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The command in forked children."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tokenizer."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "bytes")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of three shards."""
    return write_source(tmp_path_factory.mktemp("source"))
