"""Files laid out by cook are read by others' readers: every value, every row, the types."""

from __future__ import annotations

import doctest
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cook.store import pages

INT32 = st.sampled_from([0, 1, -1, -100, 128_000, 2**31 - 1, -(2**31)])
INT8 = st.sampled_from([0, 1, -1, 127, -128])
Rows = list[tuple[list[int], list[int], str]]  # ids, mask of any length, text

row = st.tuples(st.lists(INT32, min_size=1, max_size=30), st.lists(INT8, min_size=1, max_size=9), st.text(max_size=5))
groups = st.lists(st.lists(row, min_size=1, max_size=20), max_size=4)


def written(groups: list[Rows], names: tuple[str, ...] = ("ids", "mask", "text")) -> bytes:
    """The file of these row groups."""

    def flat(lists: list[list[int]], kind: str) -> pages.Lists:
        offsets = np.cumsum([0, *map(len, lists)])
        return np.array([value for values in lists for value in values], kind), offsets

    file = io.BytesIO()
    writer = pages.Writer(file, {names[0]: "int32", names[1]: "int8"}, [names[2]])
    for rows in groups:
        ids, mask, texts = map(list, zip(*rows, strict=True))
        writer.write([flat(ids, "int32"), flat(mask, "int8")], [texts])
    writer.close()
    return file.getvalue()


LONG = [(list(range(70_000)), [1], "x" * 300), ([5], [0] * 20_000, "")]


@given(groups)
@example([[([1], [1], "")] * 8])  # the levels fill a byte
@example([LONG, LONG])
def test_pyarrow_reads_what_was_written(groups):
    file = pq.ParquetFile(io.BytesIO(written(groups)))
    kinds = [("ids", pa.list_(pa.int32())), ("mask", pa.list_(pa.int8())), ("text", pa.string())]
    assert file.schema_arrow.equals(pa.schema(kinds))
    assert file.metadata.num_rows == sum(map(len, groups))
    assert file.num_row_groups == len(groups)
    for index, rows in enumerate(groups):
        table = file.read_row_group(index)
        table.validate(full=True)
        assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == rows


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    rows = [LONG, [([1, 2, 3], [1, 0], "é🙂"), ([-100] * 9, [-128], "")] * 40]
    path = tmp_path_factory.mktemp("pages") / "file.parquet"
    path.write_bytes(written(rows))
    ids, mask, text = map(list, zip(*rows[0], *rows[1], strict=True))
    return path, {"ids": ids, "mask": mask, "text": text}


def test_polars_reads_it(file):
    path, columns = file
    table = pytest.importorskip("polars").read_parquet(path)
    assert table.to_dict(as_series=False) == columns


def test_duckdb_reads_it(file):
    path, columns = file
    rows = pytest.importorskip("duckdb").read_parquet(str(path))
    assert [str(kind) for kind in rows.types] == ["INTEGER[]", "TINYINT[]", "VARCHAR"]
    assert dict(zip(columns, map(list, zip(*rows.fetchall(), strict=True)), strict=True)) == columns


def test_its_schema_is_that_of_pyarrow_for_the_same_columns(tmp_path):
    pq.write_table(pa.table([[], [], []], parquet_schema := pa.schema(
        [("ids", pa.list_(pa.int32())), ("mask", pa.list_(pa.int8())), ("text", pa.string())]
    )), tmp_path / "empty.parquet")  # fmt: skip
    own = pq.ParquetFile(io.BytesIO(written([])))
    assert own.schema.equals(pq.ParquetFile(tmp_path / "empty.parquet").schema)
    assert own.schema_arrow.equals(parquet_schema)


def test_an_empty_list_is_refused():
    writer = pages.Writer(io.BytesIO(), {"ids": "int32"})
    with pytest.raises(ValueError, match="ids: a list is empty"):
        writer.write([(np.array([1], np.int32), np.array([0, 1, 1]))])


def test_row_groups_are_as_pyarrow_makes_them(tmp_path):
    """The sizes and places that the footer tells are those of the pages."""
    rows = [([7] * 1000, [1] * 10, "text")] * 50
    path = tmp_path / "file.parquet"
    path.write_bytes(written([rows, rows]))
    metadata = pq.read_metadata(path)
    end = len(pages.MAGIC)
    for group in (metadata.row_group(index) for index in range(2)):
        columns = [group.column(index) for index in range(3)]
        assert group.total_byte_size == sum(column.total_uncompressed_size for column in columns)
        assert {(column.compression, column.encodings) for column in columns} == {("ZSTD", ("PLAIN", "RLE"))}
        for column in columns:
            assert column.data_page_offset == end
            end += column.total_compressed_size
    assert end + metadata.serialized_size + 8 == path.stat().st_size


def test_the_examples_in_the_module_run():
    assert doctest.testmod(pages).attempted
    assert not doctest.testmod(pages).failed
