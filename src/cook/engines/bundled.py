"""Presets: the vocabularies that splintr bundles and that give the ids of the model's own tokenizer.json.

They need no network. What is written here beside a name cannot be had from the engine: the special tokens that it does
not list (Llama 3 has 256), and a fingerprint of the vocabulary, which is checked when it is loaded for reference.
`tokenizer_json` rebuilds the model's tokenizer.json from the bundled ranks or pieces, for engines that need one:
vocabulary, merges and pattern are equal to those that Hugging Face's converter makes of the model's own files.

`lean` leaves out merges that never happen, more than half of Llama 3's, for an engine that is slow to load. What
merges to a token is always merged in the same way: until it is one, nothing crosses its borders, so its letters merge
as if they stood alone, and one merge alone comes last. `last_merges` plays that through; `merges.npz`, made by
`scripts/renew_probe.py`, keeps where each token's last merge joins.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson


@dataclasses.dataclass(frozen=True)
class Preset:
    """A tokenizer that works offline."""

    name: str
    aliases: tuple[str, ...]
    models: str  # for people: what it fits
    bundled: str  # splintr's name for it
    plain: int  # ids below this are the vocabulary without special tokens, but for a SentencePiece head
    vocab_size: int
    bos: str
    eos: str
    specials: tuple[tuple[str, int], ...]
    fingerprint: str  # see `vocabulary_fingerprint`


def _llama3_specials() -> tuple[tuple[str, int], ...]:
    """The 256 special tokens of Llama 3, as in Meta's llama-models package (llama3/tokenizer.py)."""
    named = (
        "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
        "<|eot_id|>", "<|python_tag|>",
    )  # fmt: skip
    reserved = tuple(f"<|reserved_special_token_{i + 2}|>" for i in range(256 - len(named)))
    return tuple((token, 128_000 + i) for i, token in enumerate(named + reserved))


SENTENCEPIECE_SPECIALS = (("<unk>", 0), ("<s>", 1), ("</s>", 2))

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "llama3", ("llama3.1", "llama3.2", "llama3.3"), "Llama 3, 3.1, 3.2, 3.3", "llama3", 128_000, 128_256,
            "<|begin_of_text|>", "<|end_of_text|>", _llama3_specials(),
            "affbe8250adf15f2f48617202fe432c99d288a7ae822781111a1f99643e830f0",
        ),
        Preset(
            "llama2", (), "Llama 2, and models with its tokenizer", "llama2", 32_000, 32_000,
            "<s>", "</s>", SENTENCEPIECE_SPECIALS, "198a835c778ea6038f83108afb7cc680e74754df5bb7f9d5be8fd34f93c1b60c",
        ),
        Preset(
            "mistral", (), "Mistral 7B v0.1 and v0.2", "mistral_v1", 32_000, 32_000,
            "<s>", "</s>", SENTENCEPIECE_SPECIALS, "0412156f4f5993a27ab0f4dbd2bf9d540fe63fb3b8625ab7c62d1975125d30a2",
        ),
    )
}  # fmt: skip


def find_preset(name: str) -> Preset | None:
    """The preset of that name or alias, without regard to case."""
    name = name.lower()
    return next((p for p in PRESETS.values() if name == p.name or name in p.aliases), None)


@cache
def plain_tokens(preset: Preset) -> list[bytes]:
    """The bytes of each token of a preset that is no special one, in the order of ids."""
    import splintr

    token_bytes = splintr.Tokenizer.from_pretrained(preset.bundled).decode_token_bytes
    return [token_bytes(i) for i in range(preset.plain)]


def vocabulary_fingerprint(preset: Preset) -> str:
    """sha256 over what determines ids: each token's length and bytes in the order of ids, then the special tokens."""
    digest = hashlib.sha256(f"cook preset {preset.name} 1\n".encode())
    for token in plain_tokens(preset):
        digest.update(len(token).to_bytes(4, "little") + token)
    digest.update(orjson.dumps(preset.specials))
    return digest.hexdigest()


