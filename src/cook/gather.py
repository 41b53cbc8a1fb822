"""A data set's examples as they are known on disk: a table of all, the plan of each window, the files by that plan.

    placed         PLACED rows, one an example, in shard order
    hashed         HASHED rows likewise, where the recipe asks for them
    skipped        SKIPPED rows of what was left out
    names          of the spools that `placed` counts, below the folder of all, each of the same length, and a zero
    SPLIT.rows     which examples are of a split, where not all are
    SPLIT-N.order  the plan of the window from example N of a split: which examples, one after the other
    SPLIT-N.starts … and where in those each sequence starts; one more than there are sequences
    SPLIT-N.tokens … and the tokens of each sequence

They lie in the data set's staging folder, where every worker sees them. So a job is a few numbers, and who hands out
jobs holds nothing that grows with the input.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cook import cache, pack, records
from cook.accounts import Made, Tally
from cook.errors import unwritable
from cook.loop.files import mapped, write_atomically
from cook.recipe import Recipe
from cook.records import Rows
from cook.store import columns, parquet
from cook.tokenize import Job, Tokenized

MAX_PATH = 1 << 16  # bytes; systems have far less
Chosen = npt.NDArray[np.int64] | slice  # rows of the table


class Table:
    """The table of all examples, for a with block: it is written part by part, and can be read once it is `closed`."""

    def __init__(self, folder: Path, spools: Path, hashes: bool) -> None:
        self.folder, self.spools = folder, spools
        self._kinds = {"placed": records.PLACED, "skipped": records.SKIPPED}
        if hashes:
            self._kinds["hashed"] = records.HASHED
        self._stack = ExitStack()
        names = (*self._kinds, "names")
        self._files = {name: self._stack.enter_context((folder / name).open("wb", buffering=0)) for name in names}
        self._spools = 0

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, part: Tokenized, job: Job, shard: int) -> None:
        """Append what came of a part, which then holds it no more; its lines are counted from the shard's start."""
        examples = np.concatenate([part.whole, part.remade])
        numbers = [self._name(job.whole, part.whole), self._name(job.remade, part.remade)]
        file = np.repeat(numbers, [len(part.whole), len(part.remade)])
        order = np.argsort(examples["line"], kind="stable")
        examples = examples[order]
        rows = {name: np.zeros(len(examples), kind) for name, kind in self._kinds.items() if name != "skipped"}
        rows["placed"]["file"], rows["placed"]["shard"] = file[order], shard
        for table in rows.values():
            for field in set(table.dtype.names or ()) & set(examples.dtype.names or ()):
                table[field] = examples[field]
        for name, table in (rows | {"skipped": part.skipped}).items():
            self._write(name, table.tobytes())
        part.examples, part.left_out = len(examples), len(part.skipped)
        part.whole = part.remade = examples[:0].copy()
        part.skipped = part.skipped[:0].copy()

    def _name(self, name: str, examples: Rows) -> int:
        """The number of a spool; it has one if it is needed."""
        if not len(examples):
            return -1
        self._write("names", os.fsencode(os.path.relpath(name, self.spools)) + b"\0")
        self._spools += 1
        return self._spools - 1

    def _write(self, name: str, data: bytes) -> None:
        file, left = self._files[name], memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as exc:
            raise unwritable(self.folder / name, exc, file.tell() + len(left)) from exc

    def closed(self, parts: list[Tokenized]) -> None:
        """Have all of it on disk; the parts see what was left out of them again, there."""
        try:
            self._stack.close()
        except OSError as exc:
            raise unwritable(self.folder, exc) from exc
        skipped = mapped(self.folder / "skipped", records.SKIPPED)
        begin = 0
        for part in parts:
            part.skipped = skipped[begin : begin + part.left_out]
            begin += part.left_out

    def placed(self) -> Rows:
        """All examples."""
        return mapped(self.folder / "placed", records.PLACED)

    def hashed(self) -> Rows | None:
        """Their hashes, if the recipe asks for them."""
        return mapped(self.folder / "hashed", records.HASHED) if "hashed" in self._kinds else None


class Window(NamedTuple):
    """The work of planning one window of a split."""

    folder: str
    split: str
    begin: int
    end: int
    all: bool
    """Every example of the data set is of the split: there is no file of its rows."""
    max_length: int
    packing: str
    seed: int

    def __str__(self) -> str:
        return f"the plan of {self.split}, from example {self.begin:,}, in {self.folder}"

    @property
    def name(self) -> str:
        """How its files' names begin."""
        return f"{self.split}-{self.begin}"


