"""A Hugging Face Hub on the loopback, held in memory: tests drive the real client against it, with no network.

    with HubServer() as hub:
        commit = hub.add("owner/name", {"train.jsonl": b"..."}, kind="dataset")
        hub.fault("cut", "train.jsonl", times=1)
        subprocess.run([sys.executable, "-c", program], env=hub.environment(tmp_path), check=True)
        assert ("HEAD", f"/datasets/owner/name/resolve/{commit}/train.jsonl", 200, 0) in hub.requests

It answers what downloads and listings ask: a revision's information, its tree in pages, its files whole or by range.
It takes uploads from whoever has a token, any: a new repository, and commits of files sent whole, as none goes to LFS.
It never announces xet. An address that it does not know gets 501, so that a test sees what the client began to call.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any, Literal, NamedTuple, Self, get_args
from urllib.parse import parse_qs, unquote

Files = Mapping[str, bytes]
Kind = Literal["model", "dataset"]
Method = Literal["HEAD", "GET"]
Fault = Literal[
    "unauthorized", "bad_token", "gated", "not_found", "entry_not_found", "bare_404", "bare_403", "rate_limit",
    "rate_limit_long", "error_500", "error_503", "drop", "hang", "cut", "slow", "wrong_length", "corrupt",
]  # fmt: skip

_API = re.compile(
    r"/api/(?P<kind>model|dataset)s/(?P<repo>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|preupload|commit)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
_FILE = re.compile(r"(?:/(?P<kind>dataset)s)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_HARNESSES = "/api/agent-harnesses"  # for its User-Agent the client asks it, once a day and cache folder
_SLOW_PIECES = 10


class Served(NamedTuple):
    """One request and its answer; path: unquoted, with its query; status: 0 if dropped; sent: bytes of the body."""

    method: str
    path: str
    status: int
    sent: int


class _Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]
    pieces: Iterator[bytes] | None = None  # in place of the body, of no stated length


class _Blob(NamedTuple):
    data: bytes
    oid: str
    sha256: str | None  # of a file in LFS


@dataclass
class _Order:
    fault: Fault
    path_part: str
    left: int | None
    methods: Collection[str]


def _error(status: int, code: str = "", message: str = "", **headers: str) -> _Reply:
    named = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
    headers |= {key: value for key, value in named.items() if value and message}
    return _Reply(status, json.dumps({"error": message}).encode() if message else b"", headers)


_ERRORS: dict[str, _Reply] = {
    # The client takes any 401 of an https:// Hub for a missing repository; this one is http:// and has to say so.
    "unauthorized": _error(401, "RepoNotFound", "Invalid username or password."),
    "bad_token": _error(401, "", "Invalid credentials in Authorization header"),
    "gated": _error(403, "GatedRepo", "Access to this repository is restricted and you are not in the authorized list"),
    "not_found": _error(404, "RepoNotFound", "Repository not found"),
    "revision_not_found": _error(404, "RevisionNotFound", "Invalid rev id"),
    "entry_not_found": _error(404, "EntryNotFound", "Entry not found"),
    "bare_404": _error(404),
    "bare_403": _error(403),
    "rate_limit": _error(429, "", "Too many requests", **{"Retry-After": "1"}),
    "rate_limit_long": _error(429, "", "Too many requests", **{"Retry-After": "3600"}),
    "error_500": _error(500, "", "Internal error"),
    "error_503": _error(503, "", "Service unavailable"),
}


def _git_hash(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _blob(data: bytes, lfs: bool) -> _Blob:
    if not lfs:
        return _Blob(data, _git_hash("blob", data), None)
    sha256 = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n"
    return _Blob(data, _git_hash("blob", pointer.encode()), sha256)


class HubServer:
    """A Hub of its own on a free port, from `with` to its end.

    page_size: entries of a tree that one answer lists. pause_s: seconds between the 10 pieces of a "slow" body.
    """

    def __init__(self, *, page_size: int = 1000, pause_s: float = 0.1) -> None:
        self.page_size = page_size
        self.pause_s = pause_s
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._commits: dict[tuple[str, str], dict[str, dict[str, _Blob]]] = {}
        self._branches: dict[tuple[str, str, str], str] = {}
        self._orders: list[_Order] = []
        self._twists: list[tuple[str, str | None, Callable[[_Reply], _Reply]]] = []
        self.tokens: list[str] = []  # of the requests that carried one, in the order of arrival
        self._requests: list[Served] = []

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def requests(self) -> list[Served]:
        """What was served, in the order of arrival; without the client's question which agent harnesses there are."""
        with self._lock:
            return list(self._requests)

    def add(
        self, repo: str, files: Files, *, kind: Kind = "model", revision: str = "main", lfs: Collection[str] = ()
    ) -> str:
        """A new commit that holds these files and no others; the revision points to it. -> its 40 hex digits."""
        blobs = {path: _blob(data, path in lfs) for path, data in sorted(files.items())}
        listing = "".join(f"{blob.oid} {path}\n" for path, blob in blobs.items())
        with self._lock:
            parent = self._branches.get((kind, repo, revision))
            commit = _git_hash("commit", f"parent {parent}\n{listing}".encode())
            self._commits.setdefault((kind, repo), {})[commit] = blobs
            self._branches[kind, repo, revision] = commit
        return commit

    def files(self, repo: str, *, kind: Kind = "model", revision: str = "main") -> dict[str, bytes]:
        """What a revision holds, by path; nothing if there is no such repository or revision."""
        return {path: blob.data for path, blob in (self._find(kind, repo, revision)[1] or {}).items()}

    def fault(
        self, kind: Fault, path_part: str = "", times: int | None = None, *, method: Method | None = None
    ) -> None:
        """Fail requests whose path (unquoted, with its query) contains path_part: the first `times`, or all.

        Of several faults that match a request, the one ordered first applies. "cut", "slow" and "corrupt" pass a HEAD
        over. The rest answer HEAD and GET alike unless `method` names one: "wrong_length" then is a file that is
        shorter than its tree says, and with method="GET" one that is shorter than its own HEAD says.
        """
        if kind not in get_args(Fault):
            raise ValueError(f"{kind}: no such fault; there are {', '.join(get_args(Fault))}")
        methods = [method] if method else ["GET"] if kind in ("cut", "slow", "corrupt") else ["HEAD", "GET"]
        with self._lock:
            self._orders.append(_Order(kind, path_part, times, methods))

    def twist(self, path_part: str, change: Callable[[_Reply], _Reply], method: Method | None = None) -> None:
        """Have `change` make something else of the replies to requests whose path contains path_part."""
        self._twists.append((path_part, method, change))

    def twisted(self, method: str, path: str, reply: _Reply) -> _Reply:
        """A reply as the twists make it."""
        for path_part, only, change in self._twists:
            if path_part in path and only in (None, method):
                reply = change(reply)
        return reply

    def clear_faults(self) -> None:
        """Answer properly again."""
        with self._lock:
            self._orders.clear()

    def environment(self, home: Path | str, **more: str) -> dict[str, str]:
        """The environment for a subprocess whose client knows this Hub alone, and has its cache and token in `home`.

        The client reads it at import. Requests that leave the loopback go to a proxy that is not there.
        """
        own = re.compile(r"HF_|HUGGING|TRANSFORMERS_|.*_proxy$", re.IGNORECASE)
        kept = {key: value for key, value in os.environ.items() if not own.match(key)}
        nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
        hub = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return kept | nowhere | {"NO_PROXY": "127.0.0.1"} | hub | more

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault of this request, counted."""
        with self._lock:
            for order in self._orders:
                if order.left != 0 and method in order.methods and order.path_part in path:
                    order.left = None if order.left is None else order.left - 1
                    return order.fault
        return None

    def record(self, served: Served, place: int | None = None) -> int:
        """Keep a request, or put it in the place of an earlier one. -> its place."""
        with self._lock:
            place = len(self._requests) if place is None else place
            self._requests[place : place + 1] = [served]
            return place

    def answer(self, target: str) -> _Reply:
        """What a Hub in good health replies to a GET."""
        path, _, query = target.partition("?")
        match = _API.fullmatch(path) or _FILE.fullmatch(path)
        if not match:
            return _error(501, "", f"{target}: this Hub for tests does not know the address")
        asked = {key: unquote(value) for key, value in match.groupdict().items() if value}
        kind, repo, wanted = asked.get("kind", "model"), asked["repo"], asked.get("path", "")
        commit, files, missing = self._find(kind, repo, asked.get("revision", "main"))
        if files is None:
            return missing
        if match.re is _FILE:
            return _file(commit, files.get(wanted))
        if asked.get("verb") == "tree":
            return self._tree(target, files, f"{wanted}/" if wanted else "", parse_qs(query))
        return _json(_info(repo, commit, files, "blobs" in parse_qs(query)))

    def answer_post(self, target: str, body: bytes, token: bool) -> _Reply:
        """What a Hub in good health replies to a POST; token: whether the client sent one."""
        path = target.partition("?")[0]
        match = _API.fullmatch(path)
        verb = (match and match["verb"]) or path
        if verb not in ("/api/repos/create", "/api/validate-yaml", "preupload", "commit"):
            return _error(501, "", f"POST {target}: this Hub for tests does not know the address")
        if not token:
            return _ERRORS["unauthorized"]
        if match:
            kind: Kind = "dataset" if match["kind"] == "dataset" else "model"
            return self._upload(verb, kind, match["repo"], unquote(match["revision"]), body)
        if verb == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        asked = json.loads(body)
        return self._create(asked.get("type", "model"), f"{asked['organization']}/{asked['name']}")

    def _create(self, kind: Kind, repo: str) -> _Reply:
        """An empty repository; of one that is there already the Hub says so, with its address."""
        there = self._find(kind, repo, "main")[1] is not None
        if not there:
            self.add(repo, {}, kind=kind)
        return _json({"url": self._page(kind, repo)})._replace(status=409 if there else 200)

    def _upload(self, verb: str, kind: Kind, repo: str, revision: str, body: bytes) -> _Reply:
        """To preupload: each file is to be sent whole. To commit: the files sent, one a line, beside those there."""
        _, files, missing = self._find(kind, repo, revision)
        if files is None:
            return missing
        if verb == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return _json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]})
        rows = [json.loads(line) for line in body.splitlines()]
        if unknown := {row["key"] for row in rows} - {"header", "file"}:
            return _error(501, "", f"this Hub for tests does not know how to commit: {', '.join(sorted(unknown))}")
        sent = {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}
        held = {path: blob.data for path, blob in files.items()} | sent
        lfs = [path for path, blob in files.items() if blob.sha256 and path not in sent]
        commit = self.add(repo, held, kind=kind, revision=revision, lfs=lfs)
        return _json({"success": True, "commitOid": commit, "commitUrl": f"{self._page(kind, repo)}/commit/{commit}"})

    def _page(self, kind: Kind, repo: str) -> str:
        return f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{repo}"

    def _find(self, kind: str, repo: str, revision: str) -> tuple[str, dict[str, _Blob] | None, _Reply]:
        """The commit that a revision is and its files; None and what to answer if there is none."""
        with self._lock:
            commits = self._commits.get((kind, repo), {})
            commit = self._branches.get((kind, repo, revision), revision)
            return commit, commits.get(commit), _ERRORS["revision_not_found" if commits else "not_found"]

    def _tree(self, target: str, files: dict[str, _Blob], prefix: str, options: dict[str, list[str]]) -> _Reply:
        entries = _entries(files, prefix, recursive=options.get("recursive") in (["true"], ["True"], ["1"]))
        if prefix and not entries:
            return _ERRORS["entry_not_found"]
        start = int(options.get("cursor", ["0"])[0])
        end = start + self.page_size
        base = re.sub(r"[?&]cursor=\d+", "", target)
        link = f'<{self.url}{base}{"&" if "?" in base else "?"}cursor={end}>; rel="next"'
        return _json(entries[start:end], **({"Link": link} if end < len(entries) else {}))


def _json(value: object, **headers: str) -> _Reply:
    return _Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def _lfs(blob: _Blob, digest: str) -> dict[str, Any]:
    """What the API says of a file in LFS; a tree and a revision's information name its digest differently."""
    return {"lfs": {digest: blob.sha256, "size": len(blob.data), "pointerSize": 134}} if blob.sha256 else {}


