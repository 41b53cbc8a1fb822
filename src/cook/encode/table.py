"""The table of a dataset's examples, on disk, and the files that planning adds to it.

    placed          PLACED_EXAMPLE_DTYPE, one row an example, in shard order
    hashed          EXAMPLE_HASHES_DTYPE likewise, if the recipe needs hashes
    skipped         SKIPPED_ROW_DTYPE, one row for each entry or unit left out
    names           the spools that the column `file` of `placed` numbers: paths below the folder of all spools, of
                    equal length, each ended by a zero byte
    SPLIT.rows      int64, the examples of a split, unless it holds all of them
    SPLIT-N.order   int64, the plan of the window from example N of a split: its examples in order,
    SPLIT-N.starts  int64, where in this order each sequence starts, and the end (see `pack.planner.Plan`),
    SPLIT-N.tokens  int64, and the tokens of each sequence

The files lie in the staging folder, which every worker can read. So a job is a few numbers, and the process that hands
out jobs holds nothing that grows with the input.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cook.core import records
from cook.core.errors import write_error
from cook.core.files import memory_mapped
from cook.core.records import StructuredArray
from cook.encode.parts import EncodedPart, EncodeJob


class ExampleTable:
    """The table of all examples, for a with block. It is written part by part; after `finish` it can be read."""

    def __init__(self, folder: Path, spools: Path, hashes: bool) -> None:
        self.folder, self.spools = folder, spools
        self._dtypes = {"placed": records.PLACED_EXAMPLE_DTYPE, "skipped": records.SKIPPED_ROW_DTYPE}
        if hashes:
            self._dtypes["hashed"] = records.EXAMPLE_HASHES_DTYPE
        self._stack = ExitStack()
        names = (*self._dtypes, "names")
        self._files = {name: self._stack.enter_context((folder / name).open("wb", buffering=0)) for name in names}
        self._spools = 0

    def __enter__(self) -> ExampleTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, part: EncodedPart, job: EncodeJob, shard: int) -> None:
        """Append a part's rows and empty them in the part. Its lines must be counted from the start of the shard."""
        examples = np.concatenate([part.full_positions, part.split_positions])
        numbers = [
            self._register_spool(job.full_spool, part.full_positions),
            self._register_spool(job.split_spool, part.split_positions),
        ]
        file = np.repeat(numbers, [len(part.full_positions), len(part.split_positions)])
        order = np.argsort(examples["line"], kind="stable")
        examples = examples[order]
        rows = {name: np.zeros(len(examples), kind) for name, kind in self._dtypes.items() if name != "skipped"}
        rows["placed"]["file"], rows["placed"]["shard"] = file[order], shard
        for table in rows.values():
            for field in set(table.dtype.names or ()) & set(examples.dtype.names or ()):
                table[field] = examples[field]
        for name, table in (rows | {"skipped": part.skipped}).items():
            self._write(name, table.tobytes())
        part.examples, part.skipped_count = len(examples), len(part.skipped)
        part.full_positions = part.split_positions = examples[:0].copy()
        part.skipped = part.skipped[:0].copy()

    def _register_spool(self, name: str, examples: StructuredArray) -> int:
        """The number of a spool; -1 for one without examples, which needs none."""
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
            raise write_error(self.folder / name, exc, file.tell() + len(left)) from exc

    def finish(self, parts: list[EncodedPart]) -> None:
        """Flush and close the table. Each part's `skipped` becomes a memory map of its rows on disk."""
        try:
            self._stack.close()
        except OSError as exc:
            raise write_error(self.folder, exc) from exc
        skipped = memory_mapped(self.folder / "skipped", records.SKIPPED_ROW_DTYPE)
        begin = 0
        for part in parts:
            part.skipped = skipped[begin : begin + part.skipped_count]
            begin += part.skipped_count

    def read_examples(self) -> StructuredArray:
        """The rows of `placed`."""
        return memory_mapped(self.folder / "placed", records.PLACED_EXAMPLE_DTYPE)

    def read_hashes(self) -> StructuredArray | None:
        """The rows of `hashed`; None if the recipe needs no hashes."""
        return memory_mapped(self.folder / "hashed", records.EXAMPLE_HASHES_DTYPE) if "hashed" in self._dtypes else None
