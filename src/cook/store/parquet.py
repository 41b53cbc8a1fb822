"""Sequences gathered from spool files into Parquet, row group by row group (laid out by `pages`), and read back.

| column | type | what |
| --- | --- | --- |
| input_ids | list<int32> | token ids of the sequence |
| labels | list<int32> | input_ids where the mask is 1, -100 elsewhere; not shifted |
| loss_mask | list<int8> | 1 on every token of an output, EOS included, else 0; aligned to its own token |
| seq_lengths | list<int32> | tokens of each example, in order; sums to len(input_ids) |
| source_shard | list<int32> | for each example, the index of its shard in the manifest's inputs |
| source_line | list<int32> | for each example, its line in that shard, from 1 |

A mix has one more: dataset (string), the data set that the sequence is of.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
import resource
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.errors import OutputError, unwritable
from cook.spool import Raw, token_ids, trained
from cook.store import pages

if TYPE_CHECKING:
    import pyarrow as pa

FILE_TOKENS = 1 << 24  # an output file closes before it would hold more: one job each, so that all cores write
ROW_GROUP_TOKENS = 1 << 20
TOKEN_BYTES = 2  # what a token takes in a file, about
IGNORE = -100  # the label of a token that bears no loss (PyTorch's ignore_index)
COLUMNS = {
    name: "int8" if name == "loss_mask" else "int32"
    for name in ("input_ids", "labels", "loss_mask", "seq_lengths", "source_shard", "source_line")
}  # the type of the elements of each column's lists
DATASET = "dataset"  # the column of a mix that names a sequence's data set
WRITER = {"compression": "zstd", "compression_level": 1, "use_dictionary": False, "write_statistics": False}

# An example as a file's work has it: which of the spool files, at which token of it, its tokens, how many are trained,
# shard, line.
PLACED = np.dtype([("file", "i4"), ("at", "i8"), ("tokens", "i4"), ("trained", "i4"), ("shard", "i4"), ("line", "i4")])


@functools.cache
def schema(mixed: bool = False) -> pa.Schema:
    """The columns, as pyarrow has them; it is imported when it is first needed, beside work that has begun."""
    import pyarrow as pa

    fields = [pa.field(name, pa.list_(pa.type_for_alias(kind))) for name, kind in COLUMNS.items()]
    return pa.schema([*fields, pa.field(DATASET, pa.string())] if mixed else fields)


class FileJob(NamedTuple):
    """The work on one output file; picklable."""

    path: str
    spools: tuple[str, ...]
    examples: npt.NDArray[np.void]
    """PLACED, in plan order."""
    starts: npt.NDArray[np.int64]
    """Sequence i holds examples[starts[i]:starts[i + 1]]; one more than there are sequences."""
    data_sets: tuple[str, ...] | None = None
    """For a mix, the data set of each sequence."""

    def __str__(self) -> str:
        return self.path


class FileDone(NamedTuple):
    """What was written."""

    name: str
    rows: int
    tokens: int
    trained_tokens: int
    bytes: int
    sha256: str


def split_rows(tokens: npt.NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Ranges of rows, each of at most `most` tokens, or of one row that alone has more."""
    ends = np.cumsum(tokens)
    ranges = []
    first = 0
    while first < len(tokens):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        ranges.append((first, last))
        first = last
    return ranges


def write_file(job: FileJob) -> FileDone:
    """Write one file and fsync it. Raises OutputError."""
    tokens = row_tokens(job.starts, job.examples["tokens"].astype(np.int64))
    try:
        with mapped_files(job.spools) as spools, open(job.path, "wb") as file:
            hashed = _Hashed(file)
            writer = pages.Writer(hashed, COLUMNS, [] if job.data_sets is None else [DATASET])
            for first, last in split_rows(tokens, ROW_GROUP_TOKENS):
                lists = _row_group(job, spools, first, last)
                writer.write(lists, [] if job.data_sets is None else [job.data_sets[first:last]])
            writer.close()
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise unwritable(job.path, exc, TOKEN_BYTES * int(tokens.sum())) from exc
    path = Path(job.path)
    loss = int(job.examples["trained"].sum(dtype=np.int64))
    return FileDone(path.name, len(tokens), int(tokens.sum()), loss, path.stat().st_size, hashed.sha256.hexdigest())


