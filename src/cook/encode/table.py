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
from cook.core.errors import unwritable
from cook.core.files import mapped
from cook.core.records import Rows
from cook.encode.parts import Job, Tokenized


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
