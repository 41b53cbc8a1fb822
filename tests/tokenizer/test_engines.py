"""Engines: the ids of the reference, for every tokenizer, whatever the text."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED
from cook.core.errors import TokenizerError
from cook.core.recipe import Recipe
from cook.shapes.formatter import Formatter
from cook.tokenizer.engine import Engine
from cook.tokenizer.engines import probe
from cook.tokenizer.engines.bundled import (
    final_merge_positions,
    stored_merge_positions,
    tokenizer_json,
    vocabulary_fingerprint,
)
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.engines.splintr import SplintrEngine
from cook.tokenizer.loading import load_engine, resolve_tokenizer
from cook.tokenizer.presets import PRESETS, find_preset
from reference import MODELS, model_json

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FORMAT = Formatter(Recipe(datasets="squad", tokenizer="llama3"))


@functools.cache
def reference(name: str) -> HfEngine:
    return HfEngine(model_json(name))


def engine(name: str, models: dict[str, Path]) -> Engine:
    return resolved(name if name in PRESETS else str(models[name]))


@functools.cache
def resolved(tokenizer: str) -> Engine:
    return load_engine(resolve_tokenizer(Recipe(datasets="squad", tokenizer=tokenizer)))


@functools.cache
def fast(name: str) -> tuple[Engine, ...]:
    """fastokens, where it is installed."""
    if importlib.util.find_spec("fastokens") is None:
        return ()
    from cook.tokenizer.engines.fastokens import FastokensEngine

    return FastokensEngine(model_json(name)), *map(FastokensEngine, lean(name))


def lean(name: str) -> tuple[bytes, ...]:
    """A preset's tokenizer.json without the merges that never happen."""
    return (tokenizer_json(PRESETS[name], prune_merges=True),) if name in PRESETS else ()


lean_reference = functools.cache(lambda name: tuple(map(HfEngine, lean(name))))


bundled = functools.cache(lambda name: SplintrEngine.from_preset(PRESETS[name]))


def check(found, rows: list[tuple[str, list[int], list[int]]], name: str) -> None:
    """Texts of one batch and of one call each get the ids expected."""
    model = MODELS[name]
    texts = [text for text, _, _ in rows]
    ids, offsets = found.encode(texts)
    assert (ids.dtype, offsets.dtype) == (np.uint32, np.int64)
    for row, (text, before, after) in enumerate(rows):
        batch = ids[offsets[row] : offsets[row + 1]].tolist()
        assert batch == found.encode([text])[0].tolist()
        head, tail = (model.bos_ids, []) if before else ([], [model.eos_id])
        assert head + batch + tail == before + after


def vectors(entries: Path, ids: Path) -> list[tuple[str, list[int], list[int]]]:
    rows = []
    for entry, row in zip(*(map(orjson.loads, path.read_bytes().splitlines()) for path in (entries, ids)), strict=True):
        pairs = [(pair["Q"], pair["A"]) for pair in entry["QA_list"]]
        rows.append((FORMAT.input_text(entry["context"]), row["input_ids"], []))
        rows.append((FORMAT.output_text(pairs), [], row["output_ids"]))
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_golden_ids(name, models):
    rows = vectors(GOLDEN / "entries.jsonl", GOLDEN / f"{name}.jsonl")
    assert len(rows) == 2 * 26
    check(engine(name, models), rows, name)
    check(reference(name), rows, name)


@pytest.mark.skipif(not (SHARED / "vectors").is_dir(), reason="the shared vectors are not here")
@pytest.mark.parametrize("name", MODELS)
def test_shared_vectors(name, models):
    path = SHARED / "vectors" / f"{name}.jsonl"
    rows = vectors(path, path)
    assert len(rows) == 2 * 88
    check(engine(name, models), rows, name)


def test_the_fast_engine_is_trusted_for_all_four(models):
    for name, path in models.items():
        assert (
            resolve_tokenizer(Recipe(datasets="squad", tokenizer=name if name in PRESETS else str(path))).engine
            == "splintr"
        )


@pytest.mark.parametrize("name", PRESETS)
def test_fingerprints_are_those_of_the_vocabularies(name):
    assert vocabulary_fingerprint(PRESETS[name]) == PRESETS[name].fingerprint


@pytest.mark.parametrize("name", PRESETS)
def test_probe_ids_are_those_of_the_reference(name):
    assert probe.known_ids(name) == probe.probe_ids(reference(name))


