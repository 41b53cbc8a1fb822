"""A Hub that lies: each field of each answer with odd values. Nothing beside the caches changes, nothing hangs."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from conftest import point_at
from cook import TokenizerError
from cook.core import cache
from cook.read import transport
from cook.read.answers import ResponseRejected, ServerQuery
from cook.read.hub.client import remove_cached
from cook.read.waiting import StallWatch
from cook.tokenizer import hub_files
from hostile.ground import LINE, Ground, some
from hostile.values import (
    BODIES,
    CODINGS,
    HEADER,
    KINDS,
    LFS,
    LIMITS,
    LINKS,
    NUMBERS,
    PATHS,
    PLACE,
    PLACES,
    SIZES,
    TEXTS,
    TYPES,
    WAITS,
)  # fmt: skip
from servers.hub_server import HubServer, _Reply

pytestmark = pytest.mark.filterwarnings("always::UserWarning")
FILES = {"d/shard/0.jsonl": LINE * 20, "d/shard/1.jsonl": LINE * 30}
SOURCE = ("-s", "hf://datasets/o/n")
Case = tuple[str, str, Callable[[_Reply], _Reply]]


@pytest.fixture
def ground(server: HubServer, tmp_path_factory, monkeypatch) -> Ground:
    server.add("o/n", FILES, kind="dataset", lfs=["d/shard/1.jsonl"])
    return Ground(tmp_path_factory.mktemp("ground"), monkeypatch)


def header(name: str, value: str, status: int = 0) -> Callable[[_Reply], _Reply]:
    def change(reply: _Reply) -> _Reply:
        headers = {**reply.headers, name: value.encode().decode("latin-1")}
        return reply._replace(headers=headers, status=status or reply.status)

    return change


def field(part: str, *keys: Any, value: Any) -> Callable[[_Reply], _Reply]:
    def change(reply: _Reply) -> _Reply:
        answer = json.loads(reply.body)
        rows = [row for row in answer if row["type"] == "file"] if part == "/tree/" else [answer]
        for row in rows[:1]:
            row[keys[0]] = value
        return reply._replace(body=json.dumps(answer).encode())

    return change


def body(data: bytes, kind: str = "application/json") -> Callable[[_Reply], _Reply]:
    return lambda reply: reply._replace(body=data, headers={**reply.headers, "Content-Type": kind})


def cases() -> Iterator[Case]:
    for value in TEXTS:
        yield "sha", "/revision/", field("", "sha", value=value)
        yield "oid", "/tree/", field("/tree/", "oid", value=value)
    for name, values in {"path": PATHS, "size": SIZES, "type": KINDS, "lfs": LFS}.items():
        for value in values:
            yield name, "/tree/", field("/tree/", name, value=value)
    for part, data in itertools.product(("/revision/", "/tree/"), BODIES):
        yield "body", part, body(data)
    for name in ("ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash", "Content-Disposition", "X-HF-Warning"):
        for value in HEADER:
            more = header("X-Xet-Refresh-Route", "/x") if name == "X-Xet-Hash" else lambda reply: reply
            yield name, "/resolve/", lambda reply, n=name, v=value, m=more: header(n, v)(m(reply))
    for name, value in itertools.product(("X-Linked-Size", "Content-Length", "Content-Range"), NUMBERS):
        yield name, "/resolve/", header(name, value)
    for value in PLACES:
        yield "Location", "/resolve/", header("Location", value, 302)
        yield "Location", "/tree/", header("Location", value, 302)
        yield (
            "X-Xet-Refresh-Route",
            "/resolve/",
            lambda r, v=value: header("X-Xet-Refresh-Route", v)(header("X-Xet-Hash", "f" * 64)(r)),
        )
    for value in LINKS:
        yield "Link", "/tree/", header("Link", value)
        yield "Link", "/resolve/", header("Link", value.replace("next", "xet-auth"))
    for part in ("/revision/", "/tree/", "/resolve/"):
        for value in WAITS:
            yield "Retry-After", part, header("Retry-After", value, 429)
        for value in LIMITS:
            yield "RateLimit", part, header("RateLimit", value, 429)
        for value in TYPES:
            yield "Content-Type", part, header("Content-Type", value)
        for value in CODINGS:
            yield "Content-Encoding", part, header("Content-Encoding", value)
        for status, code in (
            (404, "EntryNotFound"),
            (403, "GatedRepo"),
            (400, "x"),
            (401, ""),
            (500, "\x1b[2J"),
            (299, ""),
        ):
            yield (
                "X-Error-Code",
                part,
                lambda reply, s=status, c=code: header("X-Error-Message", "\x1b]0;pwn\x07")(
                    header("X-Error-Code", c, s)(body(b'{"error": "\\u001b[2J\\u202e"}')(reply))
                ),
            )


@some(cases())
def test_no_answer_is_believed(ground: Ground, server: HubServer, case: Case, number: int):
    _, part, change = case
    server.twist(part, ground.placed(change))
    ground.run(number, *SOURCE)


@pytest.mark.parametrize("kind", ["list", "dry run", "cook"])
@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("/revision/", field("", "sha", value=PLACE), "says that main is the commit '.*', which is none"),
        ("/tree/", field("/tree/", "size", value=None), "lists d/shard/0.jsonl with the size None, which is no number"),
        ("/tree/", body(b"<html>", "text/html"), "answers with a web page, not with data; is a login page"),
        ("/tree/", header("Link", '<http://127.0.0.1:9/x>; rel="next"'), "next page is at .*, another server"),
        ("/tree/", body(b"[" * 10_000), "answers what cannot be understood"),
    ],
)
def test_what_is_told(ground, server, kind, part, change, told):
    server.twist(part, ground.placed(change))
    ground.run(kind, *SOURCE, code=1, told=told)


def test_a_name_of_a_file_that_is_the_servers_own_choice(ground, server):
    server.twist("/resolve/", ground.placed(header("ETag", f'"{PLACE}"')))
    ground.run("cook", *SOURCE, code=1, told="sends ETag '.*', which is not 40 or 64 hexadecimal digits")


def test_an_answer_that_is_another_the_second_time(ground, server):
    """What is checked is what the client reads, not an answer to a question of cook's own."""
    asked = itertools.count()
    bad = ground.placed(header("X-Repo-Commit", PLACE))
    server.twist("/resolve/", lambda reply: bad(reply) if next(asked) else reply)
    ground.run("cook", *SOURCE, code=1, told="sends X-Repo-Commit")


