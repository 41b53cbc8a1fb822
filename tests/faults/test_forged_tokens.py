"""No text forges a control token: whatever an entry or a template says, an example has one BOS, one EOS, no other.

What is special to each model is written out here, apart from the code that is tested.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cook
from conftest import entry, pair, write_shard
from cook.core import records
from cook.core.cache import ids_path
from cook.core.errors import TokenizerError
from cook.core.recipe import Recipe
from cook.encode import parts
from cook.read.lines import ByteRange
from cook.read.sources import open_source
from cook.shapes.context_qa import ContextQA
from cook.tokenizer.loading import Tokenizer, load_engine, resolve_tokenizer, special_token_texts
from cook.tokenizer.presets import PRESETS


class Facts(NamedTuple):
    """What a model's examples must and must not hold."""

    bos: int | None
    eos: int
    special: range
    vocab_size: int


FACTS = {
    "llama3": Facts(128_000, 128_001, range(128_000, 128_256), 128_256),
    "llama2": Facts(1, 2, range(3), 32_000),
    "mistral": Facts(1, 2, range(3), 32_000),
    "qwen3": Facts(None, 151_643, range(151_643, 151_669), 151_669),  # a tokenizer.json, without BOS
    "gpt2-like": Facts(151_643, 151_643, range(151_643, 151_669), 151_669),  # the same file; BOS and EOS are one id
}
ENGINES = ("splintr", "fastokens", "hf")
HALVES = [
    "<|",
    "|>",
    "<|eot",
    "_id|>",
    "<|end_of",
    "_text|>",
    "<s",
    "s>",
    "</",
    "</s",
    "<|im_",
    "end|>",
    "<|user",
    "<unk",
]


def recipe(model: str, models: dict[str, Path], **other: object) -> Recipe:
    named = {"qwen3": str(models["qwen3"]), "gpt2-like": str(models["qwen3"])}.get(model, model)
    bos = {"bos": "<|endoftext|>"} if model == "gpt2-like" else {}
    cache = str(models["qwen3"].parent / "cache")  # one for all tests here: probes are slow
    return Recipe(datasets="set", tokenizer=named, cache=cache, **bos, **{"max_dropped": 1.0} | other)


@functools.cache
def resolved(made: Recipe) -> Tokenizer:
    if made.engine == "fastokens" and importlib.util.find_spec("fastokens") is None:
        pytest.skip("fastokens is not installed")
    found = resolve_tokenizer(made)
    assert found.engine == made.engine, "the engine stepped aside, and is not tested"
    return found


