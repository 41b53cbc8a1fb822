"""Collections on ModelScope: the real client against a server on the loopback; what is wrong has its message."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from conftest import entry
from cook import Recipe, SourceError, run
from cook.read.modelscope import LISTING_RETRY_DELAYS, MODELSCOPE_COLLECTION, ModelScopeSource
from cook.read.source import ListedShard, SourceWarning
from cook.read.sources import open_source
from servers.modelscope_server import ModelScopeServer

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("modelscope_hub") is None, reason="ModelScope's client, the extra modelscope, is not here"
)
HOSTED = [f"MODELSCOPE_{name}" for name in ("ENDPOINT", "DOMAIN", "API_TOKEN", "CACHE", "HOME")]

ROWS = [orjson.dumps(entry(f"Context {number}.")) + b"\n" for number in range(40)]
SHARD = b"".join(ROWS)
FILES = {
    "README.md": b"# A collection\n",
    "squad/shard/10.jsonl": SHARD,
    "squad/shard/9.jsonl.gz": gzip.compress(SHARD, mtime=0),
    "QED/0.jsonl": SHARD,
    "mine.jsonl": SHARD,
}
PATH = "squad/shard/10.jsonl"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScopeServer]:
    """A server that the client knows alone, with no waits; its cache and credentials lie in the test's folder."""
    pytest.importorskip("modelscope_hub")
    from modelscope_hub import _download_control, set_default_config

    with ModelScopeServer() as running:
        for name in HOSTED:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setattr(_download_control._DownloadControl, "sleep", lambda self, seconds: self.check())
        set_default_config(None)
        yield running
        set_default_config(None)


@pytest.fixture
def hub(server: ModelScopeServer) -> ModelScopeServer:
    """The server, with a small collection in it."""
    server.add("owner/name", FILES)
    return server


def cached(tmp_path: Path, path: str = PATH, revision: str = "master") -> Path:
    return tmp_path / "hub" / "datasets" / "owner--name" / "snapshots" / revision / path


def opened(revision: str = "master") -> ModelScopeSource:
    return ModelScopeSource("owner/name", revision)


def test_names_of_sources():
    assert open_source("modelscope") == ModelScopeSource(MODELSCOPE_COLLECTION, "master")
    assert open_source("modelscope://datasets/o/n") == ModelScopeSource("o/n", "master")
    assert open_source("modelscope://datasets/o/n.1@fix/a-b") == ModelScopeSource("o/n.1", "fix/a-b")


@pytest.mark.parametrize(
    "address", ["o/n", "datasets/o", "datasets/o/n@../x", "datasets/./n", "datasets/o/n/squad", "models/o/n"]
)
def test_names_that_are_no_address(address):
    with pytest.raises(SourceError, match="write modelscope://datasets/OWNER/NAME or"):
        open_source(f"modelscope://{address}")