def test_another_commit_than_the_one_asked_for(ground, server):
    commit = server.add("o/n", FILES, kind="dataset")
    server.twist("/revision/", field("", "sha", value="d" * 40))
    ground.run(
        "cook", *SOURCE, "--revision", commit, code=1, told=f"answers of commit d+, where {commit} was asked for"
    )


def test_another_file_than_the_one_listed(ground, server):
    server.twist("/resolve/", header("ETag", '"' + "f" * 40 + '"'))
    ground.run("cook", *SOURCE, code=1, told="offers another file than the one that it lists")


@pytest.mark.parametrize("name", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
def test_a_tokenizer_is_asked_for_with_the_same_care(ground, server, name):
    server.add("o/m", {"tokenizer.json": b"{}"})
    server.twist("/resolve/", ground.placed(header(name, PLACE)))
    with pytest.raises(TokenizerError, match=f"(?i)sends {name}"):
        hub_files.fetch_tokenizer_file("o/m", "tokenizer.json")
    ground.check()


@pytest.mark.parametrize("how", ["Link", "redirect of a list", "redirect of a file"])
def test_the_token_goes_to_no_other_server(ground, server, monkeypatch, how):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HubServer() as other:
        other.add("o/n", FILES, kind="dataset")
        if how == "Link":
            server.twist("/tree/", header("Link", f'<{other.url}/api/datasets/o/n/tree/x>; rel="next"'))
        else:
            part = "/tree/" if how.endswith("list") else "/resolve/"
            path = (
                "/api/datasets/o/n/tree/main?recursive=True" if how.endswith("list") else "/datasets/o/n/resolve/main/x"
            )
            server.twist(part, header("Location", other.url + path, 302))
        ground.run("cook", *SOURCE)
        assert server.tokens
        assert other.tokens == []
        assert bool(other.requests) == (how != "Link")


def trickle(piece: bytes, pause_s: float) -> Callable[[_Reply], _Reply]:
    rest = threading.Event()

    def pieces() -> Iterator[bytes]:
        while not rest.wait(pause_s):
            yield piece

    return lambda reply: reply._replace(pieces=pieces())


@pytest.mark.parametrize("part", ["/revision/", "/tree/", "/resolve/"])
@pytest.mark.parametrize("what", ["byte by byte", "endless", "hang", "wait"])
def test_nothing_is_waited_for_without_end(ground, server, monkeypatch, what, part):
    monkeypatch.setattr("cook.read.waiting.STALL_TIMEOUT_S", 1.5)
    monkeypatch.setattr("cook.read.answers.MAX_LIST_BYTES", 1 << 20)
    monkeypatch.setattr(
        "cook.read.answers.ServerQuery.__init__.__defaults__", (1 << 20, *ServerQuery.__init__.__defaults__[1:])
    )
    if what == "hang":
        server.fault("hang", part)
    elif what == "wait":
        server.twist(part, header("Retry-After", "1000000000", 429))
    else:
        server.twist(part, trickle(b" ", 0.3) if what == "byte by byte" else trickle(b" " * 65536, 0))
    told = {
        "endless": "sends more than .* bytes|says nothing that a Hub says of a file",  # clients before 1
        "wait": "limits requests.*try again in 1000000000 s",
    }.get(what, "has made no progress for 2 s|cannot be fetched: timed out|says nothing that a Hub says")
    ground.run("cook", *SOURCE, code=1, told=told, seconds=8)


def test_pages_without_end(ground, server, monkeypatch):
    monkeypatch.setattr("cook.read.answers.MAX_REQUESTS", 20)
    server.twist("/tree/", header("Link", f'<{server.url}/api/datasets/o/n/tree/main?x=1>; rel="next"'))
    ground.run("cook", *SOURCE, code=1, told="after 20 requests")
    assert len([r for r in server.requests if "/tree/" in r.path]) == 20


def test_the_user_is_told_what_is_waited_for(ground, server, monkeypatch):
    monkeypatch.setattr("cook.read.waiting.STALL_TIMEOUT_S", 2.5)
    monkeypatch.setattr("cook.read.waiting.WARN_AFTER_S", 0.5)
    server.fault("hang", "/tree/")
    told = r"warning: waiting for http://127.* \(it does not answer\); cook gives up in 2 s"
    ground.run("list", *SOURCE, code=1, told=told)


@pytest.mark.parametrize("kind", ["list", "dry run", "cook"])
def test_a_name_that_is_no_path_is_left_out(ground, server, kind):
    server.twist("/tree/", field("/tree/", "path", value="d/shard/\x1b]0;pwn\x07\n\u202e.jsonl"))
    ground.run(kind, *SOURCE, code=0, told=r"left out, as a name could .*: 'd/shard/\\x1b\]0;pwn\\x07\\n\\u202e.jsonl'")


def test_a_portal_in_the_way_does_not_hide_what_is_cached(ground, server):
    ground.run("cook", *SOURCE, code=0)
    server.twist("/revision/", body(b"<html>", "text/html"))
    ground.run("cook", *SOURCE, code=0, told="web page, not with data.*going on with commit")


def test_a_planted_record_is_no_path(ground, server):
    commit = server.add("o/n", FILES, kind="dataset")
    ground.run("list", *SOURCE, code=0)
    folder = cache.cache_dir(None) / "hub" / "datasets--o--n"
    cache.put(folder / "trees" / f"{commit}.json", orjson.dumps([["../../x.jsonl", 5, "f" * 40, None]]))
    ground.run("list", "-s", f"{SOURCE[1]}@{commit}", code=0, told="d +2")
    cache.put(folder / "refs" / "main.json", orjson.dumps({"commit": str(ground.place), "day": "2026-01-01"}))
    point_at("http://127.0.0.1:9", ground.monkeypatch)
    ground.run("list", *SOURCE, code=1, told="cannot be reached")


def test_only_files_of_the_clients_cache_are_removed(ground, server):
    from huggingface_hub import constants

    held = Path(constants.HF_HUB_CACHE)
    named = held / "datasets--o--n" / "snapshots" / ("c" * 40) / "x.jsonl"
    named.parent.mkdir(parents=True)
    named.symlink_to(ground.place)
    remove_cached(named)
    assert not named.is_symlink()
    ground.check()
    linked = named.parent.parent / ("d" * 40)
    linked.symlink_to(ground.place.parent)
    for path in (
        ground.place,
        linked / ground.place.name,
        held / "datasets--o--n" / "x",
        named.parent.parent / "x" / "y",
    ):
        with pytest.raises(OSError, match=r"not removed|is a link"):
            remove_cached(path)
    ground.check()


def test_the_users_own_client_is_kept(server, monkeypatch):
    """A factory of whoever uses cook as a library still makes the sessions; what they ask themselves is left alone."""
    from huggingface_hub.utils import _http

    made = []
    slot = next(n for n in ("_GLOBAL_CLIENT_FACTORY", "_GLOBAL_BACKEND_FACTORY") if hasattr(_http, n))
    default = getattr(_http, slot)
    monkeypatch.setattr(_http, slot, lambda: made.append(default()) or made[-1])
    for _ in range(9):  # a thread that an earlier test gave up on may make a session of its own meanwhile
        (getattr(_http, "close_session", None) or _http.reset_sessions)()
        transport.guard_hub_client()
        session = _http.get_session()
        if made:
            break
    assert made == [session]
    server.add("o/n", {"x": b"x"})
    server.twist("/resolve/", header("ETag", "mine"))
    assert session.get(f"{server.url}/o/n/resolve/main/x").headers["ETag"] == "mine"
    asked = ServerQuery(StallWatch(), server.url)
    within = transport.current_query.set(asked)
    try:
        with pytest.raises(ResponseRejected, match="ETag"):
            session.head(f"{server.url}/o/n/resolve/main/x")
    finally:
        transport.current_query.reset(within)
