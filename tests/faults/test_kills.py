"""kill -9 anywhere: no result is half there, none is lost, and the same command goes on and ends in the same bytes."""

import dataclasses
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.ground import SETS, Done, group, left_over, spools, started, tree, wait_for, whole

SCENARIOS = list(itertools.product(("fresh", "older", "older, two renames"), ("cache", "no cache"), (1, 2)))
GOLDEN = 0.6180339887498949  # its multiples modulo 1 lie evenly, however many there are

Tree = dict[str, bytes | None]


@dataclasses.dataclass
class Ground:
    """A ROOT and a cache to kill a cook over, and what they must come to."""

    models: Path
    folder: Path
    arguments: list[str | Path]
    has_older: bool

    def __post_init__(self) -> None:
        self.root, self.cache = self.folder / "root", self.folder / "cache"
        self.right = tree(self.models / "right")
        self.older = tree(self.models / "older") if self.has_older else None

    def lay(self) -> None:
        """ROOT and cache as they are before a cook."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        if self.has_older:
            shutil.copytree(self.models / "older", self.root)
            shutil.copytree(self.models / "cache", self.cache)

    def check_killed(self) -> None:
        """Each dataset is there, whole, as it was or as it shall be, or not at all."""
        for name in SETS:
            found = whole(self.root, name)
            if found is None:
                assert self.older is None, f"{name}: the older result is lost"
                assert not (self.root / name).exists(), f"{name}: half a result"
            else:
                assert found in (of(self.right, name), self.older and of(self.older, name))
        card = self.root / "README.md"
        if card.exists() or self.older:
            assert card.read_bytes() in (self.right["README.md"], (self.older or {}).get("README.md"))

    def check_again(self, run: Callable[..., Done]) -> int:
        """The same command goes on to the right end; how many spools it found whole, and left as they were."""
        before = spools(self.cache)
        done = run(*self.arguments)
        assert done.code == 0, done.printed
        assert tree(self.root) == self.right
        assert left_over(self.root, self.cache) == []
        after = spools(self.cache)
        assert {name: after[name] for name in before} == before, "tokens that were there were made again"
        return len(before)


def of(root: Tree, name: str) -> Tree:
    """A dataset's part of a ROOT."""
    return {path.removeprefix(name + "/"): data for path, data in root.items() if path.startswith(name + "/")}


@pytest.fixture(scope="module")
def ground(tmp_path_factory, server, tokenizer, source) -> Callable[..., Ground]:
    """Makes the ground of a scenario; the results that it starts from and must come to are cooked once."""
    models = tmp_path_factory.mktemp("models")
    common = ["-d", "all", "-t", tokenizer, "-s", source]
    older = ["--cache", models / "cache", "-o", models / "older", "--max-length", "1500", "--seed", "1"]
    for arguments in (older, ["--no-cache", "-o", models / "right", "--max-length", "1024"]):
        done = server.run(*common, *arguments)
        assert done.code == 0, done.printed

    def make(folder: Path, start: str, cache: str, jobs: int) -> Ground:
        kept = ["--no-cache"] if cache == "no cache" else ["--cache", folder / "cache"]
        own = ["-o", folder / "root", "--max-length", "1024", "--overwrite", "--jobs", str(jobs)]
        return Ground(models, folder, [*common, *kept, *own], start != "fresh")

    return make


@pytest.mark.parametrize(
    "scenario", SCENARIOS, ids=lambda scenario: f"{scenario[0]}, {scenario[1]}, jobs {scenario[2]}"
)
def test_killed_at_any_file_event(tmp_path, server, ground, figures, pytestconfig, scenario):
    start, cache, jobs = scenario
    number, of_all = SCENARIOS.index(scenario), pytestconfig.getoption("kills")
    share_of_all = len(range(number, of_all, len(SCENARIOS)))
    laid = ground(tmp_path, start, cache, jobs)
    faults = {"within": str(tmp_path), "exchanges": "two renames" not in start}
    laid.lay()
    undisturbed = server.run(*laid.arguments, **faults)
    assert tree(laid.root) == laid.right
    offset = number * GOLDEN % 1
    points = [1 + int((point + offset) / share_of_all * undisturbed.events) for point in range(share_of_all)]
    if jobs == 1 and (start, cache) != ("fresh", "cache"):
        points += [at + after for at in undisturbed.renames for after in (0, 1)]
    for point in points:
        kill_at = point
        laid.lay()
        killed = server.run(*laid.arguments, **faults, kill_at=kill_at)
        while killed.code == 0:  # with threads the number of events varies a little
            kill_at -= 1 + kill_at // 20
            laid.lay()
            killed = server.run(*laid.arguments, **faults, kill_at=kill_at)
        assert killed.code == -signal.SIGKILL, killed.printed
        figures["kills at a file event"] += 1
        laid.check_killed()
        figures["spools found again"] += laid.check_again(server.run)


def pooled(*arguments: str | Path) -> Done:
    with started(*arguments) as process:
        _, printed = process.communicate(timeout=60)
    return Done(process.returncode, printed)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("start", ["fresh", "older"])
def test_the_command_killed_at_any_time_with_its_workers(tmp_path, ground, figures, pytestconfig, start):
    laid = ground(tmp_path, start, "cache", 2)
    laid.lay()
    begun = time.monotonic()
    assert pooled(*laid.arguments).code == 0
    seconds = time.monotonic() - begun
    chance = random.Random(start)  # noqa: S311
    for _ in range(max(2, pytestconfig.getoption("kills") // 40)):
        laid.lay()
        with started(*laid.arguments) as process:
            try:
                process.wait(seconds * chance.uniform(0.3, 1))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                figures["kills of the command with workers"] += 1
                wait_for(lambda: not group(process.pid))  # workers end by themselves
        laid.check_killed()
        figures["spools found again"] += laid.check_again(pooled)
