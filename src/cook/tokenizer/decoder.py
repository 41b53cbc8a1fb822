"""Token ids -> the bytes of their text, many texts at once, by a table of each token's bytes.

Known are byte-level vocabularies, and SentencePiece ones with their "▁" and byte tokens, bundled or in a
tokenizer.json. What a tokenizer puts before a text is learnt by asking its engine. Where a tokenizer normalises text,
what is decoded is the normalised text: whoever compares must be ready for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.tokenizer.engine import Engine
from cook.tokenizer.engines.bundled import byte_letters, plain_tokens
from cook.tokenizer.loading import Tokenizer, tokenizer_document
from cook.tokenizer.presets import PRESETS

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Sizes = npt.NDArray[np.int64]
SPACE = "▁"


class Decoder:
    """Decodes for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._table = _table(tokenizer)
        self._leads = {}
        for text in ("a", " a"):
            ids, _ = engine.encode([text])
            decoded = self.decode(ids)[0].tobytes()
            self._leads[text[0] == " "] = (
                decoded.removesuffix(text.encode()) if decoded.endswith(text.encode()) else b""
            )

    def decode(self, ids: npt.NDArray[Any], sizes: Sizes | None = None) -> tuple[Bytes, Sizes]:
        """The bytes of texts of so many ids, one after the other, and how many each has."""
        import pyarrow as pa

        ids = np.minimum(ids.astype(np.uint32), len(self._table) - 1)  # what is no id of the vocabulary has no text
        chosen = self._table.take(pa.Array.from_buffers(pa.uint32(), len(ids), [None, pa.py_buffer(ids)]))
        _, offsets, data = chosen.buffers()
        bounds = np.frombuffer(offsets, np.int32)[: len(ids) + 1]
        decoded = np.frombuffer(data or b"", np.uint8)[: bounds[-1] if len(ids) else 0]
        if sizes is None:
            return decoded, np.array([len(decoded)])
        return decoded, np.diff(bounds[np.concatenate([[0], np.cumsum(sizes)])]).astype(np.int64)

    def text(self, text: str) -> bytes:
        """What the ids of a text are to decode to."""
        return (self._leads[text[:1] == " "] if text else b"") + text.encode()

    def reads(self, decoded: Bytes, sizes: Sizes, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of the decoded texts are these texts, byte for byte."""
        expected = [self.text(text) for text in texts] if any(self._leads.values()) else [*map(str.encode, texts)]
        if decoded.tobytes() == b"".join(expected) and sizes.tolist() == [len(text) for text in expected]:
            return np.ones(len(texts), bool)
        ends = np.cumsum(sizes).tolist()
        raw = decoded.tobytes()
        pieces = zip([0, *ends], ends, expected, strict=False)
        return np.array([raw[begin:end] == text for begin, end, text in pieces], bool)


@lru_cache(maxsize=4)
def _table(tokenizer: Tokenizer) -> pa.BinaryArray:
    """The bytes of every token, in the order of ids; then none, for what is no id."""
    import pyarrow as pa

    return pa.array([*_tokens(tokenizer), b""], pa.binary())


def _tokens(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token, in the order of ids; empty where there is none, or it is special."""
    if tokenizer.preset:
        preset = PRESETS[tokenizer.preset]
        return plain_tokens(preset) + [b""] * (preset.vocab_size - preset.plain)
    document = orjson.loads(tokenizer_document(tokenizer))
    vocab = document["model"]["vocab"]
    if isinstance(vocab, list):
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    letters = _letters(document)
    tokens = [b""] * tokenizer.vocab_size
    for piece, i in vocab.items():
        tokens[i] = _bytes_of(piece, letters)
    for added in document.get("added_tokens") or ():
        tokens[added["id"]] = b"" if added.get("special") else added["content"].encode()
    return tokens


def _letters(document: dict[str, Any]) -> dict[str, int] | None:
    """The letters that stand for bytes, where the tokenizer is a byte-level one."""
    if '"ByteLevel"' not in orjson.dumps([document.get("pre_tokenizer"), document.get("decoder")]).decode():
        return None
    return {letter: byte for byte, letter in byte_letters().items()}


def _bytes_of(piece: str, letters: dict[str, int] | None) -> bytes:
    if letters is not None:
        try:
            return bytes([letters[letter] for letter in piece])
        except KeyError:
            return piece.encode()
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes([int(byte[1], 16)])
    return piece.replace(SPACE, " ").encode()
