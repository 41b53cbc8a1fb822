"""Text is text: control tokens by what they are, nothing lost in encoding, the library's ids, and a verify that agrees.

Small tokenizers of the kinds that told cook wrong: as DeepSeek, Qwen, Phi-3 (byte-level BPE), T5 (Unigram), BERT.
"""

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

import cook
from conftest import entry, pair, write_shard
from cook.core.errors import BadLines, InputError, RecipeError, TokenizerError
from cook.core.recipe import Recipe
from cook.tokenizer import control
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.engines.splintr import SplintrEngine
from cook.tokenizer.loading import EngineWarning, TokenizerWarning, load_engine, reference_engine, resolve_tokenizer

CORPUS = ["the lamp is red and the cup is blue <QUE> <ANS> </END> <CON> </CON> what which where when a b c d e"] * 50
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def added(token: str, i: int, special: bool = False, **flags: bool) -> dict[str, object]:
    return {"id": i, "content": token, **FLAGS, "special": special, **flags}


def byte_level() -> dict:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|begin|>", "<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return json.loads(made.to_str())


def wordpiece(lowercase: bool = False) -> dict:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[UNK]", "<|begin|>", "<|end|>"]
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    return json.loads(made.to_str())


def unigram() -> dict:
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return json.loads(made.to_str())


def write(folder: Path, document: dict, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    own = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(own | config))
    return folder


