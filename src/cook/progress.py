"""Progress bars: bytes fetched, bytes tokenized, tokens of a mix's sources unpacked, tokens or texts written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

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


@contextlib.contextmanager
def bars(shown: bool) -> Iterator[Callable[[str, int], None] | None]:
    """A callback for `run` and `mix` that moves a bar a stage on standard error; None where nothing is shown."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        made: dict[str, Any] = {}

        def progress(stage: str, amount: int) -> None:
            if stage not in made:
                made[stage] = stack.enter_context(
                    tqdm(desc=stage, unit=UNITS[stage], unit_scale=True, leave=False, dynamic_ncols=True)
                )
            made[stage].update(amount)

        yield progress
