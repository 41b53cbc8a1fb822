"""Control tokens: which tokens of a tokenizer are no text, and how their strings in data come to be spelt in letters.

A *control token* is a token that is flagged special, or that the model's configuration or chat template names. The
other added tokens are of two kinds. *Ordinary* ones are text that the model was trained on: white space, words, runs of
signs, HTML_TAG tags. *Unnamed* ones look like markers, as `<|fim_prefix|>` does, and nothing says what they are: they
are taken as control tokens are, unless the recipe has `added_tokens: tokens`.

`spell_out_special_tokens` makes the tokenizer.json that every engine gets: in it no string of data can give the id of a
control token, whether the string is an added token, a piece of the vocabulary, or made by merges; and nothing in it
loses text or leaves ids to chance.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from cook.tokenizer.engines.bundled import byte_letters

SPACE = "▁"
HIDDEN_MARKER = "\uffff"  # no character; a vocabulary's control token is named so, which no text holds
HTML_TAG = re.compile(
    "</?(?:"
    "a|abbr|address|article|aside|audio|b|bdi|bdo|blockquote|body|br|button|canvas|caption|center|cite|code|col|"
    "colgroup|dd|del|details|dfn|div|dl|dt|em|fieldset|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|"
    "html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|menu|meta|nav|ol|optgroup|option|p|param|"
    "pre|q|rp|rt|ruby|s|samp|script|section|select|small|source|span|strike|strong|style|sub|summary|sup|svg|"
    "table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
    ") ?/?>"
)
AMBIGUOUS_TAGS = ("<s>", "</s>")  # tags too, and what most often opens and closes a sequence
JINJA_CODE = re.compile(r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
JINJA_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)


class SpecialTokens(NamedTuple):
    """The tokens of a tokenizer that are no ordinary text, with their ids."""

    control: dict[str, int]
    unnamed: dict[str, int]


def classify_tokens(
    document: Mapping[str, Any], ids: Mapping[str, int], named: Collection[str], templates: str
) -> SpecialTokens:
    """Tell the tokens of a tokenizer.json apart, with `ids` of all, by what a configuration and its templates name."""
    added = {token["content"]: token for token in document.get("added_tokens") or () if token["content"]}
    texts = _template_text(templates)
    control = {
        token: ids[token]
        for token, row in added.items()
        if row.get("special") or token in named or (not _is_blank(token) and token in texts)
    }
    # A piece of the vocabulary alone may be an ordinary word that is named for padding, as "!" is.
    control |= {token: ids[token] for token in named if token in ids and token not in added and is_marker(token)}
    if unknown := _unknown_token(document["model"]):
        control[unknown] = ids[unknown]
    unnamed = {
        token: ids[token]
        for token in added
        if token not in control and is_marker(token) and not _is_html(token, "<b>" in added)
    }
    return SpecialTokens(control, unnamed)


def _is_blank(token: str) -> bool:
    return not token.replace(SPACE, " ").strip()


def is_marker(token: str) -> bool:
    """Whether a token looks like a marker: a word between signs.

    >>> [is_marker(token) for token in ("<|User|>", "</s>", "[MASK]", "hello", "----", "▁▁", "C++")]
    [True, True, True, False, False, False, False]
    """
    bare = token.replace(SPACE, " ").strip()
    return bool(bare) and not (bare[0].isalnum() or bare[-1].isalnum()) and any(map(str.isalnum, bare))


def _is_html(token: str, among_tags: bool) -> bool:
    """Whether a token is an HTML_TAG tag. `<s>` is one only among others: alone it opens a sequence."""
    return HTML_TAG.fullmatch(token) is not None and (among_tags or token not in AMBIGUOUS_TAGS)


def _unknown_token(model: Mapping[str, Any]) -> str | None:
    """The token that stands for the unknown, if the model has one."""
    vocab, at = model["vocab"], model.get("unk_id")
    if isinstance(vocab, list):
        return vocab[at][0] if type(at) is int and 0 <= at < len(vocab) else None
    token = model.get("unk_token")
    return token if token in vocab else None


def configured_tokens(config: Mapping[str, Any]) -> Iterator[str]:
    """The tokens that a tokenizer_config.json or a special_tokens_map.json names."""
    for key, value in config.items():
        if key.endswith("_token"):
            found = [value]
        elif key.endswith("special_tokens"):
            found = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        elif key == "added_tokens_decoder" and isinstance(value, dict):
            found = [token for token in value.values() if isinstance(token, dict) and token.get("special")]
        else:
            continue
        yield from filter(None, map(token_text, found))


def token_text(value: Any) -> str | None:
    """A token of a configuration, which writes it as text or as an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def chat_templates(config: Mapping[str, Any]) -> str:
    """The chat templates of a tokenizer_config.json: one, or a list of them with names."""
    found = config.get("chat_template")
    rows = found if isinstance(found, list) else [found]
    texts = (row.get("template") if isinstance(row, dict) else row for row in rows)
    return "\n".join(text for text in texts if isinstance(text, str))


