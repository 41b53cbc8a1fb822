"""Presets: tokenizers that need no network, since splintr bundles their vocabularies.

What is written here beside a name cannot be had from splintr: the special tokens that it does not list (Llama 3 has
256), and a fingerprint of the vocabulary, which is checked when it is loaded for reference. `engines.bundled` makes the
model's own tokenizer.json of one.

Nothing that is slow to import is, so that the command can begin to load a vocabulary before all else.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import splintr


class Preset(NamedTuple):
    """A tokenizer that works offline."""

    name: str
    aliases: tuple[str, ...]
    models: str  # for people: what it fits
    splintr_name: str  # splintr's name for it
    plain_size: int  # ids below this are the vocabulary without special tokens, but for a SentencePiece head
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


_vocabularies: dict[str, splintr.AnyTokenizer] = {}
_load_lock = threading.Lock()
WARM_UP_TEXT = "zyzzyva"  # no token of any vocabulary, so that it is merged of letters


def load_vocabulary(preset: Preset) -> splintr.AnyTokenizer:
    """The bundled vocabulary of a preset, ready to encode; loaded once a process."""
    with _load_lock:
        if preset.name not in _vocabularies:
            import splintr

            found = splintr.Tokenizer.from_pretrained(preset.splintr_name)
            # The first text that has to be merged makes the table of merges, in 0.1 s; a batch lets other threads run,
            # and a small one starts none.
            found.encode_batch_flat([WARM_UP_TEXT])
            _vocabularies[preset.name] = found
        return _vocabularies[preset.name]