def tokenizer_json(preset: Preset, lean: bool = False) -> bytes:
    """The tokenizer.json of a preset, without a post-processor. Takes a second; `lean`, a third of that."""
    import splintr

    tokens = plain_tokens(preset)
    cuts = bundled_cuts(preset) if lean else None
    if preset.name == "llama3":
        built = byte_level_json(tokens, splintr.LLAMA3_PATTERN, preset.specials, ignore_merges=True, cuts=cuts)
    else:
        built = sentencepiece_json(tokens, cuts)
    if lean:  # what only encodes ordinary text needs neither
        built |= {"added_tokens": [], "decoder": None}
    return orjson.dumps(built)


def bundled_cuts(preset: Preset) -> list[int]:
    """What `last_merges` gives for a preset's plain tokens."""
    with (
        resources.files("cook.engines").joinpath("merges.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return arrays[preset.name][: preset.plain].tolist()  # type: ignore[no-any-return]


def last_merges(document: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """For each token, by id, how many letters the left side of the merge that makes it has; 0 where none does."""
    model = document["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    cuts = np.zeros(max(model["vocab"].values()) + 1, np.uint8)
    for token, i in model["vocab"].items():
        pieces, never = list(token), len(ranks)
        while len(pieces) > 1:
            rank, at = min((ranks.get(pair, never), at) for at, pair in enumerate(itertools.pairwise(pieces)))
            if rank == never:
                break
            if len(pieces) == 2:
                cuts[i] = len(pieces[0])
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return cuts


def _halves(token: Any, ranks: dict[Any, int]) -> list[tuple[int, int]]:
    """The ranks of every two tokens that join to `token`, which is text or bytes, in the order that merges stand in."""
    cuts = range(1, len(token))
    halves = [(ranks[token[:cut]], ranks[token[cut:]]) for cut in cuts if token[:cut] in ranks and token[cut:] in ranks]
    return sorted(halves)


def _kept_merges(names: Iterable[str], cuts: Iterable[int]) -> list[str]:
    """Each token's one merge, as older files of this kind have it: both sides in one string."""
    return [f"{name[:cut]} {name[cut:]}" for name, cut in zip(names, cuts, strict=True) if cut]


def byte_level_json(
    tokens: list[bytes],
    pattern: str,
    specials: tuple[tuple[str, int], ...],
    normalizer: dict[str, Any] | None = None,
    ignore_merges: bool = False,
    cuts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.json from tokens in the order of their ranks."""
    letters = byte_letters()
    names = [token.decode("latin-1").translate(letters) for token in tokens]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if cuts is None:
        merges: list[Any] = [[names[left], names[right]] for token in tokens for left, right in _halves(token, ranks)]
    else:
        merges = _kept_merges(names, cuts)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return _document(
        specials,
        normalizer=normalizer,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model=_bpe({name: rank for rank, name in enumerate(names)}, merges, ignore_merges=ignore_merges),
    )


def sentencepiece_json(tokens: list[bytes], cuts: Sequence[int] | None = None) -> dict[str, Any]:
    """The tokenizer.json of a Llama-2-like SentencePiece BPE vocabulary: <unk> <s> </s>, 256 bytes, then pieces."""
    names = [token for token, _ in SENTENCEPIECE_SPECIALS]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    names += [token.decode().replace(" ", "▁") for token in tokens[len(names) :]]
    ranks = {name: rank for rank, name in enumerate(names)}
    # Pieces stand in the order of their scores, but for runs of spaces, whose score is the lowest of all.
    pieces = sorted(names[259:], key=lambda name: len(name) > 1 and not name.strip("▁"))
    if cuts is None:
        merges: list[Any] = [[names[left], names[right]] for name in pieces for left, right in _halves(name, ranks)]
    else:
        merges = _kept_merges(pieces, (cuts[ranks[name]] for name in pieces))
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