def _template_text(templates: str) -> str:
    """The text of Jinja templates: what stands outside of their code, and the strings in it."""
    code = [part for part in JINJA_CODE.findall(templates) if not part.startswith("{#")]
    strings = ("".join(pair) for part in code for pair in JINJA_STRING.findall(part))
    escapes = ((r"\n", "\n"), (r"\t", "\t"), (r"\'", "'"), (r"\"", '"'), (r"\\", "\\"))
    texts = [JINJA_CODE.sub("\0", templates)]
    for string in strings:
        text = string
        for written, meant in escapes if "\\" in string else ():
            text = text.replace(written, meant)
        texts.append(text)
    return "\0".join(texts)


def hidden_name(token: str) -> str:
    """What a control token is called in a vocabulary that could make it of text."""
    return f"{HIDDEN_MARKER}{token}{HIDDEN_MARKER}"


def spell_out_special_tokens(document: Mapping[str, Any], spelt: Collection[str]) -> dict[str, Any]:
    """The tokenizer.json in which these tokens are spelt in letters where text holds them; ids are as they were.

    No token takes the white space beside it; dropout, truncation, padding and the post-processor are off.
    """
    model = dict(document["model"])
    if "dropout" in model:
        model["dropout"] = None
    vocab = model["vocab"]
    pieces = {piece for piece, _ in vocab} if isinstance(vocab, list) else vocab
    names = {token: hidden_name(token) for token in spelt if token in pieces}
    if names:
        model["vocab"] = (
            [[names.get(piece, piece), score] for piece, score in vocab]
            if isinstance(vocab, list)
            else {names.get(piece, piece): i for piece, i in vocab.items()}
        )
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        if "merges" in model:
            model["merges"] = _merges_without(model, names)
    added = [
        {**token, "content": names.get(token["content"], token["content"]), "special": token["content"] in spelt}
        | {"lstrip": False, "rstrip": False}
        for token in document.get("added_tokens") or ()
        if token["content"]
    ]
    off = dict.fromkeys(("truncation", "padding", "post_processor"))
    return {**document, "model": model, "added_tokens": added, **off}


def _merges_without(model: Mapping[str, Any], names: Collection[str]) -> list[Any]:
    """The merges that neither make nor use one of these pieces."""
    prefix = len(model.get("continuing_subword_prefix") or "")
    kept = []
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        if left in names or right in names or left + right in names or left + right[prefix:] in names:
            continue
        kept.append(merge)
    return kept


def disabled_settings(document: Mapping[str, Any], spelt: Collection[str]) -> list[str]:
    """The settings of a tokenizer.json that could change a text's ids and that `spell_out_special_tokens` turns off."""
    found = {
        "dropout": document["model"].get("dropout"),
        "truncation": document.get("truncation"),
        "padding": document.get("padding"),
    }
    added = (token for token in document.get("added_tokens") or () if token["content"] not in spelt)
    swallow = any(token.get("lstrip") or token.get("rstrip") for token in added)
    return [name for name, value in found.items() if value] + ["tokens that take the white space beside them"] * swallow


def adds_bos(document: Mapping[str, Any], config: Mapping[str, Any], bos: str) -> bool | None:
    """Whether the model's own tokenizer opens a text with BOS; None where nothing says."""
    if isinstance(declared := config.get("add_bos_token"), bool):
        return declared
    if _prepends_bos(document.get("post_processor"), bos):
        return True
    kind = config.get("tokenizer_class")
    if isinstance(kind, str) and kind.startswith(("Llama", "CodeLlama", "Gemma", "Cohere")):
        return True  # these do, where nothing says otherwise
    return False if kind or document.get("post_processor") else None


def _prepends_bos(processor: Any, bos: str) -> bool:
    """Whether a post-processor puts BOS before a text."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(_prepends_bos(each, bos) for each in processor.get("processors") or ())
    first = next(iter(processor.get("single") or ()), None)
    if isinstance(first, dict):
        return bool((first.get("SpecialToken") or {}).get("id") == bos)
    return list(processor.get("cls") or ())[:1] == [bos]


LOSSLESS_NORMALIZERS = ("Prepend", "NFC")  # normalizers that lose no text


def covers_all_text(document: Mapping[str, Any]) -> bool:
    """Whether a tokenizer has tokens for all text: by its bytes, with nothing that drops or changes letters before."""
    model = document["model"]
    pieces = {piece for piece, _ in model["vocab"]} if isinstance(model["vocab"], list) else model["vocab"]
    steps = list(_flatten_steps(document.get("pre_tokenizer"), "pretokenizers"))
    for part in _flatten_steps(document.get("normalizer"), "normalizers"):
        is_space = part.get("type") == "Replace" and part.get("content") == SPACE
        if not (part.get("type") in LOSSLESS_NORMALIZERS or (is_space and part.get("pattern") == {"String": " "})):
            return False
    if any(step.get("type") not in LOSSLESS_PRE_TOKENIZERS or step.get("behavior") == "Removed" for step in steps):
        return False
    if any(step.get("type") == "ByteLevel" for step in steps):
        return model.get("type") == "BPE" and all(letter in pieces for letter in byte_letters().values())
    return bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in pieces for byte in range(256))


LOSSLESS_PRE_TOKENIZERS = (
    "ByteLevel",
    "Split",
    "Digits",
    "Metaspace",
    "Punctuation",
    "UnicodeScripts",
)  # pre-tokenizers


def _flatten_steps(step: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, a Sequence being those in it."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        for each in step.get(key) or ():
            yield from _flatten_steps(each, key)
    elif isinstance(step, dict):
        yield step
