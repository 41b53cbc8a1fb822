"""The reference, for tests: Hugging Face tokenizers on the tokenizer.json of four models.

The files are rebuilt from the vocabularies that splintr bundles: for llama3 the result equals what Hugging Face's own
converter makes of Meta's files, for the others the ids of `data/golden` were computed with the models' own files.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import orjson
import splintr

from cook.tokenizer.engines.bundled import byte_level_json, tokenizer_json
from cook.tokenizer.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Model:
    """What a test needs to know of a model's tokenizer."""

    name: str
    bos: str | None
    bos_ids: list[int]
    eos: str
    eos_id: int


MODELS = {
    model.name: model
    for model in (
        Model("llama3", "<|begin_of_text|>", [128000], "<|end_of_text|>", 128001),
        Model("llama2", "<s>", [1], "</s>", 2),
        Model("mistral", "<s>", [1], "</s>", 2),
        Model("qwen3", None, [], "<|endoftext|>", 151643),
    )
}


def model_json(name: str) -> bytes:
    """The tokenizer.json of one of MODELS."""
    if name in PRESETS:
        return tokenizer_json(PRESETS[name])
    bundled = splintr.Tokenizer.from_pretrained("qwen3")
    tokens = [bundled.decode_token_bytes(i) for i in range(151643)]
    own = sorted((i, token) for token, i in bundled.special_tokens().items() if i < splintr.base_vocab_size("qwen3"))
    specials = tuple((token, i) for i, token in own)
    return orjson.dumps(byte_level_json(tokens, splintr.QWEN2_PATTERN, specials, normalizer={"type": "NFC"}))


def write_model(folder: Path, name: str) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json, as a model's repository has them."""
    model = MODELS[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(model_json(name))
    config = {"bos_token": model.bos, "eos_token": {"content": model.eos, "__type": "AddedToken"}, "pad_token": None}
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    return folder