def windows(folder: Path, split: str, chosen: Chosen, recipe: Recipe) -> Iterator[Window]:
    """The windows of a split."""
    placed = mapped(folder / "placed", records.PLACED)
    every = isinstance(chosen, slice)
    if not isinstance(chosen, slice):
        write_atomically(folder / f"{split}.rows", chosen)
    count = len(placed) if isinstance(chosen, slice) else len(chosen)
    wraps = recipe.packing == "wrap"
    size = max(pack.WINDOW, recipe.max_length + 1) if wraps else pack.WINDOW  # so many pieces fill a sequence
    begin = 0
    while begin < count:
        end = min(begin + size, count)
        if wraps and end < count:  # up to the end of its last full sequence
            end = begin + int(pack.full(_lengths(placed[begin:end]), recipe.max_length)[-2])
        yield Window(str(folder), split, begin, end, every, recipe.max_length, recipe.packing, recipe.seed)
        begin = end


def _lengths(examples: Rows) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = examples["tokens"].astype(np.int64)
    return lengths


def plan_window(window: Window) -> Made:
    """Plan a window and keep its plan. Raises OutputError."""
    folder = Path(window.folder)
    placed = mapped(folder / "placed", records.PLACED)
    rows: Chosen = slice(window.begin, window.end)
    if not window.all:
        rows = mapped(folder / f"{window.split}.rows", np.int64)[rows]
    examples = placed[rows]
    lengths = _lengths(examples)
    planned = pack.plan_window(lengths, window.begin, window.max_length, window.packing, window.seed)
    tokens = records.row_tokens(planned.starts, lengths[planned.order - window.begin])
    order = planned.order if isinstance(rows, slice) else rows[planned.order - window.begin]
    write_atomically(folder / f"{window.name}.order", order)
    write_atomically(folder / f"{window.name}.starts", planned.starts)
    write_atomically(folder / f"{window.name}.tokens", tokens)
    return Made(int(examples["trained"].sum(dtype=np.int64)), Tally.of(lengths), Tally.of(tokens))


class FileWork(NamedTuple):
    """The work on one output file."""

    path: str
    folder: str
    spools: str
    """The folder of all spools."""
    pieces: tuple[tuple[str, int, int], ...]
    """Sequences [first, last) of windows, by the windows' names."""

    def __str__(self) -> str:
        return self.path


def file_work(out: Path, folder: Path, spools: Path, split: str, names: list[str]) -> list[FileWork]:
    """The files of a split, whose windows have these names: each closes before it would hold more than FILE_TOKENS."""
    files: list[list[tuple[str, int, int]]] = []
    room = 0
    for name in names:
        ends = np.cumsum(mapped(folder / f"{name}.tokens", np.int64))
        first = 0
        while first < len(ends):
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + room, side="right"))
            if last <= first:  # the open file, if any, has no room for this sequence; a new one takes it, however long
                files.append([])
                room = parquet.FILE_TOKENS
                last = max(first + 1, int(np.searchsorted(ends, before + room, side="right")))
            files[-1].append((name, first, last))
            room -= int(ends[last - 1]) - before
            first = last
    paths = (str(out / file) for file in columns.file_names(len(files), split))
    return [FileWork(path, str(folder), str(spools), tuple(pieces)) for path, pieces in zip(paths, files, strict=True)]


def write_file(work: FileWork) -> parquet.FileDone:
    """Gather one file's sequences and write it. Raises OutputError."""
    folder = Path(work.folder)
    orders, starts = [], [np.zeros(1, np.int64)]
    for name, first, last in work.pieces:
        of_piece = mapped(folder / f"{name}.starts", np.int64)[first : last + 1]
        orders.append(mapped(folder / f"{name}.order", np.int64)[of_piece[0] : of_piece[-1]])
        starts.append(of_piece[1:] - of_piece[0] + starts[-1][-1])
    examples = mapped(folder / "placed", records.PLACED)[np.concatenate(orders)]
    files, examples["file"] = np.unique(examples["file"], return_inverse=True)
    name = Path(work.path).name
    # Outside of what is published: a worker that is cut off leaves it behind.
    temporary = folder / f"{uuid.uuid4().hex}-{name}"
    job = parquet.FileJob(str(temporary), _spools(folder, work.spools, files), examples, np.concatenate(starts))
    done = parquet.write_file(job)._replace(name=name)
    try:
        os.replace(temporary, work.path)
    except OSError as exc:
        raise unwritable(work.path, exc) from exc
    return done


def raw_of(folder: Path, spools: str, examples: Rows) -> records.Raw:
    """The tokens of rows of the table, one after the other."""
    examples = examples.copy()
    files, examples["file"] = np.unique(examples["file"], return_inverse=True)
    with parquet.mapped_files(_spools(folder, spools, files)) as views:
        return parquet.raw_of(examples, views)


def _spools(folder: Path, spools: str, files: npt.NDArray[np.integer]) -> tuple[str, ...]:
    """The paths of files of ids, by the numbers of their spools."""
    text = mapped(folder / "names", np.uint8)
    width = bytes(text[:MAX_PATH]).index(b"\0") + 1
    names = (os.fsdecode(name[:-1].tobytes()) for name in text.reshape(-1, width)[files])
    return tuple(cache.ids_path(os.path.join(spools, name)) for name in names)
