"""Every request and answer of a client held against `answers`, before the client reads the answer.

`huggingface_hub` speaks through requests (before 1), httpx or httpx2; ModelScope's client through requests. Each gets a
guard of its own kind: hooks of an httpx client, adapters of a requests session. A guard does nothing where cook asks
nothing (`current_query` is None), so that whoever uses cook as a library keeps their client, and its factory, as they
are.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cook.read.answers import STALL_TIMEOUT_S, ServerQuery

current_query: contextvars.ContextVar[ServerQuery | None] = contextvars.ContextVar("asking", default=None)
_GUARDED = "_cook_guarded"


def guard_hub_client() -> None:
    """Guard the session that the Hub's client has, and those that its factory will make. Raises RuntimeError.

    The factory in place, the user's own perhaps, goes on making them.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import _http

    name = next((n for n in ("_GLOBAL_CLIENT_FACTORY", "_GLOBAL_BACKEND_FACTORY") if hasattr(_http, n)), None)
    if name is None:
        raise RuntimeError("this version of huggingface_hub is not known to cook; install one of 0.34 to 2")
    factory: Callable[[], Any] = getattr(_http, name)
    if not hasattr(factory, _GUARDED):

        def guarded() -> Any:
            return guard_session(factory())

        setattr(guarded, _GUARDED, True)
        setattr(_http, name, guarded)
    guard_session(get_session())


def guard_session(session: Any, get_query: Callable[[], ServerQuery | None] = current_query.get) -> Any:
    """Guard a session of requests or a client of httpx, once."""
    if not hasattr(session, _GUARDED):
        setattr(session, _GUARDED, True)
        if hasattr(session, "event_hooks"):
            _guard_httpx(session, get_query)
        else:
            for prefix, adapter in list(session.adapters.items()):
                session.mount(prefix, _adapter(adapter, get_query))
    return session


def _guard_httpx(client: Any, get_query: Callable[[], ServerQuery | None]) -> None:
    library = sys.modules[
        next(kind.__module__.partition(".")[0] for kind in type(client).__mro__ if "httpx" in kind.__module__)
    ]

    class Body(library.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, query: ServerQuery, url: str, limit: int, status: int) -> None:
            self.stream, self.counted = stream, _count_bytes(iter(stream), query, url, limit, status)

        def __iter__(self) -> Iterator[bytes]:
            return self.counted

        def close(self) -> None:
            self.stream.close()

    def on_request(request: Any) -> None:
        if query := get_query():
            query.on_request(str(request.url), request.headers)
            timeout = request.extensions.get("timeout") or {}
            keys = ("connect", "read", "write", "pool")
            request.extensions["timeout"] = {key: timeout.get(key) or STALL_TIMEOUT_S for key in keys}

    def on_response(response: Any) -> None:
        if query := get_query():
            url = str(response.request.url)
            limit = query.on_response(response.request.method, url, response.status_code, response.headers)
            response.stream = Body(response.stream, query, url, limit, response.status_code)

    hooks = client.event_hooks
    client.event_hooks = {"request": [*hooks["request"], on_request], "response": [on_response, *hooks["response"]]}


def _adapter(inner: Any, get_query: Callable[[], ServerQuery | None]) -> Any:
    from requests.adapters import BaseAdapter

    class Guarded(BaseAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            query = get_query()
            if query is None:
                return inner.send(request, *args, **kwargs)
            query.on_request(request.url, request.headers)
            kwargs["timeout"] = kwargs.get("timeout") or STALL_TIMEOUT_S
            response = inner.send(request, *args, **kwargs)
            try:
                limit = query.on_response(request.method, response.url, response.status_code, response.headers)
            except BaseException:
                response.close()
                raise
            response.raw = _Body(response.raw, query, response.url, limit, response.status_code)
            return response

        def close(self) -> None:
            inner.close()

    return Guarded()


class _Body:
    """The body of an answer in requests: what urllib3 has, counted as it is read."""

    CHUNK_BYTES = 1 << 16  # bytes; with larger ones a slow server could not be told from one that sends nothing

    def __init__(self, raw: Any, query: ServerQuery, url: str, limit: int, status: int) -> None:
        self._raw, self._count = raw, _ByteCounter(query, url, limit, status)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._raw, name)
        if name == "read1":  # which not all versions of urllib3 have
            return lambda *args, **kwargs: self._count_piece(found(*args, **kwargs))
        return found

    def stream(self, amt: int = CHUNK_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        for piece in self._raw.stream(min(amt, self.CHUNK_BYTES), decode_content=decode_content):
            self._count(piece)
            yield piece
        self._count.end()

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        return self._count_piece(self._raw.read(amt, *args, **kwargs))

    def _count_piece(self, piece: bytes) -> bytes:
        if piece:
            self._count(piece)
        else:
            self._count.end()
        return piece


class _ByteCounter:
    """Counts the bytes of a body."""

    def __init__(self, query: ServerQuery, url: str, limit: int, status: int) -> None:
        self.query, self.url, self.limit, self.status, self.got = query, url, limit, status, 0

    def __call__(self, piece: bytes) -> None:
        self.got += len(piece)
        self.query.bytes_received += len(piece)
        self.query.on_bytes(self.url, self.got, self.limit)
        if self.query.is_file and self.status < 300:
            self.query.watch.note_bytes(len(piece))

    def end(self) -> None:
        if self.status < 300:
            self.query.watch.response_done(self.query)


def _count_bytes(pieces: Iterator[bytes], query: ServerQuery, url: str, limit: int, status: int) -> Iterator[bytes]:
    count = _ByteCounter(query, url, limit, status)
    for piece in pieces:
        count(piece)
        yield piece
    count.end()
