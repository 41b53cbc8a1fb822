"""A dataset's encoded parts, and the writer of its skipped.jsonl."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from cook.core import records
from cook.core.errors import write_error
from cook.core.files import sha256_of
from cook.core.records import ReasonCounts, StructuredArray, count_skipped
from cook.encode import parts as part_encoding
from cook.read.source import Shard
from cook.store.kinds import SKIPPED_NAME

ROW_BYTES = 100  # bytes of a line of skipped.jsonl, roughly


@dataclasses.dataclass
class TokenizedDataset:
    """The encoded parts of a dataset, with lines counted from the start of their shards."""

    parts: list[part_encoding.EncodedPart]
    shard_of: list[int]  # for each part

    def total(self, field: str) -> int:
        """The sum of a count over all parts."""
        return sum(getattr(part, field) for part in self.parts)

    def skipped_counts(self) -> tuple[ReasonCounts, ReasonCounts]:
        """The entries, and the pairs, left out for each of SKIP_REASONS."""
        of_parts = [count_skipped(part.skipped) for part in self.parts]
        entries, pairs = (np.sum(sums, axis=0) for sums in zip(*of_parts, strict=True))
        return entries, pairs

    def skip_repeats(
        self, placed: StructuredArray, units: npt.NDArray[np.int32], repeated: npt.NDArray[np.bool_]
    ) -> None:
        """Add the entries of the repeated examples to the rows of what was left out.

        `placed` and `units` are columns of the table of all examples, `repeated` a mask of it.
        """
        begin = 0
        for part in self.parts:
            rows = slice(begin, begin + part.examples)
            begin += part.examples
            lines, group = np.unique(placed["line"][rows][repeated[rows]], return_inverse=True)
            if len(lines):
                noted = np.zeros(len(lines), records.SKIPPED_ROW_DTYPE)
                noted["line"], noted["unit"], noted["reason"] = lines, -1, records.REPEAT
                noted["units"] = np.bincount(group, units[rows][repeated[rows]])
                part.skipped = part_encoding.sort_by_line(np.concatenate([part.skipped, noted]))


def write_skipped(out: Path, shards: list[Shard], dataset: TokenizedDataset) -> list[dict[str, Any]]:
    """Write skipped.jsonl, a line for each entry or pair left out; its row of the manifest's outputs.

    Raises OutputError.
    """
    rows = sum(len(part.skipped) for part in dataset.parts)
    if not rows:
        return []
    path = out / SKIPPED_NAME
    try:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for part, shard in zip(dataset.parts, dataset.shard_of, strict=True):
                file.writelines(_skipped_lines(part, shards[shard].name))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise write_error(path, exc, ROW_BYTES * rows) from exc
    return [{"name": path.name, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}]


def _skipped_lines(part: part_encoding.EncodedPart, shard: str) -> Iterator[str]:
    """A part's lines of skipped.jsonl, formatted by hand: a JSON writer takes four times as long."""
    name = orjson.dumps(shard).decode()
    problem_json = {line: f',"problem":{orjson.dumps(what).decode()}' for line, what in part.bad}
    return (
        f'{{"shard":{name},"line":{line},"pair":{"null" if pair < 0 else pair},'
        f'"reason":"{records.SKIP_REASONS[reason]}",'
        f'"pairs":{pairs},"tokens":{tokens or "null"}{problem_json.get(line, "")}}}\n'
        for line, pair, reason, pairs, tokens in part.skipped.tolist()
    )
