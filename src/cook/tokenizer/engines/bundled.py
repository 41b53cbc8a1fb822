"""The tokenizer.json of a preset, for engines that need one.

`tokenizer_json` rebuilds it from the bundled ranks or pieces: vocabulary, merges and pattern are equal to those that
Hugging Face's converter makes of the model's own files.

`prune_merges` leaves out merges that never happen, more than half of Llama 3's, for an engine that is slow to load.
What merges to a token is always merged in the same way: until it is one, nothing crosses its borders, so its letters
merge as if they stood alone, and one merge alone comes last. `final_merge_positions` plays that through; `merges.npz`,
made by `scripts/renew.py probe`, keeps where each token's last merge joins.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.tokenizer.presets import SENTENCEPIECE_SPECIALS, Preset, load_vocabulary


@cache
def plain_tokens(preset: Preset) -> list[bytes]:
    """The bytes of each token of a preset that is no special one, in the order of ids."""
    token_bytes = load_vocabulary(preset).decode_token_bytes
    return [token_bytes(i) for i in range(preset.plain_size)]


def vocabulary_fingerprint(preset: Preset) -> str:
    """sha256 over what determines ids: each token's length and bytes in the order of ids, then the special tokens."""
    digest = hashlib.sha256(f"cook preset {preset.name} 1\n".encode())
    for token in plain_tokens(preset):
        digest.update(len(token).to_bytes(4, "little") + token)
    digest.update(orjson.dumps(preset.specials))
    return digest.hexdigest()


def tokenizer_json(preset: Preset, prune_merges: bool = False) -> bytes:
    """The tokenizer.json of a preset, without a post-processor. Takes a second; `prune_merges`, a third of that."""
    import splintr

    tokens = plain_tokens(preset)
    merge_positions = stored_merge_positions(preset) if prune_merges else None
    if preset.name == "llama3":
        built = byte_level_json(
            tokens, splintr.LLAMA3_PATTERN, preset.specials, ignore_merges=True, merge_positions=merge_positions
        )
    else:
        built = sentencepiece_json(tokens, merge_positions)
    if prune_merges:  # what only encodes ordinary text needs neither
        built |= {"added_tokens": [], "decoder": None}
    return orjson.dumps(built)


def stored_merge_positions(preset: Preset) -> list[int]:
    """What `final_merge_positions` gives for a preset's plain tokens."""
    with np.load(Path(__file__).with_name("merges.npz"), allow_pickle=False) as arrays:
        return arrays[preset.name][: preset.plain_size].tolist()  # type: ignore[no-any-return]


def final_merge_positions(document: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """For each token, by id, how many letters the left side of the merge that makes it has; 0 where none does."""
    model = document["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    positions = np.zeros(max(model["vocab"].values()) + 1, np.uint8)
    for token, i in model["vocab"].items():
        pieces, never = list(token), len(ranks)
        while len(pieces) > 1:
            rank, at = min((ranks.get(pair, never), at) for at, pair in enumerate(itertools.pairwise(pieces)))
            if rank == never:
                break
            if len(pieces) == 2:
                positions[i] = len(pieces[0])
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return positions


def _merge_pairs(token: Any, ranks: dict[Any, int]) -> list[tuple[int, int]]:
    """The ranks of every two tokens that join to `token`, which is text or bytes, in the order that merges stand in."""
    cuts = range(1, len(token))
    halves = [(ranks[token[:cut]], ranks[token[cut:]]) for cut in cuts if token[:cut] in ranks and token[cut:] in ranks]
    return sorted(halves)


def _final_merges(names: Iterable[str], merge_positions: Iterable[int]) -> list[str]:
    """Each token's one merge, as older files of this kind have it: both sides in one string."""
    return [f"{name[:cut]} {name[cut:]}" for name, cut in zip(names, merge_positions, strict=True) if cut]


def byte_level_json(
    tokens: list[bytes],
    pattern: str,
    specials: tuple[tuple[str, int], ...],
    normalizer: dict[str, Any] | None = None,
    ignore_merges: bool = False,
    merge_positions: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.json from tokens in the order of their ranks."""
    letters = byte_letters()
    names = [token.decode("latin-1").translate(letters) for token in tokens]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if merge_positions is None:
        merges: list[Any] = [
            [names[left], names[right]] for token in tokens for left, right in _merge_pairs(token, ranks)
        ]
    else:
        merges = _final_merges(names, merge_positions)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return _document(
        specials,
        normalizer=normalizer,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model=_bpe({name: rank for rank, name in enumerate(names)}, merges, ignore_merges=ignore_merges),
    )


def sentencepiece_json(tokens: list[bytes], merge_positions: Sequence[int] | None = None) -> dict[str, Any]:
    """The tokenizer.json of a Llama-2-like SentencePiece BPE vocabulary: <unk> <s> </s>, 256 bytes, then pieces."""
    names = [token for token, _ in SENTENCEPIECE_SPECIALS]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    names += [token.decode().replace(" ", "▁") for token in tokens[len(names) :]]
    ranks = {name: rank for rank, name in enumerate(names)}
    # Pieces stand in the order of their scores, but for runs of spaces, whose score is the lowest of all.
    pieces = sorted(names[259:], key=lambda name: len(name) > 1 and not name.strip("▁"))
    if merge_positions is None:
        merges: list[Any] = [
            [names[left], names[right]] for name in pieces for left, right in _merge_pairs(name, ranks)
        ]
    else:
        merges = _final_merges(pieces, (merge_positions[ranks[name]] for name in pieces))
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return _document(
        SENTENCEPIECE_SPECIALS,
        normalizer={"type": "Sequence", "normalizers": [prepend, replace]},
        pre_tokenizer=None,
        decoder=None,
        model=_bpe(ranks, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),  # noqa: S106
    )


def _document(specials: tuple[tuple[str, int], ...], **parts: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": i, "content": token, **flags, "special": True} for token, i in specials]
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    return head | parts


def _bpe(vocab: dict[str, int], merges: list[Any], **settings: Any) -> dict[str, Any]:
    model: dict[str, Any] = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    model |= dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    return {"type": "BPE", **model, **settings, "vocab": vocab, "merges": merges}


def byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in byte-level vocabularies (GPT-2, encoder.py)."""

    def printable() -> Iterator[int]:
        yield from range(ord("!"), ord("~") + 1)
        yield from range(ord("¡"), ord("¬") + 1)
        yield from range(ord("®"), ord("ÿ") + 1)

    letters = {byte: chr(byte) for byte in printable()}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + n) for n, byte in enumerate(others)}
