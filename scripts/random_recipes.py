"""Random recipes over five kinds of tokenizers, against a plain expectation of all that cook makes of them.

    python scripts/random_recipes.py [--count 5000] [--seconds 60] [--seed 0]

The tokenizers are trained here, on words written for this: byte-level BPE, BPE with bytes to fall back on, Unigram,
WordPiece and WordLevel; each with control tokens of every kind, white space that tokens would take, dropout. What is
expected is written from the documentation, on top of Hugging Face tokenizers alone: ids, masks, order, splits, records
and counts. Each result must also pass `verify --deep`. Exit code 1 at the first difference, which is printed with its
seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from cook import InputError, Recipe, read_cooked, run, verify
from cook.pack.planner import random_order

WORDS = "the lamp is red and a cup was blue what which where when seven 12 boats left port by noon ? . , <CON> <QUE>"
CORPUS = [f"{WORDS} {WORDS.upper()} </CON> <ANS> </END> is it the {word}" for word in WORDS.split()] * 20
ODD_TEXTS = ("Ж", "日本", "🙂", "é", "\u0301", "\u200b", "\x07", "▁", "\u00a0")
GAPS = (" ", "  ", "\n", "\n\n", "\n\n\n", "\t", "", " \n ")
UNKNOWN = "<unk>"
NAMED, FLAGGED, UNNAMED, PLAIN = "<tool_call>", "<|pad|>", "<|fim|>", ("\n\n\n", "<b>")
CONTROL = ("<s>", "</s>", "<unk>", NAMED, FLAGGED, UNNAMED)
TEMPLATE = "{{ bos_token }}{% if tools %}{{ '<tool_call>' }}{% endif %}"


@dataclasses.dataclass
class TrainedTokenizer:
    """A tokenizer: its files, and the reference that spells control tokens in letters."""

    folder: Path
    reference: tokenizers.Tokenizer
    bos: int
    eos: int
    unknown: int | None


def train_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """A tokenizer of a kind, with <unk>, <s> and </s> for its first ids."""
    first = ["<unk>", "<s>", "</s>"]
    if kind == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=first, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "fallback":
        made = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
        steps = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
        made.normalizer = normalizers.Sequence(list(steps))
        first += [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=first, show_progress=False)
    elif kind == "unigram":
        made = tokenizers.Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=first, unk_token=UNKNOWN, show_progress=False)
    elif kind == "wordpiece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=first, show_progress=False)
    else:
        made = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(vocab_size=300, special_tokens=first, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    return made


def prepare_tokenizer(name: str, root: Path) -> TrainedTokenizer:
    """Train a tokenizer, write its files, and make its reference."""
    shipped = json.loads(train_tokenizer(name).to_str())
    if name == "fallback":  # bytes are pieces, and no added tokens
        shipped["added_tokens"] = shipped["added_tokens"][:3]
    vocab = shipped["model"]["vocab"]
    size = len(vocab)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for at, (token, special) in enumerate(((NAMED, 0), (FLAGGED, 1), (UNNAMED, 0), (PLAIN[0], 0), (PLAIN[1], 0))):
        added = {"id": size + at, "content": token, **flags, "special": bool(special)}
        shipped["added_tokens"].append(added | {"rstrip": token == NAMED, "lstrip": token == UNNAMED})
    plain = json.loads(json.dumps(shipped))
    for token in plain["added_tokens"]:
        if token["content"] in CONTROL:  # known by no text
            token["content"] = f"\ue000{token['id']}\ue000"
            token["lstrip"] = token["rstrip"] = False
    if isinstance(vocab, list):
        for at in range(3):
            plain["model"]["vocab"][at][0] = f"\ue000{at}\ue000"
    else:
        plain["model"]["vocab"] = {f"\ue000{i}\ue000" if i < 3 else piece: i for piece, i in vocab.items()}
    if plain["model"].get("unk_token"):
        plain["model"] |= {"unk_token": "\ue0000\ue000"}
    if shipped["model"]["type"] == "BPE":
        shipped["model"]["dropout"] = 0.3
    shipped["truncation"] = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    folder = root / name
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(shipped))
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    unknown = None if name == "bytes" else 0
    return TrainedTokenizer(folder, tokenizers.Tokenizer.from_str(json.dumps(plain)), 1, 2, unknown)


def random_text(draw: random.Random, words: int) -> str:
    """A text of words, with what tells tokenizers apart among them."""
    parts = []
    for _ in range(draw.randint(1, words)):
        some = draw.choices(
            (WORDS.split(), CONTROL, ODD_TEXTS, PLAIN), (20, draw.choice((0, 3)), draw.choice((0, 2)), 1)
        )[0]
        parts += [draw.choice(some) * draw.choice((1, 1, 1, 2)), draw.choices(GAPS, (12, 1, 1, 1, 1, 1, 4, 1))[0]]
    return "".join(parts)


def random_lines(draw: random.Random) -> list[bytes]:
    """The lines of a shard: entries, and lines that are none."""
    made: list[bytes] = []
    for _ in range(draw.randint(1, 9)):
        kind_of = draw.random()
        if kind_of < 0.04:
            made.append(draw.choice((b"{", b'{"context": 1, "QA_list": []}', b"[]")))
        elif kind_of < 0.08:
            made.append(b"")
        elif kind_of < 0.2 and made:
            made.append(draw.choice(made))
        else:
            sides = lambda: draw.choice((" ", "")) if draw.random() < 0.08 else random_text(draw, 8)  # noqa: E731
            pairs = [{"Q": sides(), "A": sides()} for _ in range(draw.choice((0, 1, 1, 2, 3, 5)))]
            entry = {"context": random_text(draw, draw.choice((3, 12, 40))), "QA_list": pairs}
            made.append(json.dumps(entry, ensure_ascii=draw.random() < 0.5).encode())
    return made


def random_settings(draw: random.Random) -> dict[str, Any]:
    """A recipe's settings."""
    bos = draw.choice((None, None, "none", FLAGGED))
    return {
        "bos": bos,
        "max_length": draw.choice((40, 80, 150, 400, 4096)),
        "packing": draw.choice(("best-fit", "best-fit-decreasing", "in-order", "none")),
        "overlong": draw.choice(("split", "truncate", "drop")),
        "seed": draw.choice((0, 1, 2**40)),
        "validation": draw.choice((None, None, 0.3, 2)),
        "dedup": draw.random() < 0.4,
        "limit": draw.choice((None, None, None, 5)),
        "engine": draw.choice(("auto", "hf", "splintr")),
        "delimiter": draw.choice(("\n\n", "\n", " </s> ")),
        "pair_template": draw.choice(("<QUE> {question} <ANS> {answer} </END>", "Q: {question}\nA: {answer}")),
        "on_error": "skip",
        "max_dropped": 1.0,
        "max_unknown": 1.0,
        "cache": draw.choice((None, None, None, "none")),
        "jobs": 1,
    }


