"""A cooked data set, opened again: refused unless its manifest is whole and its files are those that it names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cook.errors import OutputError, SourceError
from cook.sources import sha256_of
from cook.store import manifest
from cook.store.parquet import COLUMNS, read_columns
from cook.store.publish import aside

Ints = npt.NDArray[np.int32]


class Sequence(NamedTuple):
    """One row. The first three are as long as the sequence, the others as there are examples in it."""

    input_ids: Ints
    labels: Ints
    loss_mask: npt.NDArray[np.int8]
    seq_lengths: Ints
    source_shard: Ints
    source_line: Ints


@dataclasses.dataclass(frozen=True)
class Cooked:
    """A data set on disk whose files are known to be those of its manifest."""

    folder: Path
    manifest: dict[str, Any]

    def sequences(self, split: str = "train") -> Iterator[Sequence]:
        """Its sequences, in order; memory holds one row group. Raises OutputError."""
        for output in self.manifest["outputs"]:
            if output.get("split") == split:
                for columns in read_columns(self.folder / output["name"]):
                    flat = [columns[name] for name in COLUMNS]
                    for row in range(len(flat[0][1]) - 1):
                        yield Sequence(*(values[offsets[row] : offsets[row + 1]] for values, offsets in flat))


def read_cooked(folder: str | os.PathLike[str], hashes: bool = True) -> Cooked:
    """Open a data set's folder, ROOT/NAME, after checking each file's size, and its sha256 unless `hashes` is false.

    Raises OutputError, naming what is missing or damaged.
    """
    folder = Path(folder)
    if not folder.exists() and aside(folder.parent, folder.name).exists():
        folder = aside(folder.parent, folder.name)  # a kill between two renames left the older result there
    found = manifest.read(folder)
    wrong = []
    for output in found["outputs"]:
        path = folder / output["name"]
        try:
            size = path.stat().st_size
            if size != output["bytes"]:
                wrong.append(f"{path}: has {size:,} bytes, its manifest says {output['bytes']:,}")
            elif hashes and sha256_of(path) != output["sha256"]:
                wrong.append(f"{path}: its sha256 is not the one in its manifest")
        except FileNotFoundError:
            wrong.append(f"{path}: is missing")
        except (OSError, SourceError) as exc:
            wrong.append(f"{path}: cannot be read: {exc}")
    if wrong:
        raise OutputError("\n".join(wrong))
    return Cooked(folder, found)
