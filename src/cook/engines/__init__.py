"""Engines: what turns texts into token ids, behind one small protocol.

    fastokens   the fastest once it is warm, slow to load, optional; on the tokenizer.json
    splintr     the default: presets from its bundled vocabularies, any other tokenizer from its tokenizer.json
    hf          the reference: Hugging Face tokenizers on the tokenizer.json; what the others are held against

An engine encodes *ordinary* text: no BOS, no EOS, no special token recognised inside the text, no truncation. Every
engine gives the same ids for the same text; `probe` holds a fast one against ids that are known to be right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cook.errors import TokenizerError

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]


class Engine(Protocol):
    """What `tokenize` asks of an engine."""

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
