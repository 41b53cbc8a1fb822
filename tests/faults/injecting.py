"""Faults for `cook verify` to find: bits, rows, values, examples and numbers changed in a copy of what was cooked.

A kind of fault is a function of a Bench and a seeded generator, and says what a finding must name. `seal` makes sizes,
hashes and the manifest's sha256 right again; `forge` also all counts and figures that the rows tell. Used by
test_injected.py and, at length and on real data, by scripts/check_verify.py.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from cook import Finding, OutputError, SourceError, TokenizerError, verify
from cook.core.files import sha256_of
from cook.pack.statistics import IntHistogram, PackingStats
from cook.pipeline.figures import fill_figures
from cook.store import manifest, read
from cook.store.columns import SEQUENCE_COLUMNS, parquet_schema
from cook.store.kinds import SKIPPED_NAME
from cook.trainers import tables

Rows = dict[str, list[Any]]  # by column, an array a row
TOKENS = ("input_ids", "labels", "loss_mask")
EXAMPLES = ("seq_lengths", "source_shard", "source_line")


@dataclasses.dataclass(frozen=True)
class Named:
    """What one of the findings must name."""

    file: str
    row: int | None = None
    words: str = ""

    def within(self, findings: list[Finding]) -> bool:
        """Whether a finding does."""
        return any(
            finding.file == self.file and self.row in (None, finding.row) and self.words in finding.what
            for finding in findings
        )


class Bench:
    """A copy of a cooked dataset, to break."""

    def __init__(self, cooked: Path, folder: Path, source: str | Path) -> None:
        shutil.copytree(cooked, folder)
        self.folder, self.source = folder, str(source)
        self.fields = manifest.read_manifest(folder)

    def files(self) -> list[str]:
        """The names of the Parquet files."""
        return [output["name"] for output in self.fields["outputs"] if "split" in output]

    def read(self, name: str) -> Rows:
        """The rows of a file."""
        table = pq.read_table(self.folder / name)
        flat = read.columns_of(table)
        return {column: np.split(values.copy(), offsets[1:-1]) for column, (values, offsets) in flat.items()}

    def write(self, name: str, rows: Rows) -> None:
        """Replace a file's rows."""
        columns = []
        for kind, values in zip(SEQUENCE_COLUMNS.values(), rows.values(), strict=True):
            offsets = np.cumsum([0, *map(len, values)])
            columns.append(tables.lists(np.concatenate([np.empty(0, kind), *values]).astype(kind), offsets))
        with pq.ParquetWriter(self.folder / name, parquet_schema(), **tables.PARQUET_OPTIONS) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=parquet_schema()))

    def seal(self) -> None:
        """Make sizes and hashes of files and of the manifest agree again."""
        for output in self.fields["outputs"]:
            path = self.folder / output["name"]
            output["bytes"], output["sha256"] = path.stat().st_size, sha256_of(path)
        (self.folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(self.fields))

    def forge(self) -> None:
        """Make all sums agree with the rows too, as one who knows how cook counts would."""
        counts, figures = self.fields["counts"], self.fields["figures"]
        by_split: dict[str, list[Rows]] = {}
        for output in self.fields["outputs"]:
            if "split" in output:
                rows = self.read(output["name"])
                by_split.setdefault(output["split"], []).append(rows)
                made = _made([rows]).counts()
                output.update(rows=made["sequences"], tokens=made["tokens"], trained_tokens=made["trained_tokens"])
        everything = _made([rows for each in by_split.values() for rows in each])
        counts |= everything.counts()
        if "splits" in counts:
            counts["splits"] = {split: _made(rows).counts() for split, rows in by_split.items()}
        figures |= fill_figures(everything, self.fields["recipe"]["max_length"])
        kept = {
            (shard, line)
            for each in by_split.values()
            for rows in each
            for shard, line in zip(*(np.concatenate(rows[c]).tolist() for c in EXAMPLES[1:]), strict=True)
        }
        counts["entries"] = len(kept) + sum(counts["skipped_entries"].values())
        self.seal()

    def place(self, rows: Rows, row: int, example: int) -> str:
        """Where an example came from, as findings have it."""
        shard = self.fields["inputs"][int(rows["source_shard"][row][example])]["name"]
        return f"{shard}:{int(rows['source_line'][row][example])}"

    def findings(self, deep: bool = True) -> list[Finding] | None:
        """What verify finds; None: shards, tokenizer or format are not those of the manifest, exit code 1."""
        try:
            verified = verify(self.folder, deep=deep, source=self.source if deep else None)
        except (OutputError, SourceError, TokenizerError):
            return None
        return [finding for each in verified.datasets for finding in each.findings]


