"""Loading: what is fine is read, what is wrong is named by file, line and field."""

import gzip
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import entry, pair
from cook.core.errors import Problem, SourceError
from cook.read import lines as entries
from cook.read.lines import ByteRange, Line, LineReader
from cook.shapes.context_qa import Entry, parse_entry

GOOD = orjson.dumps(entry("c", pair("q", "a")))


def read(path: Path, part: ByteRange | None = None) -> list[Entry | Problem]:
    found: list[Entry | Problem] = []
    for line in LineReader(part or ByteRange(str(path), 0, None)):
        parsed = line if isinstance(line, Problem) else parse_entry(str(path), line)
        found += parsed if isinstance(parsed, list) else [parsed]
    return found


def shard(tmp_path: Path, data: bytes, name: str = "00000.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        GOOD + b"\n",
        b"\xef\xbb\xbf" + GOOD + b"\n",
        GOOD + b"\r\n",
        b"\n  \n\t\r\n" + GOOD + b"\n\n",
        b'{"id": 7, "context": "c", "more": [null], "QA_list": [{"Q": "q", "A": "a", "x": 1.5}]}\n',
    ],
    ids=["no newline", "plain", "byte-order mark", "CRLF", "blank lines", "unknown keys"],
)
def test_what_is_fine_is_read(tmp_path, data):
    (found,) = read(shard(tmp_path, data))
    assert (found.context, found.pairs) == ("c", [("q", "a")])


def test_lines_are_counted_with_the_blank_ones(tmp_path):
    assert [found.line for found in read(shard(tmp_path, b"\n" + GOOD + b"\n\n\n" + GOOD))] == [2, 5]


def test_text_is_kept_to_the_letter(tmp_path):
    context = " \x00\x1f\u2028 {context} \U0001f9ff "
    (found,) = read(shard(tmp_path, orjson.dumps(entry(context))))
    assert found.context == context


