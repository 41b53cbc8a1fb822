"""The decode check: ids must decode to their text, byte for byte, by a table of each token's bytes.

The table does not use the encoder. A text that cannot decode to itself (NFC, SentencePiece's "▁", unknown characters)
must decode to its normal form, and its ids must be those of the reference engine.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cook.shapes.protocol import Shape, SplitResult
from cook.tokenizer.decoder import Decoder
from cook.tokenizer.engine import Ids, Offsets
from cook.tokenizer.loading import Tokenizer, load_engine, reference_engine

EXCERPT_CHARS = 60  # bytes of a text that a finding shows


@functools.lru_cache(maxsize=4)
def cached_decoder(tokenizer: Tokenizer) -> Decoder:
    """The decoder of a tokenizer, made once a process."""
    return Decoder(tokenizer, load_engine(tokenizer))


def find_decode_errors(tokenizer: Tokenizer, texts: Sequence[str], ids: Ids, offsets: Offsets) -> dict[int, str]:
    """Texts whose ids are wrong: the index of each, and the difference in words."""
    decoder = cached_decoder(tokenizer)
    decoded, sizes = decoder.decode(ids, np.diff(offsets))
    suspects = np.flatnonzero(~decoder.matches(decoded, sizes, texts)).tolist()
    if not suspects:
        return {}
    right, bounds = reference_engine(tokenizer).encode([texts[at] for at in suspects])
    ends, found = np.cumsum(sizes), {}
    for number, at in enumerate(suspects):
        own_ids = ids[offsets[at] : offsets[at + 1]]
        reads, text = decoded[ends[at] - sizes[at] : ends[at]].tobytes(), decoder.expected_bytes(texts[at])
        if not (
            np.array_equal(own_ids, right[bounds[number] : bounds[number + 1]])
            and decoder.contains_text(reads, texts[at])
        ):
            found[at] = f"is encoded as what reads {excerpt(reads, text)}; expected {excerpt(text, reads)}"
    return found


def find_split_decode_errors(
    shape: Shape, tokenizer: Tokenizer, records: Sequence[Any], split_results: Sequence[SplitResult]
) -> list[tuple[int, str]]:
    """Over-long records whose pieces do not read as the record: the line of each, and what is wrong."""
    decoder = cached_decoder(tokenizer)
    arrays = [ids for split_result in split_results for piece in split_result.examples for ids in piece.text_ids]
    decoded, sizes = decoder.decode(
        np.concatenate([np.empty(0, np.uint32), *arrays]), np.array([*map(len, arrays)], int)
    )
    raw, ends = decoded.tobytes(), np.cumsum(sizes).tolist()
    texts = (raw[begin:end] for begin, end in zip([0, *ends], ends, strict=False))
    found = []
    for record, split_result in zip(records, split_results, strict=True):
        of_pieces = [[*itertools.islice(texts, len(piece.text_ids))] for piece in split_result.examples]
        if not shape.round_trips(record, split_result, of_pieces, decoder):
            found.append((record.line, "its examples do not read as the pairs of its entry with their context"))
    return found


def excerpt(text: bytes, other: bytes | None = None) -> str:
    """A quoted excerpt of a text, from shortly before its first difference from `other`."""
    begin = 0
    if other is not None:
        size = min(len(text), len(other))
        unlike = np.flatnonzero(np.frombuffer(text[:size], np.uint8) != np.frombuffer(other[:size], np.uint8))
        begin = max(0, (int(unlike[0]) if len(unlike) else size) - EXCERPT_CHARS // 3)
    part = text[begin : begin + EXCERPT_CHARS].decode(errors="replace")
    return (
        ("…" if begin else "")
        + json.dumps(part, ensure_ascii=False)
        + ("…" if begin + EXCERPT_CHARS < len(text) else "")
    )