@pytest.mark.parametrize("name", PRESETS)
def test_the_merges_kept_are_the_last_of_each_token(name):
    full, kept = orjson.loads(model_json(name)), orjson.loads(*lean(name))
    assert stored_merge_positions(PRESETS[name]) == final_merge_positions(full)[: PRESETS[name].plain_size].tolist()
    assert kept["model"]["vocab"] == full["model"]["vocab"]
    in_full = iter(" ".join(pair) for pair in full["model"]["merges"])
    assert all(merge in in_full for merge in kept["model"]["merges"])  # in the same order


def pieces() -> st.SearchStrategy[str]:
    """Pieces that tell tokenizers apart: specials of all presets, agent tokens, spaces, digits, scripts, anything."""
    specials = [token for preset in PRESETS.values() for token, _ in preset.specials[:16]]
    agents = ["<|user|>", "<|think|>", "<|/think|>", "<|pad|>", "<|im_start|>", "<|", "|>", "<s", "s>"]
    common = [
        " ",
        "  ",
        "\n",
        "\n\n",
        " \n ",
        "\t",
        "'s",
        "1",
        "1234",
        "é",
        "e\u0301",
        "▁",
        "日本",
        "👩‍👩‍👧",
        "\x00",
        "\r\n",
        "ß",
    ]
    any_text = st.text(st.characters(codec="utf-8"), max_size=8)
    return (
        st.sampled_from(specials + agents + common)
        | any_text
        | st.sampled_from(["the", " and", "Word", "end.", "x" * 20])
    )


@settings(max_examples=150)
@given(st.lists(st.lists(pieces(), max_size=12).map("".join), max_size=4))
@pytest.mark.parametrize("name", MODELS)
def test_every_engine_gives_the_ids_of_the_reference(name, models, texts):
    known, known_offsets = reference(name).encode(texts)
    for made in (
        engine(name, models),
        resolved(str(models[name])),
        *fast(name),
        *lean_reference(name),
    ):  # a preset; its tokenizer.json; fastokens; the reference itself without the merges that never happen
        ids, offsets = made.encode(texts)
        assert offsets.tolist() == known_offsets.tolist()
        assert ids.tolist() == known.tolist()


@settings(max_examples=100)
@given(st.lists(pieces(), max_size=12).map("".join))
@pytest.mark.parametrize("name", PRESETS)
def test_token_ends_are_those_of_the_reference(name, text):
    text = "x" + text  # where a text begins with what the tokenizer adds itself is nobody's cut
    ends = bundled(name).token_ends(text)
    if ends is None:  # it says so where it cannot tell
        assert "▁" in text
    else:
        assert ends.tolist() == reference(name).token_ends(text).tolist()


def test_token_ends_stand_at_character_borders():
    ends = bundled("llama3").token_ends("a 𓀀𓀁 b").tolist()
    assert ends == [1, 3, 4, 6]  # each hieroglyph is several tokens, and " 𓀀" begins with its space


@pytest.mark.parametrize("name", PRESETS)
def test_agent_tokens_of_the_engine_never_appear(name):
    preset = PRESETS[name]
    made = bundled(name)
    for token in made._tokenizer.special_tokens():
        ids, _ = made.encode([f"a{token}b", token, "plain"])
        assert ids.max() < preset.vocab_size
        assert not set(ids.tolist()) & {i for _, i in preset.specials}


def test_no_truncation_or_padding_whatever_the_file_says():
    document = orjson.loads(model_json("llama2"))
    document["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    document["padding"] = {
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>",
    }  # fmt: skip
    data = orjson.dumps(document)
    expected = reference("llama2").encode(["one two three four five six"])[0].tolist()
    assert len(expected) > 3
    for made in (HfEngine(data), SplintrEngine.from_json(data)):
        assert made.encode(["one two three four five six"])[0].tolist() == expected


def test_a_post_processor_adds_nothing():
    document = orjson.loads(model_json("llama2"))
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    document["post_processor"] = {
        "type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }  # fmt: skip
    for made in (HfEngine(orjson.dumps(document)), SplintrEngine.from_json(orjson.dumps(document))):
        assert made.encode(["one"])[0].tolist() == reference("llama2").encode(["one"])[0].tolist()


def test_a_file_that_is_no_tokenizer():
    for made in (HfEngine, SplintrEngine.from_json):
        with pytest.raises(TokenizerError, match=r"cannot read this tokenizer\.json"):
            made(b'{"model": {"type": "Nonsense"}}')


def test_a_panic_becomes_an_error():
    with pytest.raises(TokenizerError, match="failed on a text"):
        reference("llama3").encode([" " * 10_000_000])


def test_presets_by_alias_and_case():
    assert find_preset("LLAMA3.2") is PRESETS["llama3"]
    assert find_preset("gpt2") is None
