"""Three rounds of prompts on real contexts, held against the published procedure and against the limit.

    python scripts/check_rounds.py COLLECTION [TOKENIZER ...]

A thousand contexts of the collection, drawn by a seed, go through `cook prompts` and `cook parse` three times, at two
lengths; answers are made up, well and badly formed. Each prompt must be the published one (tests/published_rounds.py),
without a history or with it, and with it where both the published estimate of the length (1.5 times the words) and the
count of tokens let it in; none may be over the limit. Prints a line for each tokenizer and length; exit code 1 if a
prompt is another.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import orjson

from cook import parse, prompts
from cook.read.lines import ByteRange, Line, LineReader
from cook.read.sources import open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import published_rounds as published
from synthesis.test_rounds import a_generation, lines

TEXTS, ROUNDS, MAX_NEW_TOKENS, LENGTHS = 1000, 3, 400, (4096, 1024)


def contexts(collection: str) -> list[str]:
    """Texts of a collection, each once, drawn by a seed."""
    source = open_source(collection)
    found: dict[str, None] = {}
    for name in source.names():
        for shard in source.shards(name):
            for line in LineReader(ByteRange(str(shard.path), 0, None)):
                if isinstance(line, Line):
                    found[orjson.loads(line.text)["context"]] = None
    texts = [text for text in found if text.strip()]
    random.Random(3).shuffle(texts)  # noqa: S311
    return texts[:TEXTS]


def check(texts: list[str], tokenizer: str, max_length: int, folder: Path) -> Counter[str]:
    """The rounds of one tokenizer and length."""
    draw, counts, before = random.Random(3), Counter[str](), None  # noqa: S311
    raw = folder / "raw.jsonl"
    raw.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
    runs = published.runs(texts, ROUNDS)
    chains: dict[int, list[published.Entry]] = {}
    for number, run in enumerate(runs):
        asked = prompts(
            raw, folder / f"{number}.jsonl", tokenizer=tokenizer, rounds=ROUNDS, max_length=max_length,
            max_new_tokens=MAX_NEW_TOKENS, previous=before, cache="none",
        )  # fmt: skip
        published.BOS, published.EOS = asked.manifest["tokenizer"]["bos"], asked.manifest["tokenizer"]["eos"]
        rows = lines(asked.file)
        answers = folder / f"answers-{number}.jsonl"
        with answers.open("wb") as file:
            for row in rows:
                text = a_generation(draw, row["prompt"].split("<CON>")[-1])
                file.write(orjson.dumps({"custom_id": row["custom_id"], "text": text}) + b"\n")
        own = {int(row["custom_id"].rpartition("-")[2]): row for row in rows}
        for chain, text in enumerate(run):
            row = own.get(number * len(runs[0]) + chain)
            counts[
                _judge_prompt(row, published.ask(chains.get(chain, []), text, max_length, MAX_NEW_TOKENS), max_length)
            ] += 1
        before = folder / "pairs" / str(number)
        parse(answers, before, prompts=asked.file, unique_questions=True)
        chains = {}
        for row in lines(before / "shard" / "00000.jsonl"):
            chains.setdefault(row["chain"], []).append(row)
    return counts


def _judge_prompt(row: dict[str, object] | None, asked: published.Asked, max_length: int) -> str:
    if row is None:
        return "too long for a prompt"
    prompt, ids = row["prompt"], row["prompt_token_ids"]
    assert isinstance(ids, list)
    if prompt not in (asked.alone, asked.with_history) or len(ids) > max_length - MAX_NEW_TOKENS:
        return "WRONG"
    if asked.with_history is None:
        return "no history to give"
    has_history = prompt != asked.alone
    return "judged otherwise" if has_history != asked.follows else "alike, given" if has_history else "alike, not given"


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", help="a source, as for cook")
    parser.add_argument("tokenizers", nargs="*", metavar="TOKENIZER", help="llama3 and mistral")
    given = parser.parse_args()
    texts, wrong = contexts(given.collection), 0
    for tokenizer in given.tokenizers or ["llama3", "mistral"]:
        for max_length in LENGTHS:
            with tempfile.TemporaryDirectory() as folder:
                counts = check(texts, tokenizer, max_length, Path(folder))
            wrong += counts["WRONG"]
            print(f"{tokenizer} {max_length}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
