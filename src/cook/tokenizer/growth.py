"""How much longer a tokenizer.json may make a text before it is encoded: one of two kilobytes can ask for gigabytes.

Steps that replace text are bounded by their own strings, one after the other. The forms of Unicode, and case, are not
counted: once applied they change nothing again, and make a text at most 54 times as long.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cook.core.errors import TokenizerError

MAX_GROWTH = 64
DOUBLING_STEPS = ("ByteLevel", "Metaspace")  # a letter may become two
# A pattern of which each match has a letter or more: literals and classes, of which none is optional.
NON_EMPTY_MATCH = re.compile(
    r"(?:(?:\\[pP]\{\^?\w+\}|\\[^bBAzZGKpPk0-9]|\[[^\[\]]+\]|[^\\\[\](){}?*+|^$])(?:\+|\{[1-9]\d*(?:,\d*)?\})?)+"
)


def check_growth(path: Path, document: dict[str, Any]) -> None:
    """Raise TokenizerError for a tokenizer.json that can make a text, or a token, longer than MAX_GROWTH times."""
    try:
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            factor = 1
            for step in _steps(document.get(part)):
                factor *= _growth_factor(step)
                if factor > MAX_GROWTH:
                    raise TokenizerError(
                        f"{path}: its {part} can make a text more than {MAX_GROWTH} times as long, by "
                        f"{step['type']}: no "
                        "tokenizer of a model does; is it whole, and from who it should be?"
                    )
        model = document.get("model") or {}
        for name in ("continuing_subword_prefix", "end_of_word_suffix"):
            if len(model.get(name) or "") > MAX_GROWTH:
                raise TokenizerError(f"{path}: its {name} has more than {MAX_GROWTH} letters, which each token gets")
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise TokenizerError(f"{path}: is not a tokenizer.json: its {part} cannot be read: {exc!r}") from exc


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    waiting = [step] if step else []
    while waiting:
        step = waiting.pop(0)
        inner = [below for key in ("normalizers", "pretokenizers", "decoders") for below in step.get(key) or ()]
        if inner:
            waiting = inner + waiting
        else:
            yield step


def _growth_factor(step: dict[str, Any]) -> int:
    kind = step["type"]
    if kind == "Replace":
        content = len(step["content"])
        if "String" in step["pattern"]:
            return max(1, -(-content // max(1, len(step["pattern"]["String"]))))
        return max(1, content) if NON_EMPTY_MATCH.fullmatch(step["pattern"]["Regex"]) else content + 1
    if kind == "Prepend":
        return max(1, len(step["prepend"]))
    if kind == "Precompiled":  # the size of a trie, the trie, and what it leads to, each ended by a zero
        data = base64.b64decode(step["precompiled_charsmap"] or "")
        texts = data[4 + int.from_bytes(data[:4], "little") :]
        return max(1, *(len(text.decode(errors="replace")) for text in texts.split(b"\0")), 1)
    return 2 if kind in DOUBLING_STEPS else 1
