"""What the tests of faults stand on: a source, the command in processes of its own, and trees of files to compare."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from conftest import entry, pair, write_shard
from cook import OutputError, read_cooked
from cook.tokenizer.engines.bundled import byte_level_json

HERE = Path(__file__).parent
SETS = ("one", "two")
SHARDS = 3


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    """Its exit code; the signal that ended it, negative."""
    printed: str
    events: int = 0
    """Its file events, where they were counted; see `server`."""
    renames: list[int] = dataclasses.field(default_factory=list)
    """Those of them that put a folder or a card in place."""


class Server:
    """The command in children of a process that has imported cook; see `server`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )

    def _ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments: str | Path, **faults: Any) -> int:
        """Start the command; its process id."""
        pid: int = self._ask(arguments=[str(argument) for argument in arguments], **faults)
        return pid

    def wait(self, pid: int) -> Done:
        """Wait for the end of what was started."""
        return Done(**self._ask(wait=pid))

    def run(self, *arguments: str | Path, **faults: Any) -> Done:
        """The command from start to end."""
        return self.wait(self.start(*arguments, **faults))

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer whose tokens are bytes: loaded in no time."""
    folder.mkdir(parents=True)
    specials = (("<s>", 256), ("</s>", 257))
    document = byte_level_json([bytes([i]) for i in range(256)], r"\w+|\W", specials)
    (folder / "tokenizer.json").write_bytes(orjson.dumps(document))
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return folder


def write_source(folder: Path, entries: int = 30, words: int = 30, sets: tuple[str, ...] = SETS) -> Path:
    """Datasets of several shards, with a few entries that are over-long at 1,024 tokens, and some blank pairs."""
    chance = random.Random(0)  # noqa: S311
    for name in sets:
        for shard in range(SHARDS):
            rows = []
            for index in range(entries):
                text = " ".join(f"{chance.getrandbits(32):x}" for _ in range(chance.randrange(2, words)))
                rows.append(entry(f"{name} {shard} {index} {text}", pair(f"Q{index}?", text[:20]), pair("", "x")))
            rows.append(entry("Long. " * 50, *(pair(f"Question {i}?", "Answer. " * 9) for i in range(20))))
            write_shard(folder, name, rows, f"{shard:05}.jsonl")
    return folder


def tree(root: Path) -> dict[str, bytes | None]:
    """All that lies under a folder: the bytes of each file, None for a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }  # fmt: skip


def whole(root: Path, name: str) -> dict[str, bytes | None] | None:
    """A dataset's files, if its folder passes for complete."""
    try:
        return tree(read_cooked(root / name).folder)
    except OutputError:
        return None


def left_over(root: Path, cache: Path) -> list[Path]:
    """What no ended run may leave: staging folders, locks and temporary files."""
    return [*root.glob(".cook"), *(path for path in cache.rglob("*") if "tmp" in path.name)]


def spools(cache: Path) -> dict[str, tuple[int, int]]:
    """The spools of a cache that are whole: inode and time of each file of ids."""
    found = {}
    for index in cache.glob("spools/*/*.index"):
        ids = index.with_suffix(".ids")
        if ids.exists():
            found[index.stem] = (ids.stat().st_ino, ids.stat().st_mtime_ns)
    return found


@contextlib.contextmanager
def started(*arguments: str | Path, script: str = "pooled.py") -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, of which nothing is left when the block ends."""
    process = subprocess.Popen(
        [sys.executable, HERE / script, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def group(leader: int) -> dict[int, str]:
    """The processes of a group that live, with their command lines; from /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of) == leader and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def wait_for(what: Callable[[], Any], seconds: float = 20) -> Any:
    """What a function gives once it is true; an assertion fails if that takes longer."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
    return found
