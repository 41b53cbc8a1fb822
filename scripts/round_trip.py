"""Whether parsing brings back what formatting wrote, on whole datasets: shards -> outputs -> `cook parse` -> pairs.

    python scripts/round_trip.py COLLECTION [NAME ...]

Every entry's output is formatted as for training, and parsed as an answer. Its pairs must come back, stripped, exact
repeats once; entries whose questions or answers hold a marker themselves may not, and are told apart. Exit code 1 if
any other entry differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import orjson

from cook import Recipe, parse
from cook.read.lines import ByteRange, Line, LineReader
from cook.read.sources import open_source
from cook.shapes.context_qa import Entry, parse_entry
from cook.shapes.formatter import Formatter

COUNT_NAMES = ("entries", "no_pairs", "pairs", "with_marker", "marker_differs", "repeats", "differ")
RECIPE = Recipe(datasets=("x",), tokenizer="x")
MARKERS = ("<QUE>", "<ANS>", "</END>")


def round_trip(collection: str, name: str, folder: Path) -> Counter[str]:
    """The counts of a dataset."""
    formatter, counts = Formatter(RECIPE), Counter[str]()
    expected: list[tuple[bool, list[tuple[str, str]]]] = []
    answers = folder / f"{name}.jsonl"
    with answers.open("wb") as file:
        for shard in open_source(collection).shards(name):
            for line in LineReader(ByteRange(str(shard.path), 0, None)):
                entry = parse_entry(str(shard.path), line) if isinstance(line, Line) else None
                if not isinstance(entry, Entry):
                    raise SystemExit(f"{shard.path}: has lines that are no entries")
                counts["entries"] += 1
                counts["pairs"] += len(entry.pairs)
                if not entry.pairs:
                    counts["no_pairs"] += 1
                    continue
                marked = any(marker in text for pair in entry.pairs for text in pair for marker in MARKERS)
                stripped = [(question.strip(), answer.strip()) for question, answer in entry.pairs]
                counts["with_marker"] += marked
                counts["repeats"] += len(stripped) - len(set(stripped))
                expected.append((marked, list(dict.fromkeys(stripped))))
                row = {"context": entry.context, "text": formatter.output_text(entry.pairs)}
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    made = parse(answers, folder / "again" / name)
    found = (
        [(pair["Q"], pair["A"]) for pair in orjson.loads(line)["QA_list"]]
        for shard in sorted(made.folder.glob("shard/*.jsonl"))
        for line in shard.read_bytes().splitlines()
    )
    for (marked, pairs), again in zip(expected, found, strict=True):
        if pairs != again:
            counts["marker_differs" if marked else "differ"] += 1
    return counts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", help="a source, as for cook")
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets  [all]")
    given = parser.parse_args()
    print(f"{'dataset':20}" + "".join(f"{column:>16}" for column in COUNT_NAMES))
    differ = 0
    for name in given.names or open_source(given.collection).names():
        with tempfile.TemporaryDirectory() as folder:
            counts = round_trip(given.collection, name, Path(folder))
        print(f"{name:20}" + "".join(f"{counts[column]:16,}" for column in COUNT_NAMES))
        differ += counts["differ"]
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
