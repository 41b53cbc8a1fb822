"""Columns, schema and file names of Parquet results."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cook.core.records import IGNORE_INDEX
from cook.store import pages

if TYPE_CHECKING:
    import pyarrow as pa

SEQUENCE_COLUMNS = {
    name: "int8" if name == "loss_mask" else "int32"
    for name in ("input_ids", "labels", "loss_mask", "seq_lengths", "source_shard", "source_line")
}  # the type of the elements of each column's lists
DATASET_COLUMN = "dataset"  # the column of a mix that names a sequence's dataset


@functools.cache
def parquet_schema(mixed: bool = False) -> pa.Schema:
    """The columns, as pyarrow has them; it is imported when it is first needed, beside work that has begun."""
    import pyarrow as pa

    fields = [pa.field(name, pa.list_(pa.type_for_alias(kind))) for name, kind in SEQUENCE_COLUMNS.items()]
    return pa.schema([*fields, pa.field(DATASET_COLUMN, pa.string())] if mixed else fields)


def token_columns(
    ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.integer] | pages.DictionaryEncoded]:
    """The columns that have a value a token, as they are laid out: by dictionaries, where one can hold the ids."""
    columns: dict[str, npt.NDArray[np.integer] | pages.DictionaryEncoded] = {
        "loss_mask": pages.DictionaryEncoded(np.arange(2), mask)
    }
    if (coded := pages.encode_dictionary(ids)) is None:
        return columns | {"input_ids": ids, "labels": np.where(mask, ids, np.int32(IGNORE_INDEX))}
    labels = pages.DictionaryEncoded(np.append(IGNORE_INDEX, coded.dictionary), (coded.codes + np.uint16(1)) * mask)
    return columns | {"input_ids": coded, "labels": labels}


def file_names(count: int, split: str = "train", suffix: str = "parquet") -> list[str]:
    """The names of a split's output files."""
    return [f"{split}-{index:05}-of-{count:05}.{suffix}" for index in range(count)]
