"""Fixtures that many tests use. No test reaches the network, and none writes outside its temporary folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

from reference import MODELS, write_model
from servers.hub_server import HubServer

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
settings.register_profile("cook", deadline=None, derandomize=True)
settings.load_profile("cook")

SHARED = Path(__file__).resolve().parents[2] / "shared"
COLLECTION = SHARED / "data" / "collection"
needs_collection = pytest.mark.skipif(not COLLECTION.is_dir(), reason="the real shards are not here")


# What runs real clusters, browsers, trainers, servers of lies, kills, pages, or hundreds of commands.
SLOW = (
    "commands/test_bad_paths.py", "commands/test_matrix.py", "commands/test_report_in_browser.py",
    "commands/test_writers.py", "docs/test_makefile.py", "docs/test_pages.py", "end_to_end/", "executors/test_dask.py",
    "faults/", "hostile/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, by its file; what is one of many cases is slow as well."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if path.startswith(SLOW) or item.get_closest_marker("many"):
            item.add_marker(pytest.mark.slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=60, help="points at which tests/faults kills a cook (60)")
    parser.addoption("--faults", type=int, default=72, help="faults that tests/faults puts into an output (72)")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test: what one encodes, none finds."""
    monkeypatch.setenv("COOK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each model, with tokenizer.json and tokenizer_config.json."""
    root = tmp_path_factory.mktemp("models")
    return {name: write_model(root / name, name) for name in MODELS}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on the loopback, the one that this process's client knows, with a cache of its own; no wait takes time."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with HubServer() as running:
        point_at(running.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running
        (getattr(_http, "close_session", None) or _http.reset_sessions)()  # versions before 1 have the other


class Told:
    """A callback for progress: sums what is done and what is ahead, by stage."""

    def __init__(self) -> None:
        self.done, self.ahead = Counter(), Counter()

    def __call__(self, stage: str, done: int, ahead: int = 0, /) -> None:
        self.done[stage] += done
        self.ahead[stage] += ahead

    def stages(self) -> dict[str, int]:
        """What was done, where it is what was ahead."""
        assert self.done == self.ahead
        return dict(self.done)


NOBODY = "http://127.0.0.1:9"  # where no Hub listens


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client in this process ask another Hub; it reads the environment at import."""
    from huggingface_hub import constants, file_download

    for module in (constants, file_download):  # versions before 1 have the names in both
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client in this process make no request."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def cook(tmp_path: Path) -> Callable[..., Result]:
    """Run the command in a temporary folder: `cook("-d", "squad", …)`."""
    from cook.cli.app import main

    def invoke(*arguments: str) -> Result:
        before = Path.cwd()
        os.chdir(tmp_path)
        try:
            return CliRunner().invoke(main, list(arguments))
        finally:
            os.chdir(before)

    return invoke


def pair(question: str = "Why?", answer: str = "Because.") -> dict[str, str]:
    return {"Q": question, "A": answer}


def entry(context: str = "A context.", *pairs: dict[str, str]) -> dict[str, Any]:
    return {"context": context, "QA_list": list(pairs) or [pair()]}


def write_shard(root: Path, name: str, rows: list[Any], shard: str = "00000.jsonl") -> Path:
    """Write one shard; a row may be bytes, which are written as they are."""
    path = root / name / "shard" / shard
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def odd_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset `set` in which all becomes of entries that can, and in `out` what was cooked of it."""
    from cook import Recipe, run, verify

    root = tmp_path_factory.mktemp("odd")
    rows = [
        entry(f"Context {i}, " + "a word " * (i % 9), pair(f"Q{i}?", f"Answer {i}"), pair("Why?", f"{i}é"))
        for i in range(14)
    ]
    long = entry("A long context. " * 12, *(pair(f"Question {i}?", f"Answer {i}.") for i in range(12)))
    rows += [rows[3], entry("x", pair(" ", "a"), pair("q", "a")), {"context": "none", "QA_list": []}, b"{", long]
    write_shard(root, "set", rows)
    write_shard(root, "set", [entry(f"Another {i}") for i in range(9)] + [entry("word " * 300)], "00001.jsonl")
    recipe = Recipe(
        datasets="set", tokenizer="llama3", source=root, output=root / "out", max_length=150, validation=0.2,
        dedup=True, on_error="skip", max_dropped=1.0, overlong="split", limit=25, cache="none",
    )  # fmt: skip
    assert run(recipe).results[0].counts["skipped_entries"] == {"no_pairs": 1, "bad_line": 1, "repeat": 1}
    verified = verify(root / "out", deep=True, source=str(root))
    assert verified.found == 0
    assert verified.datasets[0].compared
    return root
