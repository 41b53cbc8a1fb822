"""Write the targets that are tables, as Parquet or as the Arrow files of save_to_disk.

trl              input_ids, labels, seq_lengths            a row a sequence
hf               input_ids, labels, position_ids           a row a sequence, of equal length; no attention_mask
llama-factory    input_ids, attention_mask, position_ids, labels   likewise; attention_mask says which example
axolotl          input_ids, attention_mask, labels         a row an example
torchtune        tokens, labels                            a row an example
megatron-bridge  input_ids, loss_mask, seq_start_id        a row a sequence; the mask is of the NEXT token
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from cook.core import files
from cook.core.arrays import offsets, positions
from cook.core.errors import OutputError, write_error
from cook.core.files import fsync_file
from cook.core.records import IGNORE_INDEX
from cook.trainers.job import ExportDone, ExportJob, ExportSettings
from cook.trainers.rows import (
    Array,
    SequenceBatch,
    pad_rows,
    read_sequences,
    segment_ids,
    shifted_mask,
    starts_in_sequence,
)

if TYPE_CHECKING:
    import pyarrow as pa

Column = tuple[npt.NDArray[np.integer], Array]  # flat values, and the offsets of rows in them
Table = dict[str, Column]
PAD_MULTIPLE = 8  # LLaMA-Factory's collator pads all columns but position_ids to a multiple of this

PARQUET_OPTIONS = {"compression": "zstd", "compression_level": 1, "use_dictionary": False, "write_statistics": False}


class TableFormat(NamedTuple):
    """A target's columns, each with the type of its lists' elements, and the function that makes tables of them."""

    columns: dict[str, str]
    tables: Callable[[SequenceBatch, ExportSettings], Iterator[Table]]


def _table(row_offsets: Array, **values: npt.NDArray[np.integer]) -> Table:
    """Columns that share their row offsets."""
    return {name: (column, row_offsets) for name, column in values.items()}


def _trl(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:  # noqa: ARG001 - one signature for all
    lengths = rows.lengths.astype(np.int32), offsets(rows.counts)
    yield _table(rows.sequence_offsets, input_ids=rows.ids, labels=rows.labels) | {"seq_lengths": lengths}


def _hf(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:
    length = settings.max_length
    for part in rows.parts(length):
        ids, labels, example_positions, row_offsets = _pad_columns(part, length, settings)
        # Padding continues the positions (few-shot), or is an example of its own.
        position_ids = (
            np.tile(np.arange(length, dtype=np.int32), len(part.counts)) if settings.few_shot else example_positions
        )
        yield _table(row_offsets, input_ids=ids, labels=labels, position_ids=position_ids)


def _llama_factory(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:
    length = llama_factory_length(settings.max_length)
    for part in rows.parts(length):
        ids, labels, position_ids, row_offsets = _pad_columns(part, length, settings)
        mask = pad_rows(segment_ids(part), part.sequence_offsets, length, 0)
        position_ids = np.where(mask > 0, position_ids, np.int32(0))
        yield _table(row_offsets, input_ids=ids, attention_mask=mask, position_ids=position_ids, labels=labels)


def llama_factory_length(max_length: int) -> int:
    """The length of LLaMA-Factory's rows. Each has a pad at least: without one, attention drops the mask."""
    return -(-(max_length + 1) // PAD_MULTIPLE) * PAD_MULTIPLE


def _pad_columns(rows: SequenceBatch, length: int, settings: ExportSettings) -> tuple[Any, Any, Any, Array]:
    """Ids, labels, and positions (from 0 in each example and in the padding) of rows of this length; row offsets.

    Raises OutputError for a longer sequence.
    """
    begins = rows.sequence_offsets
    tokens = np.diff(begins)
    if len(tokens) and int(tokens.max()) > length:
        raise OutputError(f"a sequence has {tokens.max():,} tokens, but its manifest says at most {length:,}")
    after = (np.arange(length) - tokens[:, None]).astype(np.int32)
    return (
        pad_rows(rows.ids, begins, length, settings.pad_id),
        pad_rows(rows.labels, begins, length, IGNORE_INDEX),
        pad_rows(positions(rows.lengths), begins, length, after),
        np.arange(len(tokens) + 1, dtype=np.int64) * length,
    )


def _axolotl(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:  # noqa: ARG001
    mask = np.ones(len(rows.ids), np.int8)
    yield _table(rows.example_offsets, input_ids=rows.ids, attention_mask=mask, labels=rows.labels)


def _torchtune(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:  # noqa: ARG001
    yield _table(rows.example_offsets, tokens=rows.ids, labels=rows.labels)


def _megatron_bridge(rows: SequenceBatch, settings: ExportSettings) -> Iterator[Table]:  # noqa: ARG001
    starts = starts_in_sequence(rows), offsets(rows.counts)
    yield _table(rows.sequence_offsets, input_ids=rows.ids, loss_mask=shifted_mask(rows)) | {"seq_start_id": starts}


TABLE_FORMATS = {
    "trl": TableFormat({"input_ids": "int32", "labels": "int32", "seq_lengths": "int32"}, _trl),
    "hf": TableFormat({"input_ids": "int32", "labels": "int32", "position_ids": "int32"}, _hf),
    "llama-factory": TableFormat(
        {"input_ids": "int32", "attention_mask": "int32", "position_ids": "int32", "labels": "int32"}, _llama_factory
    ),
    "axolotl": TableFormat({"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}, _axolotl),
    "torchtune": TableFormat({"tokens": "int32", "labels": "int32"}, _torchtune),
    "megatron-bridge": TableFormat(
        {"input_ids": "int32", "loss_mask": "int8", "seq_start_id": "int32"}, _megatron_bridge
    ),
}


def write_parquet(job: ExportJob) -> ExportDone:
    """Write a Parquet file of the target's columns. Raises OutputError."""
    import pyarrow.parquet as pq

    suffix = ".idx.parquet" if job.settings.target == "megatron-bridge" else ".parquet"
    return _write_table(job, job.path(suffix), lambda path, schema: pq.ParquetWriter(path, schema, **PARQUET_OPTIONS))


def write_arrow(job: ExportJob) -> ExportDone:
    """Write an Arrow file of a dataset, as save_to_disk does. Raises OutputError."""
    import pyarrow as pa

    folder = Path(job.out) / job.settings.split
    folder.mkdir(exist_ok=True)
    info = orjson.dumps({"info": {"features": _features(job.settings)}})
    return _write_table(
        job,
        folder / f"data-{job.index:05}-of-{job.count:05}.arrow",
        lambda path, schema: pa.ipc.new_stream(path, schema.with_metadata({"huggingface": info})),
    )


def _write_table(job: ExportJob, path: Path, writer: Callable[[str, Any], Any]) -> ExportDone:
    import pyarrow as pa

    form = TABLE_FORMATS[job.settings.target]
    schema = pa.schema([pa.field(name, pa.list_(pa.type_for_alias(kind))) for name, kind in form.columns.items()])
    done = ExportDone((path,))
    try:
        with writer(str(path), schema) as file:
            for rows in read_sequences(job.source):
                for table in form.tables(done.add(rows), job.settings):
                    arrays = [lists(*table[name]) for name in form.columns]
                    done.rows += len(arrays[0])
                    batch = pa.RecordBatch.from_arrays(arrays, names=schema.names)
                    file.write_batch(batch.cast(schema))
        fsync_file(path)
    except OSError as exc:
        raise write_error(path, exc) from exc
    return done


def _features(settings: ExportSettings) -> dict[str, Any]:
    # "Sequence" is what all versions of datasets read; since 4.0 they call it List.
    columns = TABLE_FORMATS[settings.target].columns
    return {name: {"feature": {"dtype": kind, "_type": "Value"}, "_type": "Sequence"} for name, kind in columns.items()}


def finish_arrow(out: Path, settings: ExportSettings, parts: list[ExportDone]) -> list[Path]:
    """Write the JSON files with which load_from_disk reads the Arrow files as a DatasetDict. Raises OutputError."""
    split, folder = settings.split, out / settings.split
    names = [path.name for part in parts for path in part.files]
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": hashlib.sha256(orjson.dumps([names, sum(part.rows for part in parts)])).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    written = {
        out / "dataset_dict.json": {"splits": [split]},
        folder / "dataset_info.json": {"citation": "", "description": "", "features": _features(settings)},
        folder / "state.json": state,
    }
    for path, fields in written.items():
        files.write_bytes(path, orjson.dumps(fields, option=orjson.OPT_INDENT_2))
    files.fsync_folder(folder)
    return list(written)


def lists(values: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64]) -> pa.ListArray:
    """A list array of int8 or int32. Made from buffers, since `pa.array(ndarray)` imports pandas in 0.3 s."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    kind = pa.int8() if values.dtype == np.int8 else pa.int32()
    items = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    places = pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets.astype(np.int32))])
    return pa.ListArray.from_arrays(places, items)
