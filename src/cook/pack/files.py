"""Write a split's output files: which sequences each file holds, and their tokens from the spools."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cook.core import cache, records
from cook.core.errors import write_error
from cook.core.files import memory_mapped
from cook.core.records import StructuredArray
from cook.pack.windows import MAX_PATH
from cook.store import columns, write


class OutputFileJob(NamedTuple):
    """The work on one output file."""

    path: str
    folder: str
    spools: str
    """The folder that holds all spools."""
    sequence_ranges: tuple[tuple[str, int, int], ...]
    """(name of a window, first sequence, last + 1), in order."""

    def __str__(self) -> str:
        return self.path


def output_file_jobs(out: Path, folder: Path, spools: Path, split: str, names: list[str]) -> list[OutputFileJob]:
    """The output files of a split with these windows. A file is closed before it exceeds FILE_TOKENS tokens."""
    files: list[list[tuple[str, int, int]]] = []
    room = 0
    for name in names:
        ends = np.cumsum(memory_mapped(folder / f"{name}.tokens", np.int64))
        first = 0
        while first < len(ends):
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + room, side="right"))
            if last <= first:  # no room in the open file: a new one takes the sequence, however long
                files.append([])
                room = write.FILE_TOKENS
                last = max(first + 1, int(np.searchsorted(ends, before + room, side="right")))
            files[-1].append((name, first, last))
            room -= int(ends[last - 1]) - before
            first = last
    paths = (str(out / file) for file in columns.file_names(len(files), split))
    return [
        OutputFileJob(path, str(folder), str(spools), tuple(pieces)) for path, pieces in zip(paths, files, strict=True)
    ]


def write_output_file(output_job: OutputFileJob) -> write.FileDone:
    """Gather one file's sequences and write it. Raises OutputError."""
    folder = Path(output_job.folder)
    orders, starts = [], [np.zeros(1, np.int64)]
    for name, first, last in output_job.sequence_ranges:
        range_starts = memory_mapped(folder / f"{name}.starts", np.int64)[first : last + 1]
        orders.append(memory_mapped(folder / f"{name}.order", np.int64)[range_starts[0] : range_starts[-1]])
        starts.append(range_starts[1:] - range_starts[0] + starts[-1][-1])
    examples = memory_mapped(folder / "placed", records.PLACED_EXAMPLE_DTYPE)[np.concatenate(orders)]
    name = Path(output_job.path).name
    # Not in the output folder: a worker that is killed leaves this file behind.
    temporary = folder / f"{uuid.uuid4().hex}-{name}"
    paths = _number_spools(folder, output_job.spools, examples)
    job = write.FileJob(str(temporary), paths, examples, np.concatenate(starts))
    done = write.write_parquet_file(job)._replace(name=name)
    try:
        os.replace(temporary, output_job.path)
    except OSError as exc:
        raise write_error(output_job.path, exc) from exc
    return done


def read_raw_tokens(folder: Path, spools: str, examples: StructuredArray) -> records.MarkedTokens:
    """The tokens of some rows of the table `placed`, concatenated."""
    examples = examples.copy()
    with write.mapped_files(_number_spools(folder, spools, examples)) as views:
        return write.gather_tokens(examples, views)


def _number_spools(folder: Path, spools: str, examples: StructuredArray) -> tuple[str, ...]:
    """The paths of the examples' files of ids. The column `file` becomes an index into them."""
    files, examples["file"] = np.unique(examples["file"], return_inverse=True)
    text = memory_mapped(folder / "names", np.uint8)
    width = bytes(text[:MAX_PATH]).index(b"\0") + 1
    names = (os.fsdecode(name[:-1].tobytes()) for name in text.reshape(-1, width)[files])
    return tuple(cache.ids_path(os.path.join(spools, name)) for name in names)