Example = tuple[int, int, list[int], list[int]]  # shard, line, ids of the input with BOS, of the output with EOS


class Expected:
    """What a recipe makes of shards, entry by entry."""

    def __init__(self, kind: TrainedTokenizer, chosen: dict[str, Any], shards: list[list[bytes]]) -> None:
        self.kind, self.chosen = kind, chosen
        bos = {None: [kind.bos], "none": [], FLAGGED: kind.reference.encode("").ids}[chosen["bos"]]
        if chosen["bos"] == FLAGGED:
            tokens = json.loads((kind.folder / "tokenizer.json").read_text())["added_tokens"]
            bos = [token["id"] for token in tokens if token["content"] == FLAGGED]
        self.bos = bos
        self.ambiguous = False
        self.counts: Counter[str] = Counter()
        self.skipped: list[tuple[Any, ...]] = []
        self.lost: Counter[str] = Counter()
        made: list[tuple[str, Any, list[Example]]] = []
        for shard, rows in enumerate(shards):
            for number, row in enumerate(rows, 1):
                if not row.strip() or self.counts["entries"] == (chosen["limit"] or -1):
                    continue
                self.counts["entries"] += 1
                made += self.add_entry(shard, number, row)
        self.splits = dict(self.split(made))

    def encode(self, text: str, counted: bool = False) -> list[int]:
        """The ids of a text; what it loses is counted."""
        encoding = self.kind.reference.encode(text, add_special_tokens=False)
        if counted:
            self.counts["characters"] += len(text)
            held = set[int]()
            for i, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
                held |= set(range(begin, end)) if i != self.kind.unknown else set()
            gone = set[int]()
            for i, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
                gone |= set(range(begin, end)) if i == self.kind.unknown else set()
            for at, letter in enumerate(text):
                if at not in held and not letter.isspace() and (at in gone or letter != "\u0301"):
                    self.lost[letter] += self.kind.unknown is not None
        return encoding.ids

    def output(self, pairs: list[tuple[str, str]], counted: bool = False) -> list[int]:
        """The ids of pairs with EOS."""
        template = self.chosen["pair_template"].partition("{question}")
        middle = template[2].partition("{answer}")
        texts = [template[0] + question + middle[0] + answer + middle[2] for question, answer in pairs]
        return [*self.encode(self.chosen["delimiter"].join(texts), counted), self.kind.eos]

    def add_entry(self, shard: int, number: int, row: bytes) -> Iterator[tuple[str, Any, list[Example]]]:
        """The context, the pairs, and the examples of a line."""
        try:
            found = json.loads(row)
            context, every = found["context"], [(pair["Q"], pair["A"]) for pair in found["QA_list"]]
            assert isinstance(context, str)
        except (ValueError, TypeError, KeyError, AssertionError):
            self.skipped.append((shard, number, None, "bad_line", 0, None))
            return
        self.counts["pairs"] += len(every)
        for at, (question, answer) in enumerate(every):
            if not has_visible_text(question) or not has_visible_text(answer):
                reason = "blank_answer" if has_visible_text(question) else "blank_question"
                self.skipped.append((shard, number, at, reason, 1, None))
        pairs = [(at, pair) for at, pair in enumerate(every) if has_visible_text(pair[0]) and has_visible_text(pair[1])]
        sides = (context, *(side for _, pair in pairs for side in pair))
        self.counts["special"] += any(token in side for token in CONTROL for side in sides)
        if not pairs:
            self.skipped.append((shard, number, None, "no_pairs", 0, None))
        elif examples := self.examples(shard, number, context, pairs):
            yield context, (context, [pair for _, pair in pairs]), examples

    def examples(
        self, shard: int, number: int, context: str, pairs: list[tuple[int, tuple[str, str]]]
    ) -> list[Example]:
        """One example of an entry; of one that is too long several, or none."""
        inputs = [*self.bos, *self.encode(f" <CON> {context} </CON>" + self.chosen["delimiter"], counted=True)]
        outputs = self.output([pair for _, pair in pairs], counted=True)
        total, most = len(inputs) + len(outputs), self.chosen["max_length"]
        if total <= most:
            return [(shard, number, inputs, outputs)]
        if self.chosen["overlong"] == "drop":
            self.skipped.append((shard, number, None, "overlong", len(pairs), total))
            return []
        groups, heads = list[list[tuple[int, tuple[str, str]]]](), dict[int, list[int]]()
        for at, pair in pairs:
            single_pair_ids = self.output([pair])
            if len(inputs) + len(single_pair_ids) > most:
                if (
                    head := self.longest_head(context, most - len(single_pair_ids))
                    if self.chosen["overlong"] == "truncate"
                    else None
                ):
                    heads[at] = head
                else:
                    self.skipped.append((shard, number, at, "overlong", 1, total))
            elif groups and len(inputs) + len(self.output([*(each for _, each in groups[-1]), pair])) <= most:
                groups[-1].append((at, pair))
            else:
                groups.append([(at, pair)])
        made = [(group[0][0], inputs, self.output([pair for _, pair in group])) for group in groups]
        made += [(at, heads[at], self.output([pair])) for at, pair in pairs if at in heads]
        self.counts["truncated"] += len(heads)
        if made:
            self.counts["split"] += 1
        else:
            self.skipped.append((shard, number, None, "overlong", 0, total))
        return [(shard, number, head, outputs) for _, head, outputs in sorted(made)]

    def longest_head(self, context: str, room: int) -> list[int] | None:
        """The ids of an input with the longest head of a context that ends where a token does, and fits."""
        before, after = " <CON> ", " </CON>" + self.chosen["delimiter"]
        whole = before + context + after
        spans = self.kind.reference.encode(whole, add_special_tokens=False).offsets
        ends = [span[1] for span in spans if not any(begin < span[1] < stop for begin, stop in spans)]
        cuts = sorted({end - len(before) for end in ends if 0 < end - len(before) < len(context)})
        tried = [[*self.bos, *self.encode(before + context[:cut] + after)] for cut in cuts]
        fits = [ids for ids in tried if len(ids) <= room]
        self.ambiguous |= fits != tried[: len(fits)]  # a longer head may have fewer tokens; which is found is open
        return fits[-1] if fits else None

    def split(self, made: list[tuple[str, Any, list[Example]]]) -> Iterator[tuple[str, list[list[Example]]]]:
        """The sequences of each split."""
        chosen, kept, seen = self.chosen, [], []
        for context, key, examples in made:
            if chosen["dedup"] and key in seen:
                lost = [row for row in self.skipped if row[:2] == examples[0][:2] and row[3] == "overlong"]
                pairs = len(key[1]) - len(lost)
                self.skipped.append((*examples[0][:2], None, "repeat", pairs, None))
                continue
            seen.append(key)
            group = context.encode() if has_visible_text(context) else orjson.dumps(key)  # no context is no group
            kept.append((int.from_bytes(hashlib.blake2b(group, digest_size=8).digest(), "little"), examples))
        limit = 0.0
        if isinstance(share := chosen["validation"], float):
            limit = share * 2**64
        elif share is not None:
            hashes = sorted(value for value, _ in kept)
            fits = [value for value in {*hashes} if sum(each <= value for each in hashes) <= share]
            limit = max(fits, default=-1) + 1
        for name in ("train", "validation"):
            rows = [each for value, all_of in kept if (value < limit) == (name == "validation") for each in all_of]
            if rows or name == "train":
                yield name, pack_examples(rows, chosen)