def test_compressed_shards(tmp_path):
    data = (GOOD + b"\n") * 3
    zstd = pa.Codec("zstd").compress(data).to_pybytes()
    for name, packed in (("a.jsonl.gz", gzip.compress(data)), ("a.jsonl.zst", zstd), ("b.jsonl.zst", zstd + zstd)):
        assert len(read(shard(tmp_path, packed, name))) == (6 if name.startswith("b") else 3)


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        (b"{", ["is not JSON: unexpected end of data at column 2"]),
        (b'{"context": "c", "QA_list": [{"Q": "q", "A', ["is not JSON: unexpected end of data at column 43"]),
        (b"not json", ["is not JSON: invalid literal, expected 'null' at column 1"]),
        (b'{"context": "\xff", "QA_list": []}', ["is not UTF-8: invalid start byte at byte 14 of the line"]),
        (b"[" * 100_000, ["is not JSON: depth limit exceeded at column 1026"]),
        (b"[]", ["must be an object, not a list"]),
        (b"null", ["must be an object, not null"]),
        (b'{"QA_list": []}', ["context: is missing"]),
        (b'{"context": "c"}', ["QA_list: is missing"]),
        (b'{"context": "c", "qa_list": [], "id": 1}',
         ["QA_list: is missing (there is 'qa_list'; --fields names others)"]),
        (b'{"context": "c", "QA_list": [{"\\u001b[2Jq": "q", "A": "a"}]}',
         [r"QA_list[0].Q: is missing (there is '\x1b[2Jq'; --fields names others)"]),
        (b"{}", ["context: is missing", "QA_list: is missing"]),
        (b'{"context": 5, "QA_list": []}', ["context: must be text, not a number"]),
        (b'{"context": null, "QA_list": []}', ["context: must be text, not null"]),
        (b'{"context": "c", "QA_list": {}}', ["QA_list: must be a list, not an object"]),
        (b'{"context": "c", "QA_list": "ab"}', ["QA_list: must be a list, not text"]),
        (b'{"context": "c", "QA_list": ["x"]}', ["QA_list[0]: must be an object, not text"]),
        (b'{"context": "c", "QA_list": [{"Q": "q", "A": "a"}, {"Q": "q"}]}', ["QA_list[1].A: is missing"]),
        (b'{"context": "c", "QA_list": [{"Q": ["q"], "A": true}]}',
         ["QA_list[0].Q: must be text, not a list", "QA_list[0].A: must be text, not true or false"]),
        (b'{"context": "a\\ud800b", "QA_list": []}', ["context: holds a lone surrogate, which has no UTF-8 form"]),
        (b'{"context": "c", "QA_list": [{"Q": "\\udfff", "A": "a"}]}',
         ["QA_list[0].Q: holds a lone surrogate, which has no UTF-8 form"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, line, problems):
    path = shard(tmp_path, GOOD + b"\n" + line + b"\n")
    good, *found = read(path)
    assert isinstance(good, Entry)
    assert [str(problem) for problem in found] == [f"{path}:2: {problem}" for problem in problems]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst"])
@pytest.mark.parametrize("damage", ["truncated", "not compressed"])
def test_damaged_compression(tmp_path, name, damage):
    data = b"".join(orjson.dumps(entry(f"context {i * i}")) + b"\n" for i in range(500))
    packed = gzip.compress(data) if name.endswith("gz") else pa.Codec("zstd").compress(data).to_pybytes()
    path = shard(tmp_path, packed[: len(packed) // 2] if damage == "truncated" else data, name)
    with pytest.raises(SourceError, match="cannot be read"):
        read(path)


def test_an_unreadable_shard(tmp_path):
    with pytest.raises(SourceError, match=r"gone.jsonl: cannot be read: No such file"):
        read(tmp_path / "gone.jsonl")


def test_a_line_over_the_limit_is_never_held(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(entries, "READ_BYTES", 64)
    long = orjson.dumps(entry("x" * 5000))
    path = shard(tmp_path, GOOD + b"\n" + long + b"\n" + GOOD + b"\n")
    first, problem, last = read(path)
    assert (first.line, last.line) == (1, 3)
    assert str(problem).startswith(f"{path}:2: is over")


@given(
    st.lists(st.sampled_from([GOOD, b"", b"  ", orjson.dumps(entry("longer " * 9))]), max_size=12),
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
)
def test_parts_hold_every_line_once(tmp_path_factory, lines, size, ends, mark):
    data = b"\xef\xbb\xbf" * mark + b"\n".join(lines) + b"\n" * ends
    path = shard(tmp_path_factory.mktemp("parts"), data)
    whole = LineReader(ByteRange(str(path), 0, None))
    expected = [(line.number, line.start, line.text) for line in whole if isinstance(line, Line)]
    found, base = [], 0
    for start in range(0, max(len(data), 1), size):
        reader = LineReader(ByteRange(str(path), start, start + size))
        found += [(line.number + base, line.start, line.text) for line in reader if isinstance(line, Line)]
        base += reader.lines
    assert found == expected
    assert base == whole.lines


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_the_first_lines_alone(tmp_path, name):
    marked = b"\xef\xbb\xbf" + GOOD
    data = marked + b"\n" + marked
    part = ByteRange(str(shard(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)), 0, None)
    lines = list(LineReader(part))
    assert lines == [Line(1, 0, GOOD + b"\n"), Line(2, len(marked) + 1, marked)]
    assert list(entries.reread_lines(part, [1, 2], [0, len(marked) + 1])) == lines


def test_lines_are_found_again(tmp_path):
    rows = [orjson.dumps(entry(f"context {i}")) for i in range(5)]
    for name, data in (("a.jsonl", b"\n".join(rows)), ("a.jsonl.gz", gzip.compress(b"\n".join(rows)))):
        part = ByteRange(str(shard(tmp_path, data, name)), 0, None)
        lines = [line for line in LineReader(part) if isinstance(line, Line)]
        again = list(entries.reread_lines(part, [2, 5], [lines[1].start, lines[4].start]))
        assert again == [lines[1], lines[4]]
