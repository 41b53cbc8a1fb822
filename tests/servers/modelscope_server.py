"""A ModelScope on the loopback, held in memory: tests drive the real client against it, with no network.

    with ModelScopeServer() as hub:
        hub.add("owner/name", {"squad/shard/0.jsonl": b"..."})
        hub.fault("cut", "repo?", times=1)
        ...
        assert hub.fetched == ["squad/shard/0.jsonl"]

It answers what the client of dataset repositories asks: a tree in pages, a file (of those in `lfs` by a redirect to a
store, as there), and whether the cloud has a faster way (it has none). Any other address gets 501.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

_API = re.compile(r"/api/v1/datasets/(?P<repo>[^/]+/[^/]+)/repo(?P<tree>/tree)?")
_ERRORS = {
    "not_found": (404, "dataset not exist"),
    "unauthorized": (401, "user not logged in"),
    "gated": (403, "access denied"),
    "rate_limit": (429, "too many requests"),
    "error_500": (500, "internal error"),
    "error_503": (503, "service unavailable"),
    "refused": (200, "the listing failed"),  # with Success: false, as it comes at times
}
FAULTS = (*_ERRORS, "drop", "cut", "corrupt", "short")


class Served(NamedTuple):
    """One request: its path with its query, unquoted; whether it carried the token; the bytes that it asked from."""

    path: str
    token: str
    start: int
    cookie: str = ""


class _Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    pieces: Iterator[bytes] | None = None  # in place of the body, of no stated length


class ModelScopeServer:
    """A ModelScope of its own on a free port, from `with` to its end. page_size: the most rows one answer lists."""

    def __init__(self, page_size: int = 200) -> None:
        self.page_size = page_size
        self.requests: list[Served] = []
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        self._lfs: set[str] = set()
        self._without: set[str] = set()
        self._orders: list[list[Any]] = []
        self._twists: list[tuple[str, Callable[[_Reply], _Reply]]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def fetched(self) -> list[str]:
        """The files asked for, in the order of arrival, each as often as it was."""
        asked = [re.search(r"FilePath=([^&]+)", served.path) for served in self.requests]
        return [match[1] for match in asked if match]

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes],
        *,
        revision: str = "master",
        lfs: Collection[str] = (),
        without_sha256: Collection[str] = (),
    ) -> None:
        """A revision that holds these files and no others."""
        self._files[repo, revision] = dict(files)
        self._lfs |= set(lfs)
        self._without |= set(without_sha256)

    def fault(self, kind: str, path_part: str = "", times: int | None = None) -> None:
        """Fail requests whose path (unquoted, with its query) contains path_part: the first `times`, or all."""
        assert kind in FAULTS, kind
        self._orders.append([kind, path_part, times])

    def twist(self, path_part: str, change: Callable[[_Reply], _Reply]) -> None:
        """Have `change` make something else of the replies to requests whose path contains path_part."""
        self._twists.append((path_part, change))

    def twisted(self, path: str, reply: _Reply) -> _Reply:
        """A reply as the twists make it."""
        for path_part, change in self._twists:
            reply = change(reply) if path_part in path else reply
        return reply

    def take_fault(self, path: str) -> str:
        """The fault of this request, counted."""
        with self._lock:
            for order in self._orders:
                if order[2] != 0 and order[1] in path:
                    order[2] = None if order[2] is None else order[2] - 1
                    return str(order[0])
        return ""

    def answer(self, target: str) -> _Reply:
        """What a server in good health replies to a GET."""
        address = urlsplit(target)
        asked = {key: values[0] for key, values in parse_qs(address.query).items()}
        if address.path == "/api/v1/repos/internalAccelerationInfo":
            return _json({"InternalRegionQueryAddress": ""})
        if address.path.startswith("/store/"):
            _, _, repo_owner, repo_name, revision, path = unquote(address.path).split("/", 5)
            return self._body(f"{repo_owner}/{repo_name}", revision, path)
        match = _API.fullmatch(address.path)
        if not match:
            return _json(None, 501, f"{target}: this server for tests does not know the address")
        repo, revision = match["repo"], asked["Revision"]
        if not any(repo == known for known, _ in self._files):
            return _json(None, *_ERRORS["not_found"])
        files = self._files.get((repo, revision), {})
        return self._tree(files, asked) if match["tree"] else self._file(repo, revision, asked["FilePath"])

    def _tree(self, files: Mapping[str, bytes], asked: Mapping[str, str]) -> _Reply:
        """A page. Of an unknown revision the real one says the same: 200, and no files."""
        start = (int(asked["PageNumber"]) - 1) * self.page_size
        assert int(asked["PageSize"]) == self.page_size, "the client asks for other pages than this server cuts"
        rows = self._rows(files)[start : start + self.page_size]
        return _json({"Files": rows or None, "LatestCommitter": None})

    def _file(self, repo: str, revision: str, path: str) -> _Reply:
        if path not in self._files.get((repo, revision), {}):
            return _json(None, 404, "file not exist")
        if path in self._lfs:
            return _Reply(302, b"", {"Location": f"{self.url}/store/{repo}/{revision}/{quote(path)}"})
        return self._body(repo, revision, path)

    def _rows(self, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
        folders = sorted({path.rpartition("/")[0] for path in files} - {""})
        rows = [{"Path": path, "Type": "tree", "Size": 0, "Sha256": ""} for path in folders]
        for path, data in files.items():
            sha256 = "" if path in self._without else hashlib.sha256(data).hexdigest()
            rows.append({"Path": path, "Name": path.rpartition("/")[2], "Type": "blob", "Sha256": sha256})
            rows[-1] |= {"Size": len(data), "IsLFS": path in self._lfs, "Revision": "0" * 40}
        return rows

    def _body(self, repo: str, revision: str, path: str) -> _Reply:
        return _Reply(200, self._files[repo, revision][path], {"Content-Type": "application/octet-stream"})


def _json(data: object, status: int = 200, message: str = "success") -> _Reply:
    body = {"Code": status, "Data": data, "Message": message, "RequestId": "1", "Success": message == "success"}
    return _Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(self.path.replace("+", " "))
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        start = int(wanted[1]) if wanted else 0
        hub.requests.append(Served(path, token, start, self.headers.get("Cookie", "")))
        fault = hub.take_fault(path)
        self.close_connection = True
        if fault == "drop":
            return
        reply = _json(None, *_ERRORS[fault]) if fault in _ERRORS else hub.answer(self.path)
        reply = hub.twisted(path, reply)
        body, status, headers = reply.body, reply.status, dict(reply.headers)
        middle = len(body) // 2
        if fault == "short":
            body = body[:middle]
        elif fault == "corrupt" and body:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if wanted and status == 200 and headers.get("Content-Type") != "application/json":
            status, total = 206, len(body)
            body = body[int(wanted[1]) :]
            headers["Content-Range"] = f"bytes {wanted[1]}-{total - 1}/{total}"
        self.send_response(status)
        length = {} if reply.pieces else {"Content-Length": str(len(body))}
        for key, value in {**length, **headers, "Connection": "close"}.items():
            self.send_header(key, value)
        with contextlib.suppress(OSError):
            self.end_headers()
            for piece in reply.pieces or [body[:middle] if fault == "cut" else body]:
                self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests read `ModelScopeServer.requests`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by server_close, so that no test leaves a thread or a socket behind

    def __init__(self, hub: ModelScopeServer) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would look the host's name up
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
