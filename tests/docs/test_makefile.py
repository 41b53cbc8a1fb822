"""docs/Makefile.example with the real make: what it cooks, what it leaves alone, and how it goes on after Ctrl-C."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from commands.test_cli import COOK
from conftest import entry, write_shard
from cook import read_cooked

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "Makefile.example"
NAMES = ("race", "squad")

# `cook`, and a line in a file for each time that it is started.
LOGGED = f"""#!/bin/sh
echo "$*" >> started
exec {COOK} "$@"
"""

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not here")


class Kitchen:
    """A folder with the example, a recipe and the sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(EXAMPLE, folder / "Makefile")
        (folder / "recipe.yaml").write_text("tokenizer: llama3\ncache: none\n")
        for name in NAMES:
            shutil.copytree(str(files("cook") / "sample" / name), folder / "collection" / name)
        (folder / "logged").write_text(LOGGED)
        (folder / "logged").chmod(0o755)

    def make(self, *arguments: str) -> list[str]:
        """Run make; what cook was started for, each by its dataset, or "mix"."""
        (self.folder / "started").unlink(missing_ok=True)
        command = ["make", "COOK=./logged", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        time.sleep(0.05)  # so that what is touched next is newer, by the file system's clock too
        return self.started()

    def started(self) -> list[str]:
        if not (self.folder / "started").exists():
            return []
        words = [line.split() for line in (self.folder / "started").read_text().splitlines()]
        return sorted(line[line.index("--dataset") + 1] if "--dataset" in line else line[0] for line in words)

    def contents(self) -> dict[str, bytes]:
        made = self.folder / "cooked"
        return {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}

    def shard(self, name: str) -> Path:
        return self.folder / "collection" / name / "shard" / "00000.jsonl"


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_each_dataset_once_and_again_when_its_shards_or_the_recipe_are_newer(kitchen):
    assert kitchen.make("-j2") == ["race", "squad"]
    made = kitchen.contents()
    assert {"made/race/cook.json", "made/squad/cook.json", "made/README.md"} <= set(made)
    assert kitchen.make("-j2") == []
    os.utime(kitchen.shard("race"))
    assert kitchen.make("-j2") == ["race"]
    assert kitchen.contents() == made, "its bytes are the same"
    assert kitchen.make("-j2") == []
    with kitchen.shard("race").open("ab") as file:
        file.write(b'{"context": "One more.", "QA_list": [{"Q": "Why?", "A": "Because."}]}\n')
    assert kitchen.make("-j2") == ["race"]
    changed = {name for name, data in kitchen.contents().items() if made[name] != data}
    assert changed == {"made/README.md", "made/race/cook.json", "made/race/train-00000-of-00001.parquet"}
    (kitchen.folder / "collection" / "squad" / "shard" / "00001.jsonl").unlink()
    assert kitchen.make("-j2") == ["squad"], "a shard that is gone is noticed as well"
    os.utime(kitchen.folder / "recipe.yaml")
    assert kitchen.make("-j2") == ["race", "squad"]


def test_mix_and_clean(kitchen):
    assert kitchen.make("-j2", "mix") == ["mix", "race", "squad"]
    made = read_cooked(kitchen.folder / "cooked" / "mixed").manifest
    assert set(made["datasets"]) == set(NAMES)
    assert kitchen.make("mix") == []
    os.utime(kitchen.shard("squad"))
    assert kitchen.make("mix") == ["mix", "squad"]
    assert kitchen.make("mix") == []
    makefile = kitchen.folder / "Makefile"
    makefile.write_text(makefile.read_text().replace("MIXING  =", "MIXING  = --weights race=2"))
    assert kitchen.make("mix") == ["mix"]
    assert read_cooked(kitchen.folder / "cooked" / "mixed").manifest["mix"]["weights"] == {"race": 2.0}
    kitchen.make("clean")
    assert kitchen.contents() == {}


def interrupt(command: list[str], folder: Path, ready: Callable[[], bool]) -> None:
    """Ctrl-C for a command and all below it, once it is ready; as at a terminal, even if the tests ignore it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread is started here
    )
    try:
        while not ready():
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_interrupted_and_run_again_it_ends_with_the_same_bytes(kitchen):
    rows = [entry(f"context {i} " + "word " * 300) for i in range(4000)]
    write_shard(kitchen.folder / "collection", "race", rows, "00001.jsonl")
    command = ["make", "-j2", "COOK=./logged"]
    interrupt(command, kitchen.folder, (kitchen.folder / "cooked" / "made" / ".cook" / "race").exists)
    left = kitchen.contents()
    assert not any(name.startswith("made/race/") for name in left)
    todo = sorted(name for name in NAMES if f"made/{name}/cook.json" not in left)
    assert kitchen.make("-j2") == todo
    resumed = kitchen.contents()
    kitchen.make("clean")
    assert kitchen.make("-j2") == ["race", "squad"]
    assert kitchen.contents() == resumed


def test_an_interrupt_does_not_delete_a_manifest_that_was_just_published(kitchen):
    """As make does with targets that are newer than when it began, unless they are precious."""
    slow = kitchen.folder / "slow"
    slow.write_text(f'#!/bin/sh\n{COOK} "$@"; touch done; sleep 30\n')
    slow.chmod(0o755)
    interrupt(["make", "COOK=./slow", "SETS=squad"], kitchen.folder, (kitchen.folder / "done").exists)
    assert read_cooked(kitchen.folder / "cooked" / "made" / "squad").manifest["dataset"] == "squad"
