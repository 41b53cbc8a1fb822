"""The engine for large jobs: fastokens, on a tokenizer.json. Optional: `pip install -e '.[fast]'` in a checkout.

Two to four times as fast as splintr once it is warm, and slow to load: it pays off past some 100 MB a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import fastokens
import numpy as np

from cook.tokenizer.engine import Ids, Offsets, engine_errors


class FastokensEngine:
    """Encodes with `split_special_tokens=True`: special tokens in the text are text."""

    name = "fastokens"

    def __init__(self, tokenizer_json: bytes) -> None:
        self.version = version("fastokens")
        with engine_errors(f"fastokens {self.version} cannot read this tokenizer.json"):
            self._tokenizer = fastokens.Tokenizer.from_json_str(tokenizer_json.decode())
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """See Engine."""
        with engine_errors(f"fastokens {self.version} failed on a text"):
            ids, offsets = self._tokenizer.encode_batch_flat(list(texts), split_special_tokens=True)
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64).astype(np.int64)
