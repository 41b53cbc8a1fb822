"""Collections on the Hub: the real client against a Hub on the loopback that counts, fails, and moves on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
import yaml

from conftest import NOBODY, Told, entry, offline, pair, point_at
from cook import Recipe, SeveralFailed, SourceError, run
from cook.core import cache
from cook.core.catalog import CATALOG, HUB_COLLECTION
from cook.core.progress import progress_bars
from cook.read.hub import client
from cook.read.source import SourceWarning
from cook.read.sources import open_source
from servers.hub_server import HubServer

COOK = str(Path(sys.executable).with_name("cook"))
OWN = "hf://datasets/owner/own"


def shard(*texts: str) -> bytes:
    return b"".join(orjson.dumps(entry(text, pair(f"What of {text}?", text))) + b"\n" for text in texts)


def add(server: HubServer, *names: str, repo: str = HUB_COLLECTION, shards: int = 2, version: str = "", **more) -> str:
    """A collection of small datasets, a README and a stray file; every second shard lies in LFS."""
    files = {
        f"{name}/shard/{i:05}.jsonl": shard(f"{name}{version} {i}", "more") for name in names for i in range(shards)
    }
    lfs = [path for path in files if path.endswith("1.jsonl")]
    return server.add(repo, files | {"README.md": b"# card\n", "x.bin": b"x"}, kind="dataset", lfs=lfs, **more)


def got(server: HubServer, since: int = 0) -> Counter[str]:
    """The files whose bodies were asked for, with how often each was."""
    served = server.requests[since:]
    return Counter(
        r.path.partition("/resolve/")[2].partition("/")[2]
        for r in served
        if r.method == "GET" and "/resolve/" in r.path
    )


def fetch(source: str = OWN, *names: str, **more) -> dict[str, list[bytes]]:
    """The shards of datasets, opened and fetched anew."""
    opened = open_source(source, **more)
    return {name: [shard.path.read_bytes() for shard in opened.shards(name)] for name in names or opened.names()}


def blobs(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "hub").rglob("blobs/*") if path.is_file())


def test_the_main_job_of_all_35(server, tmp_path, monkeypatch):
    names = [row.name for row in CATALOG]
    commit = add(server, *names)

    def cooked(where: str, **more) -> dict[str, bytes]:
        output = tmp_path / where
        done = run(Recipe(datasets="all", tokenizer="llama3", output=output, cache=str(tmp_path / "cache"), **more))
        assert sorted(result.name for result in done.results) == sorted(names)
        return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}

    first = cooked("1")
    assert got(server) == {f"{name}/shard/0000{i}.jsonl": 1 for name in names for i in (0, 1)}
    manifest = orjson.loads(first["squad/cook.json"])
    assert manifest["source"] == {"kind": "hub", "id": HUB_COLLECTION, "commit": commit}
    assert "revision" not in manifest["recipe"]

    asked = len(server.requests)
    assert cooked("2") == first
    assert [r.path for r in server.requests[asked:]] == [f"/api/datasets/{HUB_COLLECTION}/revision/main"]

    asked = len(server.requests)
    assert cooked("3", revision=commit) == first, "a commit that is known needs no request"
    with monkeypatch.context() as patch:
        offline(patch)
        assert cooked("4") == first
    assert len(server.requests) == asked

    point_at(NOBODY, monkeypatch)
    with pytest.warns(
        SourceWarning, match=rf"try again; .*: going on with commit {commit} from the cache, which main was"
    ):
        assert cooked("5") == first


def test_one_dataset_fetches_its_shards_alone(server, cook, tmp_path):
    add(server, "squad", "race", "QED")
    done = cook("--dataset", "squad", "--tokenizer", "llama3")
    assert done.exit_code == 0, done.stderr
    assert got(server) == {"squad/shard/00000.jsonl": 1, "squad/shard/00001.jsonl": 1}


def test_listing_and_dry_run_fetch_nothing(server, cook, tmp_path):
    commit = add(server, "mine", "other", repo="owner/own")
    rows = orjson.loads(cook("list", "datasets", "--source", f"{OWN}@main", "--json").stdout)
    size = sum(len(shard(f"mine {i}", "more")) for i in (0, 1))
    assert rows[0] == {"name": "mine", "licence": "", "shards": 2, "bytes": size, "problem": ""}
    dry = cook("-d", "mine", "-t", "llama3", "-s", f"{OWN}@main", "--dry-run")
    assert f"# mine: 2 shards, {size} bytes\n#   mine/shard/00000.jsonl\n" in dry.stdout
    settings = yaml.safe_load(dry.stdout)
    assert (settings["source"], settings["revision"]) == (OWN, commit)
    assert got(server) == {}
    (tmp_path / "r.yaml").write_text(dry.stdout)
    assert cook("--config", "r.yaml", "--dry-run").stdout == dry.stdout


def test_the_three_layouts_and_nothing_else(server):
    files = {
        "a/shard/0.jsonl": shard("a"),
        "b/0.jsonl": shard("b"),
        "c.jsonl": shard("c"),
        "../d.jsonl": b"",
        "e.txt": b"",
    }
    server.add("owner/own", files, kind="dataset")
    with pytest.warns(SourceWarning, match=r"owner/own: left out, as a name could lead elsewhere .*: '\.\./d\.jsonl'$"):
        assert fetch() == {"a": [shard("a")], "b": [shard("b")], "c": [shard("c")]}
    server.add("owner/none", {"README.md": b""}, kind="dataset")
    with pytest.raises(SourceError, match="owner/none: holds no dataset; a source is laid out"):
        open_source("hf://datasets/owner/none")


def test_long_lists_come_in_pages(monkeypatch, server):
    server.page_size = 3
    add(server, *"abcdefg", repo="owner/own")
    assert open_source(OWN).names() == list("abcdefg")


TEMPORARY = ("rate_limit", "error_500", "error_503", "drop")


@pytest.mark.parametrize("part", ["/revision/", "/tree/", "/resolve/"])
@pytest.mark.parametrize("fault", TEMPORARY)
def test_what_is_temporary_is_tried_again(server, fault, part):
    add(server, "a", repo="owner/own")
    server.fault(fault, part, times=1 if part == "/revision/" else 2 if fault == "drop" else 8)
    assert fetch() == {"a": [shard("a 0", "more"), shard("a 1", "more")]}


@pytest.mark.parametrize("fault", ["cut", "wrong_length", "corrupt", "slow"])
def test_bodies_that_come_damaged_once(server, fault):
    server.pause_s = 0.01
    add(server, "a", repo="owner/own")
    for name in ("00000.jsonl", "00001.jsonl"):  # each file once: both are fetched side by side
        server.fault(fault, name, times=1, method="GET")
    assert fetch() == {"a": [shard("a 0", "more"), shard("a 1", "more")]}


@pytest.mark.parametrize("part", ["/revision/", "/tree/", "/resolve/"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unauthorized", "owner/own: no such repository on the Hub, or a private one: check its name, or log in with"),
        ("not_found", "no such repository on the Hub, or a private one"),
        (
            "gated",
            "owner/own: is gated; ask for access on its page on the Hub, then log in with `hf auth login` or set",
        ),
        ("bad_token", "the Hub does not accept the token (401): log in with `hf auth login` or set HF_TOKEN anew"),
        ("bare_403", "the Hub refuses access (403): log in"),
        ("bare_404", "answers 404 and does not say why: check HF_ENDPOINT if it is set"),
        ("rate_limit", "the Hub limits requests (429): try again in 1 s"),
        ("rate_limit_long", "the Hub limits requests (429): try again in 3600 s"),
        ("error_500", "the Hub has an error of its own (it answers 500): try again later"),
        ("error_503", "the Hub has an error of its own (it answers 503): try again later"),
        ("drop", "cannot be fetched: "),
    ],
)
def test_each_fault_ends_in_its_message(server, cook, tmp_path, fault, message, part):
    add(server, "a", repo="owner/own")
    server.fault(fault, part)
    done = cook("-d", "a", "-t", "llama3", "-s", OWN)
    assert message in done.stderr
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cooked").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("entry_not_found", "a/shard/00000.jsonl: the Hub has no such file in this revision"),
        ("cut", "a/shard/00000.jsonl: cannot be fetched: .*; try again"),
        ("wrong_length", "00000.jsonl: (twice the Hub sent what is not the file|cannot be fetched: Consistency check)"),
        ("corrupt", r"twice the Hub sent what is not the file that it lists \(other bytes than the Hub lists\)"),
    ],
)
def test_each_fault_of_a_body_ends_in_its_message(server, tmp_path, fault, message):
    add(server, "a", repo="owner/own", shards=1)
    server.fault(fault, "/resolve/")
    with pytest.raises(SourceError, match=message):
        fetch()
    assert blobs(tmp_path) == [], "what came damaged was left in the cache"


def test_a_revision_that_is_not_there(server):
    add(server, "a", repo="owner/own")
    with pytest.raises(SourceError, match="owner/own: has no revision v9: check the branch"):
        open_source(OWN, revision="v9")


def test_the_hub_is_waited_for_as_long_as_it_asks_but_not_for_ever(server, monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(client, "RETRY_DELAYS", (0.5, 3.0))
    add(server, "a", repo="owner/own")
    server.fault("rate_limit", "/revision/", times=1)
    assert open_source(OWN).names() == ["a"]
    assert waits == [1.0]
    server.fault("rate_limit_long", "/revision/", times=1)
    with pytest.warns(SourceWarning, match=r"try again in 3600 s; .*going on with commit"):
        open_source(OWN)
    assert waits == [1.0]
    server.fault("error_503", "/revision/")
    asked = len(server.requests)
    with pytest.warns(SourceWarning, match="it answers 503"):
        open_source(OWN)
    assert len(server.requests) - asked == 1 + len(client.RETRY_DELAYS)
    assert waits == [1.0, *client.RETRY_DELAYS]


def test_nothing_cached_and_nobody_there(server, monkeypatch):
    point_at(NOBODY, monkeypatch)
    with pytest.raises(SourceError, match=rf"owner/own: {NOBODY} cannot be reached: .*refused.*; try again"):
        open_source(OWN)


def test_a_dataset_that_fails_fails_alone(server, tmp_path):
    add(server, "a", "b", "c", repo="owner/own")
    server.fault("bare_403", "b/shard/00001")
    recipe = Recipe(datasets="all", tokenizer="llama3", source=OWN, output=tmp_path / "out")
    with pytest.raises(SourceError, match="b/shard/00001") as one:
        run(Recipe(datasets="b", tokenizer="llama3", source=OWN, output=tmp_path / "out"))
    with pytest.raises(SeveralFailed) as caught:
        run(recipe)
    assert list(caught.value.failures) == ["b"]
    assert str(caught.value.failures["b"]) == str(one.value)
    assert [result.name for result in caught.value.summary.results] == ["a", "c"]
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize("number", [0, 1], ids=["git", "LFS"])
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data[:-9], "bytes, where the Hub lists"),
        (lambda data: b"[" + data[1:], "other bytes than the Hub lists"),
        (lambda data: b"", "0 bytes, where the Hub lists"),
    ],
)
def test_a_damaged_copy_is_mended(server, tmp_path, monkeypatch, number, damage, found):
    add(server, "a", repo="owner/own")
    opened = open_source(OWN)
    path = opened.shards("a")[number].path
    whole = path.read_bytes()
    path.resolve().write_bytes(damage(whole))
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(
            SourceError, match=r"its copy in the cache was damaged .*; once online, run again to repair it"
        ):
            fetch()
    asked = len(server.requests)
    with pytest.warns(
        SourceWarning, match=rf"0000{number}\.jsonl: its copy in the cache was damaged .*{found}.*fetched again"
    ):
        assert fetch()["a"][number] == whole
    assert got(server, asked) == {f"a/shard/0000{number}.jsonl": 1}


def test_files_of_the_same_bytes_are_fetched_and_mended_once(server, tmp_path):
    server.add("owner/own", {f"{name}/{i}.jsonl": shard("x") for name in "ab" for i in range(4)}, kind="dataset")
    assert fetch() == {name: [shard("x")] * 4 for name in "ab"}
    assert got(server).total() == 1
    [blob] = blobs(tmp_path)
    blob.write_bytes(b"x")
    with pytest.warns(SourceWarning, match="was damaged"):
        assert fetch() == {name: [shard("x")] * 4 for name in "ab"}
    assert got(server).total() == 2


def test_a_copy_that_is_gone(server, tmp_path):
    add(server, "a", repo="owner/own")
    fetch()
    blobs(tmp_path)[0].unlink()
    assert fetch() == {"a": [shard("a 0", "more"), shard("a 1", "more")]}
    assert got(server).total() == 3


def test_a_revision_that_moves(server, tmp_path):
    old = add(server, "a", repo="owner/own")
    server.add("owner/own", server.files("owner/own", kind="dataset"), kind="dataset", revision="v1")
    at = {name: fetch(f"{OWN}@{name}") for name in ("main", "v1", old)}
    new = add(server, "a", repo="owner/own", version="new")
    assert fetch(f"{OWN}@{old}") == fetch(OWN, revision=old) == at[old]
    assert fetch(f"{OWN}@v1") == at["v1"]
    assert fetch() == {"a": [shard("anew 0", "more"), shard("anew 1", "more")]} != at["main"]
    assert open_source(OWN).provenance() == {"kind": "hub", "id": "owner/own", "commit": new}
    assert open_source(OWN, revision=old).provenance()["commit"] == old


def test_offline_never_mixes_commits(server, monkeypatch):
    old = add(server, "a", "b", repo="owner/own")
    before = fetch()
    new = add(server, "a", "b", repo="owner/own", version="new")
    now = fetch(OWN, "a")
    offline(monkeypatch)
    assert fetch(OWN, "a") == now
    missing = (
        f"b: 2 of its 2 shards of commit {new} are not in the local cache, and HF_HUB_OFFLINE is set; once online this "
        f"fetches them:\n  hf download owner/own --repo-type dataset --revision {new} --include 'b/shard/*'"
    )
    with pytest.raises(SourceError) as caught:
        fetch(OWN, "b")
    assert str(caught.value) == missing
    assert fetch(OWN, revision=old) == before


def test_offline_with_some_of_the_shards(server, tmp_path, monkeypatch):
    """The client itself calls such a folder complete."""
    add(server, "a", repo="owner/own", shards=3)
    gone = open_source(OWN).shards("a")[1].path
    gone.unlink()
    offline(monkeypatch)
    with pytest.raises(SourceError) as caught:
        fetch()
    first, second = caught.value.lines
    assert first.startswith("a: 1 of its 3 shards of commit ")
    assert first.endswith("; once online this fetches them:")
    assert second.startswith("  hf download owner/own --repo-type dataset --revision ")
    assert second.endswith(" --include 'a/shard/*'")


def test_offline_without_a_shard_that_stands_alone(server, monkeypatch):
    server.add("owner/own", {"mine.jsonl": shard("a")}, kind="dataset")
    open_source(OWN).shards("mine")[0].path.unlink()
    offline(monkeypatch)
    with pytest.raises(SourceError, match=r"--include mine\.jsonl$"):
        fetch()


def test_the_server_fails_and_not_all_is_cached(server, monkeypatch):
    add(server, "a", "b", repo="owner/own")
    fetch(OWN, "a")
    server.fault("error_503", "/revision/")
    asked = len(server.requests)
    with pytest.warns(SourceWarning, match="going on with commit"), pytest.raises(SourceError, match="b: 2 of its 2"):
        fetch(OWN, "a", "b")
    assert got(server, asked) == {}


def test_offline_without_what_cook_keeps(server, cook, monkeypatch):
    commit = add(server, "a", repo="owner/own")
    fetch(OWN, cache="none")
    assert not list(cache.cache_dir(None).rglob("hub/*"))
    offline(monkeypatch)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set, and without cook's cache its files are not known"):
        fetch(OWN, cache="none")
    told = f"the files of revision {commit} are not known; once online, run the same again"
    with pytest.raises(SourceError, match=told):
        fetch(f"{OWN}@{commit}")


def test_what_is_kept_may_be_damaged_or_cleared(server, cook, tmp_path, monkeypatch):
    add(server, "a", repo="owner/own")
    fetch()
    kept = list(cache.cache_dir(None).rglob("hub/**/*.json"))
    assert [path.parent.name for path in sorted(kept)] == ["refs", "trees"]
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(SourceError, match="are not known"):
            fetch()
    assert len(fetch()["a"]) == 2
    assert cook("cache", "clear").exit_code == 0
    assert not any(path.exists() for path in kept)


def test_progress_counts_each_byte_once_that_stays(server, tmp_path):
    add(server, "a", "b", repo="owner/own")
    size = sum(len(data) for texts in fetch(OWN, cache="none").values() for data in texts)
    for blob in blobs(tmp_path):
        blob.unlink()
    server.fault("cut", "/resolve/", times=7)
    server.fault("wrong_length", "/resolve/", times=1, method="GET")
    for _ in range(2):  # what comes, and what is there already
        told = Told()
        opened = open_source(OWN)
        opened.fetch(opened.names(), told)
        assert told.stages() == {"fetch": size}


def started(server: HubServer, tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    environment = server.environment(tmp_path / "home", COOK_CACHE=str(tmp_path / "cache"))
    command = [COOK, "-d", "all", "-t", "llama3", "-s", OWN, "-o", str(tmp_path / "out"), *more]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def until(true, seconds: float = 20) -> None:
    """Wait for what a process at work brings about; folders that it removes meanwhile are no matter."""
    end = time.monotonic() + seconds
    found = False
    while not found:
        assert time.monotonic() < end
        os.sched_yield()
        with contextlib.suppress(FileNotFoundError):
            found = true()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_fetch_that_is_ended_and_repeated_loads_what_is_missing(tmp_path, sent):
    with HubServer(pause_s=0.2) as server:
        add(server, "a", "b", "c", repo="owner/own")
        server.fault("slow", "c/shard/00001")
        process = started(server, tmp_path)
        hub = tmp_path / "home" / "hub"
        until(lambda: len(list(hub.rglob("snapshots/*/*/shard/*"))) == 5 and got(server)["c/shard/00001.jsonl"])
        process.send_signal(sent)
        begun = time.monotonic()
        _, error = process.communicate(timeout=20)
        assert time.monotonic() - begun < 4
        assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[sent], error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()
        if sent != signal.SIGKILL:
            assert not list(hub.rglob("*.incomplete")), "what was half-fetched is left"
        server.clear_faults()
        asked = len(server.requests)
        process = started(server, tmp_path)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        assert got(server, asked) == {"c/shard/00001.jsonl": 1}
        assert len(list((tmp_path / "out").glob("*/cook.json"))) == 3
        assert "00001.jsonl:" not in error, "the client shows its own bars"


def test_files_come_side_by_side(server):
    server.pause_s = 0.05
    add(server, *"abcd", repo="owner/own")
    server.fault("slow", "/resolve/")
    begun = time.monotonic()
    assert len(fetch()) == 4
    assert time.monotonic() - begun < 8 * 9 * 0.05 * 0.7


def test_an_interrupt_ends_the_threads(server, monkeypatch, tmp_path):
    def interrupted(*_):
        until(lambda: got(server).total() == 2)
        raise KeyboardInterrupt

    server.pause_s = 0.05
    add(server, "a", repo="owner/own")
    server.fault("slow", "/resolve/", times=2)
    opened = open_source(OWN)
    monkeypatch.setattr("cook.read.waiting.wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened.fetch(["a"])
    until(lambda: "cook-fetch" not in [thread.name for thread in threading.enumerate()])
    assert got(server).total() == 2
    assert blobs(tmp_path) == []


def test_another_run_at_the_same_time(tmp_path):
    with HubServer() as server:
        add(server, "a", "b", repo="owner/own")
        both = [started(server, tmp_path, "-o", str(tmp_path / f"out{i}")) for i in (0, 1)]
        assert [(process.communicate(timeout=60)[1], process.returncode)[1] for process in both] == [0, 0]


def test_a_token_is_sent(server, monkeypatch):
    add(server, "a", repo="owner/own")
    monkeypatch.setenv("HF_TOKEN", "hf_dummy")
    assert len(fetch()["a"]) == 2


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    from huggingface_hub import constants

    add(server, "a", repo="owner/own")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(SourceError, match=r"in the client's cache|cannot be kept in the client's cache"):
        fetch()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("gated", "is gated; ask for access on its page on the Hub, then log in with `hf auth login` or set HF_TOKEN"),
        (
            "not_found",
            "no such repository on the Hub, or a private one: check its name, or log in with "
            "`hf auth login` or set HF_TOKEN",
        ),
        (
            "bad_token",
            "the Hub does not accept the token (401): log in with `hf auth login` or set HF_TOKEN anew, or "
            "unset HF_TOKEN",
        ),
        ("bare_403", "the Hub refuses access (403): log in with `hf auth login` or set HF_TOKEN, of who may read it"),
        ("bare_404", "HUB answers 404 and does not say why: check HF_ENDPOINT if it is set"),
    ],
)
def test_what_is_final_is_not_covered_up_by_what_is_cached(server, fault, told):
    add(server, "a", repo="owner/own")
    fetch()
    server.fault(fault, "/revision/")
    with pytest.raises(SourceError) as caught:
        open_source(OWN)
    assert str(caught.value).replace(server.url, "HUB") == f"owner/own: {told}"


def test_a_hub_that_never_answers(server, monkeypatch):
    from huggingface_hub import constants

    add(server, "a", repo="owner/own")
    server.fault("hang", "/revision/")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    with pytest.raises(SourceError, match="owner/own: cannot be fetched: timed out; try again"):
        open_source(OWN)


def test_the_bar_of_the_stage(capsys):
    with progress_bars(enabled=True) as progress:
        progress("fetch", 0, 4000)
        progress("fetch", 0, 4000)
        time.sleep(0.15)  # longer than tqdm waits
        progress("fetch", 2000)
    told = capsys.readouterr().err
    assert "fetch:   0%|" in told
    assert "| 2.00k/8.00k [" in told
    assert "\n" not in told
