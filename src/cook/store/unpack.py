"""Cooked sequences back into a spool file, as `parquet` gathers from: what a mix is made of.

Each input file has its own range of one spool, so that any number of them is one file to open.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cook.errors import OutputError
from cook.spool import join
from cook.store.parquet import PLACED, Lists, labels_of, read_wanted

TOKEN_BYTES = 4


@dataclasses.dataclass(frozen=True)
class UnpackJob:
    """The work on one file of a cooked data set; picklable."""

    path: str
    spool: str
    at: int
    """The first token of the file's range in the spool."""
    wanted: npt.NDArray[np.bool_]
    """A flag a row. Row groups that hold no wanted row are not read."""

    def __str__(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """The wanted rows, in order."""

    examples: npt.NDArray[np.void]
    """PLACED."""
    counts: npt.NDArray[np.int64]
    """The examples of each row."""


def unpack_file(job: UnpackJob) -> Unpacked:
    """Write the tokens of the wanted rows into the spool. Raises OutputError."""
    tables, counts = [np.empty(0, PLACED)], [np.empty(0, np.int64)]
    at = job.at
    try:
        with open(job.spool, "r+b") as spool:
            spool.seek(at * TOKEN_BYTES)
            for wanted, columns in read_wanted(job.path, job.wanted):
                table, by_row = examples_of(job.path, columns)
                of_wanted = np.repeat(wanted, by_row)
                lengths = table["tokens"]
                of_tokens = np.repeat(of_wanted, lengths)
                ids, mask = columns["input_ids"][0][of_tokens], columns["loss_mask"][0][of_tokens]
                table, lengths = table[of_wanted], lengths[of_wanted].astype(np.int64)
                table["at"] = at + np.cumsum(lengths) - lengths
                spool.write(join(ids, mask == 1).tobytes())
                at += len(ids)
                tables.append(table)
                counts.append(by_row[wanted])
    except OSError as exc:
        raise OutputError(f"{job.spool}: cannot be written: {exc.strerror or exc}") from exc
    return Unpacked(np.concatenate(tables), np.concatenate(counts))


def examples_of(path: str, columns: dict[str, Lists]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The examples of a row group, and how many each row has.

    Raises OutputError unless the columns agree, as cook writes them: only ids, mask and lengths are kept, so that
    anything else would not come back as it was.
    """
    (ids, by_token), (lengths, by_example) = columns["input_ids"], columns["seq_lengths"]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    offsets = (
        [columns[name][1] for name in ("labels", "loss_mask")],
        [columns[f"source_{s}"][1] for s in ("shard", "line")],
    )
    same = all(np.array_equal(other, by_token) for other in offsets[0])
    same &= all(np.array_equal(other, by_example) for other in offsets[1])
    if same and (lengths > 0).all() and np.array_equal(ends[by_example], by_token):
        trained = np.concatenate([np.zeros(1, np.int64), np.cumsum(columns["loss_mask"][0], dtype=np.int64)])
        table = np.zeros(len(lengths), PLACED)
        table["tokens"], table["trained"] = lengths, np.diff(trained[ends])
        table["shard"], table["line"] = columns["source_shard"][0], columns["source_line"][0]
        mask = columns["loss_mask"][0]
        if ((mask == 0) | (mask == 1)).all() and np.array_equal(labels_of(ids, mask), columns["labels"][0]):
            return table, np.diff(by_example).astype(np.int64)
    raise OutputError(f"{path}: ids, labels, loss mask and lengths of its rows do not agree, as cook writes them")