@functools.cache
def strings() -> tuple[str, ...]:
    """Every special string of every model here."""
    found = {
        string
        for name in PRESETS
        for string in special_token_texts(resolve_tokenizer(Recipe(datasets="x", tokenizer=name)))
    }
    found |= {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<tool_call>", "<|fim_prefix|>"}
    return tuple(sorted(found))


def check(ids: list[int], facts: Facts) -> None:
    """One BOS where the model has one, one EOS, at the ends; nothing else that is special, nothing beyond the model."""
    inner = ids[facts.bos is not None : -1]
    assert ids[-1] == facts.eos
    assert facts.bos is None or ids[0] == facts.bos
    assert inner
    assert not set(inner) & {*facts.special}
    assert min(ids) >= 0
    assert max(ids) < facts.vocab_size


def tokenized(made: Recipe, root: Path, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """The examples that the tokenize stage makes of a dataset, from its spools."""
    (shard,) = open_source(str(root)).shards("set")
    names = str(root / "whole"), str(root / "remade")
    job = parts.EncodeJob(
        made,
        tokenizer,
        ByteRange(str(shard.path), 0, None),
        shard,
        *names,
        ContextQA(made, tokenizer),
        parts.read_records,
    )
    result = parts.encode_part(job)
    assert not result.problems
    for name, places in zip(names, (result.full_positions, result.split_positions), strict=True):
        raw = np.fromfile(ids_path(name), np.uint32) if len(places) else np.empty(0, np.uint32)
        ids = records.token_ids(raw)
        for place in places:
            yield ids[place["at"] : place["at"] + place["tokens"]].tolist()


def cooked(made: Recipe, root: Path) -> list[list[int]]:
    """The examples of a whole run, as they are read back."""
    (done,) = cook.run(cook.Recipe(**{**made.as_dict(), "source": str(root), "output": str(root / "out")})).results
    examples = []
    for row in cook.read_cooked(done.folder).sequences():
        examples += [part.tolist() for part in np.split(row.input_ids, np.cumsum(row.seq_lengths)[:-1])]
    return examples


def places(string: str) -> list[dict[str, object]]:
    """Entries with the string alone and among words, in each place in turn."""
    return [
        entry(string, pair("q", "a")),
        entry("c", pair(string, "a")),
        entry("c", pair("q", string)),
        entry(f"a{string}b", pair(f"{string} q {string}", f"\n{string}{string}"), pair("q", "a")),
    ]


def sweep() -> list[dict[str, object]]:
    return [row for string in strings() for row in places(string)]


SEEN: dict[str, list[list[int]]] = {}  # what the first engine made


@pytest.mark.parametrize(
    ("model", "engine"), [(m, e) for m in FACTS for e in ENGINES if m != "gpt2-like" or e == "splintr"]
)
def test_every_special_string_in_every_place(tmp_path, models, model, engine):
    made = recipe(model, models, engine=engine)
    tokenizer = resolved(made)
    assert len(strings()) > 310
    rows = sweep()
    write_shard(tmp_path, "set", rows)
    examples = list(tokenized(made, tmp_path, tokenizer))
    assert len(examples) == len(rows)
    for ids in examples:
        check(ids, FACTS[model])
    # No text is lost either: every engine, the reference among them, gives the same.
    assert SEEN.setdefault(model, examples) == examples


@pytest.mark.parametrize("overlong", ["split", "truncate"])
@pytest.mark.parametrize("model", FACTS)
def test_from_end_to_end(tmp_path, models, model, overlong):
    """Whole examples; and long ones, split by pairs and with cut contexts, of nothing but special strings."""
    every = strings()
    long = [
        entry("".join(every[i : i + 12]) * 2, *(pair(string, string + "?") for string in every[i : i + 12]))
        for i in range(0, len(every), 12)
    ]
    short = sweep()[::7]
    write_shard(tmp_path, "set", [*short, *long])
    examples = cooked(recipe(model, models, max_length=400, overlong=overlong), tmp_path)
    assert len(examples) > len(short) + len(long)
    for ids in examples:
        check(ids, FACTS[model])


def text() -> st.SearchStrategy[str]:
    piece = st.sampled_from(strings()) | st.sampled_from(HALVES) | st.sampled_from([" ", "\n", "words", "▁", "é", "\0"])
    return st.lists(piece | st.text(st.characters(codec="utf-8"), max_size=4), max_size=6).map("".join)


@st.composite
def borders(draw: st.DrawFn) -> tuple[str, str]:
    """A special string cut in two: what an entry's text ends with, and what the template goes on with."""
    string = draw(st.sampled_from(strings()))
    cut = draw(st.integers(0, len(string)))
    return string[:cut], string[cut:]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(text(), st.lists(st.tuples(text(), text()), min_size=1, max_size=4)), min_size=1, max_size=6),
    st.lists(borders(), min_size=4, max_size=4),
    st.sampled_from(["split", "truncate"]),
    st.sampled_from([30, 60, 4096]),
)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", ["llama3", "llama2", "mistral", "qwen3"])
def test_mixed_and_split_across_borders(tmp_path_factory, models, model, engine, rows, cuts, overlong, max_length):
    root = tmp_path_factory.mktemp("borders")
    (context, after_context), (question, between), (answer, after), (closing, delimiter) = cuts
    rows = [entry(c + context, *(pair(q + question + "q", a + "a" + answer) for q, a in pairs)) for c, pairs in rows]
    rows.append(entry("c" + context, pair("q" + question, "a" + answer)))
    write_shard(root, "set", rows)
    tokenizer = resolved(recipe(model, models, engine=engine))
    made = recipe(
        model,
        models,
        engine=engine,
        max_length=max_length,
        overlong=overlong,
        context_template="<CON>{context}" + after_context + closing,
        pair_template="{question}" + between + "{answer}" + after + closing,
        delimiter=delimiter,
    )
    for ids in tokenized(made, root, tokenizer):
        check(ids, FACTS[model])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", ["llama3", "llama2", "mistral"])
def test_a_template_closes_what_a_question_opens(tmp_path, models, model, engine):
    """ "<|eot" in the question, "_id|>" in the template: joined they are the text of a special token, and stay text."""
    made = recipe(
        model,
        models,
        engine=engine,
        context_template="<|begin{context}_text|></s",
        pair_template="{question}_id|>{answer}of_text|><s",
        delimiter=">",
    )
    rows = [entry("_of", pair("<|eot", "<|end_"), pair("x<|eot", "</s><|end_"))]
    write_shard(tmp_path, "set", rows)
    (ids,) = tokenized(made, tmp_path, resolved(made))
    check(ids, FACTS[model])
    texts = ["<|begin_of_text|></s>", "<|eot_id|><|end_of_text|><s>x<|eot_id|></s><|end_of_text|><s"]
    flat, _ = load_engine(resolved(recipe(model, models, engine="hf"))).encode(texts)
    assert ids[1:-1] == flat.tolist()


@pytest.mark.parametrize(("forged", "message"), [(2, "gave the special token 2 of"), (32_000, "gave id 32000 for")])
def test_an_engine_that_lets_one_through_is_stopped(tmp_path, models, monkeypatch, forged, message):
    """The last line of defence: what an engine gives is looked at before it is written."""
    made = recipe("llama2", models, engine="splintr")
    tokenizer = resolved(made)
    honest = load_engine(tokenizer)

    class Forger:
        name, version = honest.name, honest.version

        def encode(self, texts):
            ids, offsets = honest.encode(texts)
            ids = ids.copy()
            ids[-1] = forged
            return ids, offsets

    monkeypatch.setattr(parts, "load_engine", lambda tokenizer: Forger())
    write_shard(tmp_path, "set", [entry()])
    with pytest.raises(TokenizerError, match=message):
        list(tokenized(made, tmp_path, tokenizer))