def has_visible_text(text: str) -> bool:
    """Whether a text has anything to see in it: more than white space, controls and signs of format."""
    return any(not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf") for letter in text)


def pack_examples(examples: list[Example], chosen: dict[str, Any]) -> list[list[Example]]:
    """Examples in sequences, as the packing says: best fit with no thought of time."""
    size = [len(inputs) + len(outputs) for _, _, inputs, outputs in examples]
    order = list(range(len(examples)))
    if chosen["packing"].startswith("best-fit"):
        order = random_order(len(examples), chosen["seed"], 0).tolist()
    if chosen["packing"] == "best-fit-decreasing":
        order.sort(key=lambda at: -size[at])
    rows: list[list[int]] = []
    touched: list[int] = []
    for step, at in enumerate(order):
        rooms = [chosen["max_length"] - sum(size[i] for i in row) for row in rows]
        fitting = [row for row, room in enumerate(rooms) if room >= size[at]]
        if chosen["packing"] == "in-order":
            fitting = [row for row in fitting if row == len(rows) - 1]
        if chosen["packing"] == "none" or not fitting:
            rows.append([at])
            touched.append(step)
            continue
        best = min(fitting, key=lambda row: (rooms[row], -touched[row]))
        rows[best].append(at)
        touched[best] = step
    return [[examples[at] for at in row] for row in rows]


def differences(expected: Expected, folder: Path) -> Iterator[str]:
    """What of a cooked dataset is not as expected."""
    cooked = read_cooked(folder)
    for split, sequences in expected.splits.items():
        wanted = [
            (
                [i for _, _, inputs, outputs in row for i in (*inputs, *outputs)],
                [m for _, _, inputs, outputs in row for m in [0] * len(inputs) + [1] * len(outputs)],
                [(shard, line, len(inputs) + len(outputs)) for shard, line, inputs, outputs in row],
            )
            for row in sequences
        ]
        found = []
        for row in cooked.sequences(split):
            labels = np.where(row.loss_mask == 1, row.input_ids, -100)
            if not np.array_equal(labels, row.labels):
                yield f"{split}: labels"
            places = zip(row.source_shard.tolist(), row.source_line.tolist(), row.seq_lengths.tolist(), strict=True)
            found.append((row.input_ids.tolist(), row.loss_mask.tolist(), list(places)))
        if found != wanted:
            yield f"{split}: {len(found)} sequences, {len(wanted)} expected; {first_difference(found, wanted)}"
    yield from record_differences(expected, folder, cooked.manifest["counts"])


def record_differences(expected: Expected, folder: Path, counts: dict[str, Any]) -> Iterator[str]:
    """What of skipped.jsonl and of the manifest's counts is not as expected."""
    names = [f"{shard:05}.jsonl" for shard in range(9)]
    records = folder / "skipped.jsonl"
    rows = [json.loads(row) for row in records.read_text().splitlines()] if records.exists() else []
    left = sorted(
        str((names.index(r["shard"]), r["line"], r["pair"], r["reason"], r["pairs"], r["tokens"])) for r in rows
    )
    if left != sorted(map(str, expected.skipped)):
        yield f"skipped.jsonl: {first_difference(left, sorted(map(str, expected.skipped)))}"
    every = [row for sequences in expected.splits.values() for sequence in sequences for row in sequence]
    wanted_counts = {
        **{key: expected.counts[key] for key in ("entries", "pairs", "split", "truncated")},
        "special_strings": expected.counts["special"],
        "examples": len(every),
        "sequences": sum(map(len, expected.splits.values())),
        "tokens": sum(len(inputs) + len(outputs) for _, _, inputs, outputs in every),
        "trained_tokens": sum(len(outputs) for _, _, _, outputs in every),
    }
    for key, value in wanted_counts.items():
        if counts[key] != value:
            yield f"counts.{key} is {counts[key]}; expected {value}"
    unknown = counts.get("unknown", {"characters": 0, "of": expected.counts["characters"]})
    lost = expected.lost.total()
    if (unknown["characters"], unknown["of"]) != (lost, expected.counts["characters"]):
        yield f"counts.unknown is {unknown}; expected {lost} of {expected.counts['characters']}: {expected.lost}"


def first_difference(found: list[Any], wanted: list[Any]) -> str:
    """Where two lists begin to differ."""
    for one, other in zip(found, wanted, strict=False):
        if one != other:
            return f"{one}\n  expected {other}"
    return f"{found[len(wanted) :] or ''} expected {wanted[len(found) :] or ''}"


def run_case(seed: int, kinds: list[TrainedTokenizer], root: Path) -> str:
    """Cook one random recipe and compare; its kind of tokenizer, or another outcome. Raises AssertionError.

    What is ambiguous is only verified.
    """
    draw = random.Random(seed)  # noqa: S311 - draws cases
    kind, chosen = draw.choice(kinds), random_settings(draw)
    shards = [random_lines(draw) for _ in range(draw.choice((1, 1, 2, 3)))]
    folder = root / f"case-{seed}"
    (folder / "source" / "set").mkdir(parents=True)
    for number, rows in enumerate(shards):
        (folder / "source" / "set" / f"{number:05}.jsonl").write_bytes(b"".join(row + b"\n" for row in rows))
    expected = Expected(kind, chosen, shards)
    recipe = Recipe(datasets="set", tokenizer=kind.folder, source=folder / "source", output=folder / "out", **chosen)
    try:
        run(recipe)
    except InputError:
        if expected.splits["train"]:
            raise
        return "refused"
    found = [] if expected.ambiguous else list(differences(expected, folder / "out" / "set"))
    checked = verify(folder / "out", deep=True, source=str(folder / "source"), tokenizer=str(kind.folder))
    found += [str(finding) for each in checked.datasets for finding in each.findings]
    assert not found, "\n".join([str(chosen), *found])
    return "ambiguous" if expected.ambiguous else kind.folder.name


def main() -> int:
    """Try cases until so many are done, or so much time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    begun, outcomes = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["COOK_CACHE"] = str(root / "cache")
        kinds = [prepare_tokenizer(each, root) for each in ("bytes", "fallback", "unigram", "wordpiece", "wordlevel")]
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            if arguments.seconds and time.monotonic() - begun > arguments.seconds:
                break
            try:
                outcomes[run_case(seed, kinds, root)] += 1
            except Exception as exc:
                print(f"seed {seed}: {type(exc).__name__}: {exc}", file=sys.stderr)
                return 1
            shutil.rmtree(root / f"case-{seed}")
    print(
        f"{outcomes.total():,} recipes in {time.monotonic() - begun:.0f} s, no difference: "
        f"{dict(sorted(outcomes.items()))}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