def _made(files: list[Rows]) -> PackingStats:
    lengths = np.concatenate([np.empty(0, np.int64), *[length for rows in files for length in rows["seq_lengths"]]])
    tokens = np.array([len(ids) for rows in files for ids in rows["input_ids"]], np.int64)
    trained = sum(int(mask.sum()) for rows in files for mask in rows["loss_mask"])
    return PackingStats(trained, IntHistogram.from_values(lengths), IntHistogram.from_values(tokens))


Fault = Callable[[Bench, random.Random], Named | None]  # None: there is nothing here to break so


def flip_a_bit(bench: Bench, rng: random.Random) -> Named:
    path = rng.choice(sorted(bench.folder.iterdir()))
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)
    return Named(path.name)


def cut_a_file(bench: Bench, rng: random.Random) -> Named:
    path = rng.choice(sorted(bench.folder.iterdir()))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return Named(path.name)


def remove_a_file(bench: Bench, rng: random.Random) -> Named:
    path = rng.choice([path for path in sorted(bench.folder.iterdir()) if path.name != manifest.MANIFEST_NAME])
    path.unlink()
    return Named(path.name, words="is missing")


def drop_a_row(bench: Bench, rng: random.Random) -> Named | None:
    name = rng.choice(bench.files())
    rows = bench.read(name)
    if len(rows["input_ids"]) < 2:
        return None
    at = rng.randrange(len(rows["input_ids"]))
    place = bench.place(rows, at, rng.randrange(len(rows["seq_lengths"][at])))
    bench.write(name, {column: values[:at] + values[at + 1 :] for column, values in rows.items()})
    bench.forge()
    return Named(manifest.MANIFEST_NAME, words=f"{place}: ")


def repeat_a_row(bench: Bench, rng: random.Random) -> Named:
    name = rng.choice(bench.files())
    rows = bench.read(name)
    at = rng.randrange(len(rows["input_ids"]))
    bench.write(name, {column: [*values, values[at]] for column, values in rows.items()})
    bench.forge()
    return Named(name, len(rows["input_ids"]))


def exchange_rows(bench: Bench, rng: random.Random) -> Named | None:
    name = rng.choice(bench.files())
    rows = bench.read(name)
    if len(rows["input_ids"]) < 2:
        return None
    one, other = sorted(rng.sample(range(len(rows["input_ids"])), 2))
    for values in rows.values():
        values[one], values[other] = values[other], values[one]
    bench.write(name, rows)
    bench.forge()
    return Named(name, one, "expected another example here")


def change_a_value(column: str, finish: str) -> Fault:
    def change(bench: Bench, rng: random.Random) -> Named:
        name = rng.choice(bench.files())
        rows = bench.read(name)
        row = rng.randrange(len(rows[column]))
        at = rng.randrange(len(rows[column][row]))
        was = int(rows[column][row][at])
        other = rng.choice([was - 3, was - 1, was + 1, was + 2, was + 5, ~was, 1 << 30])
        rows[column][row][at] = 1 - was if column == "loss_mask" else other
        bench.write(name, rows)
        getattr(bench, finish)()
        return Named(name, row)

    change.__name__ = f"change_a_value_of_{column}_and_{finish}"
    return change