def cooked(root: Path, tokenizer: Path, *rows: dict, **settings: object) -> tuple[cook.Result, list[str]]:
    """A dataset of these entries, cooked and verified; and the names of its tokens."""
    write_shard(root / "source", "set", list(rows))
    out = root / "out"
    recipe = Recipe(datasets="set", tokenizer=str(tokenizer), source=root / "source", output=out, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        (done,) = cook.run(recipe).results
        for deep in (False, True):
            source = str(root / "source") if deep else None
            checked = cook.verify(out, deep=deep, source=source, tokenizer=str(tokenizer))
            assert [str(finding) for each in checked.datasets for finding in each.findings] == []
        names = {
            i: token for token, i in tokenizers.Tokenizer.from_file(f"{tokenizer}/tokenizer.json").get_vocab().items()
        }
    return done, [names[i] for row in cook.read_cooked(done.folder).sequences("train") for i in row.input_ids.tolist()]


def resolved(tokenizer: Path, **settings: object):
    return resolve_tokenizer(Recipe(datasets="set", tokenizer=str(tokenizer), **settings))


def spell(document: dict, *tokens: tuple[str, dict]) -> dict:
    size = len(document["model"]["vocab"])
    document["added_tokens"] += [added(token, size + at, **flags) for at, (token, flags) in enumerate(tokens)]
    return document


def test_control_tokens_that_are_not_flagged(tmp_path):
    """Phi-3's `</s>`, which takes the white space after it, and DeepSeek's `<｜User｜>`, that nothing names."""
    document = spell(byte_level(), ("</s>", {"rstrip": True}), ("<|User|>", {}))
    folder = write(tmp_path / "t", document)
    done, tokens = cooked(tmp_path, folder, entry("the lamp </s>   \n\n  the cup <|User|> x", pair("what?", "red</s>")))
    assert not {"</s>", "<|User|>"} & set(tokens)
    letters = {letter: chr(byte) for byte, letter in control.byte_letters().items()}
    text = "".join(letters.get(letter, letter) for token in tokens[1:-1] for letter in token)
    assert text == (" <CON> the lamp </s>   \n\n  the cup <|User|> x </CON>\n\n<QUE> what? <ANS> red</s> </END>")
    assert done.counts["special_strings"] == 1


@pytest.mark.parametrize(
    ("flags", "config", "template", "kind"),
    [
        ({"special": True}, {}, "", "control"),
        ({}, {"additional_special_tokens": ["<tool>"]}, "", "control"),
        ({}, {"extra_special_tokens": {"tool_token": "<tool>"}}, "", "control"),
        ({}, {"image_token": {"content": "<tool>"}}, "", "control"),
        ({}, {"added_tokens_decoder": {"9": {"content": "<tool>", "special": True}}}, "", "control"),
        ({}, {"added_tokens_decoder": {"9": {"content": "<tool>", "special": False}}}, "", "unnamed"),
        ({}, {"chat_template": "{% if tools %}{{ '<tool>\\n' }}{% endif %}"}, "", "control"),
        ({}, {"chat_template": [{"name": "default", "template": "<tool>{{ x }}"}]}, "", "control"),
        ({}, {}, "{{- '<tool>' }}", "control"),
        ({}, {"chat_template": "{# <tool> #}"}, "", "unnamed"),
        ({}, {}, "", "unnamed"),
    ],
)
def test_what_a_control_token_is(tmp_path, flags, config, template, kind):
    folder = write(tmp_path / "t", spell(byte_level(), ("<tool>", flags)), **config)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    found = resolved(folder, added_tokens="tokens")
    assert ("<tool>" in dict(found.specials)) == (kind == "control")
    assert ("<tool>" in found.unnamed) == (kind == "unnamed")
    assert "<tool>" in dict(resolved(folder).specials)


def test_special_tokens_map_names_tokens(tmp_path):
    folder = write(tmp_path / "t", spell(byte_level(), ("<tool>", {})), eos_token=None)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|end|>", "additional_special_tokens": ["<tool>"]}')
    found = resolved(folder)
    assert found.eos == "<|end|>"
    assert found.unnamed == ()


ORDINARY = ("\n\n", "▁▁", "<b>", "</table>", "<s>", "word", "----")
MARKERS = ("<mask>", "<unused9>", "[@BOS@]", "<|fim_prefix|>", "__eou__", "<2mass>")


def test_ordinary_added_tokens_stay_tokens(tmp_path):
    document = spell(byte_level(), *((token, {}) for token in ORDINARY + MARKERS))
    found = resolved(write(tmp_path / "t", document, chat_template="{{ '\\n\\n' }}"))
    assert found.unnamed == MARKERS
    own = tokenizers.Tokenizer.from_str(json.dumps(document))
    for engine in (load_engine(found), reference_engine(found)):
        for token in ORDINARY:
            assert engine.encode([f"a{token}b"])[0].tolist() == own.encode(f"a{token}b").ids
            assert own.token_to_id(token) in engine.encode([f"a{token}b"])[0]
        for token in MARKERS:
            assert own.token_to_id(token) not in engine.encode([f"a{token}b"])[0]


def test_struck_text_is_a_tag_only_among_tags(tmp_path):
    assert resolved(write(tmp_path / "t", spell(byte_level(), ("</s>", {})))).unnamed == ("</s>",)


def test_added_tokens_as_tokens(tmp_path, cook):
    folder = write(tmp_path / "t", spell(byte_level(), ("<|fim|>", {}), ("<|x|>", {"special": True})))
    write_shard(tmp_path / "source", "set", [entry("a <|fim|> b <|x|>")])
    arguments = ("-d", "set", "-t", str(folder), "-s", "source", "--cache", "kept")
    done = cook(*arguments, "-o", "text")
    assert "1 added token of t that nothing names, as text in the data (--added-tokens): <|fim|>" in done.stderr
    done = cook(*arguments, "-o", "tokens", "--added-tokens", "tokens", "--json")
    assert "as tokens in the data" in done.stderr
    assert json.loads(done.stdout)["unnamed_tokens"] == ["<|fim|>"]
    ids = [row.input_ids.tolist() for name in ("text", "tokens") for row in sequences(tmp_path / name / "set")]
    fim, x = (resolved(folder, bos=token).bos_id for token in ("<|fim|>", "<|x|>"))
    assert [fim in row for row in ids] == [False, True]
    assert not any(x in row for row in ids)
    for name in ("text", "tokens"):  # verify knows which it was
        checked = cook("verify", name, "-t", str(folder), "--deep", "-s", "source")
        assert checked.exit_code == 0, checked.output


def sequences(folder: Path):
    return cook.read_cooked(folder).sequences("train")


def test_the_default_changes_no_fingerprint_and_the_other_does():
    settings = {"datasets": "set", "tokenizer": "llama3"}
    assert "added_tokens" not in Recipe(**settings).determining()
    assert Recipe(**settings, added_tokens="tokens").determining()["added_tokens"] == "tokens"
    assert "max_unknown" not in Recipe(**settings, max_unknown=1).determining()
    with pytest.raises(RecipeError, match="added_tokens: must be one of text, tokens"):
        Recipe(**settings, added_tokens="no")


@pytest.mark.parametrize("engine", ["auto", "hf", "splintr"])
def test_a_piece_of_the_vocabulary_is_spelt_in_letters(tmp_path, engine):
    """Unigram, as T5: `</s>` and `<unk>` are pieces that a text would give; sentencepiece spells them out."""
    folder = write(tmp_path / "t", unigram(), eos_token="</s>", bos_token=None)
    rows = (
        entry("the cup is blue", pair("what?", "the cup")),
        entry("the lamp is <s>red</s> a<unk>", pair("what?", "</s>")),
    )
    done, tokens = cooked(tmp_path, folder, *rows, engine=engine)
    assert tokens.count("</s>") == 2  # two examples
    assert "".join(tokens).count("</s") == 2 + 2
    assert done.counts["special_strings"] == 1


def test_words_and_merges_that_are_control_tokens(tmp_path):
    """WordLevel has them as words; BPE may make one by merges, or take it whole."""
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "the": 2, "<s>": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = write(tmp_path / "words", json.loads(made.to_str()), eos_token="</s>", bos_token="<s>")
    ids = load_engine(resolved(folder, engine="hf")).encode(["the </s> [UNK] the <s>"])[0].tolist()
    assert ids == [2, 0, 0, 2, 0]
    vocab = {piece: i for i, piece in enumerate(["a", "<", "/", "s", ">", "</", "s>", "</s>", "a</s>"])}
    merges = [["<", "/"], ["s", ">"], ["</", "s>"], ["a", "</s>"]]
    for ignore_merges in (False, True):
        model = {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": ignore_merges}
        document = {
            **byte_level(),
            "pre_tokenizer": None,
            "decoder": None,
            "model": model,
            "added_tokens": [added("</s>", 7, True)],
        }
        folder = write(tmp_path / f"merges{ignore_merges}", document, eos_token="</s>", bos_token=None)
        first = [8] if ignore_merges else [0, 5, 6]  # "a</s>" is a word of its own
        assert load_engine(resolved(folder, engine="hf")).encode(["a</s>", "</s>"])[0].tolist() == [*first, 5, 6]


def test_every_control_string_in_every_place(tmp_path):
    """Alone, doubled, at borders; in context, question and answer; of each kind, by each engine."""
    tokens = (
        ("<|x|>", {"special": True}),
        ("<tool>", {"lstrip": True, "rstrip": True}),
        ("<|fim|>", {"single_word": True}),
    )
    document = spell(byte_level(), *tokens, ("\n\n\n", {}), ("<b>", {}))
    folder = write(tmp_path / "t", document, chat_template="{{ '<tool>' }}")
    strings = ["<|begin|>", "<|end|>", *(token for token, _ in tokens)]
    rows = []
    for one in strings:
        rows += [
            entry(one, pair(one, one)),
            entry(one * 2, pair("q", one * 2)),
            entry(f" {one}  \n\n {one}x", pair(f"x{one} ", f"\n{one}")),
        ]
        rows += [entry(one + other, pair(f"{other[:-1]}{one}", f"{one}{other[1:]}")) for other in strings]
    made = set()
    for engine in ("hf", "splintr", "auto"):
        done, names = cooked(tmp_path / engine, folder, *rows, engine=engine, packing="none")
        assert names.count("<|begin|>") == names.count("<|end|>") == len(rows)
        assert not {token for token, _ in tokens} & set(names)
        made.add(tuple(names))
    assert len(made) == 1
    assert done.counts["special_strings"] == len(rows)


def test_unknown_characters_are_counted_and_limited(tmp_path):
    folder = write(tmp_path / "t", wordpiece())
    row = entry("the lamp is красный 日本語 🙂", pair("what", "日本語"))
    with pytest.raises(
        InputError, match=r"set: 1\d of 6\d characters \(2\d\.\d%\) are none that the tokenizer holds: 日 \(2\), 本"
    ):
        cooked(tmp_path, folder, row, max_unknown=0.1)
    assert not (tmp_path / "out" / "set").exists()
    done, tokens = cooked(tmp_path, folder, row, max_unknown=1)
    lost = "красный日本語🙂日本語"
    assert done.counts["unknown"]["characters"] == len(lost)
    assert done.counts["unknown"]["commonest"]["本"] == 2
    assert tokens.count("[UNK]") == 1 + 3 + 1 + 3
    with pytest.raises(InputError, match="--max-unknown"):  # what is there already is refused too
        cooked(tmp_path, folder, row, max_unknown=0.1)


def test_the_summary_tells_what_is_lost(tmp_path, cook):
    write_shard(tmp_path / "s", "set", [entry("the lamp Ж " + "the cup " * 9, pair("what", "lamp"))])
    done = cook("-d", "set", "-t", str(write(tmp_path / "t", wordpiece())), "-s", "s", "-o", "o")
    assert done.exit_code == 0
    assert "set: 1 of 1" in done.stderr
    assert "are none that the tokenizer holds: Ж (1) (--max-unknown)" in done.stderr


@pytest.mark.parametrize("kind", [wordpiece, lambda: wordpiece(lowercase=True), unigram])
def test_verify_passes_what_cook_writes(tmp_path, kind):
    """Unknown tokens are text that the tokenizer lacks, and no forged special id."""
    config = {"eos_token": "</s>", "bos_token": None} if kind is unigram else {}
    rows = [
        entry("the lamp runs zzz Ж", pair("what ?", "lamp")),
        entry("The Lamp, Ж<unk>[UNK]\u200b é", pair("ЖЖ", "a\tЖ")),
    ]
    done, _ = cooked(tmp_path, write(tmp_path / "t", kind(), **config), *rows, max_unknown=1)
    assert done.counts["unknown"]["characters"] > 0


def test_deep_verification_reads_the_text_back(tmp_path, monkeypatch):
    """An engine and a reference that both lose white space: the encoder alone would call that right."""
    folder = write(tmp_path / "t", byte_level())
    encode = HfEngine.encode
    monkeypatch.setattr(
        HfEngine, "encode", lambda self, texts: encode(self, [text.replace("  ", " ") for text in texts])
    )
    write_shard(tmp_path / "source", "set", [entry("the  lamp")])
    settings = {"datasets": "set", "tokenizer": str(folder), "engine": "hf", "cache": "none"}
    cook.run(Recipe(**settings, source=tmp_path / "source", output=tmp_path / "out"))
    monkeypatch.setattr("cook.encode.readback.load_engine", reference_engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)  # splintr keeps the white space
        checked = cook.verify(tmp_path / "out", deep=True, source=str(tmp_path / "source"), tokenizer=str(folder))
    (finding,) = checked.datasets[0].findings
    assert "is encoded as what reads" in finding.what


LONG = entry("The Lamp is red Ж and the CUP is blue. " * 4, *(pair(f"What {i}?", "The Lamp Ж") for i in range(9)))


@pytest.mark.parametrize("overlong", ["split", "truncate"])
@pytest.mark.parametrize("kind", [lambda: wordpiece(lowercase=True), byte_level])
def test_pieces_of_over_long_records_are_read_back_in_the_normal_form(tmp_path, monkeypatch, kind, overlong):
    """Ids that the reference alone calls right are not enough: here the reference errs, as the encoder does."""
    lower = kind is not byte_level
    length = (90 if lower else 250) if overlong == "split" else (60 if lower else 100)
    folder = write(tmp_path / "t", kind())
    settings = {"max_length": length, "overlong": overlong, "max_unknown": 1, "engine": "hf", "max_dropped": 1}
    done, _ = cooked(tmp_path, folder, LONG, **settings)
    assert done.counts["split"] == 1
    assert (done.counts["truncated"] > 0) == (overlong == "truncate")
    encode = HfEngine.encode
    swapped = lambda self, texts: encode(self, [text.replace("blue", "the") for text in texts])  # noqa: E731
    monkeypatch.setattr(HfEngine, "encode", swapped)
    monkeypatch.setattr("cook.encode.readback.load_engine", reference_engine)
    recipe = Recipe(datasets="set", tokenizer=str(folder), source=tmp_path / "source", cache="none", **settings)
    cook.run(dataclasses.replace(recipe, output=str(tmp_path / "bad")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        monkeypatch.setattr("cook.encode.parts.load_engine", lambda tokenizer, quick=False: reference_engine(tokenizer))
        checked = cook.verify(tmp_path / "bad", deep=True, source=str(tmp_path / "source"), tokenizer=str(folder))
    told = [finding.what for finding in checked.datasets[0].findings]
    assert any("is encoded as what reads" in what for what in told)
    assert any("its examples do not read as the pairs of its entry" in what for what in told)


def test_a_packed_corpus_counts_what_its_tokenizer_lacks(tmp_path):
    folder = write(tmp_path / "t", wordpiece())
    write_shard(tmp_path / "source", "set", [entry("the lamp is Ж", pair("what", "lamp"))] * 3)
    settings = {"datasets": "set", "tokenizer": str(folder), "source": str(tmp_path / "source")}
    (done,) = cook.make_corpus(cook.CorpusRecipe(**settings, output=str(tmp_path / "out"), max_unknown=1)).results
    assert done.counts["unknown"]["commonest"]["Ж"] == 3
    checked = cook.verify(tmp_path / "out", deep=True, source=str(tmp_path / "source"), tokenizer=str(folder))
    assert [str(finding) for each in checked.datasets for finding in each.findings] == []
    with pytest.raises(InputError, match="--max-unknown"):
        cook.make_corpus(cook.CorpusRecipe(**settings, output=str(tmp_path / "other"), max_unknown=0))


@pytest.mark.parametrize(("kind", "wrong"), [("hole", 342), ("collide", 100)])
def test_ids_are_those_of_the_library(tmp_path, kind, wrong):
    document = byte_level()
    size = len(document["model"]["vocab"])
    document["added_tokens"].append(added("<|im_end|>", wrong, special=True))
    folder = write(tmp_path / kind, document, eos_token="<|im_end|>")
    with pytest.raises(TokenizerError, match=rf"<\|im_end\|> is {wrong} there and {size} to the library"):
        resolved(folder)


def test_ids_that_are_swapped(tmp_path):
    document = spell(byte_level(), ("<|a|>", {"special": True}), ("<|b|>", {"special": True}))
    one, other = document["added_tokens"][-2:]
    one["id"], other["id"] = other["id"], one["id"]
    with pytest.raises(TokenizerError, match=r"<\|a\|> is \d+ there and \d+ to the library, <\|b\|> is"):
        resolved(write(tmp_path / "t", document))


POST = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
OPENS = POST | {
    "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
}
PLAIN = POST | {"single": [{"Sequence": {"id": "A", "type_id": 0}}]}


@pytest.mark.parametrize(
    ("config", "processor", "told"),
    [
        ({"add_bos_token": False}, None, True),
        ({"add_bos_token": False}, OPENS, True),
        ({"add_bos_token": True}, PLAIN, False),
        ({"add_bos_token": None}, OPENS, False),
        ({"add_bos_token": None}, {"type": "Sequence", "processors": [PLAIN, OPENS]}, False),
        ({"add_bos_token": None}, PLAIN, True),
        ({"add_bos_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}, None, True),
        ({"add_bos_token": None, "tokenizer_class": "LlamaTokenizerFast"}, None, False),
        ({"add_bos_token": None}, None, False),
    ],
)
def test_a_bos_that_the_model_does_not_add_is_told(tmp_path, config, processor, told):
    document = byte_level()
    # The library knows a template's tokens by their ids; here the file is only read.
    folder = write(tmp_path / "t", document, **config)
    found = control.adds_bos(
        {**document, "post_processor": processor},
        json.loads((folder / "tokenizer_config.json").read_text()),
        "<|begin|>",
    )
    assert (found is False) == told


def test_the_line_on_a_bos_is_one_that_bos_settles(tmp_path):
    folder = write(tmp_path / "t", byte_level(), add_bos_token=False)
    with pytest.warns(
        TokenizerWarning, match=r"t: <\|begin\|> opens every input, though the model's own tokenizer adds no BOS"
    ):
        assert resolved(folder).bos_id == 0
    for bos in ("none", "<|begin|>"):  # either is silent: warnings are errors here
        assert resolved(folder, bos=bos).bos_id == (None if bos == "none" else 0)


def test_what_leaves_ids_to_chance_is_switched_off(tmp_path):
    document = byte_level()
    document["model"]["dropout"] = 0.5
    document["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    rows = [entry("the lamp is red and the cup is blue", pair("what is red?", "the lamp"))]
    with pytest.warns(TokenizerWarning, match="has dropout, truncation: switched off"):
        made = [cooked(tmp_path / str(i), write(tmp_path / "t", document), *rows, cache="none")[1] for i in range(3)]
    plain = cooked(tmp_path / "plain", write(tmp_path / "p", byte_level()), *rows)[1]
    assert made == [plain] * 3


def test_every_engine_gives_the_same_ids_beside_unknown_characters(tmp_path):
    folder = write(tmp_path / "t", unigram(), eos_token="</s>", bos_token=None)
    rows = [entry("the cup <unk>Ж is Ж<unk> blue", pair("what <unk>Ж?", "Ж <unk>"))]
    engines = ("hf", "splintr", "auto")
    assert len({str(cooked(tmp_path / e, folder, *rows, engine=e, max_unknown=1)[1]) for e in engines}) == 1


def test_a_fast_engine_that_slips_at_a_control_string_steps_aside(tmp_path, monkeypatch):
    folder = write(tmp_path / "t", spell(byte_level(), ("<|x|>", {"special": True})))
    assert resolved(folder, cache="none").engine == "splintr"
    encode = SplintrEngine.encode
    monkeypatch.setattr(
        SplintrEngine, "encode", lambda self, texts: encode(self, [text.replace("Ж<|x|>", "Ж <|x|>") for text in texts])
    )
    with pytest.warns(EngineWarning):
        assert resolved(folder, cache="none").engine == "hf"


def no_unknown() -> dict:
    """A WordLevel tokenizer that has nothing for what it lacks: it refuses such text."""
    words = [*"abcde", "the", "lamp", "red", "</s>", "<CON>", "</CON>", "<QUE>", "<ANS>", "</END>", "what"]
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<none>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    document = json.loads(made.to_str())
    document["added_tokens"] = [added("</s>", words.index("</s>"), special=True)]
    return document


def test_text_that_a_tokenizer_refuses_is_named_and_can_be_skipped(tmp_path):
    folder = write(tmp_path / "t", no_unknown(), eos_token="</s>", bos_token=None)
    rows = [
        entry("the lamp", pair("what", "red")),
        entry("the moon", pair("what", "red")),
        entry("red", pair("what", "a </s>")),
    ]
    with pytest.raises(BadLines) as caught:
        cooked(tmp_path, folder, *rows, engine="hf")
    assert "00000.jsonl:2: context: its text cannot be encoded" in str(caught.value)
    assert "00000.jsonl:3: its text cannot be encoded" in str(caught.value)
    assert "--engine hf" not in str(caught.value)
    done, _ = cooked(tmp_path, folder, *rows, engine="hf", on_error="skip")
    assert done.counts["skipped_entries"] == {"bad_line": 2}
    assert done.counts["examples"] == 1


def test_show_marks_added_tokens(tmp_path, cook):
    folder = write(tmp_path / "t", spell(byte_level(), ("<b>", {})))
    write_shard(tmp_path / "s", "set", [entry("a <b> c", pair("what", "<b>"))])
    cook("-d", "set", "-t", str(folder), "-s", "s", "-o", "o")
    told = json.loads(cook("show", "o", "-t", str(folder), "--tokens", "--json").stdout)
    marked = [t["text"] for each in told["examples"] for t in each["token_list"] if t.get("added")]
    assert marked == ["<b>", "<b>"]
    assert "<b>⟦added token⟧" in cook("show", "o", "-t", str(folder), "--tokens").stdout
