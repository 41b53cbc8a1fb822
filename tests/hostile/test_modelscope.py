"""A ModelScope that lies: each field of each answer with odd values. Nothing beside the caches changes or hangs."""

from __future__ import annotations

import importlib.util
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cook import SourceError
from cook.read.answers import ServerQuery
from cook.read.modelscope import ModelScopeSource
from hostile.ground import LINE, Ground, some
from hostile.values import BODIES, CODINGS, HEADER, KINDS, NUMBERS, PATHS, PLACE, PLACES, SIZES, TEXTS, TYPES, WAITS
from servers.modelscope_server import ModelScopeServer, _Reply

pytestmark = [
    pytest.mark.filterwarnings("always::UserWarning"),
    pytest.mark.skipif(importlib.util.find_spec("modelscope_hub") is None, reason="the extra modelscope is not here"),
]
FILES = {"d/shard/0.jsonl": LINE * 20, "d/shard/1.jsonl": LINE * 30}
SOURCE = ("-s", "modelscope://datasets/o/n")
LIST, FILE = "/repo/tree", "FilePath="
Change = Callable[[_Reply], _Reply]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScopeServer]:
    from modelscope_hub import _download_control, set_default_config

    with ModelScopeServer() as running:
        running.add("o/n", FILES)
        for name, value in {"ENDPOINT": running.url, "CACHE": tmp_path / "hub", "HOME": tmp_path / "home"}.items():
            monkeypatch.setenv(f"MODELSCOPE_{name}", str(value))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setattr(_download_control._DownloadControl, "sleep", lambda self, seconds: self.check())
        set_default_config(None)
        yield running
        set_default_config(None)


@pytest.fixture
def ground(server: ModelScopeServer, tmp_path_factory, monkeypatch) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"), monkeypatch)


def header(name: str, value: str, status: int = 0) -> Change:
    def change(reply: _Reply) -> _Reply:
        headers = {**reply.headers, name: value.encode().decode("latin-1")}
        return reply._replace(headers=headers, status=status or reply.status)

    return change


def row(key: str, value: Any) -> Change:
    def change(reply: _Reply) -> _Reply:
        answer = json.loads(reply.body)
        next(row for row in answer["Data"]["Files"] if row["Type"] == "blob")[key] = value
        return reply._replace(body=json.dumps(answer).encode())

    return change


def top(key: str, value: Any) -> Change:
    return lambda reply: reply._replace(body=json.dumps(json.loads(reply.body) | {key: value}).encode())


def body(data: bytes, status: int = 200) -> Change:
    return lambda reply: reply._replace(body=data, status=status)


def cases() -> Iterator[tuple[str, str, Change]]:
    for key, values in {"Path": PATHS, "Size": SIZES, "Sha256": TEXTS, "Type": KINDS, "IsLFS": KINDS}.items():
        for value in values:
            yield key, LIST, row(key, value)
    for value in (*KINDS, {"Files": 5}, {"Files": [5]}, {"Files": [None]}, {"Files": [{}]}, [[]]):
        yield "Data", LIST, top("Data", value)
    for value in ("x\x1b]0;pwn\x07", "x\u202egpj", 5, None, []):
        yield "Message", LIST, lambda reply, v=value: top("Success", False)(top("Message", v)(reply))
    for data in BODIES:
        yield "body", LIST, body(data)
        yield "error", FILE, body(data, 500)
        yield "region", "internalAccelerationInfo", body(data)
    for value in PLACES:
        yield "Location", FILE, header("Location", value, 302)
        yield "Location", LIST, header("Location", value, 302)
        yield "region", "internalAccelerationInfo", top("Data", {"InternalRegionQueryAddress": value})
    for value in HEADER:
        yield "X-Linked-ETag", FILE, header("X-Linked-ETag", value)
        yield "Content-Disposition", FILE, header("Content-Disposition", f"attachment; filename={value}")
        yield "X-Request-Id", FILE, header("X-Request-Id", value, 503)
    for name, value in itertools.product(("Content-Length", "Content-Range"), NUMBERS):
        yield name, FILE, header(name, value)
    for part in (LIST, FILE):
        for value in WAITS:
            yield "Retry-After", part, header("Retry-After", value, 429)
        for value in TYPES:
            yield "Content-Type", part, header("Content-Type", value)
        for value in CODINGS:
            yield "Content-Encoding", part, header("Content-Encoding", value)


@some(cases())
def test_no_answer_is_believed(ground: Ground, server: ModelScopeServer, case: tuple[str, str, Change], number: int):
    _, part, change = case
    server.twist(part, ground.placed(change))
    ground.run(number, *SOURCE)


@pytest.mark.parametrize("kind", ["list", "dry run", "cook"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (row("Size", "12"), "lists d/shard/0.jsonl with the size '12', which is no number of bytes"),
        (row("Sha256", PLACE), "lists d/shard/0.jsonl with the hash .*, which is none"),
        (row("Path", None), "lists a file whose path is None, which is no text"),
        (header("Content-Type", "text/html"), "answers with a web page, not with data; is a login page"),
        (top("Data", {"Files": [5]}), "lists 5, which is no file"),
    ],
)
def test_what_is_told(ground, server, kind, change, told):
    server.twist(LIST, ground.placed(change))
    ground.run(kind, *SOURCE, code=1, told=told)


@pytest.mark.parametrize("part", [LIST, FILE])
def test_the_token_goes_to_no_other_server(ground, server, monkeypatch, part):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    with ModelScopeServer() as other:
        other.add("o/n", FILES)
        server.twist(part, header("Location", f"{other.url}/api/v1/datasets/o/n/repo?Revision=master&FilePath=x", 302))
        ground.run("cook", *SOURCE)
        assert "ms-secret" in {served.token for served in server.requests}
        assert {served.token for served in other.requests} == {""}
        assert {served.cookie for served in other.requests} == {""}


@pytest.mark.parametrize("part", [LIST, FILE])
@pytest.mark.parametrize("what", ["byte by byte", "endless", "wait"])
def test_nothing_is_waited_for_without_end(ground, server, monkeypatch, what, part):
    rest = threading.Event()

    def pieces() -> Iterator[bytes]:
        while not rest.wait(0.3 if what == "byte by byte" else 0):
            yield b" " * (1 if what == "byte by byte" else 65536)

    monkeypatch.setattr("cook.read.waiting.STALL_TIMEOUT_S", 1.5)
    monkeypatch.setattr("cook.read.modelscope.MAX_LIST_BYTES", 1 << 20)
    monkeypatch.setattr(ServerQuery.__init__, "__defaults__", (1 << 20, *ServerQuery.__init__.__defaults__[1:]))
    change = header("Retry-After", "1000000000", 429)
    server.twist(part, change if what == "wait" else lambda reply: reply._replace(pieces=pieces()))
    told = {"endless": "sends more than|exceeded", "wait": "429 and asks to wait 1000000000 s, longer than cook does"}
    ground.run("cook", *SOURCE, code=1, told=told.get(what, "has made no progress for 2 s"), seconds=10)
    rest.set()


def test_a_cache_that_leads_out_is_not_written(ground, server, tmp_path):
    folder = tmp_path / "hub" / "datasets" / "o--n" / "snapshots" / "master" / "d"
    folder.mkdir(parents=True)
    (ground.place.parent / "0.jsonl").write_bytes(b"mine")
    (folder / "shard").symlink_to(ground.place.parent)
    before = ground._tree()
    with pytest.raises(SourceError, match="leads out of ModelScope's cache"):
        ModelScopeSource("o/n").shards("d")
    assert ground._tree() == before