def _a_token(rows: Rows, rng: random.Random, trained: int) -> tuple[int, int]:
    """A row and one of its tokens that is trained or not, no BOS or EOS."""
    row = rng.randrange(len(rows["input_ids"]))
    ends = np.cumsum(rows["seq_lengths"][row])
    borders = {0, *ends.tolist(), *(ends - 1).tolist()}
    return row, rng.choice(
        [at for at in np.flatnonzero(rows["loss_mask"][row] == trained).tolist() if at not in borders]
    )


def change_a_token(trained: int) -> Fault:
    """One token of an answer or a context is another token of the text, and the label is too."""

    def change(bench: Bench, rng: random.Random) -> Named | None:
        name = rng.choice(bench.files())
        rows = bench.read(name)
        row, at = _a_token(rows, rng, trained)
        other = rng.choice([i for i in rows["input_ids"][row][1:-1].tolist() if i != rows["input_ids"][row][at]])
        if other in bench.fields["tokenizer"]["special_ids"]:
            return None
        rows["input_ids"][row][at] = other
        if trained:
            rows["labels"][row][at] = other
        bench.write(name, rows)
        bench.forge()
        return Named(name, row)

    change.__name__ = f"change_a_token_{'of_a_pair' if trained else 'of_a_context'}"
    return change


def move_the_border(bench: Bench, rng: random.Random) -> Named:
    """Mask and labels agree, and an input's last token is trained."""
    name = rng.choice(bench.files())
    rows = bench.read(name)
    row = rng.randrange(len(rows["input_ids"]))
    mask = rows["loss_mask"][row]
    at = rng.choice(np.flatnonzero((mask[:-1] == 0) & (mask[1:] == 1)).tolist())
    mask[at], rows["labels"][row][at] = 1, rows["input_ids"][row][at]
    bench.write(name, rows)
    bench.forge()
    return Named(name, row)


def exchange_places(bench: Bench, rng: random.Random) -> Named | None:
    """Two examples of a file, of different entries, have exchanged where they came from."""
    name = rng.choice(bench.files())
    rows = bench.read(name)
    one, other = (rng.randrange(len(rows["input_ids"])) for _ in range(2))
    at, to = (rng.randrange(len(rows["seq_lengths"][row])) for row in (one, other))
    if bench.place(rows, one, at) == bench.place(rows, other, to) or _same(rows, (one, at), (other, to)):
        return None
    for column in EXAMPLES[1:]:
        values = rows[column]
        values[one][at], values[other][to] = int(values[other][to]), int(values[one][at])
    bench.write(name, rows)
    bench.forge()
    return Named(name, one)


def _same(rows: Rows, *examples: tuple[int, int]) -> bool:
    texts = []
    for row, at in examples:
        ends = np.cumsum(rows["seq_lengths"][row])
        texts.append(rows["input_ids"][row][ends[at] - rows["seq_lengths"][row][at] : ends[at]].tolist())
    return texts[0] == texts[1]


def move_an_example(bench: Bench, rng: random.Random) -> Named | None:
    """The last example of a row begins the next one, whole."""
    name = rng.choice(bench.files())
    rows = bench.read(name)
    most = bench.fields["recipe"]["max_length"]
    fits = [
        row
        for row in range(len(rows["input_ids"]) - 1)
        if len(rows["seq_lengths"][row]) > 1 and rows["seq_lengths"][row][-1] + len(rows["input_ids"][row + 1]) <= most
    ]
    if not fits:
        return None
    row = rng.choice(fits)
    size = int(rows["seq_lengths"][row][-1])
    for columns, count in ((TOKENS, size), (EXAMPLES, 1)):
        for column in columns:
            here, after = rows[column][row], rows[column][row + 1]
            rows[column][row], rows[column][row + 1] = here[:-count], np.concatenate([here[-count:], after])
    bench.write(name, rows)
    bench.forge()
    return Named(name, words="expected another example here")


