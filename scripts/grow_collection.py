"""Make a collection of any size out of given shards, for benchmarks, by seeded recombination of their sentences.

    python scripts/grow_collection.py SOURCE TARGET --size 25MB [--dataset NAME …] [--shard-size 8MB] [--seed 0]

SOURCE is a folder laid out DATASET/shard/*.jsonl, or `sample`; TARGET becomes another such folder.

Every new entry has an entry of the source as its template. Each sentence of the context gives way to one of about its
length from anywhere in the dataset; in a table, titles and header stay and each row gives way to one with as many
columns. Questions and answers are drawn from the dataset's own. All of it is dealt like cards, every one once before
any comes again, so that lengths and counts are spread as in the source and what a tokenizer sees stays real text; what
the texts say makes no sense.

The same arguments give the same bytes on any machine. The source is held in memory; what is made of it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import orjson

from cook.core.catalog import ALL_DATASETS, select_datasets
from cook.core.errors import BadLines, CookError, InputError, OutputError, OutputExists, Problem
from cook.read.lines import SUFFIXES, ByteRange, LineReader
from cook.read.source import Source
from cook.read.sources import open_source
from cook.shapes.context_qa import Entry, parse_entry
from cook.shapes.formatter import Pair

TOLERANCE = 0.01  # how far from the size asked for the result may be
MIN_SHARE = 0.02  # of an equal share: what a dataset gets at least, however little of the source it is
SENTENCE, RARE_WIDTH = 0, -1  # kinds of text
MIN_GROUP = 32  # texts of about one length that stand for each other, at least
MAX_LENGTH_RATIO = 1.1  # longest to shortest in a group that has GROUP already
RARE_BELOW = 8  # rows of a width below this many go together with rows of other rare widths
MAX_REPEATS = 1000  # entries met before, one after the other, that show that there is no new one
SEEN_BITS = 27  # 2**27 bits are 16 MiB
UNITS = {"": 0, "k": 1, "m": 2, "g": 3}
T = TypeVar("T")

# A sentence ends with its line, before white space that follows a mark, or right after a mark that needs none.
SENTENCE_END = re.compile(
    r"""\s*\n\s* | (?: (?<=[.!?…]) | (?<=[.!?…]["'”’»)\]]) )\s+ | (?<=[。！？])(?!\Z|[。！？」』）])\s*""", re.VERBOSE
)


class ContextPieces(NamedTuple):
    """A context in pieces: at odd places what can be replaced, at even places what stays."""

    pieces: list[str]
    kinds: list[int]  # of each odd piece, which gives way to one of its kind: SENTENCE, or how many columns a row has


class Template(NamedTuple):
    """An entry of the source with its texts taken out."""

    frame: list[str]  # the pieces of the context; those at odd places are filled in
    samplers: list[Callable[[], str]]  # what fills them
    pairs: int


class EntryGenerator:
    """All the texts of a dataset, and endless new entries made of them."""

    def __init__(self, name: str, entries: Sequence[Entry], seed: int) -> None:
        sizes = [len(encode(entry.context, entry.pairs)) for entry in entries]
        self.name, self.size, self.longest = name, sum(sizes), max(sizes)
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        chance = random.Random(int.from_bytes(digest[:8], "big")).random  # noqa: S311 - for benchmarks, not for secrets
        cuts = [split_context(entry.context) for entry in entries]
        draws = _text_samplers(cuts, chance)
        templates = [
            Template(["" if index % 2 else piece for index, piece in enumerate(pieces)], mine, len(entry.pairs))
            for entry, (pieces, _), mine in zip(entries, cuts, draws, strict=True)
        ]
        self._templates = shuffled_forever(templates, chance)
        self._questions = shuffled_forever([question for entry in entries for question, _ in entry.pairs], chance)
        self._answers = shuffled_forever([answer for entry in entries for _, answer in entry.pairs], chance)

    def lines(self) -> Iterator[bytes]:
        """New entries, one line of JSON each, for ever. Two of them may be the same."""
        for template in self._templates:
            frame = template.frame.copy()
            frame[1::2] = [draw() for draw in template.samplers]
            pairs = zip(islice(self._questions, template.pairs), self._answers, strict=False)
            yield encode("".join(frame), pairs)


def encode(context: str, pairs: Iterable[Pair]) -> bytes:
    """An entry as a line of a shard."""
    row = {"context": context, "QA_list": [{"Q": question, "A": answer} for question, answer in pairs]}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def shuffled_forever(deck: list[T], random_float: Callable[[], float]) -> Iterator[T]:
    """The items of a deck in a random order, then all of them in another, for ever; an empty deck gives none.

    A shuffle by Fisher and Yates, on random() as the one method whose sequence Python promises to keep.
    """
    while deck:
        for left in range(len(deck) - 1, -1, -1):
            pick = int(random_float() * (left + 1))
            item = deck[pick]
            deck[pick] = deck[left]
            deck[left] = item
            yield item


def split_context(context: str) -> ContextPieces:
    r"""A context in pieces; joined, they are the context.

    >>> split_context("One. Two!").pieces
    ['', 'One.', ' ', 'Two!', '']
    >>> split_context("Runners\nPlace | Name\n1 | Ann\n2 | Bo")
    ContextPieces(pieces=['Runners\nPlace | Name\n', '1 | Ann', '\n', '2 | Bo', ''], kinds=[2, 2])
    """
    body = context.rstrip("\n")
    lines = body.split("\n")
    columns = [1 + (line.count(" | ") or line.count("\t")) for line in lines]
    header = next((index for index, count in enumerate(columns) if count > 1), 0)
    rows = lines[header + 1 :]
    if rows and 2 * sum(count > 1 for count in columns) >= len(lines):
        pieces = ["\n".join(lines[: header + 1]) + "\n"]
        for row in rows:
            pieces += (row, "\n")
        pieces[-1] = context[len(body) :]
        return ContextPieces(pieces, columns[header + 1 :])
    body = context.strip()
    if not body:
        return ContextPieces([context], [])
    before, _, after = context.partition(body)
    pieces = [before, *_split_sentences(body), after]
    return ContextPieces(pieces, [SENTENCE] * (len(pieces) // 2))


def _split_sentences(text: str) -> list[str]:
    """Sentences, and between each two what stands there."""
    parts: list[str] = []
    position = 0
    for end in SENTENCE_END.finditer(text):
        parts += (text[position : end.start()], end[0])
        position = end.end()
    return [*parts, text[position:]]


def _text_samplers(cuts: Sequence[ContextPieces], random_float: Callable[[], float]) -> list[list[Callable[[], str]]]:
    """For each replaceable piece of each context, what draws a text of its kind and of about its length."""
    places = defaultdict(list)  # kind -> (length of the piece, context, which of its replaceable pieces)
    for context, (pieces, kinds) in enumerate(cuts):
        for index, kind in enumerate(kinds):
            places[kind].append((len(pieces[2 * index + 1]), context, index))
    rare = [kind for kind, found in places.items() if kind != SENTENCE and len(found) < RARE_BELOW]
    if rare:
        places[RARE_WIDTH] = [place for kind in rare for place in places.pop(kind)]
    draws: list[list[Callable[[], str]]] = [[str] * len(kinds) for _, kinds in cuts]
    for kind in sorted(places):
        for group in _group_by_length(sorted(places[kind])):
            draw = shuffled_forever(
                [cuts[context].pieces[2 * index + 1] for _, context, index in group], random_float
            ).__next__
            for _, context, index in group:
                draws[context][index] = draw
    return draws


def _group_by_length(places: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Places by ascending length in groups of about one length, none below GROUP where there are that many."""
    start = 0
    for end, (length, _, _) in enumerate(places):
        if end - start >= MIN_GROUP and len(places) - end >= MIN_GROUP and length > MAX_LENGTH_RATIO * places[start][0]:
            yield places[start:end]
            start = end
    yield places[start:]


class SeenLines:
    """The lines met before, in memory that does not grow: one bit for each hash.

    A new line is at times taken for one met before, and is lost; a line met before is never taken for a new one.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << (SEEN_BITS - 3))

    def add(self, line: bytes) -> bool:
        """Whether the line is new."""
        place, bit = divmod(zlib.crc32(line) & ((1 << SEEN_BITS) - 1), 8)
        if self._bits[place] >> bit & 1:
            return False
        self._bits[place] |= 1 << bit
        return True


def load_generator(source: Source, name: str, seed: int) -> EntryGenerator:
    """The larder of a dataset. Raises SourceError, InputError."""
    entries: list[Entry] = []
    for shard in source.shards(name):
        for line in LineReader(ByteRange(str(shard.path), 0, None)):
            entry = [line] if isinstance(line, Problem) else parse_entry(str(shard.path), line)
            if isinstance(entry, list):
                raise BadLines(entry, len(entry))
            entries.append(entry)
    if not entries:
        raise InputError(f"{source.root / name}: holds no entry")
    return EntryGenerator(name, entries, seed)


def write_shards(
    generator: EntryGenerator, folder: Path, size: int, shard_size: int, seen: SeenLines
) -> tuple[int, int]:
    """Write shards of about `size` bytes in total, one entry at least; how many entries and bytes they are.

    Raises InputError.
    """
    folder.mkdir(parents=True)
    entries = written = in_shard = shards = repeats = 0
    file = None
    try:
        for line in generator.lines():
            if entries and written + len(line) / 2 > size:  # without it the size is met more closely
                break
            if not seen.add(line):
                repeats += 1
                if repeats == MAX_REPEATS:
                    raise InputError(f"{generator.name}: no more than {written:,} bytes of distinct entries come of it")
                continue
            if file is None or in_shard + len(line) > shard_size:
                if file is not None:
                    file.close()
                file = (folder / f"{shards:05}.jsonl").open("wb", buffering=1 << 20)
                in_shard, shards = 0, shards + 1
            file.write(line)
            repeats = 0
            entries += 1
            written += len(line)
            in_shard += len(line)
    finally:
        if file is not None:
            file.close()
    return entries, written


def dataset_shares(sizes: Sequence[int]) -> list[float]:
    """What share of the whole each gets: that of its size, or the floor."""
    floored = [max(size / sum(sizes), MIN_SHARE / len(sizes)) for size in sizes]
    return [share / sum(floored) for share in floored]


def grow(
    source: Source, target: Path, names: Sequence[str], size: int, *, shard_size: int, seed: int
) -> dict[str, tuple[int, int]]:
    """Write a collection to the new folder `target`; how many entries and bytes each dataset has. Raises CookError."""
    larders = sorted(
        (load_generator(source, name, seed) for name in names), key=lambda larder: (-larder.longest, larder.name)
    )
    seen, counts, owed = SeenLines(), {}, 0.0
    for larder, share in zip(larders, dataset_shares([larder.size for larder in larders]), strict=True):
        owed += share * size  # and what the one before left over; the dataset with the shortest entries comes last
        counts[larder.name] = write_shards(larder, target / larder.name / "shard", round(owed), shard_size, seen)
        owed -= counts[larder.name][1]
    total = sum(written for _, written in counts.values())
    if abs(total - size) > TOLERANCE * size:
        raise InputError(f"--size {size:,}: with whole entries it came to {total:,} bytes; ask for more")
    return counts


def check_target(target: Path, source: Source, overwrite: bool) -> None:
    """Raises OutputError unless a collection may be put there, or OSError."""
    here, there = target.resolve(), source.root.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(f"{target}: source and target must not hold each other")
    there_already = target.exists() or target.is_symlink()
    held = sorted(target.iterdir()) if target.is_dir() else [target] * there_already
    if held and not overwrite:
        raise OutputExists(f"{target}: is there already, and is not empty; pass --overwrite to replace it")
    for path in held:
        if path.is_symlink() or not _is_dataset(path):
            raise OutputExists(f"{path}: is no dataset, so --overwrite does not remove it; move it away")


def _is_dataset(folder: Path) -> bool:
    """Whether a folder holds shards and nothing else."""
    if not folder.is_dir() or [path.name for path in folder.iterdir()] != ["shard"]:
        return False
    return all(path.name.endswith(SUFFIXES) for path in (folder / "shard").iterdir())


def run(args: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """Grow a collection beside the target, and put it there when it is whole. Raises CookError."""
    source = open_source(args.source)
    names = select_datasets(args.dataset or [ALL_DATASETS], source.names())
    target = Path(args.target)
    staging = target.absolute().with_name(f".{target.name}.{os.getpid()}")
    try:
        check_target(target, source, args.overwrite)
        staging.mkdir(parents=True)
        counts = grow(source, staging, names, args.size, shard_size=args.shard_size, seed=args.seed)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except OSError as exc:
        raise OutputError(f"{target}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return counts


def byte_count(text: str) -> int:
    """A size as it is typed, in bytes.

    >>> byte_count("25MB"), byte_count("1.5 KiB"), byte_count("800")
    (25000000, 1536, 800)
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmg]?)(i?)b?", text.strip().lower())
    size = round(float(match[1]) * (1024 if match[3] else 1000) ** UNITS[match[2]]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 25MB, 1.5GB, 64MiB or a number of bytes")
    return size


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, grow, print."""
    parser = argparse.ArgumentParser(description="Make a collection of any size by recombining sentences.")
    parser.add_argument("source", metavar="SOURCE", help="folder laid out DATASET/shard/*.jsonl, or sample")
    parser.add_argument("target", metavar="TARGET", help="folder to make, laid out like that")
    parser.add_argument("--size", type=byte_count, required=True, help="of all shards together: 25MB, 1.5GB, 64MiB")
    parser.add_argument("--dataset", nargs="+", action="extend", metavar="NAME", help="only these datasets")
    parser.add_argument("--shard-size", type=byte_count, default="8MB", metavar="SIZE", help="of a shard at most (8MB)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another collection (0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the datasets that are in TARGET")
    args = parser.parse_args(argv)
    begun = time.perf_counter()
    try:
        counts = run(args)
    except CookError as exc:
        print(f"{parser.prog}: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
    seconds = time.perf_counter() - begun
    for name, (entries, written) in sorted(counts.items()):
        print(f"{name:24} {entries:>12,} entries {written:>16,} bytes")
    total = sum(written for _, written in counts.values())
    print(f"{args.target}: {total:,} bytes in {seconds:.1f} s, {total / 1e6 / seconds:.1f} MB/s")


if __name__ == "__main__":
    main()
