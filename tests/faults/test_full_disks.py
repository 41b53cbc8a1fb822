"""Disks that are full, at every file that a cook writes, or cannot be written: said so, and nothing lost or left."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import entry, pair, write_shard
from cook.core.records import PLACED_EXAMPLE_DTYPE
from cook.store import manifest
from faults.ground import left_over, spools, tree, whole, write_source

NEEDED = re.compile(r"cook: (?:\w+: )?(/.*): cannot be written: (.*); it takes about ([\d,]+) bytes there")


def write_many(folder: Path, sets: int, shards: int, entries: int, pairs: int, blank: int, context: str = "") -> Path:
    """Datasets of a shape: so many shards, entries, pairs, and blank pairs beside them."""
    for name in range(sets):
        for shard in range(shards):
            text = f"{name} {shard} {context}"
            rows = [entry(text, *[pair()] * pairs, *[pair("", "x")] * blank) for _ in range(entries)]
            write_shard(folder, f"set{name:02}", rows, f"{shard:05}.jsonl")
    return folder


def random_source(folder: Path) -> Path:
    return write_source(folder, entries=60, words=20)


# For each file of a cook a source of which it is larger than all that is written before it, and how it is cooked.
TARGETS: dict[str, tuple[Callable[[Path], Path], dict[str, int]]] = {
    ".ids": (random_source, {}),
    ".index": (lambda folder: write_many(folder, 1, 1, 9, 1, 100), {}),
    "placed": (lambda folder: write_many(folder, 1, 1, 900, 1, 0), {"part_bytes": 2000}),
    ".parquet": (random_source, {"part_bytes": 1000, "file_tokens": 1 << 24}),
    "skipped.jsonl": (lambda folder: write_many(folder, 1, 1, 9, 1, 100), {}),
    "cook.json": (lambda folder: write_many(folder, 1, 60, 1, 1, 0), {}),
    "README.md": (lambda folder: write_many(folder, 16, 1, 1, 1, 0), {}),
}


def sizes(root: Path, cache: Path, target: str) -> list[int]:
    """How large the files of a kind are that a cook wrote."""
    if target == "placed":
        return [
            manifest.read_manifest(path.parent)["counts"]["examples"] * PLACED_EXAMPLE_DTYPE.itemsize
            for path in root.glob("*/cook.json")
        ]
    paths = [path for path in (*root.rglob("*"), *cache.rglob("*")) if path.name.endswith(target)]
    return [path.stat().st_size for path in paths]


@pytest.mark.parametrize(
    ("target", "cached"), [(".ids", True), (".index", True), *((target, target == "placed") for target in TARGETS)]
)
def test_a_file_that_finds_no_room(tmp_path, server, tokenizer, target, cached):
    write, shape = TARGETS[target]
    source, root, cache = write(tmp_path / "source"), tmp_path / "root", tmp_path / "cache"
    common = ["-d", "all", "-t", tokenizer, "-s", source, "--jobs", "1"]
    assert server.run(*common, "-o", tmp_path / "right", "--cache", tmp_path / "right cache", **shape).code == 0
    assert server.run(*common, "-o", root, "--no-cache", "--max-length", "999", **shape).code == 0
    right, older = tree(tmp_path / "right"), Path(shutil.copytree(root, tmp_path / "older"))
    written = sizes(tmp_path / "right", tmp_path / "right cache", target)
    again = [*common, "-o", root, *(["--cache", cache] if cached else ["--no-cache"]), "--overwrite"]

    done = server.run(*again, **shape, largest_file=max(written) - 1)
    assert done.code == 1, done.printed
    assert "Traceback" not in done.printed
    [path, reason, needed], *_ = NEEDED.findall(done.printed)
    spooled = target in (".ids", ".index")
    assert "/spools/" in path if spooled else path.endswith(target), done.printed
    assert path.startswith(str(cache if cached and spooled else root)), done.printed
    assert reason == "File too large"
    if target != ".index":  # it takes what its ids take, and is rarely larger
        assert max(written) / 5 < int(needed.replace(",", "")) < max(written) * 5
    if target == "README.md":
        assert {name: data for name, data in tree(root).items() if name != target} == {
            name: data for name, data in right.items() if name != target
        }
    else:
        names = sorted(path.parent.name for path in root.glob("*/cook.json"))
        failed = [name for name in names if whole(root, name) == tree(older / name)]
        assert failed
        assert all(whole(root, name) == tree(tmp_path / "right" / name) for name in names if name not in failed)
    assert left_over(root, cache) == []
    assert {path.stem for path in cache.glob("spools/*/*.ids")} == spools(cache).keys()

    done = server.run(*again, **shape)
    assert done.code == 0, done.printed
    assert tree(root) == right
    assert left_over(root, cache) == []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], Any]]:
    """A small file system in memory, and a function that gives it other options."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "cook", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"mounting is not permitted: {exc}")
    try:
        yield lambda other: subprocess.run(["mount", "-o", f"remount,{other}", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("full", ["output", "output, no cache", "cache"])
def test_a_full_disk(tmp_path, server, tokenizer, full):
    source = write_source(tmp_path / "source", sets=("one",))
    disk = tmp_path / "disk"
    root, cache = (tmp_path if full == "cache" else disk) / "root", (disk if full == "cache" else tmp_path) / "cache"
    common = ["-d", "one", "-t", tokenizer, "-s", source, "--max-length", "1024"]
    assert server.run(*common, "-o", tmp_path / "right", "--no-cache").code == 0
    right = tree(tmp_path / "right")
    kept = ["--no-cache"] if "no cache" in full else ["--cache", cache]
    failures = 0
    with mounted(disk, "size=16k") as remount:
        for pages in (4, 6, 9, 14, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 112, 160):
            remount(f"size={4 * pages}k")
            done = server.run(*common, *kept, "-o", root)
            if done.code == 0:
                break
            failures += 1
            assert done.code == 1, done.printed
            assert "Traceback" not in done.printed
            [path, reason, _], *_ = NEEDED.findall(done.printed) or [("", "", "")]
            assert path.startswith(str(disk)), done.printed
            assert reason == "No space left on device"
            if (root / "one").exists():
                assert whole(root, "one") == tree(tmp_path / "right" / "one")
            assert left_over(root, cache) == []
            assert {path.stem for path in cache.glob("spools/*/*.ids")} == spools(cache).keys()
        assert done.code == 0
        assert failures > 2
        assert tree(root) == right


def test_a_full_disk_leaves_the_older_result(tmp_path, server, tokenizer):
    source = write_source(tmp_path / "source", sets=("one",))
    disk, root = tmp_path / "disk", tmp_path / "disk" / "root"
    common = ["-d", "one", "-t", tokenizer, "-s", source, "--no-cache"]
    with mounted(disk, "size=4m") as remount:
        assert server.run(*common, "-o", root).code == 0
        older = tree(root)
        used = shutil.disk_usage(disk).used
        for room in range(4, 400, 36):
            remount(f"size={used // 1024 + room}k")
            done = server.run(*common, "-o", root, "--seed", "1", "--overwrite")
            if done.code == 0:
                break
            assert done.code == 1, done.printed
            assert "No space left on device" in done.printed
            assert tree(root) == older
        assert room > 4
        assert done.code == 0
        assert tree(root) != older


@pytest.mark.parametrize("what", ["output", "cache"])
def test_a_file_system_that_is_read_only(tmp_path, server, tokenizer, source, what):
    disk = tmp_path / "disk"
    common = ["-d", "one", "-t", tokenizer, "-s", source]
    places = {"-o": tmp_path / "root", "--cache": tmp_path / "cache"}
    places["-o" if what == "output" else "--cache"] = disk / "there"
    arguments = [*common, *(word for place in places.items() for word in place)]
    with mounted(disk, "size=4m") as remount:
        remount("ro")
        done = server.run(*arguments)
        assert done.code == 1
        assert re.search(rf"cook: {disk}/there: .*cannot be written: Read-only file system", done.printed), done.printed
        assert not (tmp_path / "root").exists()
        if what == "cache":
            done = server.run(*common, "-o", tmp_path / "root", environment={"COOK_CACHE": str(disk / "there")})
            assert done.code == 0
            assert "the run goes on without it" in done.printed
        remount("rw")
        assert server.run(*arguments).code == 0


@pytest.mark.parametrize("name", ["root", "root/.cook", "cache", "cache/spools"])
def test_a_file_where_a_folder_should_be(tmp_path, server, tokenizer, source, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    kept = [] if "root" in name else ["--cache", tmp_path / "cache"]
    done = server.run("-d", "one", "-t", tokenizer, "-s", source, "-o", tmp_path / "root", *kept)
    assert done.code == 1
    why = "cannot be written: (File exists|Not a dir)|is no folder|holds other things"
    assert re.search(
        rf"cook: {tmp_path / name.split('/')[0]}.*({why})",
        done.printed,
    )
    assert path.read_text() == "mine"