class _Hashed:
    """A file, with the hash of what is written to it, which need not be read again for that."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """See pages.Sink."""
        self.sha256.update(data)
        return self._file.write(data)


@contextlib.contextmanager
def mapped_files(paths: tuple[str, ...]) -> Iterator[list[memoryview]]:
    """Files as memory maps: their pages are the system's to drop, and count as nobody's own memory."""
    _allow_files(len(paths))
    with contextlib.ExitStack() as stack:
        views = []
        for path in paths:
            with open(path, "rb") as file:
                view = memoryview(b"")  # what is empty cannot be mapped
                if os.fstat(file.fileno()).st_size:
                    mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                    view = stack.enter_context(memoryview(mapped))
            views.append(view)
        yield views


_limits = threading.Lock()
SPARE_FILES = 512  # for all else that the process has open, this work in other threads among it


def _allow_files(count: int) -> None:
    """Raise the process's own limit of open files, as far as it may: a data set of 10 GB has a thousand spools."""
    with _limits:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count if count + SPARE_FILES > soft else soft
        if soft != resource.RLIM_INFINITY and wanted > soft:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _row_group(job: FileJob, spools: list[memoryview], first: int, last: int) -> list[pages.Lists]:
    """The columns of rows [first, last), with no Python object a token."""
    starts = job.starts[first : last + 1]
    examples = job.examples[starts[0] : starts[-1]]
    lengths, raw = examples["tokens"], raw_of(examples, spools)
    mask = trained(raw)
    by_example = starts - starts[0]
    by_token = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])[by_example]
    of_tokens = token_columns(token_ids(raw), mask)
    of_examples = {"seq_lengths": lengths, "source_shard": examples["shard"], "source_line": examples["line"]}
    by_column = {name: (values, by_token) for name, values in of_tokens.items()}
    by_column |= {name: (values, by_example) for name, values in of_examples.items()}
    return [by_column[name] for name in COLUMNS]


def raw_of(examples: npt.NDArray[np.void], spools: list[memoryview]) -> Raw:
    """The tokens of PLACED examples, one after the other, from the files of ids that they count."""
    begin = examples["at"] * 4
    ends = begin + examples["tokens"].astype(np.int64) * 4
    pieces = zip(examples["file"].tolist(), begin.tolist(), ends.tolist(), strict=True)
    return np.frombuffer(bytearray().join([spools[file][a:b] for file, a, b in pieces]), np.uint32)


def token_columns(
    ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.integer] | pages.Coded]:
    """The columns that have a value a token, as they are laid out: by dictionaries, where one can hold the ids."""
    columns: dict[str, npt.NDArray[np.integer] | pages.Coded] = {"loss_mask": pages.Coded(np.arange(2), mask)}
    if (coded := pages.coded(ids)) is None:
        return columns | {"input_ids": ids, "labels": np.where(mask, ids, np.int32(IGNORE))}
    labels = pages.Coded(np.append(IGNORE, coded.dictionary), (coded.places + np.uint16(1)) * mask)
    return columns | {"input_ids": coded, "labels": labels}


def labels_of(ids: npt.NDArray[np.int32], mask: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """The ids where the mask is 1, else -100; not shifted."""
    return np.where(mask == 1, ids, np.int32(IGNORE))


def lists(values: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64]) -> pa.ListArray:
    """A list array, from buffers: `pa.array(ndarray)` imports pandas, which takes 0.3 s."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    kind = pa.int8() if values.dtype == np.int8 else pa.int32()
    items = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    places = pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets.astype(np.int32))])
    return pa.ListArray.from_arrays(places, items)


Lists = tuple[npt.NDArray[Any], npt.NDArray[np.int32]]  # values, flat, and the offsets of the rows in them


def read_columns(path: str | os.PathLike[str], names: Iterable[str] = COLUMNS) -> Iterator[dict[str, Lists]]:
    """The row groups of a file, by column. Raises OutputError."""
    names = list(names)
    for _, table in _row_groups(path, names):
        yield columns_of(table, names)


def read_wanted(
    path: str | os.PathLike[str], wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], dict[str, Lists]]]:
    """The row groups that hold a wanted row, `wanted` being a flag a row, with their part of it. Raises OutputError."""
    for begin, table in _row_groups(path, list(COLUMNS), wanted):
        yield wanted[begin : begin + table.num_rows], columns_of(table)


def read_data_sets(path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """The data set of each row of a mix's file, row group by row group. Raises OutputError."""
    for _, table in _row_groups(path, [DATASET]):
        yield table.column(DATASET).to_pylist()


def columns_of(table: pa.Table, names: Iterable[str] = COLUMNS) -> dict[str, Lists]:
    """The values and offsets of each column of a row group."""
    return {name: _flat(table.column(name).combine_chunks()) for name in names}


def _row_groups(
    path: str | os.PathLike[str], columns: list[str], wanted: npt.NDArray[np.bool_] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Row groups, each with the number of its first row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            end = 0
            for index in range(file.num_row_groups):
                begin, end = end, end + file.metadata.row_group(index).num_rows
                if wanted is None or wanted[begin:end].any():
                    yield begin, file.read_row_group(index, columns=columns)
    except (OSError, pa.ArrowException) as exc:
        raise OutputError(f"{path}: cannot be read: {exc}") from exc


def _flat(column: pa.ListArray | pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    if hasattr(column, "chunk"):
        column = column.chunk(0)
    offsets = np.frombuffer(column.offsets.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    values = column.values
    flat = np.frombuffer(values.buffers()[1], str(values.type))[: values.offset + len(values)][values.offset :]
    return flat[offsets[0] : offsets[-1]], offsets - offsets[0]


def row_tokens(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The tokens of each sequence, from example lengths in plan order."""
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return np.diff(ends[starts])


def file_names(count: int, split: str = "train") -> list[str]:
    """The names of a split's output files."""
    return [f"{split}-{index:05}-of-{count:05}.parquet" for index in range(count)]
