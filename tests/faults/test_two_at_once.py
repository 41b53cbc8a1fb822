"""Runs that meet: on one dataset one cooks and the others wait, refuse or find it there; into one ROOT all succeed."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cook.core import records
from cook.encode import spool
from faults.ground import left_over, started, tree, wait_for, whole, write_source

BUSY = "another run is cooking this dataset into this folder"


@pytest.fixture(scope="module")
def right(tmp_path_factory, server, tokenizer, source) -> dict[str, bytes | None]:
    """What a cook of one dataset comes to."""
    root = tmp_path_factory.mktemp("right") / "root"
    assert server.run("-d", "one", "-t", tokenizer, "-s", source, "-o", root, "--no-cache").code == 0
    return tree(root)


@pytest.fixture
def arguments(tmp_path, tokenizer, source) -> list[str | Path]:
    return ["-d", "one", "-t", tokenizer, "-s", source, "-o", tmp_path / "root", "--no-cache"]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_started_together(tmp_path, server, arguments, right, cached, overwrite):
    arguments = arguments[:-1] + (["--cache", tmp_path / "cache"] if cached else ["--no-cache"])
    for _ in range(3):
        if overwrite:
            assert server.run(*arguments, "--seed", "1", "--overwrite").code == 0
            arguments = [*arguments, "--overwrite"]
        done = [server.wait(pid) for pid in [server.start(*arguments) for _ in range(3)]]
        assert 0 in [end.code for end in done]
        for end in done:
            assert end.code == 0 or (end.code == 1 and BUSY in end.printed), end.printed
        assert tree(tmp_path / "root") == right
        assert left_over(tmp_path / "root", tmp_path / "cache") == []
        if not overwrite:
            for path in sorted((tmp_path / "root").rglob("*"), reverse=True):
                (path.rmdir if path.is_dir() else path.unlink)()


def holder(arguments: list[str | Path], server, root: Path) -> int:
    """A run that is stopped while it cooks; its process id."""
    for kill_at in range(100, 2000, 100):  # the events before a lock is held vary with versions
        pid = server.start(*arguments, within=str(root.parent), kill_at=kill_at, kill_by=signal.SIGSTOP)
        wait_for(lambda: state(pid) in "TZ")  # noqa: B023
        if (root / ".cook" / "one.lock").exists() and state(pid) == "T":
            return pid
        if state(pid) == "T":
            os.kill(pid, signal.SIGKILL)
        server.wait(pid)
    raise AssertionError("no run held the lock")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", ["goes on", "is killed"])
def test_while_one_cooks_the_other_refuses(tmp_path, server, arguments, right, end):
    root = tmp_path / "root"
    holds = holder(arguments, server, root)
    refused = server.run(*arguments)
    assert refused.code == 1
    assert f"{root / 'one'}: {BUSY}" in refused.printed
    assert whole(root, "one") is None
    os.kill(holds, signal.SIGCONT if end == "goes on" else signal.SIGKILL)
    assert server.wait(holds).code == (0 if end == "goes on" else -signal.SIGKILL)
    if end == "is killed":
        assert (root / ".cook" / "one.lock").exists()  # and yet it is free
    done = server.run(*arguments)
    assert done.code == 0, done.printed
    assert ("up to date" in done.printed) == (end == "goes on")
    assert tree(root) == right


NAMES = tuple("abcdefgh")


def test_many_datasets_into_one_root(tmp_path, server, tokenizer):
    """As `make -j` does; the folders and locks that one removes are those that another makes."""
    write_source(tmp_path, 3, sets=NAMES)
    common = ["-t", tokenizer, "-s", tmp_path]
    assert server.run("-d", "all", *common, "--no-cache", "-o", tmp_path / "right").code == 0
    right = tree(tmp_path / "right")
    for turn in range(4):
        root = tmp_path / f"root{turn}"
        kept = ["--cache", tmp_path / "cache"] if turn % 2 else ["--no-cache"]
        for done in [server.wait(pid) for pid in [server.start("-d", n, *common, *kept, "-o", root) for n in NAMES]]:
            assert done.code == 0, done.printed
        assert tree(root) == right
        assert left_over(root, tmp_path / "cache") == []


def test_one_spool_written_by_two_threads(tmp_path):
    """Shards of the same bytes have the same spool."""
    name, both = str(tmp_path / "spool"), threading.Barrier(2)

    def write(_: int) -> None:
        with spool.open_writer(name, 0) as (writer, done):
            both.wait(10)
            examples = np.ones(9, records.ENCODED_EXAMPLE_DTYPE)
            writer.write(np.arange(records.total_tokens(examples), dtype=np.uint32))
            done.append(spool.SpoolIndex(examples, np.empty(0, records.SKIPPED_ROW_DTYPE)))
            both.wait(10)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert spool.load(name) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool.ids", "spool.index"]


def test_the_command_twice(tmp_path, arguments, right):
    with started(*arguments) as one, started(*arguments) as other:
        printed = [process.communicate(timeout=60)[1] for process in (one, other)]
    codes = sorted((one.returncode, other.returncode))
    assert codes == [0, 0] or (codes == [0, 1] and BUSY in "".join(printed)), printed
    assert tree(tmp_path / "root") == right
