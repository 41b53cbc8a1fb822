"""Cooked sequences back into a spool file, as `store.write` gathers from: what a mix is made of.

Each input file has its own range of one spool, so that any number of them is one file to open.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cook.core.arrays import offsets
from cook.core.errors import OutputError
from cook.core.records import PLACED_EXAMPLE_DTYPE, labels_of, mark_trained
from cook.store.columns import DATASET_COLUMN, SEQUENCE_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

SPOOL_TOKEN_BYTES = 4

ListColumn = tuple[npt.NDArray[Any], npt.NDArray[np.int32]]  # values, flat, and the offsets of the rows in them


@dataclasses.dataclass(frozen=True)
class UnpackJob:
    """The work on one file of a cooked dataset; picklable."""

    path: str
    spool: str
    first_token: int
    """The first token of the file's range in the spool."""
    wanted: npt.NDArray[np.bool_]
    """A flag a row. Row groups that hold no wanted row are not read."""

    def __str__(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True)
class UnpackDone:
    """The wanted rows, in order."""

    examples: npt.NDArray[np.void]
    """PLACED."""
    counts: npt.NDArray[np.int64]
    """The examples of each row."""


def unpack_file(job: UnpackJob) -> UnpackDone:
    """Write the tokens of the wanted rows into the spool. Raises OutputError."""
    tables, counts = [np.empty(0, PLACED_EXAMPLE_DTYPE)], [np.empty(0, np.int64)]
    at = job.first_token
    try:
        with open(job.spool, "r+b") as spool:
            spool.seek(at * SPOOL_TOKEN_BYTES)
            for wanted, columns in read_wanted(job.path, job.wanted):
                table, by_row = examples_of(job.path, columns)
                of_wanted = np.repeat(wanted, by_row)
                lengths = table["tokens"]
                of_tokens = np.repeat(of_wanted, lengths)
                ids, mask = columns["input_ids"][0][of_tokens], columns["loss_mask"][0][of_tokens]
                table, lengths = table[of_wanted], lengths[of_wanted].astype(np.int64)
                table["at"] = at + np.cumsum(lengths) - lengths
                spool.write(mark_trained(ids, mask == 1).tobytes())
                at += len(ids)
                tables.append(table)
                counts.append(by_row[wanted])
    except OSError as exc:
        raise OutputError(f"{job.spool}: cannot be written: {exc.strerror or exc}") from exc
    return UnpackDone(np.concatenate(tables), np.concatenate(counts))


def examples_of(path: str, columns: dict[str, ListColumn]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The examples of a row group, and how many each row has.

    Raises OutputError unless the columns agree, as cook writes them: only ids, mask and lengths are kept, so that
    anything else would not come back as it was.
    """
    (ids, by_token), (lengths, by_example) = columns["input_ids"], columns["seq_lengths"]
    ends = offsets(lengths)
    same = all(np.array_equal(columns[name][1], by_token) for name in ("labels", "loss_mask"))
    same &= all(np.array_equal(columns[name][1], by_example) for name in ("source_shard", "source_line"))
    if same and (lengths > 0).all() and np.array_equal(ends[by_example], by_token):
        table = np.zeros(len(lengths), PLACED_EXAMPLE_DTYPE)
        table["tokens"], table["trained"] = lengths, np.diff(offsets(columns["loss_mask"][0])[ends])
        table["shard"], table["line"] = columns["source_shard"][0], columns["source_line"][0]
        mask = columns["loss_mask"][0]
        if ((mask == 0) | (mask == 1)).all() and np.array_equal(labels_of(ids, mask), columns["labels"][0]):
            return table, np.diff(by_example).astype(np.int64)
    raise OutputError(f"{path}: ids, labels, loss mask and lengths of its rows do not agree, as cook writes them")


def read_columns(
    path: str | os.PathLike[str], names: Iterable[str] = SEQUENCE_COLUMNS
) -> Iterator[dict[str, ListColumn]]:
    """The row groups of a file, by column. Raises OutputError."""
    names = list(names)
    for _, table in _row_groups(path, names):
        yield columns_of(table, names)


def read_wanted(
    path: str | os.PathLike[str], wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], dict[str, ListColumn]]]:
    """The row groups that hold a wanted row, `wanted` being a flag a row, with their part of it. Raises OutputError."""
    for begin, table in _row_groups(path, list(SEQUENCE_COLUMNS), wanted):
        yield wanted[begin : begin + table.num_rows], columns_of(table)


def read_datasets(path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """The dataset of each row of a mix's file, row group by row group. Raises OutputError."""
    for _, table in _row_groups(path, [DATASET_COLUMN]):
        yield table.column(DATASET_COLUMN).to_pylist()


def columns_of(table: pa.Table, names: Iterable[str] = SEQUENCE_COLUMNS) -> dict[str, ListColumn]:
    """The values and offsets of each column of a row group."""
    return {name: _flatten(table.column(name).combine_chunks()) for name in names}


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


def _flatten(column: pa.ListArray | pa.ChunkedArray) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    if hasattr(column, "chunk"):
        column = column.chunk(0)
    offsets = np.frombuffer(column.offsets.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    values = column.values
    flat = np.frombuffer(values.buffers()[1], str(values.type))[: values.offset + len(values)][values.offset :]
    return flat[offsets[0] : offsets[-1]], offsets - offsets[0]
