"""Every request and answer of a client held against `answers`, before the client reads the answer.

`huggingface_hub` speaks through requests (before 1), httpx or httpx2; ModelScope's client through requests. Each gets a
guard of its own kind: hooks of an httpx client, adapters of a requests session. A guard does nothing where cook asks
nothing (`asking` is None), so that whoever uses cook as a library keeps their client, and its factory, as they are.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cook.read.answers import PATIENCE_S, Asked

asking: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("asking", default=None)
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
            return guard(factory())

        setattr(guarded, _GUARDED, True)
        setattr(_http, name, guarded)
    guard(get_session())


def guard(session: Any, ask: Callable[[], Asked | None] = asking.get) -> Any:
    """Guard a session of requests or a client of httpx, once."""
    if not hasattr(session, _GUARDED):
        setattr(session, _GUARDED, True)
        if hasattr(session, "event_hooks"):
            _guard_httpx(session, ask)
        else:
            for prefix, adapter in list(session.adapters.items()):
                session.mount(prefix, _adapter(adapter, ask))
    return session


def _guard_httpx(client: Any, ask: Callable[[], Asked | None]) -> None:
    library = sys.modules[
        next(kind.__module__.partition(".")[0] for kind in type(client).__mro__ if "httpx" in kind.__module__)
    ]

    class Body(library.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, asked: Asked, url: str, limit: int, status: int) -> None:
            self.stream, self.counted = stream, _counted(iter(stream), asked, url, limit, status)

        def __iter__(self) -> Iterator[bytes]:
            return self.counted

        def close(self) -> None:
            self.stream.close()

    def on_request(request: Any) -> None:
        if asked := ask():
            asked.on_request(str(request.url), request.headers)
            timeout = request.extensions.get("timeout") or {}
            keys = ("connect", "read", "write", "pool")
            request.extensions["timeout"] = {key: timeout.get(key) or PATIENCE_S for key in keys}

    def on_answer(answer: Any) -> None:
        if asked := ask():
            url = str(answer.request.url)
            limit = asked.on_answer(answer.request.method, url, answer.status_code, answer.headers)
            answer.stream = Body(answer.stream, asked, url, limit, answer.status_code)

    hooks = client.event_hooks
    client.event_hooks = {"request": [*hooks["request"], on_request], "response": [on_answer, *hooks["response"]]}


def _adapter(inner: Any, ask: Callable[[], Asked | None]) -> Any:
    from requests.adapters import BaseAdapter

    class Guarded(BaseAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            asked = ask()
            if asked is None:
                return inner.send(request, *args, **kwargs)
            asked.on_request(request.url, request.headers)
            kwargs["timeout"] = kwargs.get("timeout") or PATIENCE_S
            answer = inner.send(request, *args, **kwargs)
            try:
                limit = asked.on_answer(request.method, answer.url, answer.status_code, answer.headers)
            except BaseException:
                answer.close()
                raise
            answer.raw = _Body(answer.raw, asked, answer.url, limit, answer.status_code)
            return answer

        def close(self) -> None:
            inner.close()

    return Guarded()


class _Body:
    """The body of an answer in requests: what urllib3 has, counted as it is read."""

    PIECE = 1 << 16  # bytes; with larger ones a slow server could not be told from one that sends nothing

    def __init__(self, raw: Any, asked: Asked, url: str, limit: int, status: int) -> None:
        self._raw, self._count = raw, _Count(asked, url, limit, status)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._raw, name)
        if name == "read1":  # which not all versions of urllib3 have
            return lambda *args, **kwargs: self._counted(found(*args, **kwargs))
        return found

    def stream(self, amt: int = PIECE, decode_content: bool | None = None) -> Iterator[bytes]:
        for piece in self._raw.stream(min(amt, self.PIECE), decode_content=decode_content):
            self._count(piece)
            yield piece
        self._count.end()

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        return self._counted(self._raw.read(amt, *args, **kwargs))

    def _counted(self, piece: bytes) -> bytes:
        if piece:
            self._count(piece)
        else:
            self._count.end()
        return piece


class _Count:
    """Counts the bytes of a body."""

    def __init__(self, asked: Asked, url: str, limit: int, status: int) -> None:
        self.asked, self.url, self.limit, self.status, self.got = asked, url, limit, status, 0

    def __call__(self, piece: bytes) -> None:
        self.got += len(piece)
        self.asked.got += len(piece)
        self.asked.on_bytes(self.url, self.got, self.limit)
        if self.asked.is_file and self.status < 300:
            self.asked.watch.gets(len(piece))

    def end(self) -> None:
        if self.status < 300:
            self.asked.watch.waits_no_more(self.asked)


def _counted(pieces: Iterator[bytes], asked: Asked, url: str, limit: int, status: int) -> Iterator[bytes]:
    count = _Count(asked, url, limit, status)
    for piece in pieces:
        count(piece)
        yield piece
    count.end()
