"""Progress, and its bars: bytes fetched and tokenized, tokens of a mix's sources unpacked, tokens or texts written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol

UNITS = {
    "fetch": "B",
    "tokenize": "B",
    "unpack": "tokens",
    "gather": "tokens",
    "export": "tokens",
    "count": "tokens",
    "prompts": "texts",
    "parse": "entries",
    "render": "B",
}


class Progress(Protocol):
    """What a run tells of itself, from any of its threads."""

    def __call__(self, stage: str, done: int, ahead: int = 0, /) -> None:
        """So much more of a stage (UNITS) is done, and so much more is known to be to do."""


def silent(stage: str, done: int, ahead: int = 0, /) -> None:
    """No progress is shown."""


@contextlib.contextmanager
def bars(shown: bool) -> Iterator[Progress | None]:
    """A callback for `run` and `mix` that moves a bar a stage on standard error; None where nothing is shown."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        made: dict[str, Any] = {}
        lock = threading.Lock()

        def progress(stage: str, done: int, ahead: int = 0, /) -> None:
            with lock:
                if stage not in made:
                    bar = tqdm(
                        desc=stage,
                        total=ahead or None,
                        unit=UNITS[stage],
                        unit_scale=True,
                        leave=False,
                        dynamic_ncols=True,
                    )
                    made[stage] = stack.enter_context(bar)
                elif ahead:
                    made[stage].total = (made[stage].total or 0) + ahead
                    made[stage].refresh()
                made[stage].update(done)

        yield progress