def numbers(fields: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every number of a manifest."""
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*where, key))
        elif type(value) in (int, float):
            yield (*where, key)


def inner(fields: Any, place: tuple[Any, ...]) -> Any:
    """The object or list that holds what is at a place."""
    for key in place[:-1]:
        fields = fields[key]
    return fields


def change_a_number(bench: Bench, rng: random.Random) -> Named | None:
    """Any number of the manifest, which is sealed again."""
    place = rng.choice(list(numbers(bench.fields)))
    holder, key = inner(bench.fields, place), place[-1]
    if place[0] == "recipe" and not _decides(bench, str(key)):
        return None  # the same rows and sums would be right
    holder[key] += rng.choice([1, 2, -1]) if type(holder[key]) is int else 0.01
    if key == "limit":  # what is over it is in the output
        holder[key] = 1
    if key == "validation":
        holder[key] = 0.999
    (bench.folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(bench.fields))
    if place[0] == "recipe" or place[:2] == ("tokenizer", "special_ids"):
        return Named("")  # the recipe is not what is wrong in itself: see `caught`
    if (place[0], key) == ("outputs", "bytes"):
        return Named(holder["name"])
    return Named(manifest.MANIFEST_NAME, words=str(key) if isinstance(key, str) else "")


def _decides(bench: Bench, key: str) -> bool:
    """Whether a setting decides about the rows or sums."""
    packing = bench.fields["recipe"]["packing"]
    entries = bench.fields["counts"]["examples"]
    return key != "seed" or (packing == "best-fit" and entries > 20)


def change_a_skipped_row(bench: Bench, rng: random.Random) -> Named | None:
    path = bench.folder / SKIPPED_NAME
    if not path.exists():
        return None
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    at = rng.randrange(len(rows))
    key = rng.choice(["line", "pair", "reason", "pairs", "tokens", "shard", None])
    if key is None:
        del rows[at]
    else:
        words = {"reason": "overlong" if rows[at]["reason"] == "no_pairs" else "no_pairs", "shard": "00007.jsonl"}
        rows[at][key] = words[key] if key in words else (rows[at][key] or 0) + 1
    path.write_bytes(b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in rows))
    bench.seal()
    return Named("" if key is None or not rows else SKIPPED_NAME)


FAULTS: list[Fault] = [
    flip_a_bit,
    cut_a_file,
    remove_a_file,
    drop_a_row,
    repeat_a_row,
    exchange_rows,
    *(change_a_value(column, "seal") for column in SEQUENCE_COLUMNS),
    *(change_a_value(column, "forge") for column in ("source_shard", "source_line", "labels")),
    change_a_token(trained=0),
    change_a_token(trained=1),
    move_the_border,
    exchange_places,
    move_an_example,
    change_a_number,
    change_a_number,
    change_a_skipped_row,
]


def inject(cooked: Path, source: str | Path, folder: Path, number: int) -> tuple[str, Bench, Named]:
    """The fault of that number in a copy of what was cooked: its kind, the copy, and what must be named."""
    for turn in range(number, number + len(FAULTS) * 3):
        rng = random.Random(f"{number} {turn}")  # noqa: S311 - faults
        shutil.rmtree(folder, ignore_errors=True)
        bench = Bench(cooked, folder, source)
        fault = FAULTS[turn % len(FAULTS)]
        if named := fault(bench, rng):
            return fault.__name__, bench, named
    raise AssertionError("nothing can be broken here")


def caught(bench: Bench, named: Named) -> str | None:
    """None where verify finds a fault and names it; else what it does."""
    found = bench.findings()
    if found is None:
        return None if named.file in (manifest.MANIFEST_NAME, "") else "refused"
    if not found:
        return "passed"
    return None if not named.file or named.within(found) else "; ".join(map(str, found[:3]))
