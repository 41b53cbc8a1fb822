"""Sequences gathered from spool files into Parquet, row group by row group (laid out by `pages`), and read back.

| column | type | what |
| --- | --- | --- |
| input_ids | list<int32> | token ids of the sequence |
| labels | list<int32> | input_ids where the mask is 1, -100 elsewhere; not shifted |
| loss_mask | list<int8> | 1 on every token of an output, EOS included, else 0; aligned to its own token |
| seq_lengths | list<int32> | tokens of each example, in order; sums to len(input_ids) |
| source_shard | list<int32> | for each example, the index of its shard in the manifest's inputs |
| source_line | list<int32> | for each example, its line in that shard, from 1 |

A mix has one more: dataset (string), the dataset that the sequence is of.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.core.arrays import offsets
from cook.core.files import open_fsynced
from cook.core.records import MarkedTokens, split_rows, token_ids, tokens_per_sequence, trained_mask
from cook.store import pages
from cook.store.columns import DATASET_COLUMN, SEQUENCE_COLUMNS, token_columns

FILE_TOKENS = 1 << 24  # an output file closes before it would hold more: one job each, so that all cores write
ROW_GROUP_TOKENS = 1 << 20
FILE_TOKEN_BYTES = 2  # what a token takes in a file, about


class FileJob(NamedTuple):
    """The work on one output file; picklable."""

    path: str
    spools: tuple[str, ...]
    examples: npt.NDArray[np.void]
    """PLACED, in plan order."""
    starts: npt.NDArray[np.int64]
    """Sequence i holds examples[starts[i]:starts[i + 1]]; one more than there are sequences."""
    datasets: tuple[str, ...] | None = None
    """For a mix, the dataset of each sequence."""

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


def write_parquet_file(job: FileJob) -> FileDone:
    """Write one file and fsync it. Raises OutputError."""
    path = Path(job.path)
    tokens = tokens_per_sequence(job.starts, job.examples["tokens"].astype(np.int64))
    with open_fsynced(path, FILE_TOKEN_BYTES * int(tokens.sum())) as file, mapped_files(job.spools) as spools:
        hashed = _HashingFile(file)
        writer = pages.ParquetWriter(hashed, SEQUENCE_COLUMNS, [] if job.datasets is None else [DATASET_COLUMN])
        for first, last in split_rows(tokens, ROW_GROUP_TOKENS):
            lists = _row_group_columns(job, spools, first, last)
            writer.write(lists, [] if job.datasets is None else [job.datasets[first:last]])
        writer.close()
    trained_tokens = int(job.examples["trained"].sum(dtype=np.int64))
    return FileDone(
        path.name, len(tokens), int(tokens.sum()), trained_tokens, path.stat().st_size, hashed.sha256.hexdigest()
    )


class _HashingFile:
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
    _raise_file_limit(len(paths))
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


_limit_lock = threading.Lock()
SPARE_FILES = 512  # for all else that the process has open, this work in other threads among it


def _raise_file_limit(count: int) -> None:
    """Raise the process's own limit of open files, as far as it may: a dataset of 10 GB has a thousand spools."""
    with _limit_lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count if count + SPARE_FILES > soft else soft
        if soft != resource.RLIM_INFINITY and wanted > soft:
            new_limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (new_limit, hard))


def _row_group_columns(job: FileJob, spools: list[memoryview], first: int, last: int) -> list[pages.ColumnLists]:
    """The columns of rows [first, last), with no Python object a token."""
    starts = job.starts[first : last + 1]
    examples = job.examples[starts[0] : starts[-1]]
    lengths, raw = examples["tokens"], gather_tokens(examples, spools)
    mask = trained_mask(raw)
    by_example = starts - starts[0]
    by_token = offsets(lengths)[by_example]
    of_tokens = token_columns(token_ids(raw), mask)
    of_examples = {"seq_lengths": lengths, "source_shard": examples["shard"], "source_line": examples["line"]}
    by_column = {name: (values, by_token) for name, values in of_tokens.items()}
    by_column |= {name: (values, by_example) for name, values in of_examples.items()}
    return [by_column[name] for name in SEQUENCE_COLUMNS]


def gather_tokens(examples: npt.NDArray[np.void], spools: list[memoryview]) -> MarkedTokens:
    """The tokens of PLACED examples, one after the other, from the files of ids that they count."""
    begin = examples["at"] * 4
    ends = begin + examples["tokens"].astype(np.int64) * 4
    pieces = zip(examples["file"].tolist(), begin.tolist(), ends.tolist(), strict=True)
    return np.frombuffer(bytearray().join([spools[file][a:b] for file, a, b in pieces]), np.uint32)
