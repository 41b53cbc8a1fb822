"""Files laid out by cook are read by others' readers: every value, every row, the types."""

from __future__ import annotations

import doctest
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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


def coded(values: npt.NDArray[Any]) -> npt.NDArray[Any] | pages.DictionaryEncoded:
    """The values by a dictionary; as they are where there are too many."""
    if (least := int(values.min())) < 0 or len(set(values.tolist())) > 2:  # else by two bytes, or by a bit
        known, places = np.unique(values, return_inverse=True)
        return (
            values
            if len(known) > pages.MAX_DICTIONARY + 1
            else pages.DictionaryEncoded(known, places.astype(np.uint16))
        )
    return pages.DictionaryEncoded(np.array([least, int(values.max())]), values != least)


def written(groups: list[Rows], dictionaries: bool = False) -> bytes:
    """The file of these row groups."""
    names = ("ids", "mask", "text")

    def flat(lists: list[list[int]], kind: str) -> pages.ColumnLists:
        offsets = np.cumsum([0, *map(len, lists)])
        values = np.array([value for values in lists for value in values], kind)
        return coded(values) if dictionaries else values, offsets

    file = io.BytesIO()
    writer = pages.ParquetWriter(file, {names[0]: "int32", names[1]: "int8"}, [names[2]])
    for rows in groups:
        ids, mask, texts = map(list, zip(*rows, strict=True))
        writer.write([flat(ids, "int32"), flat(mask, "int8")], [texts])
    writer.close()
    return file.getvalue()


LONG = [(list(range(70_000)), [1], "x" * 300), ([5], [0] * 20_000, "")]


@given(groups, st.booleans())
@example([[([1], [1], "")] * 8], True)  # the levels fill a byte
@example([LONG, LONG], False)
@example([LONG, LONG], True)
def test_pyarrow_reads_what_was_written(groups, dictionaries):
    file = pq.ParquetFile(io.BytesIO(written(groups, dictionaries)))
    kinds = [("ids", pa.list_(pa.int32())), ("mask", pa.list_(pa.int8())), ("text", pa.string())]
    assert file.schema_arrow.equals(pa.schema(kinds))
    assert file.metadata.num_rows == sum(map(len, groups))
    assert file.num_row_groups == len(groups)
    for index, rows in enumerate(groups):
        table = file.read_row_group(index)
        table.validate(full=True)
        assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == rows


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=300))
@example([5, 5, 7] * 30_000)  # more of one than a number of 16 bits counts
def test_a_dictionary_says_the_same_values_the_most_frequent_first(values):
    made = pages.encode_dictionary(np.array(values, np.int32))
    assert made is not None
    assert made.codes.dtype == np.uint16
    assert made.dictionary[made.codes].tolist() == values
    counts = [values.count(value) for value in made.dictionary.tolist()]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(("distinct", "one"), [(pages.MAX_DICTIONARY, True), (pages.MAX_DICTIONARY + 1, False)])
def test_a_dictionary_leaves_room_for_one_more_value_in_16_bits(distinct, one):
    assert (pages.encode_dictionary(np.arange(distinct, dtype=np.int32)) is not None) == one
    assert pages.MAX_DICTIONARY + 1 == 2**16
    assert (pages.encode_dictionary(np.array([pages.MAX_CODED_VALUE - one], np.int32)) is not None) == one


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "dictionaries"])
def file(tmp_path_factory: pytest.TempPathFactory, request) -> tuple[Path, dict[str, list[Any]]]:
    rows = [LONG, [([1, 2, 3], [1, 0], "é🙂"), ([-100] * 9, [-128], "")] * 40, [(list(range(2**16)), [1], "")]]
    path = tmp_path_factory.mktemp("pages") / "file.parquet"
    path.write_bytes(written(rows, request.param))
    ids, mask, text = map(list, zip(*(row for rows in rows for row in rows), strict=True))
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


@pytest.mark.parametrize("count", [14, 15, 16])
def test_as_many_row_groups_as_a_short_list_of_thrift_holds(count):
    assert pq.ParquetFile(io.BytesIO(written([[([1], [1], "")]] * count))).num_row_groups == count


@pytest.mark.parametrize(("values", "eights"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_a_run_of_places_holds_eight_at_a_time(values, eights):
    """Readers other than pyarrow take a shorter one for damage."""
    assert b"".join(pages._code_bytes(np.ones(values, np.uint16))) == (
        bytes([16, eights << 1 | 1]) + b"\1\0" * values + bytes(2 * (8 * eights - values))
    )


def test_its_schema_is_that_of_pyarrow_for_the_same_columns(tmp_path):
    pq.write_table(pa.table([[], [], []], parquet_schema := pa.schema(
        [("ids", pa.list_(pa.int32())), ("mask", pa.list_(pa.int8())), ("text", pa.string())]
    )), tmp_path / "empty.parquet")  # fmt: skip
    own = pq.ParquetFile(io.BytesIO(written([])))
    assert own.schema.equals(pq.ParquetFile(tmp_path / "empty.parquet").schema)
    assert own.schema_arrow.equals(parquet_schema)


def test_an_empty_list_is_refused():
    writer = pages.ParquetWriter(io.BytesIO(), {"ids": "int32"})
    with pytest.raises(ValueError, match="ids: a list is empty"):
        writer.write([(np.array([1], np.int32), np.array([0, 1, 1]))])


@pytest.mark.parametrize("dictionaries", [False, True])
def test_row_groups_are_as_pyarrow_makes_them(tmp_path, dictionaries):
    """The sizes and places that the footer tells are those of the pages."""
    rows = [([7] * 1000, [1] * 10, "text")] * 50
    path = tmp_path / "file.parquet"
    path.write_bytes(written([rows, rows], dictionaries))
    metadata = pq.read_metadata(path)
    end = len(pages.MAGIC)
    for group in (metadata.row_group(index) for index in range(2)):
        columns = [group.column(index) for index in range(3)]
        assert group.total_byte_size == sum(column.total_uncompressed_size for column in columns)
        assert {column.compression for column in columns} == {"ZSTD"}
        for column in columns:
            by_dictionary = dictionaries and column.physical_type == "INT32"
            assert column.encodings == ("PLAIN", "RLE", *["RLE_DICTIONARY"] * by_dictionary)
            assert (column.dictionary_page_offset if by_dictionary else column.data_page_offset) == end
            assert column.data_page_offset > end or not by_dictionary
            end += column.total_compressed_size
    assert end + metadata.serialized_size + 8 == path.stat().st_size


def test_the_examples_in_the_module_run():
    assert doctest.testmod(pages).attempted
    assert not doctest.testmod(pages).failed
