"""The cache: found when nothing that matters changed, made anew when it did or is damaged, kept within its limit."""

import importlib.util
import os
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import orjson
import pytest

import cook
from conftest import entry, write_shard
from cook import OutputError, Recipe, RecipeError
from cook.core import cache, files, owned
from cook.core.cache import CacheWarning
from cook.encode import parts, spool


@pytest.fixture
def bake(tmp_path, monkeypatch):
    """Cook a dataset of 60 entries, one of them over-long; what was encoded is counted in `bake.encoded`."""
    long = entry("A long context. " * 20, *[{"Q": f"Question {i}?", "A": f"Answer {i}."} for i in range(30)])
    write_shard(tmp_path, "set", [*(entry(f"context {i} " + "word " * i) for i in range(59)), long])
    encoded = Counter()
    whole, remake = parts._encode_full_examples, parts._split_overlong
    monkeypatch.setattr(parts, "_encode_full_examples", lambda *args: (encoded.update(["whole"]), whole(*args))[1])
    monkeypatch.setattr(parts, "_split_overlong", lambda *args: (encoded.update(["remade"]), remake(*args))[1])

    def run(out: str, **settings) -> dict[str, bytes]:
        encoded.clear()
        settings = {"cache": tmp_path / "cache", "max_length": 200, "jobs": 1, "tokenizer": "llama3"} | settings
        cook.run(Recipe(datasets="set", source=tmp_path, output=tmp_path / out, **settings))
        return {path.name: path.read_bytes() for path in (tmp_path / out / "set").iterdir()}

    run.encoded = encoded
    return run


def test_shards_of_the_same_bytes_share_a_spool_and_are_tokenized_side_by_side(tmp_path):
    for name in ("a", "b"):
        for shard in range(8):
            write_shard(tmp_path / "in", name, [entry(f"context {i}") for i in range(50)], f"{shard}.jsonl")
    recipe = Recipe(
        datasets="all", tokenizer="llama3", source=str(tmp_path / "in"), output=str(tmp_path / "out"), jobs=8
    )
    assert [result.counts["examples"] for result in cook.run(recipe).results] == [400, 400]


def test_another_packing_or_seed_encodes_nothing(bake):
    bake("one")
    assert bake.encoded == {"whole": 1, "remade": 1}
    bake("two", packing="in-order")
    bake("three", seed=7)
    assert bake.encoded == {}


LOADED = """
import sys
import cook
cook.run(cook.Recipe(datasets="set", tokenizer="llama3", engine="auto", jobs=1, cache="cache", **eval(sys.argv[1])))
print([name for name in ("fastokens", "splintr") if name in sys.modules])
"""


