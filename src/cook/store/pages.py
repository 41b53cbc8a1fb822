"""Parquet files of lists of integers, laid out from arrays.

A general writer works out for every single value where its row begins and whether it is null. Of cook's columns that is
known by row: none is null, and a list's offsets say all. So its levels are a few bytes, made by numpy, and what remains
is to compress the values; token ids are two bytes each for that, as places in a dictionary. It takes a fraction of the
time of pyarrow's writer, which was half of a second cook's.

What is written is plain: one data page (version 1) a column and row group, values PLAIN or, where they come as
`DictionaryEncoded`, RLE_DICTIONARY in a single run, compressed by zstd, no statistics. The schema is that of pyarrow
for the same columns. In the tests pyarrow, DuckDB and Polars read every value back. The format: apache/parquet-format,
README.md, Encodings.md and src/main/thrift/parquet.thrift; Thrift's compact protocol: apache/thrift,
doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import zstandard

MAGIC = b"PAR1"
ZSTD_LEVEL = 1  # of zstd
CREATED_BY = b"cook version 1"  # of this layout, in the form that readers look for
MAX_DICTIONARY = (1 << 16) - 1  # values in a dictionary that `encode_dictionary` makes; one more has room
MAX_CODED_VALUE = 1 << 20  # values that `encode_dictionary` counts: ids of any vocabulary


# Types of the compact protocol.
TRUE, I8, I32, I64, BINARY, LIST, STRUCT = 1, 3, 5, 6, 8, 9, 12
# Enums of parquet.thrift.
INT32, BYTE_ARRAY = 1, 6  # Type
OPTIONAL, REPEATED = 1, 2  # FieldRepetitionType
UTF8, LIST_OF, INT_8 = 0, 3, 15  # ConvertedType
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8  # Encoding
ZSTD = 6  # CompressionCodec
DATA_PAGE, DICTIONARY_PAGE = 0, 2  # PageType

Field = tuple[
    int, Any
]  # its type, and its value: of a LIST the type and values of its elements, of a STRUCT its fields
Struct = dict[int, Field]  # by the fields' numbers, ascending


class DictionaryEncoded(NamedTuple):
    """The values of a column by their places in a dictionary."""

    dictionary: npt.NDArray[np.integer]
    codes: npt.NDArray[np.uint16] | npt.NDArray[np.bool_]
    """One a value, of 16 bits, or of one."""


# The values of a column, and the offsets of its rows in them, from 0.
ColumnLists = tuple[npt.NDArray[np.integer] | DictionaryEncoded, npt.NDArray[np.integer]]


def encode_dictionary(values: npt.NDArray[np.integer]) -> DictionaryEncoded | None:
    """Encode values from 0 by a dictionary, the most frequent first.

    None where there are more than MAX_DICTIONARY distinct values, or one is MAX_CODED_VALUE or more.

    >>> encode_dictionary(np.array([7, 9, 9]))
    DictionaryEncoded(dictionary=array([9, 7]), codes=array([1, 0, 0], dtype=uint16))
    """
    if values.max(initial=0) >= MAX_CODED_VALUE:
        return None
    at = values.astype(np.intp)  # once, not in each step
    counts = np.bincount(at)
    used = np.flatnonzero(counts)
    if len(used) > MAX_DICTIONARY:
        return None
    rarity = ~np.minimum(counts[used], MAX_DICTIONARY).astype(np.uint16)  # numbers of 16 bits are sorted by radix
    used = used[np.argsort(rarity, kind="stable")]
    places = np.empty(len(counts), np.uint16)
    places[used] = np.arange(len(used), dtype=np.uint16)
    return DictionaryEncoded(used, places.take(at, mode="clip"))


class ColumnChunk(NamedTuple):
    """A column of a row group, as it lies in the file."""

    path: tuple[str, ...]
    kind: int
    value_count: int
    start: int
    dictionary_bytes: int
    """Bytes of its dictionary page, which is the first; 0: it has none."""
    raw_bytes: int
    """Bytes of all its pages with their headers, before and after compression."""
    compressed_bytes: int


class Sink(Protocol):
    """What is written to, such as a file."""

    def write(self, data: bytes, /) -> int:
        """Write all of it; its length."""
        ...


class ParquetWriter:
    """Writes row groups to a file; `close` writes what makes it a Parquet file."""

    def __init__(self, file: Sink, columns: Mapping[str, str], strings: Sequence[str] = ()) -> None:
        """`columns`: names of those with lists, and "int8" or "int32"; `strings`: after those, with a text a row."""
        self._codec = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._file = file
        self._columns, self._strings = dict(columns), tuple(strings)
        self._groups: list[tuple[int, list[ColumnChunk]]] = []
        self._position = file.write(MAGIC)

    def write(self, lists: Sequence[ColumnLists], texts: Sequence[Sequence[str]] = ()) -> None:
        """A row group: the values of each column; no list is empty. Raises OSError."""
        rows = len(lists[0][1]) - 1
        chunks = []
        levels: dict[int, list[bytes]] = {}  # of columns that share their offsets
        for name, (values, offsets) in zip(self._columns, lists, strict=True):
            if not (offsets[1:] > offsets[:-1]).all():
                raise ValueError(f"{name}: a list is empty")
            of_rows = levels.get(id(offsets)) or levels.setdefault(id(offsets), _levels(offsets))
            path, count = (name, "list", "element"), int(offsets[-1])
            if isinstance(values, DictionaryEncoded):
                data, dictionary = [*of_rows, *_code_bytes(values.codes)], _plain_bytes(values.dictionary)
                chunks.append(self._chunk(path, INT32, count, data, dictionary, len(values.dictionary)))
            else:
                chunks.append(self._chunk(path, INT32, count, [*of_rows, _plain_bytes(values)]))
        for name, of_column in zip(self._strings, texts, strict=True):
            parts = [part for text in of_column for part in (len(text.encode()).to_bytes(4, "little"), text.encode())]
            chunks.append(self._chunk((name,), BYTE_ARRAY, rows, [_repeated_level(rows, 1), *parts]))
        self._groups.append((rows, chunks))

    def _chunk(
        self,
        path: tuple[str, ...],
        kind: int,
        count: int,
        parts: list[Any],
        dictionary: Any = b"",
        dictionary_size: int = 0,
    ) -> ColumnChunk:
        """A column's pages.

        `count` values in `parts`, and before them the `dictionary_size` ones of a dictionary, if any.
        """
        start, raw = self._position, 0
        if dictionary_size:
            of_dictionary: Struct = {1: (I32, dictionary_size), 2: (I32, PLAIN)}
            raw += self._page(DICTIONARY_PAGE, bytes(dictionary), {7: (STRUCT, of_dictionary)})
        dictionary_bytes = self._position - start
        page_header: Struct = {
            1: (I32, count),
            2: (I32, RLE_DICTIONARY if dictionary_size else PLAIN),
            3: (I32, RLE),
            4: (I32, RLE),
        }
        raw += self._page(DATA_PAGE, b"".join(parts), {5: (STRUCT, page_header)})
        return ColumnChunk(path, kind, count, start, dictionary_bytes, raw, self._position - start)

    def _page(self, kind: int, page: bytes, type_header: Struct) -> int:
        """Write a page; its bytes with its header, before compression."""
        packed = self._codec.compress(page)
        header = encode_struct({1: (I32, kind), 2: (I32, len(page)), 3: (I32, len(packed)), **type_header})
        self._position += self._file.write(header) + self._file.write(packed)
        return len(header) + len(page)

    def close(self) -> None:
        """Write the footer. Raises OSError."""
        footer = encode_struct(
            {
                1: (I32, 2),
                2: (LIST, (STRUCT, list(self._schema()))),
                3: (I64, sum(rows for rows, _ in self._groups)),
                4: (LIST, (STRUCT, [_row_group_struct(*group) for group in self._groups])),
                6: (BINARY, CREATED_BY),
            }
        )
        self._file.write(footer + len(footer).to_bytes(4, "little") + MAGIC)

    def _schema(self) -> list[Struct]:
        """The tree of columns, each node before its children."""
        nodes: list[Struct] = [{4: (BINARY, b"schema"), 5: (I32, len(self._columns) + len(self._strings))}]
        for name, kind in self._columns.items():
            is_list: Struct = {3: (I32, OPTIONAL), 4: (BINARY, name.encode()), 5: (I32, 1), 6: (I32, LIST_OF)}
            element: Struct = {1: (I32, INT32), 3: (I32, OPTIONAL), 4: (BINARY, b"element")}
            if kind == "int8":
                element |= {6: (I32, INT_8), 10: (STRUCT, {10: (STRUCT, {1: (I8, 8), 2: (TRUE, None)})})}
            nodes += [
                is_list | {10: (STRUCT, {3: (STRUCT, {})})},
                {3: (I32, REPEATED), 4: (BINARY, b"list"), 5: (I32, 1)},
                element,
            ]
        for name in self._strings:
            text: Struct = {1: (I32, BYTE_ARRAY), 3: (I32, OPTIONAL), 4: (BINARY, name.encode()), 6: (I32, UTF8)}
            nodes.append(text | {10: (STRUCT, {1: (STRUCT, {})})})
        return nodes


def _row_group_struct(rows: int, chunks: list[ColumnChunk]) -> Struct:
    columns: list[Struct] = []
    for chunk in chunks:
        meta: Struct = {
            1: (I32, chunk.kind),
            2: (LIST, (I32, [PLAIN, RLE, RLE_DICTIONARY] if chunk.dictionary_bytes else [PLAIN, RLE])),
            3: (LIST, (BINARY, [name.encode() for name in chunk.path])),
            4: (I32, ZSTD),
            5: (I64, chunk.value_count),
            6: (I64, chunk.raw_bytes),
            7: (I64, chunk.compressed_bytes),
            9: (I64, chunk.start + chunk.dictionary_bytes),
        }
        if chunk.dictionary_bytes:
            meta[11] = (I64, chunk.start)
        columns.append({2: (I64, 0), 3: (STRUCT, meta)})
    raw, size = sum(chunk.raw_bytes for chunk in chunks), sum(chunk.compressed_bytes for chunk in chunks)
    return {
        1: (LIST, (STRUCT, columns)),
        2: (I64, raw),
        3: (I64, rows),
        5: (I64, chunks[0].start),
        6: (I64, size),
    }


def _plain_bytes(values: npt.NDArray[np.integer]) -> memoryview:
    """Values as they are."""
    return np.ascontiguousarray(values, "<i4").data


def _code_bytes(places: npt.NDArray[np.uint16] | npt.NDArray[np.bool_]) -> list[Any]:
    """Places in a dictionary in one run, with the bits of each in front; a run holds eight at a time."""
    if places.dtype == np.bool_:
        return [b"\1", *_bit_packed_run(len(places), np.packbits(places, bitorder="little").data)]
    rest = bytes(2 * (-len(places) % 8))
    return [b"\x10", *_bit_packed_run(len(places), np.ascontiguousarray(places, "<u2").data), rest]


def _bit_packed_run(count: int, bits: Any) -> list[Any]:
    """The run of so many values, each of the same bits, with what tells how many."""
    return [_varint(-(-count // 8) << 1 | 1), bits]


def _levels(offsets: npt.NDArray[np.integer]) -> list[bytes]:
    """The levels of a column of lists."""
    begins = np.ones(int(offsets[-1]), np.uint8)  # 1: another element of the same list, 0: the first of a row
    begins[offsets[:-1]] = 0
    return [_bit_levels(begins), _repeated_level(len(begins), 3)]


def _bit_levels(levels: npt.NDArray[np.uint8]) -> bytes:
    """Levels of 0 and 1 in one run of bits, with the bytes that this takes in front."""
    run = b"".join(_bit_packed_run(len(levels), np.packbits(levels, bitorder="little").data))
    return len(run).to_bytes(4, "little") + run


def _repeated_level(count: int, level: int) -> bytes:
    """So many times the same level, likewise."""
    run = _varint(count << 1) + bytes([level])
    return len(run).to_bytes(4, "little") + run


def encode_struct(struct: Struct) -> bytes:
    """A struct in Thrift's compact protocol.

    >>> encode_struct({1: (I32, -3), 4: (BINARY, b"ab"), 5: (LIST, (I32, [1, 2])), 6: (STRUCT, {})}).hex(" ")
    '15 05 38 02 61 62 19 25 02 04 1c 00 00'
    """
    out = bytearray()
    before = 0
    for number, (kind, value) in struct.items():
        out.append(number - before << 4 | kind)
        before = number
        if kind != TRUE:
            out += _encode_value(kind, value)
    return bytes(out) + b"\0"


def _encode_value(kind: int, value: Any) -> bytes:
    if kind == STRUCT:
        return encode_struct(value)
    if kind == LIST:
        of, values = value
        head = bytes([len(values) << 4 | of]) if len(values) < 15 else bytes([0xF0 | of]) + _varint(len(values))
        return head + b"".join(_encode_value(of, each) for each in values)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == I8:
        return bytes([value])
    return _varint(value << 1 if value >= 0 else ~value << 1 | 1)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
