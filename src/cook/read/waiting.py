"""Waiting for servers, never without end: what is asked runs in threads, and whoever waits for them gives up in time.

A server can keep a client busy in many ways: no answer, a byte a second, pages or errors without end, a wait that it
asks for. All of them are one here: no progress (see `answers`) for PATIENCE_S while an answer is due.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TypeVar

from cook.read.answers import PROGRESS_BYTES, STALL_TIMEOUT_S, WARN_AFTER_S, ServerQuery, host

T = TypeVar("T")
POLL_S = 0.2  # seconds between two looks whether there is progress


class ServerStalled(Exception):
    """A server made no progress for as long as cook waits."""


class StallWatch:
    """How long a server has been waited for since the last progress. For the threads of one source."""

    def __init__(self, category: type[Warning] = UserWarning, timeout: float | None = None) -> None:
        self.timeout = STALL_TIMEOUT_S if timeout is None else timeout
        self.category = category
        self.endpoint = ""
        self.stopped = False
        """Whether nobody waits any more; threads left alone end at their next request or piece of an answer."""
        self._last_error = ""  # the last error that the server answered
        self._pending: set[int] = set()  # of whom an answer is due
        self._stalled_s, self._since, self._bytes, self._warned = 0.0, time.monotonic(), 0, False
        self._lock = threading.Lock()

    def expect_response(self, asked: ServerQuery) -> None:
        """An answer to `asked` is due."""
        with self._lock:
            self.endpoint = asked.endpoint
            self._add_elapsed()
            self._pending.add(id(asked))

    def response_done(self, asked: ServerQuery) -> None:
        """No answer to `asked` is due: what comes now is the client's own work."""
        with self._lock:
            self._add_elapsed()
            self._pending.discard(id(asked))

    def note_status(self, status: int, wait: float) -> None:
        """An answer's status, and the seconds that it asks to wait."""
        self._last_error = (
            (f"it answers {status}" + (f" and asks to wait {wait:.0f} s" if wait else "")) if status > 399 else ""
        )

    def note_bytes(self, count: int) -> None:
        """Bytes of a file have come."""
        with self._lock:
            self._bytes += count
            if self._bytes < PROGRESS_BYTES:
                return
        self.note_progress()

    def note_progress(self) -> None:
        """Something is there that was asked for."""
        with self._lock:
            self._stalled_s, self._since, self._bytes, self._warned = 0.0, time.monotonic(), 0, False

    def seconds_left(self) -> float:
        """Seconds until cook gives up."""
        with self._lock:
            self._add_elapsed()
            return self.timeout - self._stalled_s

    def run(
        self,
        work: Callable[[T], None],
        items: list[T],
        threads: int,
        stop: Callable[[], None],
        is_rejected: Callable[[], bool] = bool,
    ) -> bool:
        """Do work for each item by a few threads; whether all of it was done before cook gave up.

        `stop` is called before the threads are left alone: when cook gives up, and for an interrupt.
        """
        todo: queue.SimpleQueue[tuple[Future[None], T]] = queue.SimpleQueue()
        futures: list[Future[None]] = []
        for item in items:
            futures.append(Future())
            todo.put((futures[-1], item))
        done = False
        started = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(_run_queued, todo, work), daemon=True, name=THREAD_NAME
            )
            for _ in items[:threads]
        ]
        for thread in started:
            thread.start()
        try:
            done = all(self._wait_until_done(future, is_rejected) for future in futures)
        finally:
            if not done:
                for future in futures:
                    future.cancel()
                stop()
                for thread in started:
                    thread.join(JOIN_TIMEOUT / len(started))
        return done

    def ask(self, question: Callable[[], T], stop: Callable[[], None], is_rejected: Callable[[], bool] = bool) -> T:
        """What `question` returns or raises; raises GaveUp. `is_rejected`: whether its answer was refused meanwhile."""
        found: list[T] = []
        failed: list[BaseException] = []

        def work(ask: Callable[[], T]) -> None:
            try:
                found.append(ask())
            except BaseException as exc:
                failed.append(exc)

        if not self.run(work, [question], 1, stop, is_rejected):
            raise ServerStalled(self.stall_message())
        if failed:
            raise failed[0]
        return found[0]

    def stall_message(self) -> str:
        """Why cook gave up, in words."""
        word = f" ({self._last_error})" if self._last_error else ""
        return f"{host(self.endpoint)} has made no progress for {self.timeout:.0f} s{word}"

    def _wait_until_done(self, future: Future[None], is_rejected: Callable[[], bool]) -> bool:
        """Whether work is done; it is not if cook gave up."""
        while not wait_for([future], POLL_S).done:
            left = self.seconds_left()
            if left <= 0 or is_rejected():
                return wait_for([future], 0).done != set()
            if not self._warned and self.timeout - left > WARN_AFTER_S:
                self._warned = True
                word = self._last_error or "it does not answer"
                message = f"waiting for {host(self.endpoint)} ({word}); cook gives up in {left:.0f} s"
                warnings.warn(message, self.category, stacklevel=4)
        future.result()
        return True

    def _add_elapsed(self) -> None:
        now = time.monotonic()
        if self._pending:
            self._stalled_s += now - self._since
        self._since = now


THREAD_NAME = "cook-fetch"
JOIN_TIMEOUT = 2.0  # seconds that a thread gets to remove what is half-fetched


def _run_queued(todo: queue.SimpleQueue[tuple[Future[None], T]], work: Callable[[T], None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            future, item = todo.get_nowait()
            if future.set_running_or_notify_cancel():
                try:
                    work(item)
                    future.set_result(None)
                except BaseException as exc:
                    future.set_exception(exc)
