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

from cook.read.answers import PATIENCE_S, PROGRESS_BYTES, TOLD_AFTER_S, Asked, host

T = TypeVar("T")
LOOK_S = 0.2  # seconds between two looks whether there is progress


class GaveUp(Exception):
    """A server made no progress for as long as cook waits."""


class Watch:
    """How long a server has been waited for since the last progress. For the threads of one source."""

    def __init__(self, category: type[Warning] = UserWarning, patience: float | None = None) -> None:
        self.patience = PATIENCE_S if patience is None else patience
        self.category = category
        self.endpoint = ""
        self.stopped = False
        """Whether nobody waits any more; threads left alone end at their next request or piece of an answer."""
        self._word = ""  # the last error that the server answered
        self._due: set[int] = set()  # of whom an answer is due
        self._used, self._since, self._got, self._told = 0.0, time.monotonic(), 0, False
        self._lock = threading.Lock()

    def waits(self, asked: Asked) -> None:
        """An answer to `asked` is due."""
        with self._lock:
            self.endpoint = asked.endpoint
            self._settle()
            self._due.add(id(asked))

    def waits_no_more(self, asked: Asked) -> None:
        """No answer to `asked` is due: what comes now is the client's own work."""
        with self._lock:
            self._settle()
            self._due.discard(id(asked))

    def hears(self, status: int, wait: float) -> None:
        """An answer's status, and the seconds that it asks to wait."""
        self._word = (
            (f"it answers {status}" + (f" and asks to wait {wait:.0f} s" if wait else "")) if status > 399 else ""
        )

    def gets(self, count: int) -> None:
        """Bytes of a file have come."""
        with self._lock:
            self._got += count
            if self._got < PROGRESS_BYTES:
                return
        self.progress()

    def progress(self) -> None:
        """Something is there that was asked for."""
        with self._lock:
            self._used, self._since, self._got, self._told = 0.0, time.monotonic(), 0, False

    def left(self) -> float:
        """Seconds until cook gives up."""
        with self._lock:
            self._settle()
            return self.patience - self._used

    def run(
        self,
        work: Callable[[T], None],
        items: list[T],
        threads: int,
        stop: Callable[[], None],
        refused: Callable[[], bool] = bool,
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
            threading.Thread(target=contextvars.copy_context().run, args=(_work, todo, work), daemon=True, name=NAME)
            for _ in items[:threads]
        ]
        for thread in started:
            thread.start()
        try:
            done = all(self._waited(future, refused) for future in futures)
        finally:
            if not done:
                for future in futures:
                    future.cancel()
                stop()
                for thread in started:
                    thread.join(LEAVE_S / len(started))
        return done

    def ask(self, question: Callable[[], T], stop: Callable[[], None], refused: Callable[[], bool] = bool) -> T:
        """What `question` returns or raises; raises GaveUp. `refused`: whether its answer was refused meanwhile."""
        found: list[T] = []
        failed: list[BaseException] = []

        def work(ask: Callable[[], T]) -> None:
            try:
                found.append(ask())
            except BaseException as exc:
                failed.append(exc)

        if not self.run(work, [question], 1, stop, refused):
            raise GaveUp(self.told())
        if failed:
            raise failed[0]
        return found[0]

    def told(self) -> str:
        """Why cook gave up, in words."""
        word = f" ({self._word})" if self._word else ""
        return f"{host(self.endpoint)} has made no progress for {self.patience:.0f} s{word}"

    def _waited(self, future: Future[None], refused: Callable[[], bool]) -> bool:
        """Whether work is done; it is not if cook gave up."""
        while not wait_for([future], LOOK_S).done:
            left = self.left()
            if left <= 0 or refused():
                return wait_for([future], 0).done != set()
            if not self._told and self.patience - left > TOLD_AFTER_S:
                self._told = True
                word = self._word or "it does not answer"
                told = f"waiting for {host(self.endpoint)} ({word}); cook gives up in {left:.0f} s"
                warnings.warn(told, self.category, stacklevel=4)
        future.result()
        return True

    def _settle(self) -> None:
        now = time.monotonic()
        if self._due:
            self._used += now - self._since
        self._since = now


NAME = "cook-fetch"
LEAVE_S = 2.0  # seconds that a thread gets to remove what is half-fetched


def _work(todo: queue.SimpleQueue[tuple[Future[None], T]], work: Callable[[T], None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            future, item = todo.get_nowait()
            if future.set_running_or_notify_cancel():
                try:
                    work(item)
                    future.set_result(None)
                except BaseException as exc:
                    future.set_exception(exc)
