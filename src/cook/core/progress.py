"""Progress, and its bars: bytes fetched and tokenized, tokens of a mix's sources unpacked, tokens or texts written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol

STAGE_UNITS = {
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

    def __call__(self, stage: str, done: int, total: int = 0, /) -> None:
        """So much more of a stage (STAGE_UNITS) is done, and so much more is known to be to do."""


def no_progress(stage: str, done: int, total: int = 0, /) -> None:
    """No progress is shown."""


@contextlib.contextmanager
def progress_bars(enabled: bool) -> Iterator[Progress | None]:
    """A callback for `run` and `mix` that moves a bar a stage on standard error; None where nothing is shown."""
    if not enabled:
        yield None
        return
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        bars_by_stage: dict[str, Any] = {}
        lock = threading.Lock()

        def progress(stage: str, done: int, total: int = 0, /) -> None:
            with lock:
                if stage not in bars_by_stage:
                    bar = tqdm(
                        desc=stage,
                        total=total or None,
                        unit=STAGE_UNITS[stage],
                        unit_scale=True,
                        leave=False,
                        dynamic_ncols=True,
                    )
                    bars_by_stage[stage] = stack.enter_context(bar)
                elif total:
                    bars_by_stage[stage].total = (bars_by_stage[stage].total or 0) + total
                    bars_by_stage[stage].refresh()
                bars_by_stage[stage].update(done)

        yield progress
