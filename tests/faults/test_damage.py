"""Bits that flip and files that end early: an output is refused by name, a cache is made anew, and nothing goes on."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from cook import OutputError, read_cooked
from cook.core import cache, records
from cook.encode import spool
from cook.store import manifest
from faults.ground import left_over, tree

FLIPS = 40  # of each file
LENGTHS = (0.0, 0.3, 0.999)  # what is left of a truncated one, beside all but a byte


def damaged(data: bytes, flips: int = FLIPS) -> Iterator[bytes]:
    """A file's bytes with one bit flipped, at seeded places, the ends among them; and ending early."""
    chance = random.Random(len(data))  # noqa: S311
    for at in [0, 8 * len(data) - 1, *(chance.randrange(8 * len(data)) for _ in range(flips))]:
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        yield bytes(flipped)
    for length in (*(int(len(data) * share) for share in LENGTHS), len(data) - 1):
        yield data[:length]


@pytest.fixture(scope="module")
def cooked(tmp_path_factory, server, tokenizer, source) -> Path:
    """A folder with a ROOT and the cache that it was made with."""
    folder = tmp_path_factory.mktemp("cooked")
    done = server.run(*arguments(tokenizer, source, folder))
    assert done.code == 0, done.printed
    return folder


def arguments(tokenizer: Path, source: Path, folder: Path) -> list[str | Path]:
    common = ["-d", "all", "-t", tokenizer, "-s", source, "--max-length", "1024"]
    return [*common, "-o", folder / "root", "--cache", folder / "cache"]


def test_any_damage_to_an_output_is_refused_by_name(tmp_path, cooked):
    folder = Path(shutil.copytree(cooked / "root" / "one", tmp_path / "one"))
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths[:2]] == ["cook.json", "skipped.jsonl"]
    assert len(paths) > 3
    for path in paths:
        data = path.read_bytes()
        for worse in damaged(data):
            path.write_bytes(worse)
            with pytest.raises(OutputError) as refused:
                read_cooked(folder)
            assert str(path) in str(refused.value)
            if len(worse) < len(data):
                with pytest.raises(OutputError, match=path.name):
                    read_cooked(folder, hashes=False)
        path.unlink()
        with pytest.raises(OutputError, match=path.name):
            read_cooked(folder)
        path.write_bytes(data)
    assert tree(read_cooked(folder).folder) == tree(cooked / "root" / "one")


def test_a_manifest_of_another_format(tmp_path, cooked):
    folder = Path(shutil.copytree(cooked / "root" / "one", tmp_path / "one"))
    fields = manifest.read_manifest(folder)
    for version, message in ((1, "is of format version 1, and this cook reads 2"), ("1", "is not a manifest of cook")):
        (folder / "cook.json").write_bytes(manifest.seal(fields | {"format_version": version}))
        with pytest.raises(OutputError, match=message):
            read_cooked(folder)
    (folder / "cook.json").write_bytes(orjson.dumps(fields | manifest.read_manifest(cooked / "root" / "one")))
    with pytest.raises(OutputError, match=r"cook\.json: is damaged"):
        read_cooked(folder)


@pytest.mark.parametrize("name", ["cook.json", "skipped.jsonl", "train-00000-of-00003.parquet"])
def test_a_damaged_output_is_noticed_by_the_next_cook(tmp_path, server, tokenizer, source, cooked, name):
    shutil.copytree(cooked, tmp_path, dirs_exist_ok=True)
    right = tree(tmp_path / "root")
    path = tmp_path / "root" / "one" / name
    for worse in list(damaged(path.read_bytes(), 1))[2:4]:
        path.write_bytes(worse)
        kept = tree(tmp_path / "root" / "one")
        refused = server.run(*arguments(tokenizer, source, tmp_path))
        assert refused.code == 5
        assert str(path) in refused.printed
        assert ("cannot be told to be cook's" if name == "cook.json" else "pass --overwrite") in refused.printed
        if name == "cook.json":  # moved away, as it says
            shutil.rmtree(path.parent)
            assert server.run(*arguments(tokenizer, source, tmp_path)).code == 0
            continue
        assert tree(tmp_path / "root" / "one") == kept
        assert server.run(*arguments(tokenizer, source, tmp_path), "--overwrite").code == 0
        assert tree(tmp_path / "root") == right


@pytest.mark.parametrize("kind", ["*.ids", "*.index", "probes/*"])
def test_a_damaged_cache_is_noticed_and_made_anew(tmp_path, server, tokenizer, source, cooked, kind):
    shutil.copytree(cooked, tmp_path, dirs_exist_ok=True)
    # Whether the hashes of shards are there depends on how long ago those were written.
    shutil.rmtree(tmp_path / "cache" / "digests", ignore_errors=True)
    right, kept = tree(tmp_path / "root"), tree(tmp_path / "cache")
    paths = sorted(path for path in (tmp_path / "cache").rglob(kind) if path.is_file())
    for turn in range(3):
        for number, path in enumerate(paths):
            ways = list(damaged(path.read_bytes(), 12))
            path.write_bytes(ways[(5 * turn + number) % len(ways)])
        shutil.rmtree(tmp_path / "root")
        done = server.run(*arguments(tokenizer, source, tmp_path))
        assert done.code == 0, done.printed
        assert tree(tmp_path / "root") == right
        shutil.rmtree(tmp_path / "cache" / "digests", ignore_errors=True)
        now = tree(tmp_path / "cache")
        assert now.keys() == kept.keys()
        assert {name for name, data in now.items() if data != kept[name] and not name.endswith(".index")} == set()
        assert left_over(tmp_path / "root", tmp_path / "cache") == []


def test_what_loads_of_a_damaged_spool_is_right_or_nothing(tmp_path):
    """Flips hit its line of JSON more often than its rows."""
    examples = np.ones(777, records.ENCODED_EXAMPLE_DTYPE)
    name = str(tmp_path / "spool")
    with spool.open_writer(name, 0) as (writer, done):
        writer.write(np.arange(records.total_tokens(examples), dtype=np.uint32))
        done.append(
            spool.SpoolIndex(examples, np.ones(333, records.SKIPPED_ROW_DTYPE), lines=900, entries=800, units=777)
        )
    path = Path(name + ".index")
    data = path.read_bytes()
    right = spool.load(name)
    assert right is not None
    worse = []
    for at in random.Random(0).sample(range(8 * data.index(b"\n") + 800), 1000):  # noqa: S311
        worse.append(bytearray(data))
        worse[-1][at // 8] ^= 1 << at % 8
    noticed = 0
    for harm in [*worse, *damaged(data, 300)]:
        path.write_bytes(harm)
        found = spool.load(name)
        noticed += found is None
        assert found is None or harm == data
    assert noticed > 1000


def test_what_is_kept_behind_a_hash(tmp_path):
    for worse in damaged(Path(__file__).read_bytes()[:500]):
        path = cache.prepare_cache(str(tmp_path)) / "kept"
        right = cache.get_or_compute(path, lambda: b"right" * 100)
        kept = path.read_bytes()
        path.write_bytes(worse)
        assert cache.get_or_compute(path, lambda: b"right" * 100) == right
        assert path.read_bytes() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"CACHEDIR.TAG", "kept"}