def test_without_the_client_it_says_how_to_get_it(cook, monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    result = cook("-d", "squad", "-t", "llama3", "-s", "modelscope")
    assert result.exit_code == 1
    assert "source modelscope: needs ModelScope's client, which is not installed" in result.stderr
    assert "  in cook's checkout: pip install -e '.[modelscope]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_client_is_imported_where_it_is_used():
    program = "import sys, cook.read.modelscope, cook.read.sources; "
    program += "cook.read.sources.open_source('modelscope'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"modelscope_hub", "requests", "tqdm"} & set(done.stdout.split())


@needs_client
def test_only_the_shards_asked_for_are_fetched_and_once(hub, tmp_path):
    source = opened()
    assert source.names() == ["QED", "mine", "squad"]
    assert source.listed("squad") == [
        ListedShard("squad/shard/10.jsonl", len(SHARD)),
        ListedShard("squad/shard/9.jsonl.gz", len(FILES["squad/shard/9.jsonl.gz"])),
    ]
    assert hub.fetched == []
    shards = source.shards("squad")
    assert [shard.name for shard in shards] == ["10.jsonl", "9.jsonl.gz"]
    assert [shard.path.read_bytes() for shard in shards] == [SHARD, FILES["squad/shard/9.jsonl.gz"]]
    assert hub.fetched == ["squad/shard/10.jsonl", "squad/shard/9.jsonl.gz"]
    assert shards[0].path == cached(tmp_path)
    assert opened().shards("squad") == shards
    assert len(hub.fetched) == 2
    assert source.provenance() == {"kind": "modelscope", "id": "owner/name", "revision": "master"}
    with pytest.raises(SourceError, match="race: holds no shard"):
        source.shards("race")


@needs_client
def test_a_collection_is_cooked(hub, tmp_path):
    recipe = {"datasets": "squad", "tokenizer": "llama3", "source": "modelscope://datasets/owner/name", "jobs": 1}
    result = run(Recipe(output=str(tmp_path / "out"), **recipe)).results[0]
    assert result.counts["entries"] == 80
    assert result.manifest["source"] == {"kind": "modelscope", "id": "owner/name", "revision": "master"}
    assert run(Recipe(output=str(tmp_path / "out"), **recipe)).results[0].up_to_date


@needs_client
def test_the_command_says_nothing_but_its_own(hub, cook, capfd):
    result = cook("-d", "mine", "-t", "llama3", "-s", "modelscope://datasets/owner/name", "--jobs", "1", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert capfd.readouterr() == ("", "")


@needs_client
def test_a_revision_and_the_token(hub, monkeypatch):
    from modelscope_hub import set_default_config

    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-dummy")
    set_default_config(None)
    hub.add("owner/name", {"new.jsonl": SHARD}, revision="v2")
    source = opened("v2")
    assert source.names() == ["new"]
    assert source.shards("new")[0].path.read_bytes() == SHARD
    assert source.provenance()["revision"] == "v2"
    assert {(r.token, "Revision=v2" in r.path) for r in hub.requests if "/repos/" not in r.path} == {("ms-dummy", True)}


@needs_client
def test_a_listing_in_pages(server):
    server.add("owner/name", {f"squad/shard/{number:05}.jsonl": SHARD for number in range(450)})
    assert opened().names() == ["squad"]
    assert len(opened()._files) == 450


@needs_client
def test_files_of_a_store_and_names_to_be_quoted(server):
    files = {"my set/shard/a+b & c%20.jsonl": SHARD, "my set/shard/é.jsonl": SHARD}
    server.add("owner/name", files, lfs=files, without_sha256=files)
    assert [shard.path.read_bytes() for shard in opened().shards("my set")] == [SHARD, SHARD]


@needs_client
def test_paths_that_lead_out_of_the_cache_are_no_shards(server):
    paths = ("../../x.jsonl", "a/../../x.jsonl", "/etc/x.jsonl", "b.jsonl")
    server.add("owner/name", dict.fromkeys(paths, SHARD))
    with pytest.warns(SourceWarning, match=r"owner/name: left out, as .*: '\.\./\.\./x\.jsonl' and 2 more$"):
        assert opened().names() == ["b"]


@needs_client
@pytest.mark.parametrize("damage", [SHARD[:-9], SHARD[:-9] + b"x" * 9])
def test_a_damaged_file_in_the_cache_is_fetched_again(hub, tmp_path, damage):
    opened().shards("squad")
    cached(tmp_path).write_bytes(damage)
    with pytest.warns(SourceWarning, match=r"10\.jsonl: is damaged, or older than the repository; fetched again"):
        shards = opened().shards("squad")
    assert shards[0].path.read_bytes() == SHARD
    assert hub.fetched.count(PATH) == 2


@needs_client
def test_a_branch_that_moved_on(hub, tmp_path):
    opened().shards("mine")
    hub.add("owner/name", {"mine.jsonl": SHARD + SHARD})
    with pytest.warns(SourceWarning, match="or older than the repository"):
        assert opened().shards("mine")[0].path.read_bytes() == SHARD + SHARD


@needs_client
@pytest.mark.parametrize(("fault", "says"), [("corrupt", "Hash validation"), ("short", "Size validation")])
def test_a_file_that_comes_damaged_once(hub, fault, says):
    hub.fault(fault, "FilePath=" + PATH, times=1)
    with pytest.warns(SourceWarning, match=rf"ModelScope: {says} failed for squad/shard/10\.jsonl"):
        shards = opened().shards("squad")
    assert shards[0].path.read_bytes() == SHARD
    assert hub.fetched.count(PATH) == 2


@needs_client
@pytest.mark.filterwarnings("ignore::cook.read.source.SourceWarning")
@pytest.mark.parametrize("fault", ["corrupt", "short"])
def test_a_file_that_always_comes_damaged_is_not_kept(hub, tmp_path, fault):
    hub.fault(fault, "FilePath=")
    with pytest.raises(SourceError, match=r"owner/name: squad/shard/10\.jsonl: came damaged, more than once"):
        opened().shards("squad")
    assert hub.fetched.count(PATH) <= 3
    assert not cached(tmp_path).exists()


@needs_client
@pytest.mark.parametrize("fault", ["drop", "error_500", "error_503", "rate_limit"])
def test_what_is_temporary_is_tried_again(hub, fault):
    hub.fault(fault, "/repo/tree", times=3)
    hub.fault(fault, "FilePath=", times=2)
    with pytest.warns(SourceWarning, match="retry"):
        assert opened().shards("squad")[0].path.read_bytes() == SHARD


@needs_client
def test_a_file_that_was_cut_goes_on_where_it_was(hub):
    hub.fault("cut", "FilePath=" + PATH, times=1)
    with pytest.warns(SourceWarning, match="Download failed for squad/shard/10.jsonl .* retrying"):
        assert opened().shards("squad")[0].path.read_bytes() == SHARD
    assert [r.start for r in hub.requests if r.path.endswith(PATH)] == [0, len(SHARD) // 2]


@needs_client
def test_a_page_that_fails_with_status_200_is_no_end_of_the_listing(hub):
    hub.fault("refused", "/repo/tree", times=1)
    assert opened().names() == ["QED", "mine", "squad"]


@needs_client
@pytest.mark.filterwarnings("ignore::cook.read.source.SourceWarning")
@pytest.mark.parametrize("what", ["/repo/tree", "FilePath="])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("not_found", "no such dataset repository, revision or file on ModelScope, or a private one: check http"),
        ("unauthorized", "does not know who asks, or not that token .*; set MODELSCOPE_API_TOKEN, or run `ms login`"),
        ("gated", "is private or gated; ask for access at http.*/datasets/owner/name, then set MODELSCOPE_API_TOKEN"),
        ("rate_limit", r"allows no more requests for now \(.*429.*\); wait, run again"),
        ("error_500", r"ModelScope fails \(.*500.*\); run again later"),
        ("drop", r"cannot be reached at http://127.* \(Remote end closed.*\); check the network and"),
    ],
)
def test_each_fault_has_its_message(hub, what, fault, message):
    hub.fault(fault, what)
    where = "owner/name: squad.*: " if what == "FilePath=" else "owner/name: "
    with pytest.raises(SourceError, match=f"^{where}.*{message}") as caught:
        opened().shards("squad")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isascii()
    if fault in ("not_found", "unauthorized", "gated"):
        assert len([r for r in hub.requests if what in r.path]) == 1


@needs_client
@pytest.mark.filterwarnings("ignore::cook.read.source.SourceWarning")
def test_no_network(hub, tmp_path, monkeypatch):
    from modelscope_hub import set_default_config

    opened().shards("squad")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    set_default_config(None)
    folder = cached(tmp_path, "")
    with pytest.raises(SourceError, match=r"cannot be reached at http://127\.0\.0\.1:9 \(.*refused\)") as caught:
        opened().names()
    assert str(caught.value).endswith(f"; what was fetched before, as it is: --source {folder}")
    assert [shard.name for shard in open_source(str(folder)).shards("squad")] == ["10.jsonl", "9.jsonl.gz"]


@needs_client
def test_a_listing_is_not_asked_for_without_end(hub):
    hub.fault("refused", "/repo/tree")
    with pytest.raises(SourceError, match="business failure"):
        opened().names()
    assert len(hub.requests) == 1 + len(LISTING_RETRY_DELAYS)


@needs_client
def test_repositories_that_hold_nothing(server):
    server.add("owner/name", {"notes.txt": b"x"})
    with pytest.raises(SourceError, match="owner/name: holds no dataset"):
        opened().names()
    with pytest.raises(SourceError, match=r"owner/name@v9: lists no file: .* has no such revision"):
        opened("v9").names()
    with pytest.raises(SourceError, match="no such dataset repository"):
        ModelScopeSource("owner/none").names()


@needs_client
def test_a_cache_that_cannot_be_written(hub, tmp_path):
    (tmp_path / "hub").write_bytes(b"a file")
    with pytest.raises(SourceError, match=r"mine\.jsonl: cannot be stored \(.*\); MODELSCOPE_CACHE"):
        opened().shards("mine")
