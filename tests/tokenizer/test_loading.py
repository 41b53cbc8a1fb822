"""Which tokenizer: names, folders and files; BOS and EOS as exactly one special id each."""

import base64
import importlib.util
import shutil
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from cook import run
from cook.core.errors import TokenizerError
from cook.core.recipe import Recipe
from cook.tokenizer import growth
from cook.tokenizer import loading as module
from cook.tokenizer.loading import EngineWarning, checked_encoder, load_engine, resolve_tokenizer
from reference import MODELS


def make(tokenizer: str | Path, **settings):
    return resolve_tokenizer(Recipe(datasets="squad", tokenizer=str(tokenizer), **settings))


def test_presets():
    llama3 = make("llama3")
    assert (llama3.bos_id, llama3.eos_id, llama3.pad_id, llama3.vocab_size) == (128000, 128001, 128001, 128256)
    assert len(llama3.specials) == 256
    assert dict(llama3.specials)["<|reserved_special_token_246|>"] == 128255
    mistral = make("Mistral")
    assert (mistral.bos_id, mistral.eos_id, mistral.vocab_size) == (1, 2, 32000)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_says_its_bos_and_eos(models, name):
    model = MODELS[name]
    found = make(models[name])
    assert (found.bos, found.eos, found.eos_id) == (model.bos, model.eos, model.eos_id)
    assert ([] if found.bos_id is None else [found.bos_id]) == model.bos_ids
    assert found.name == name


def test_a_file_beside_its_configuration(models):
    assert make(models["llama2"] / "tokenizer.json") == make(models["llama2"])


def test_a_preset_and_its_file_have_one_vocabulary(models):
    for name in ("llama3", "llama2", "mistral"):
        preset, file = make(name), make(models[name])
        assert (preset.vocab_size, preset.specials, preset.bos_id) == (file.vocab_size, file.specials, file.bos_id)


def test_a_preset_wins_over_a_folder_of_its_name(models, tmp_path, monkeypatch):
    shutil.copytree(models["qwen3"], tmp_path / "llama3")
    monkeypatch.chdir(tmp_path)
    assert make("llama3").preset == "llama3"
    assert make("./llama3").eos == "<|endoftext|>"


def test_bos_and_eos_may_be_one_id(models):
    found = make(models["qwen3"], bos="<|endoftext|>")
    assert found.bos_id == found.eos_id == 151643


def test_no_bos(models):
    for spelled in ("", "none"):
        assert make("llama3", bos=spelled).bos_id is None


