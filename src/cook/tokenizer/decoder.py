"""Token ids -> the bytes of their text, many texts at once, by a table of each token's bytes.

Known are byte-level vocabularies, and SentencePiece ones with their "▁" and byte tokens, bundled or in a
tokenizer.json; of others the pieces, as WordPiece has them. What a tokenizer puts before a text is learnt by asking its
engine. Where a tokenizer normalises text, what is decoded is the normalised text: whoever compares must be ready for
it (`Decoder.holds`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.core.arrays import offsets as run_offsets
from cook.core.errors import TokenizerError
from cook.tokenizer.engine import Engine
from cook.tokenizer.engines.bundled import byte_letters, plain_tokens
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.loading import Tokenizer, reference_engine, tokenizer_document
from cook.tokenizer.presets import PRESETS

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Sizes = npt.NDArray[np.int64]
SPACE = "▁"
UNKNOWN_BYTE = b"\xff"  # stands for the unknown: in no UTF-8
UNKNOWN_CHAR = UNKNOWN_BYTE.decode(errors="surrogateescape")
PLAIN_TEXTS = (
    "The cup, the lamp",
    " a  b",
    "two\n\nlines\tof 12.5% it!",
    "end ",
)  # texts that no tokenizer takes for others


class Decoder:
    """Decodes for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._table = _token_table(tokenizer)
        self._tokenizer = tokenizer
        self._prefix_bytes = {}
        for text in ("a", " a"):
            try:
                ids, _ = engine.encode([text])
            except TokenizerError:  # it refuses text that it lacks, this too
                ids = np.empty(0, np.uint32)
            decoded = self.decode(ids)[0].tobytes()
            self._prefix_bytes[text[0] == " "] = (
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
        return decoded, np.diff(bounds[run_offsets(sizes)]).astype(np.int64)

    def expected_bytes(self, text: str) -> bytes:
        """What the ids of a text are to decode to."""
        return (self._prefix_bytes[text[:1] == " "] if text else b"") + text.encode()

    def matches(self, decoded: Bytes, sizes: Sizes, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of the decoded texts are these texts, byte for byte."""
        expected = (
            [self.expected_bytes(text) for text in texts]
            if any(self._prefix_bytes.values())
            else [*map(str.encode, texts)]
        )
        if decoded.tobytes() == b"".join(expected) and sizes.tolist() == [len(text) for text in expected]:
            return np.ones(len(texts), bool)
        ends = np.cumsum(sizes).tolist()
        raw = decoded.tobytes()
        pieces = zip([0, *ends], ends, expected, strict=False)
        return np.array([raw[begin:end] == text for begin, end, text in pieces], bool)

    def matches_text(self, decoded: bytes, text: str) -> bool:
        """Whether decoded ids are a text, byte for byte, or hold its normal form."""
        return decoded == self.expected_bytes(text) or self.contains_text(decoded, text)

    def contains_text(self, decoded: bytes, text: str) -> bool:
        """Whether the decoded ids of a text hold it, in the normal form that the tokenizer declares.

        A text's white space must be there if the tokenizer keeps any; more may be, that the tokenizer adds. What stands
        in the text for an unknown token, and characters that the tokenizer has no token for, are not compared.
        """
        if self._keeps_spaces is None:  # this vocabulary's pieces do not tell its texts
            return True
        found, normal = (
            _with_spaces(decoded.decode(errors="surrogateescape")),
            _with_spaces(self._reference.normalize(text)),
        )
        if (
            self._keeps_spaces
            and UNKNOWN_CHAR not in found
            and sum(map(str.isspace, found)) < sum(map(str.isspace, normal))
        ):
            return False
        found, normal = "".join(found.split()), "".join(normal.split())
        if _matches_with_gaps(found, normal):
            return True
        if self._tokenizer.covers_all_text:
            return False
        lost = dict.fromkeys(map(ord, self._reference.uncovered_chars([text], self._tokenizer.unk_id)))
        return bool(lost) and _matches_with_gaps(found.translate(lost), normal.translate(lost))

    def contains_truncated(self, decoded: bytes, text: str, around: Sequence[str]) -> bool:
        """Whether decoded ids hold one head of a text between each two of these strings, in the normal form."""
        if self._keeps_spaces is None:
            return True
        texts = (decoded.decode(errors="surrogateescape"), *map(self._reference.normalize, (text, *around)))
        given = ["".join(_with_spaces(each).split()) for each in texts]
        if _is_framed_head(*given):
            return True
        if self._tokenizer.covers_all_text:
            return False
        lost = "".join(self._reference.uncovered_chars([text, *around], self._tokenizer.unk_id))
        gone = dict.fromkeys(map(ord, lost + self._reference.normalize(lost)))
        return bool(lost) and _is_framed_head(*(each.translate(gone) for each in given))

    @cached_property
    def _reference(self) -> HfEngine:
        return reference_engine(self._tokenizer)

    @cached_property
    def _keeps_spaces(self) -> bool | None:
        """Whether the tokenizer keeps white space; None where its pieces do not tell its texts."""
        try:
            ids, offsets = self._reference.encode(PLAIN_TEXTS)
        except TokenizerError:  # it refuses text that it lacks
            return None
        raw, sizes = self.decode(ids, np.diff(offsets))
        ends = np.cumsum(sizes).tolist()
        texts = [_with_spaces(raw[a:b].tobytes().decode(errors="surrogateescape")) for a, b in pairwise([0, *ends])]
        normal = [_with_spaces(self._reference.normalize(text)) for text in PLAIN_TEXTS]
        if not all(
            _matches_with_gaps("".join(a.split()), "".join(b.split())) for a, b in zip(texts, normal, strict=True)
        ):
            return None
        return sum(map(str.isspace, texts[0])) >= sum(map(str.isspace, normal[0]))  # between words, if anywhere


def _with_spaces(text: str) -> str:
    return text.replace(SPACE, " ")


def _is_framed_head(found: str, whole: str, first: str, *others: str) -> bool:
    """Whether what was found is one head of the whole between each two of the others, where gaps may be."""
    begin, *ends = (f"{UNKNOWN_CHAR}*".join(map(re.escape, each)) for each in (first, *others))
    some = f"{UNKNOWN_CHAR}*?"  # lazy: the head has those at its borders
    heads = f"{some}(.*){some}" + rf"{some}\1{some}".join(ends)
    head = re.fullmatch(f"{some}{begin}{heads}{some}", found, re.DOTALL)
    return head is not None and _matches_with_gaps(head[1] + UNKNOWN_CHAR, whole)


def _matches_with_gaps(found: str, text: str) -> bool:
    """Whether a text is what was found, where gaps may stand for anything."""
    first, *others = found.split(UNKNOWN_CHAR)
    if not others or not text.startswith(first):
        return found == text
    at = len(first)
    for part in others[:-1]:
        at = text.find(part, at) + len(part)
        if at < len(part):
            return False
    return text.endswith(others[-1]) and len(text) - len(others[-1]) >= at


@lru_cache(maxsize=4)
def _token_table(tokenizer: Tokenizer) -> pa.BinaryArray:
    """The bytes of every token, in the order of ids; then none, for what is no id."""
    import pyarrow as pa

    tokens = [*_token_bytes(tokenizer), b""]
    ends = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    # From buffers: pa.array imports pandas where there is one, which takes 0.3 s.
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(tokens))]
    return pa.BinaryArray.from_buffers(pa.binary(), len(tokens), buffers)


def _token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token, in the order of ids; empty where there is none, or it is special."""
    if tokenizer.preset:
        preset = PRESETS[tokenizer.preset]
        return plain_tokens(preset) + [b""] * (preset.vocab_size - preset.plain_size)
    document = orjson.loads(tokenizer_document(tokenizer))
    vocab = document["model"]["vocab"]
    pieces = ((piece, i) for i, (piece, _) in enumerate(vocab)) if isinstance(vocab, list) else vocab.items()
    letters, model = _byte_alphabet(document), document["model"]
    prefix, suffix = (model.get(f"{part}_{part_of}") or "" for part, part_of in AFFIXES)
    tokens = [b""] * tokenizer.vocab_size
    for piece, i in pieces:
        tokens[i] = _bytes_of(piece.removeprefix(prefix).removesuffix(suffix), letters)
    for added in document.get("added_tokens") or ():
        tokens[added["id"]] = added["content"].encode()
    for _, i in tokenizer.specials:
        tokens[i] = b""
    if tokenizer.unk_id is not None:
        tokens[tokenizer.unk_id] = UNKNOWN_BYTE
    return tokens


AFFIXES = (("continuing_subword", "prefix"), ("end_of_word", "suffix"))


def _byte_alphabet(document: dict[str, Any]) -> dict[str, int] | None:
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
