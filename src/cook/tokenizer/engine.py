"""The protocol of engines, which turn texts into token ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cook.core.errors import TokenizerError

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]


class Engine(Protocol):
    """What `encode` asks of an engine."""

    name: str
    version: str

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """The ids of all texts, one after the other, and where each begins: text i has ids[offsets[i]:offsets[i + 1]].

        `offsets` has one element more than `texts`. Raises TokenizerError.
        """
        ...


@contextlib.contextmanager
def engine_errors(engine: str) -> Iterator[None]:
    """Turns whatever an engine raises into TokenizerError.

    Rust panics arrive as pyo3's PanicException, a BaseException that cannot be imported.
    """
    try:
        yield
    except BaseException as exc:
        if isinstance(exc, Exception) or type(exc).__name__ == "PanicException":
            raise TokenizerError(f"{engine}: {exc}") from exc
        raise