def test_the_pad_token_of_the_model(models, tmp_path):
    folder = shutil.copytree(models["qwen3"], tmp_path / "m")
    (folder / "tokenizer_config.json").write_bytes(
        orjson.dumps({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    )
    found = make(folder)
    assert (found.eos_id, found.pad_id) == (151645, 151643)


@pytest.mark.parametrize(
    ("tokenizer", "settings", "message"),
    [
        ("llama3", {"bos": "<s>"}, r"--bos <s>: is not one token of llama3; its own is <\|begin_of_text\|>"),
        ("llama3", {"eos": "<|eot|>"}, r"--eos <\|eot\|>: is not one token of llama3; its own is <\|end_of_text\|>"),
        ("lama3", {}, "lama3: no tokenizer of that name; did you mean llama3"),
        ("nothing/at/all", {}, "nothing/at/all: no tokenizer of that name"),
        ("/nothing", {}, "/nothing: no such folder or file"),
        ("/no/where/at/all", {}, "/no/where/at/all: no such folder or file"),
        ("models/tokenizer.json", {}, r"models/tokenizer\.json: no such folder or file"),
    ],
)
def test_wrong_names(tokenizer, settings, message):
    with pytest.raises(TokenizerError, match=message):
        make(tokenizer, **settings)


def test_a_word_cannot_be_bos(models):
    with pytest.raises(TokenizerError, match="is no special token of qwen3, so that any text could hold it"):
        make(models["qwen3"], bos="hello")


def test_files_that_are_no_tokenizers(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot be read: No such file"):
        make(folder)
    for data, message in (
        (b"{", "is not JSON"),
        (b"[]", "must hold a JSON object"),
        (b"{}", "is not a tokenizer.json"),
        (b'{"model": {"vocab": {}}}', "is not a tokenizer.json"),
        (b'{"model": {"vocab": [1]}}', "is not a tokenizer.json"),
        (b'{"model": {"vocab": {"a": "x"}}}', "is not a tokenizer.json"),
        (b'{"model": {"vocab": {"a": 1}}, "added_tokens": [1]}', "is not a tokenizer.json"),
        (b'{"model": {"vocab": {"a": 99999999999}}}', "is not a tokenizer.json"),
    ):
        (folder / "tokenizer.json").write_bytes(data)
        with pytest.raises(TokenizerError, match=message):
            make(folder)


def test_without_a_configuration_bos_and_eos_must_be_said(models, tmp_path):
    path = shutil.copy(models["llama2"] / "tokenizer.json", tmp_path / "my.json")
    with pytest.raises(TokenizerError, match="pass --eos TOKEN"):
        make(path)
    with pytest.raises(TokenizerError, match="pass --bos TOKEN, or --bos none"):
        make(path, eos="</s>")
    assert make(path, eos="</s>", bos="<s>").name == "my"


def test_a_fast_engine_that_differs_steps_aside(models, tmp_path, monkeypatch):
    """splintr's ids are changed by one: the probe sees it, the reference encodes, and the verdict is remembered."""
    monkeypatch.setenv("COOK_CACHE", str(tmp_path))
    from cook.tokenizer.engines.splintr import SplintrEngine

    encode = SplintrEngine.encode
    monkeypatch.setattr(
        SplintrEngine, "encode", lambda self, texts: (encode(self, texts)[0] ^ 1, encode(self, texts)[1])
    )
    for _ in range(2):
        with pytest.warns(EngineWarning, match="which encode instead, slower"):
            found = make(models["mistral"])
        assert found.engine == "hf"
    assert load_engine(found).name == "hf"
    monkeypatch.setattr(SplintrEngine, "encode", encode)
    with pytest.warns(EngineWarning):  # remembered, right or wrong: by file and version
        make(models["mistral"])


def test_a_tokenizer_that_only_the_reference_reads(tmp_path):
    """A word-level tokenizer, which splintr does not read."""
    import tokenizers
    from tokenizers import models as kinds
    from tokenizers.pre_tokenizers import Whitespace

    made = tokenizers.Tokenizer(kinds.WordLevel({"[UNK]": 0, "[EOS]": 1, "hello": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.add_special_tokens(["[UNK]", "[EOS]"])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "[EOS]"}')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        found = make(tmp_path)
    ids, _ = load_engine(found).encode(["hello there [EOS]"])
    assert ids.tolist()[:2] == [2, 0]
    assert 1 not in ids.tolist()


def test_a_file_that_changes_in_use(models, tmp_path):
    folder = shutil.copytree(models["llama2"], tmp_path / "m")
    found = make(folder)
    (folder / "tokenizer.json").write_bytes(b"{}")
    module._engines.clear()
    with pytest.raises(TokenizerError, match="changed while it was in use"):
        load_engine(found)


def replaced(pattern: dict[str, str], content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def steps(*normalizers: dict[str, object]) -> dict[str, object]:
    return {"type": "Sequence", "normalizers": list(normalizers)}


GROWING = {
    "a letter by many": {"normalizer": replaced({"String": "a"}, "b" * 65)},
    "in steps": {"normalizer": steps(*(replaced({"String": one}, more * 4) for one, more in pairwise("abcdef")))},
    "nested": {"normalizer": steps(*[steps(replaced({"String": "a"}, "aaa"))] * 4)},
    "a pattern of nothing": {"normalizer": steps(*[replaced({"Regex": "(?=[a])"}, "a")] * 7)},
    "a prefix": {"normalizer": {"type": "Prepend", "prepend": "a" * 65}},
    "a table": {
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(b"\4\0\0\0" + b"0000" + b"b" * 65 + b"\0").decode(),
        }
    },
    "bytes of bytes": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 7}},
    "what is decoded": {"decoder": replaced({"String": "a"}, "b" * 65)},
    "a suffix": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "b" * 65}},
}


@pytest.mark.parametrize("what", GROWING)
def test_a_tokenizer_that_makes_texts_much_longer_is_refused(tmp_path, models, what):
    document = orjson.loads((models["llama3"] / "tokenizer.json").read_bytes()) | GROWING[what]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(orjson.dumps(document))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: its (normalizer|pre_tok|decoder|end_of_word)\w* .*64"):
        make(path, bos="none", eos="x")


def test_a_tokenizer_that_replaces_letters_as_those_of_models_do_is_not():
    forms = ({"type": kind} for kind in ("NFKD", "StripAccents", "Lowercase", "NFC"))
    letters = (replaced({"String": one}, other) for one, other in (("``", '"'), ("\u2581", " "), (" ", "\u2581")))
    patterns = (r"\s+", " {2,}", r"[\u0300-\u036f]+", r"\p{Mn}", r"\r\n")
    spaces = (replaced({"Regex": pattern}, " ") for pattern in patterns * 5)
    growth.check_growth(
        Path("x"), {"normalizer": steps(*forms, *letters, *spaces, {"type": "Prepend", "prepend": "\u2581"})}
    )


def test_a_tokenizer_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOKENIZER_JSON_BYTES", 1000)
    (tmp_path / "tokenizer.json").write_bytes(b" " * 1001)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: has more than 1,000 bytes"):
        make(tmp_path, bos="none", eos="x")


class Given:
    """An engine that gives these ids for every text."""

    name, version = "given", "1"

    def __init__(self, *ids: int) -> None:
        self.ids = ids

    def encode(self, _):
        return np.array(self.ids, np.uint32), np.array([0, len(self.ids)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((5, 2, 7), None),
        ((6, 3), "gave the special token 3 of llama3 for ordinary text (<low>)"),
        ((3,), "gave the special token 3 of llama3 for ordinary text (<low>)"),
        ((8, 1), "gave the special token 8 of llama3 for ordinary text (<high>)"),
        ((9,), None),
        ((10,), "gave id 10 for llama3, whose vocabulary has 10 ids"),
        ((), None),
    ],
)
def test_ids_that_no_ordinary_text_has(given, message):
    """The unknown token, 2, is one that it may have."""
    specials = (("<unk>", 2), ("<low>", 3), ("<high>", 8))
    tokenizer = resolve_tokenizer(Recipe(datasets="x", tokenizer="llama3"))._replace(
        vocab_size=10, specials=specials, unk_id=2
    )
    encode = checked_encoder(Given(*given), tokenizer)
    if message is None:
        assert encode(["text"])[0].tolist() == list(given)
    else:
        with pytest.raises(TokenizerError) as caught:
            encode(["text"])
        assert str(caught.value) == f"given 1 {message}; please report this, and pass --engine hf"


@pytest.fixture
def own(tmp_path, models):
    """A result by a tokenizer of one's own, named by its path; and where that lies."""
    place = tmp_path / "deep" / "own-model"
    shutil.copytree(models["qwen3"], place)
    run(Recipe(datasets="squad", tokenizer=str(place), bos="none", source="sample", output=tmp_path / "out"))
    return place


NEEDS_TOKENIZER = [
    ("show", "out"),
    ("verify", "out", "--deep", "--source", "sample"),
    ("export", "out/squad", "--for", "jsonl", "--to", "e"),
    pytest.param(
        ("report", "out", "--to", "r.html"),
        marks=pytest.mark.skipif(not importlib.util.find_spec("jinja2"), reason="Jinja is not installed"),
    ),
]


@pytest.mark.parametrize("arguments", NEEDS_TOKENIZER)
def test_a_tokenizer_named_by_its_path_is_found_again(cook, own, arguments):
    """Until it is changed, or moved, or the cache is cleared."""
    done = cook(*arguments)
    assert done.exit_code == 0, done.output
    for spoil in (
        lambda: (own / "tokenizer.json").write_bytes((own / "tokenizer.json").read_bytes() + b"\n"),
        lambda: own.rename(own.with_name("moved")),
    ):
        spoil()
        done = cook(*arguments, *(["--overwrite"] if arguments[0] in ("report", "export") else []))
        assert done.exit_code == 1, done.output
        assert "--tokenizer" in done.stderr


def test_a_place_is_not_kept_where_the_cache_is_off_or_cleared(cook, own, tmp_path):
    assert cook("show", "out").exit_code == 0
    cook("cache", "clear")
    assert cook("show", "out").exit_code == 1
    recipe = {"datasets": "squad", "tokenizer": str(own), "bos": "none", "source": "sample", "cache": "none"}
    run(Recipe(**recipe, output=tmp_path / "other"))
    assert cook("show", "other").exit_code == 1


def test_a_forged_fingerprint_reads_no_place(tmp_path, monkeypatch):
    """What a manifest says becomes part of a path only as a sha256."""
    asked = []
    monkeypatch.setattr(module.cache, "get", asked.append)
    assert module.recorded_place({"name": "x", "fingerprint": "../../secret"}, None) == "x"
    assert asked == []
