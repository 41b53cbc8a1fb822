"""Nobody's file but cook's own is removed, believed or written through a link: the cache."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import cook
from conftest import entry, write_shard
from cook import OutputError, Recipe
from cook.core import cache, owned
from cook.core.cache import CacheWarning

HEX = "0123456789abcdef" * 4


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and link below a folder: its bytes or target, and when it changed."""
    return {
        str(path.relative_to(folder)): (
            os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
            path.lstat().st_mtime_ns if not path.is_dir() or path.is_symlink() else 0,
        )
        for path in sorted(folder.rglob("*"))
    }


def bake(folder: Path, setting: Path | None, out: str = "out", **more) -> cook.Summary:
    recipe = Recipe(
        datasets="set", tokenizer="llama3", source=folder, output=folder / out, cache=setting, jobs=1, **more
    )
    return cook.run(recipe)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_shard(tmp_path, "set", [entry(f"context {i}") for i in range(5)])
    return tmp_path


def strangers(folder: Path) -> None:
    """Files of somebody's, at the places and with the endings of cook's own, and long unused."""
    for name in (
        *("notes/draft.tmp", "digests/letters.txt", "spools/x/passport.ids", "spools/ab/passport.ids", "lock"),
        *("probes/mine", "tokenizers/tokenizer.json", "hub/models--a--b/refs/main", "hub/datasets--a--b/blobs/c"),
        *("spools/ab/abc.123.tmp", "spools/check.tmp", f"spools/{HEX}.ids", f"digests/{HEX}.txt", f"digests/{HEX[1:]}"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("my only copy")
        os.utime(path, (1, 1))


def test_a_folder_of_other_things_is_refused(place, monkeypatch):
    mine = place / "mine"
    strangers(mine)
    before = state(mine)
    with pytest.raises(OutputError, match=r"mine: holds other things .* name a new folder, such as \S+mine/cook"):
        bake(place, mine)
    for look in (cache.clear, cache.info):
        with pytest.raises(OutputError, match="holds other things"):
            look(str(mine))
    monkeypatch.setenv("COOK_CACHE", str(mine))
    with pytest.warns(CacheWarning, match="holds other things .* the run goes on without it"):
        assert bake(place, None).results
    assert state(mine) == before


@pytest.mark.parametrize("tag", ["Signature: 8a477f597d28d172789f06886806bc55\n# Of another program\n", "", "cook"])
def test_the_mark_of_another_program_is_none_of_cooks(place, tag):
    mine = place / "mine"
    mine.mkdir()
    (mine / owned.TAG_NAME).write_text(tag)
    (mine / "thing").write_text("x")
    before = state(mine)
    with pytest.raises(OutputError, match="holds other things"):
        bake(place, mine)
    assert state(mine) == before


def test_in_a_cache_strangers_files_stay(place, monkeypatch):
    """Whatever they are called: when it is tidied, over its limit, and when it is cleared."""
    kept = place / "kept"
    bake(place, kept)
    (kept / "lock").unlink()
    made = set(state(kept))
    strangers(kept)
    link = kept / f"spools/ab/{HEX}.ids"
    link.symlink_to(kept / "notes/draft.tmp")
    (kept / "spools/cd").symlink_to(kept / "notes")
    others = {name: seen for name, seen in state(kept).items() if name not in made}
    monkeypatch.setenv("COOK_CACHE_GIB", "0")
    with cache.open_cache(str(kept)):
        pass
    assert cache.info(str(kept))["spools"] == 0
    monkeypatch.delenv("COOK_CACHE_GIB")
    bake(place, kept, "again")
    assert cache.clear(str(kept)) > 0
    assert {name: seen for name, seen in state(kept).items() if seen[0] and name != owned.TAG_NAME} == {
        name: seen for name, seen in others.items() if seen[0]
    }


def test_a_cache_that_is_cleared_is_empty_but_for_its_mark(place):
    kept = place / "kept"
    bake(place, kept)
    assert cache.clear(str(kept)) > 0
    assert sorted(path.name for path in kept.iterdir()) == [owned.TAG_NAME, "lock"]
    assert cache.clear(str(kept)) == 0
    assert cache.clear(str(place / "nowhere")) == 0
    assert not (place / "nowhere").exists()


def test_a_cache_of_before_there_were_marks(place):
    """Is taken over where every name in it is one that cook gives, and refused where one is not."""
    kept = place / "kept"
    bake(place, kept)
    (kept / owned.TAG_NAME).unlink()
    (kept / "probes" / "mine").parent.mkdir(exist_ok=True)
    (kept / "probes" / "mine").write_text("x")
    with pytest.raises(OutputError, match="holds other things"):
        bake(place, kept, "two")
    assert not (kept / owned.TAG_NAME).exists()
    (kept / "probes" / "mine").unlink()
    spools = state(kept / "spools")
    bake(place, kept, "three")
    assert owned.marked_by(kept, owned.CACHE_PURPOSE) == os.geteuid()
    assert state(kept / "spools").keys() == spools.keys()


@pytest.mark.parametrize("name", ["spools", "digests", "probes", "tokenizers", "hub", "lock"])
@pytest.mark.parametrize("dangles", [False, True])
def test_a_link_in_the_place_of_a_folder_of_the_cache_is_refused(place, name, dangles):
    kept, mine = place / "kept", place / "mine"
    bake(place, kept)
    strangers(mine)
    if name == "lock":
        (kept / name).unlink()
    else:
        shutil.rmtree(kept / name, ignore_errors=True)
    (kept / name).symlink_to(place / "nowhere" if dangles else mine / name)
    before = state(mine)
    for use in (lambda: bake(place, kept, "two"), lambda: cache.clear(str(kept))):
        with pytest.raises(OutputError, match=rf"kept/{name}: is a link, which cook does not follow"):
            use()
    assert state(mine) == before
    assert not (place / "nowhere").exists()


@pytest.mark.parametrize("what", ["folder", "ids", "index"])
def test_a_link_among_spools_is_not_followed(place, what):
    """Neither to read nor to write: a spool that it leads to is not believed, though it is whole."""
    kept, mine = place / "kept", place / "mine"
    bake(place, kept)
    mine.mkdir()
    if what == "folder":
        [spool] = (kept / "spools").iterdir()
    else:
        [spool] = kept.glob(f"spools/*/*.{what}")
    spool.rename(mine / spool.name)
    spool.symlink_to(mine / spool.name)
    before = state(mine)
    with pytest.raises(OutputError, match=r"is a link|is there, and no file of this user"):
        bake(place, kept, "two")
    assert state(mine) == before
    assert spool.is_symlink()


def test_what_waits_for_ever_when_it_is_opened_is_not_opened(place):
    kept = place / "kept"
    bake(place, kept)
    [index] = kept.glob("spools/*/*.index")
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(OutputError, match="is there, and no file of this user"):
        bake(place, kept, "two")


# Two users

ONE, OTHER = 65533, 65534
USER = """
import os, tempfile
from pathlib import Path
import cook
from cook.core import cache
from cook.encode import spool

def bake(out, kept):
    recipe = cook.Recipe(datasets="set", tokenizer="llama3", source="in", output=out, cache=kept, jobs=1)
    return cook.run(recipe)

with tempfile.TemporaryDirectory() as first:  # all that is imported on the way, which another user may not read
    bake(first + "/out", first + "/kept")
    spool.load(str(next(Path(first).rglob("*.index")))[:-6]), cache.info(first + "/kept"), cache.clear(first + "/kept")
os.setgid({user}); os.setuid({user}); os.umask(0)
"""
COOK = "bake('out-{user}', 'kept')"
root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be two users")


@pytest.fixture
def shared():
    """A folder that both users reach, with a source and a folder `kept` that anybody writes into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    write_shard(folder / "in", "set", [entry(f"context {i}") for i in range(5)])
    (folder / "kept").mkdir()
    (folder / "kept").chmod(0o777)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path(cook.__file__).parents[1])}

    def as_user(user: int, code: str) -> None:
        code = (USER + code).format(user=user)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    as_user.folder = folder
    yield as_user
    shutil.rmtree(folder)


def owners(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_uid, path.read_bytes()) for path in files}


@root
def test_two_users_share_a_folder_and_neither_touches_or_believes_what_is_the_others(shared):
    kept = shared.folder / "kept"
    shared(ONE, COOK)
    of_one = owners(kept)
    assert {user for user, _ in of_one.values()} == {ONE}
    shared(OTHER, COOK)
    shared(OTHER, "assert cache.clear('kept') > 0")
    assert {name: seen for name, seen in owners(kept).items() if not name.startswith(f"user-{OTHER}/")} == of_one
    assert {user for name, (user, _) in owners(kept).items() if name.startswith("user-")} == {OTHER}


@root
def test_a_spool_digest_or_record_that_another_user_put_there_is_not_believed(shared):
    """Nor is it removed, or replaced: whole, at the right place, with the right name."""
    kept = shared.folder / "kept"
    shared(ONE, COOK)
    for path in kept.rglob("*"):
        if path.is_file() and path.name not in (owned.TAG_NAME, "lock"):
            os.chown(path, OTHER, OTHER)
            os.utime(path, (1, 1))
    before = {name: seen for name, seen in owners(kept).items() if seen[0] == OTHER}
    assert before
    looks = "found = [str(path)[:-6] for path in Path('kept').rglob('*.index')]\nassert len(found) == 1\n"
    looks += "assert spool.load(found[0]) is None\nassert cache.info('kept')['spools'] == 0\n"
    looks += "assert not any(cache.get(path) for path in Path('kept').rglob('*') if path.is_file())\n"
    looks += "assert cache.clear('kept') == 0\n"
    shared(ONE, looks)
    with pytest.raises(AssertionError, match="is there, and no file of this user"):
        shared(ONE, "bake('again', 'kept')")
    assert {name: seen for name, seen in owners(kept).items() if seen[0] == OTHER} == before


@root
def test_root_believes_nothing_of_a_users(shared):
    shared(ONE, COOK)
    [index] = (shared.folder / "kept").rglob("*.index")
    assert cook.encode.spool.load(str(index)[:-6]) is None
    assert cache.prepare_cache(str(shared.folder / "kept")) == shared.folder / "kept" / "user-0"
