"""Real tokenizers: no string of data forges a control token, no text is lost, all other text has the model's own ids.

    python scripts/check_tokenizers.py FOLDER [FOLDER ...]

Each FOLDER has a tokenizer.json and a tokenizer_config.json. Every string that a flag, the configuration or the chat
template names as a control token (and of the unnamed, which may be thousands, some) stands in a context, a question
and an answer: alone, doubled, and at borders. What is cooked of that must hold no control id but its own BOS and EOS,
must decode to the text by Hugging Face tokenizers, and pass `verify --deep`. Exit code 1 for what does not hold.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers

from cook import Recipe, read_cooked, run, verify
from cook.shapes.formatter import Formatter
from cook.tokenizer.engines.probe import PROBE_TEXTS
from cook.tokenizer.loading import Tokenizer, load_engine, resolve_tokenizer

MAX_UNNAMED = 60  # of the unnamed


def control_strings(folder: Path) -> tuple[list[str], list[str]]:
    """The control strings of a folder, found without cook's help: those named or flagged, and all other markers."""
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = json.dumps(config.pop("chat_template", ""), ensure_ascii=False)
    if (folder / "chat_template.jinja").exists():
        template += (folder / "chat_template.jinja").read_text()
    decoder = config.pop("added_tokens_decoder", {})
    flagged = {token["content"] for token in [*added, *decoder.values()] if token.get("special")}
    config_text = json.dumps(config, ensure_ascii=False)
    inside = [token["content"] for token in added if token["content"].strip("\n\t ▁")]
    words = [value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)]
    inside += [token for token in dict.fromkeys(words) if token not in inside]
    named = [
        token for token in inside if token in flagged or json.dumps(token, ensure_ascii=False)[1:-1] in config_text
    ]
    named += [token for token in inside if token not in named and token in template]
    markers = [token for token in inside if token not in named and token[0] in "<[" and token[-1] in ">]"]
    return named, [token for token in markers if not token.strip("<>/[]").isalpha()]  # HTML tags are text


def entries(found: list[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Contexts with their pairs: each string in each place."""
    for string in found:
        yield string, [("q", "a")]
        yield "c", [(string, "a"), ("q", string), (string * 2, string * 2)]
        yield (
            f"a{string}b {string}\n\n{string}   x",
            [(f" {string} q", f"\n{string}é"), (f"{string}\n", f"日{string} ")],
        )


def check(folder: Path, root: Path) -> list[str]:
    """What does not hold of a tokenizer."""
    tokenizer = resolve_tokenizer(Recipe(datasets="set", tokenizer=str(folder)))
    named, others = control_strings(folder)
    names = {token for token, _ in tokenizer.specials}
    wrong = [f"{token!r} is no control token" for token in named if token not in names]
    rows = list(entries([*named, *others[:: max(1, len(others) // MAX_UNNAMED)]]))
    shard = root / "source" / "set" / "00000.jsonl"
    shard.parent.mkdir(parents=True)
    with shard.open("w") as file:
        for context, pairs in rows:
            made = [{"Q": question, "A": answer} for question, answer in pairs]
            file.write(json.dumps({"context": context, "QA_list": made}) + "\n")
    recipe = Recipe(
        datasets="set", tokenizer=str(folder), source=root / "source", output=root / "out", packing="none", cache="none"
    )
    run(recipe)
    wrong += cooked_differences(tokenizer, recipe, rows, root / "out" / "set", folder)
    checked = verify(root / "out", deep=True, source=str(root / "source"), tokenizer=str(folder))
    wrong += [str(finding) for each in checked.datasets for finding in each.findings]
    return [*wrong, *other_differences(tokenizer, folder)]


def cooked_differences(
    tokenizer: Tokenizer, recipe: Recipe, rows: list[tuple[str, list[tuple[str, str]]]], folder: Path, files: Path
) -> Iterator[str]:
    """What does not hold of the cooked rows, read by Hugging Face tokenizers alone."""
    own = tokenizers.Tokenizer.from_file(str(files / "tokenizer.json"))
    formatter, forbidden = Formatter(recipe), {i for _, i in tokenizer.specials} - {tokenizer.unk_id}
    sequences = list(read_cooked(folder).sequences("train"))
    if len(sequences) != len(rows):
        yield f"{len(sequences)} examples of {len(rows)} entries"
    for row, (context, pairs) in zip(sequences, rows, strict=True):
        border = int(np.argmax(row.loss_mask))
        inputs = row.input_ids[int(tokenizer.bos_id is not None) : border].tolist()
        outputs = row.input_ids[border:-1].tolist()
        if forged := forbidden & {*inputs, *outputs}:
            yield f"{context!r}, {pairs!r}: control ids {forged}"
        texts = formatter.input_text(context), formatter.output_text(pairs)
        for ids, text in zip((inputs, outputs), texts, strict=True):
            reads = own.decode(ids, skip_special_tokens=False)
            if reads.removeprefix(" ") != text.removeprefix(" "):
                yield f"reads {reads!r}; expected {text!r}"


def other_differences(tokenizer: Tokenizer, folder: Path) -> Iterator[str]:
    """Texts without a control string whose ids are not those of the model's own tokenizer.json."""
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    ordinary = [token.content for token in own.get_added_tokens_decoder().values() if not token.special]
    spelt = {token for token, _ in tokenizer.specials}
    ordinary = [token for token in ordinary if token not in spelt]
    texts = [*PROBE_TEXTS, *(f"a {token}{token} b" for token in ordinary[:500]), "".join(ordinary[:500])]
    texts = [text for text in texts if not any(token in text for token in spelt)]
    ids, offsets = load_engine(tokenizer).encode(texts)
    for at, text in enumerate(texts):
        if ids[offsets[at] : offsets[at + 1]].tolist() != own.encode(text, add_special_tokens=False).ids:
            yield f"{text!r} has other ids than the model's own tokenizer gives"


def main() -> int:
    """Check each folder; a line for each."""
    failed = 0
    for folder in map(Path, sys.argv[1:]):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as root, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrong = check(folder, Path(root))
        tokenizer = resolve_tokenizer(Recipe(datasets="set", tokenizer=str(folder), bos="none"))
        named, others = control_strings(folder)
        counts = f"{len(named)} named, {len(others)} other markers, {len(tokenizer.unnamed)} unnamed"
        print(f"{folder.name}: {tokenizer.engine}, {counts}: {f'{len(wrong)} wrong' if wrong else 'right'}, ", end="")
        print(f"{time.monotonic() - begun:.0f} s", *sorted({str(each.message) for each in caught}), sep="\n  ")
        print(*wrong[:5], sep="\n  ")
        failed += bool(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
