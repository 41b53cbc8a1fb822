"""A dataset's examples as they are known on disk: a table of all, the plan of each window, the files by that plan.

    placed         PLACED rows, one an example, in shard order
    hashed         HASHED rows likewise, where the recipe asks for them
    skipped        SKIPPED rows of what was left out
    names          of the spools that `placed` counts, below the folder of all, each of the same length, and a zero
    SPLIT.rows     which examples are of a split, where not all are
    SPLIT-N.order  the plan of the window from example N of a split: which examples, one after the other
    SPLIT-N.starts … and where in those each sequence starts; one more than there are sequences
    SPLIT-N.tokens … and the tokens of each sequence

They lie in the dataset's staging folder, where every worker sees them. So a job is a few numbers, and who hands out
jobs holds nothing that grows with the input.
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
    """The table of all examples, for a with block: it is written part by part, and can be read once it is `finish`."""

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
        """Append what came of a part, which then holds it no more; its lines are counted from the shard's start."""
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
            raise write_error(self.folder / name, exc, file.tell() + len(left)) from exc

    def finish(self, parts: list[EncodedPart]) -> None:
        """Have all of it on disk; the parts see what was left out of them again, there."""
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
        """All examples."""
        return memory_mapped(self.folder / "placed", records.PLACED_EXAMPLE_DTYPE)

    def read_hashes(self) -> StructuredArray | None:
        """Their hashes, if the recipe asks for them."""
        return memory_mapped(self.folder / "hashed", records.EXAMPLE_HASHES_DTYPE) if "hashed" in self._dtypes else None