def _entries(files: dict[str, _Blob], prefix: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders under a prefix, by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path in (path for path in files if path.startswith(prefix)):
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = prefix + "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "oid": _git_hash("tree", folder.encode()), "size": 0}
        if recursive or len(parts) == 1:
            blob = files[path]
            entries[path] = {"type": "file", "oid": blob.oid, "size": len(blob.data), **_lfs(blob, "oid")}
    return [{**entry, "path": path} for path, entry in sorted(entries.items())]


def _info(repo: str, commit: str, files: dict[str, _Blob], blobs: bool) -> dict[str, Any]:
    def sizes(blob: _Blob) -> dict[str, Any]:
        return {"size": len(blob.data), "blobId": blob.oid, **_lfs(blob, "sha256")} if blobs else {}

    siblings = [{"rfilename": path, **sizes(blob)} for path, blob in files.items()]
    fixed = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
    return {"id": repo, "sha": commit, "siblings": siblings, "lastModified": "2025-01-01T00:00:00.000Z", **fixed}


def _file(commit: str, blob: _Blob | None) -> _Reply:
    if blob is None:  # with the commit, so that the client keeps in its cache that there is no such file
        missing = _ERRORS["entry_not_found"]
        return missing._replace(headers={**missing.headers, "X-Repo-Commit": commit})
    headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.sha256 or blob.oid}"', "Accept-Ranges": "bytes"}
    return _Reply(200, blob.data, {"Content-Type": "application/octet-stream", **headers})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its headers
    server: _Server

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(self.path)
        hub.tokens += [token] if (token := self.headers.get("Authorization")) else []
        if path == _HARNESSES:
            self._send(_json({"standardEnvVars": [], "harnesses": {}}), None, None)
        elif (fault := hub.take_fault(self.command, path)) == "drop":
            hub.record(Served(self.command, path, 0, 0))
            self.close_connection = True
        elif fault == "hang":  # no answer until the test is over
            hub.record(Served(self.command, path, 0, 0))
            hub.closing.wait(30)
            self.close_connection = True
        else:
            self._send(hub.twisted(self.command, path, _ERRORS.get(fault or "") or hub.answer(self.path)), fault, path)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        token = self.headers.get("Authorization", "").startswith("Bearer ")
        self._send(self.server.hub.answer_post(self.path, body, token), None, unquote(self.path))

    def log_message(self, *_: object) -> None:
        """Nothing: the tests read `HubServer.requests`."""

    def _send(self, reply: _Reply, fault: Fault | None, path: str | None) -> None:
        """One reply, damaged as the fault says; recorded under its path if it has one."""
        hub, status, body, middle = self.server.hub, reply.status, reply.body, len(reply.body) // 2
        if fault == "wrong_length":
            body = body[:middle]
        elif fault == "corrupt" and body:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        start, end, headers = 0, len(body), dict(reply.headers)
        wanted = re.fullmatch(r"bytes=(?=.*\d)(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted and "Accept-Ranges" in headers:
            first, last = wanted.groups()
            start = int(first) if first else max(end - int(last), 0)
            end = min(int(last) + 1, end) if first and last else end
            status = 206 if start < end else 416
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}" if status == 206 else f"bytes */{end}"
            start = min(start, end)
        self.send_response(status)
        for key, value in (headers if reply.pieces else {"Content-Length": str(end - start)} | headers).items():
            self.send_header(key, value)
        if reply.pieces:
            self._pour(reply)
            return
        if fault == "cut":  # nothing that lies past the middle of a file ever comes
            end = max(start, middle)
            self.close_connection = True
        body = body[start:end] if self.command != "HEAD" else b""
        # Recorded before it is written: the client may be done before this thread runs again.
        place = hub.record(Served(self.command, path, status, len(body))) if path else None
        sent, size = 0, -(-len(body) // _SLOW_PIECES) if fault == "slow" else len(body)
        try:
            self.end_headers()
            while sent < len(body):
                if sent and hub.closing.wait(hub.pause_s):
                    raise ConnectionAbortedError
                self.wfile.write(body[sent : sent + size])
                sent = min(sent + size, len(body))
        except ConnectionError:  # the client hung up, or the test is over
            self.close_connection = True
            if path:
                hub.record(Served(self.command, path, status, sent), place)

    def _pour(self, reply: _Reply) -> None:
        """Headers, then pieces until there are no more, or nobody reads them."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.end_headers()
            for piece in reply.pieces or ():
                if self.server.hub.closing.is_set():
                    return
                self.wfile.write(piece)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by server_close, so that no test leaves a thread or a socket behind
    request_queue_size = 64

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self._accepted: list[socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would look the host's name up
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._accepted.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that ends resets its connections
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        for request in self._accepted:  # those still open: a client in this process keeps them alive
            with contextlib.suppress(OSError):
                request.shutdown(SHUT_RDWR)
        super().server_close()
