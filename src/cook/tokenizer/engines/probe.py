"""A fast engine is probed before it is trusted: on a set of texts that have told tokenizers apart.

A preset is held against ids committed beside this file (`probe.json`, made by `scripts/renew.py probe` with the
reference); a tokenizer.json against the reference itself. That costs about a second, so its verdict is kept in the
cache, by the file's fingerprint and the engine's version. It is held against more texts: with each control token's
string alone, doubled, among words, at each border, and beside characters that no vocabulary holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from cook.tokenizer.engine import Engine

PROBE_VERSION = 2  # of what is asked of an engine: raise it when that changes
MAX_PROBED_PER_END = 150  # control tokens of which each is probed, from both ends of the list: thousands are alike
UNCOMMON_TEXTS = ("Ж", "日", "🙂", "\U000f0000", "\u0301", "\x07")
PROBE_TEXTS = (
    "", " ", "  ", "   a", "\n", "\n\n", " \n \n  ", "\t\tx\t", "\r\n", "a\r\nb\rc", "\u00a0x", "\u3000全角　空白",
    " <CON> A plain sentence, with commas. </CON>\n\n",
    "<QUE> Who wrote it? <ANS> Nobody knows. </END>\n\n<QUE> When? <ANS> In 1066. </END>",
    "<QUE>  <ANS>  </END>", "</END></END>", "{context} {question} {{answer}}",
    "I'm, you're, it's, we'll, I'd; DON'T; ‘curly’ it’s “quoted”",
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 1e-9 ½ ² ٣ ४ Ⅷ",
    "E = mc², a₁ + b₂ ≤ √π ∑∞, 20 °C, €5, £6, ¥7, 5 µm, 3×4÷2±1",
    "e\u0301 \u00e9 e\u0301\u0301 A\u030a \u212b ﬁ ﬀ ① Ǆ", "\u1100\u1161\u11a8 각 한국어", "İstanbul ıI ß ẞ ŉ",
    "naïve café Übermaß señor Łódź Đặng", "Привет, мир! Ελληνικά Ωμέγα עברית العربية हिन्दी ไทย ქართული",
    "日本語のテキスト。中文文本，测试！", "👍 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ ☃", "a\u200bb\u200dc\u2060d\ufeffe\u00adf",
    "\x00", "a\x00b\x01\x02\x1f\x7f\x80\x9f", "\ufffd\uffff\U0010ffff\U0001f9ff",
    "▁", "▁▁a ▁b", "a▁b", "Ġ Ċ Ġword", "<0x0A> <0xFF>", "<unk> <s> </s> <pad>",
    "<|begin_of_text|><|end_of_text|><|eot_id|><|reserved_special_token_5|>", "<|endoftext|><|im_start|>user<|im_end|>",
    "<|user|> <|think|>x<|/think|> <|pad|>", "[INST] [/INST] <<SYS>> [CLS] [SEP] [MASK]", "<s", "s>", "<|", "|>", "<|eot_id",
    "def f(x):\n    return {'a': [x, 1.5], \"b\": None}  # TODO\n\n\n\nclass A:\n\tpass\n",
    "https://example.org/a_b?c=d&e=%20f#g user@example.org C:\\dir\\file.txt",
    "| a | b |\n|---|---|\n| 1 | 2 |\n", "a" * 200, "ab" * 150, " " * 100 + "x", "\n" * 50, "-" * 80, "!?" * 40, "é" * 60, "日" * 60,
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis", "CamelCaseWordsAndACRONYMSTogether42",
    "end with space ", " begin", "x \n", "one\n two\n  three\n   four",
)  # fmt: skip


def probe_texts(specials: Sequence[str]) -> list[str]:
    """TEXTS, and texts that hold control tokens' strings in every way that has told engines apart."""
    chosen = (
        specials
        if len(specials) <= 2 * MAX_PROBED_PER_END
        else [*specials[:MAX_PROBED_PER_END], *specials[-MAX_PROBED_PER_END:]]
    )
    return [
        *PROBE_TEXTS,
        *itertools.chain.from_iterable(map(_in_contexts, chosen)),
        *UNCOMMON_TEXTS,
        "".join(chosen),
        " ".join(chosen),
    ]


def _in_contexts(token: str) -> Iterator[str]:
    yield from (token, token * 2, f" {token}", f"{token} ", f"{token} \n\n  x", f"a{token}b", f"the {token} end")
    yield from (f"{token}{token[:-1]}", f"{token[1:]}{token}", f"\n{token}\n", f"{token[:1]}{token}{token[-1:]}")
    for other in UNCOMMON_TEXTS:
        yield from (f"{other}{token}", f"{token}{other}", f"is {other} {token}{other}{token} a")


def gives_same_ids(one: Engine, other: Engine, texts: Sequence[str]) -> bool:
    """Whether two engines give the same ids for texts. Raises TokenizerError where one gives none."""
    (ids, offsets), (others, other_offsets) = one.encode(texts), other.encode(texts)
    return np.array_equal(offsets, other_offsets) and np.array_equal(ids, others)


def probe_ids(engine: Engine) -> list[list[int]]:
    """The ids that an engine gives for PROBE_TEXTS, one list a text."""
    ids, offsets = engine.encode(PROBE_TEXTS)
    return [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def known_ids(preset: str) -> list[list[int]]:
    """The ids of PROBE_TEXTS by the reference, for a preset."""
    table: dict[str, list[list[int]]] = orjson.loads(Path(__file__).with_name("probe.json").read_bytes())
    return table[preset]