def test_another_cook_loads_no_engine_or_a_light_one(tmp_path, bake):
    bake("one")

    def loaded(**settings) -> str:
        settings = {"source": str(tmp_path), "max_length": 200} | settings
        # As if the shards were large: then `auto` takes fastokens, where it is installed.
        code = "import cook.tokenizer.loading\ncook.tokenizer.loading.FASTOKENS_MIN_BYTES = 0\n" + LOADED
        done = subprocess.run(
            [sys.executable, "-c", code, repr(settings)], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert loaded(output="two", seed=7) == "[]\n"
    assert loaded(output="three", max_length=150) == "['splintr']\n"
    if importlib.util.find_spec("fastokens"):
        assert "fastokens" in loaded(output="four", delimiter="\n")


def test_another_length_encodes_only_what_is_over_long(bake):
    bake("one")
    bake("two", max_length=150)
    assert bake.encoded == {"remade": 1}
    bake("three", max_length=2000)
    assert bake.encoded == {}


@pytest.mark.parametrize(
    "settings",
    [{"delimiter": "\n"}, {"context_template": "{context}"}, {"pair_template": "{question} {answer}"}, {"bos": "none"},
     {"eos": "<|eot_id|>"}, {"tokenizer": "mistral"}],
    ids=str,
)  # fmt: skip
def test_what_determines_the_tokens_makes_them_anew(bake, settings):
    bake("one")
    bake("two", **settings)
    assert bake.encoded["whole"] == 1


def test_the_same_bytes_with_and_without(bake):
    fresh = bake("one", cache="none")
    assert bake("two") == fresh
    assert bake("three") == fresh
    assert bake.encoded == {}


def test_other_inputs_are_encoded(bake, tmp_path):
    bake("one")
    path = tmp_path / "set" / "shard" / "00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b"context 5 ", b"context 6 "))
    bake("two")
    assert bake.encoded["whole"] == 1


@pytest.fixture
def hashed(monkeypatch) -> Counter:
    """How often each file was read for its hash."""
    counted, read = Counter(), files.sha256_of
    monkeypatch.setattr(cache, "sha256_of", lambda path: (counted.update([path.name]), read(path))[1])
    return counted


def test_a_shard_that_is_as_it_was_is_not_hashed_again(bake, tmp_path, monkeypatch, hashed):
    monkeypatch.setattr(cache, "MTIME_RESOLUTION_NS", 0)
    made = bake("one")
    bake("two", seed=7)
    assert bake("one") == made  # up to date
    assert hashed == {"00000.jsonl": 1}
    bake("three", cache="none")
    assert hashed == {"00000.jsonl": 2}


@pytest.mark.parametrize("how", ["written over", "renamed over"])
def test_a_shard_that_only_looks_as_it_was_is_hashed_again(bake, tmp_path, monkeypatch, hashed, how):
    """Of the same length, its time of change set back: what the system notes beside that cannot be set."""
    monkeypatch.setattr(cache, "MTIME_RESOLUTION_NS", 0)
    bake("one")
    shard = tmp_path / "set/shard/00000.jsonl"
    before = shard.stat()
    target = shard if how == "written over" else tmp_path / "other"
    target.write_bytes(shard.read_bytes().replace(b"context 1 ", b"context X "))
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    target.rename(shard)
    made = bake("two")
    assert hashed == {"00000.jsonl": 2}
    assert made["train-00000-of-00001.parquet"] == bake("three", cache="none")["train-00000-of-00001.parquet"]


def test_hashes_of_long_ago_are_dropped(bake, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MTIME_RESOLUTION_NS", 0)
    bake("one")
    [kept] = (tmp_path / "cache/digests").iterdir()
    old = kept.with_name("0" * 64)
    old.write_bytes(b"")
    os.utime(old, ns=(0, kept.stat().st_mtime_ns - cache.DIGEST_DAYS * 86_400 * 10**9))
    bake("two")
    assert list((tmp_path / "cache/digests").iterdir()) == [kept]


def test_a_shard_that_was_written_just_now_is_hashed_again(bake, tmp_path, hashed):
    bake("one")
    bake("two", seed=7)
    assert hashed == {"00000.jsonl": 2}
    assert not (tmp_path / "cache/digests").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"0" * len(data), lambda data: b""])
def test_a_damaged_hash_is_made_anew(bake, tmp_path, monkeypatch, hashed, damage):
    monkeypatch.setattr(cache, "MTIME_RESOLUTION_NS", 0)
    made = bake("one")
    [kept] = (tmp_path / "cache/digests").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert bake("two") == made
    assert hashed == {"00000.jsonl": 2}
    bake("three")
    assert hashed == {"00000.jsonl": 2}


def test_a_shard_that_changes_after_it_was_hashed_leaves_no_wrong_tokens(bake, tmp_path, monkeypatch):
    path = tmp_path / "set" / "shard" / "00000.jsonl"
    right = path.read_bytes()
    hashed = files.sha256_of

    def then_changed(shard: Path) -> str:
        digest = hashed(shard)
        if shard == path:
            path.write_bytes(right.replace(b"context 5 ", b"a context "))
        return digest

    monkeypatch.setattr(cache, "sha256_of", then_changed)
    with pytest.raises(cook.SourceError, match=r"00000\.jsonl: changed while it was read"):
        bake("one")
    monkeypatch.setattr(cache, "sha256_of", hashed)
    path.write_bytes(right)
    assert bake("two") == bake("three", cache="none")


def spools(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"spools/*/*{suffix}"))


@pytest.mark.parametrize("suffix", [".ids", ".index"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed", "emptied"])
def test_a_damaged_spool_is_noticed_and_made_anew(bake, tmp_path, suffix, damage):
    fresh = bake("one")
    for path in spools(tmp_path / "cache", suffix):
        data = path.read_bytes()
        middle = len(data) // 2
        flipped = bytes(byte ^ (64 if i % 97 == 50 else 0) for i, byte in enumerate(data))
        path.unlink()
        if damage != "removed":
            path.write_bytes({"flipped": flipped, "truncated": data[:middle], "emptied": b""}[damage])
    assert bake("two") == fresh
    assert bake.encoded == {"whole": 1, "remade": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"markers": [1, 2]},
        {"markers": {"<CON>": "x"}},
        {"bad": [[1, 2]]},
        {"bad": [["1", "is no entry"]]},
        {"lines": None},
        {"lines": True},
        {"examples": 2},
        {"examples": -1},
        {"skipped": 2**62},
        {"more": 1},
    ],
    ids=str,
)
def test_a_spool_that_is_whole_but_wrong_is_none(bake, tmp_path, wrong):
    bake("one")
    path = spools(tmp_path / "cache", ".index")[0]
    name = str(path.with_suffix(""))
    line, rows = path.read_bytes()[:-4].split(b"\n", 1)
    for change in ({}, wrong):
        data = orjson.dumps(orjson.loads(line) | change) + b"\n" + rows
        path.write_bytes(data + zlib.crc32(data).to_bytes(4, "little"))
        assert (spool.load(name) is None) == bool(change)


def test_bad_lines_and_limits_leave_nothing(bake, tmp_path):
    bake("one", limit=3)
    assert spools(tmp_path / "cache", "") == []
    write_shard(tmp_path, "set", [entry(), b"{"])
    with pytest.raises(cook.BadLines):
        bake("two")
    assert spools(tmp_path / "cache", "") == []


def test_what_was_not_used_for_longest_goes_first(bake, tmp_path, monkeypatch):
    bake("one")
    old = spools(tmp_path / "cache", ".index")[0]
    os.utime(old, (1, 1))
    kept = sum(path.stat().st_size for path in spools(tmp_path / "cache", ".*"))
    monkeypatch.setenv("COOK_CACHE_GIB", str((kept - 1) / (1 << 30)))
    with cache.open_cache(str(tmp_path / "cache")):
        pass
    left = spools(tmp_path / "cache", ".index")
    assert old not in left
    assert len(left) == 1
    assert len(spools(tmp_path / "cache", ".ids")) == 1


def test_nothing_is_dropped_while_another_run_uses_it(bake, tmp_path, monkeypatch):
    bake("one")
    monkeypatch.setenv("COOK_CACHE_GIB", "0")
    with cache.open_cache(str(tmp_path / "cache")):
        with cache.open_cache(str(tmp_path / "cache")):
            pass
        assert len(spools(tmp_path / "cache", ".index")) == 2
        with pytest.raises(OutputError, match="a run uses the cache"):
            cache.clear(str(tmp_path / "cache"))
    assert spools(tmp_path / "cache", ".index") == []


def test_what_killed_runs_left_is_cleared(bake, tmp_path):
    bake("one")
    left = Path(owned.temporary_path(tmp_path / "cache" / "spools" / "ab" / ("ab" * 32)))
    left.parent.mkdir(exist_ok=True)
    alone = left.with_name("ab" * 32 + ".ids")
    other = left.with_name("letter.tmp")
    for path in (left, alone, other):
        path.touch()
    with cache.open_cache(str(tmp_path / "cache")):
        pass
    assert not left.exists()
    assert not alone.exists()
    assert other.exists()


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("COOK_CACHE", "/set/by/user")
    assert cache.cache_dir(None) == Path("/set/by/user")
    assert cache.cache_dir("named") == Path("named")
    assert cache.cache_dir("none") is None
    monkeypatch.delenv("COOK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_dir(None) == Path("/xdg/cook")
    monkeypatch.setenv("COOK_CACHE_GIB", "much")
    with pytest.raises(RecipeError, match="COOK_CACHE_GIB: must be a number of GiB"):
        cache.size_limit()


def test_a_cache_that_cannot_be_written(bake, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="the cache cannot be written"):
        bake("one", cache=tmp_path / "file" / "x")
    monkeypatch.setenv("COOK_CACHE", str(tmp_path / "file" / "x"))
    with pytest.warns(CacheWarning, match="the run goes on without it"):
        assert "cook.json" in bake("two", cache=None)


@pytest.mark.parametrize("engine", ["hf", "fastokens", "splintr"])
def test_the_same_bytes_whatever_the_engine(bake, engine):
    if engine == "fastokens":
        pytest.importorskip("fastokens", reason="an extra that is not installed", exc_type=ImportError)
    auto = bake("one", cache="none")
    assert bake("two", cache="none", engine=engine) == auto
