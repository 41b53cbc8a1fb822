"""What the fuzz tests and `scripts/fuzz.py` share: strategies that make inputs, and checks that hold for every input.

A check raises AssertionError, or lets an error through that is no CookError, where cook is wrong. Limits of the loader
(parts, batches, the longest line) are made small, so that small inputs reach them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gzip
import json
import shutil
import signal
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import orjson
import pyarrow as pa
from hypothesis import strategies as st

import cook
from conftest import entry, pair, write_shard
from cook.core import cache
from cook.core.errors import BadLines, CookError, InputError, SourceError
from cook.core.recipe import read_config
from cook.encode import spool
from cook.store import manifest

SECONDS = 20  # for one input; they take hundredths
SMALL = {
    "read.lines.MAX_LINE_BYTES": 3000,
    "read.lines.READ_BYTES": 512,
    "encode.parts.BATCH_BYTES": 800,
    "encode.parts.SPLIT_BATCH_BYTES": 500,
}
TRIED: Counter[str] = Counter()  # inputs and lines, by kind


class Hang(BaseException):
    """An input took too long. No Exception, so that nothing catches it on the way."""


@contextlib.contextmanager
def within(seconds: float = SECONDS) -> Iterator[None]:
    """Raise Hang where a with block takes longer."""

    def ring(*_: object) -> None:
        raise Hang(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one input, in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
        yield Path(folder)


# Bytes, damaged

ODD = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r", b"\n", b"\r\n",
    b"\n\n", b"\x0b", b"\x85",
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":",
    b"NaN", b"-Infinity", b"1e999", b"-0", b"0x1", b"null", b"true",
    b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\x", b'"Q":1,', b'"context":"twice",', b'"QA_list":[],', b"/**/",
    b"9" * 30, b"9" * 5000, b"[" * 40, b"[" * 2000, b"{" * 300, b'{"a":' * 1100, b" " * 3100, b"x" * 3100,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 3) -> bytes:
    """Data with bytes flipped, inserted, removed, doubled, or its end cut off."""
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(1, 9)))
        kind = draw(st.sampled_from(["insert", "flip", "remove", "double", "cut", "bytes"]))
        if kind == "insert":
            data = data[:at] + draw(st.sampled_from(ODD)) + data[at:]
        elif kind == "bytes":
            data = data[:at] + draw(st.binary(min_size=1, max_size=6)) + data[at:]
        elif kind == "flip":
            data = data[:at] + bytes(b ^ draw(st.integers(1, 255)) for b in data[at : at + 1]) + data[at + 1 :]
        elif kind == "remove":
            data = data[:at] + data[end:]
        elif kind == "double":
            data = data[:end] + data[at:]
        else:
            data = data[:at]
    return data


def texts() -> st.SearchStrategy[str]:
    """What a context, question or answer may say."""
    any_text = st.text(st.characters(codec="utf-8"), max_size=12)
    words = st.sampled_from(
        ["word " * 4, "</END>", "{context}", "<s></s>", "<|user|>", "\u2028", "\x00", "▁", "x" * 90]
    )
    return st.lists(any_text | words, max_size=4).map("".join)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


NASTY = [
    b'{"context":"c","QA_list":[{"Q":1,"A":"a"}]}', b'{"context":"c","QA_list":[{"Q":"q","A":[]}]}',
    b'{"context":"\\ud800","QA_list":' + b"[" * 1200 + b"]" * 1200 + b"}", b'{"context":"c","QA_list":"ab"}',
]  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of a shard: an entry, written in one of JSON's ways; damaged; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.sampled_from(NASTY)
            | st.binary(max_size=30)
            | st.sampled_from(ODD)
            | JSON.map(json.dumps).map(str.encode)
        )
    row: dict[str, Any] = {
        "context": draw(texts()),
        "QA_list": [pair(q, a) for q, a in draw(st.lists(st.tuples(texts(), texts()), max_size=3))],
    }
    misfit = draw(st.integers(0, 7))
    if misfit == 0:
        holder = draw(st.sampled_from([row, *row["QA_list"]]))
        holder[draw(st.sampled_from([*holder, "more", "Context", "qa_list"]))] = draw(JSON)
    elif misfit == 1:
        holder = draw(st.sampled_from([row, *row["QA_list"]]))
        del holder[draw(st.sampled_from([*holder]))]
    data = json.dumps(row, ensure_ascii=draw(st.booleans())).encode()
    return draw(damaged(data)) if draw(st.integers(0, 2)) == 0 else data


@st.composite
def shards(draw: st.DrawFn) -> bytes:
    """The bytes of a shard."""
    rows = draw(st.lists(lines(), min_size=4, max_size=12) | st.lists(lines(), max_size=2))
    data = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"])).join(rows) + draw(st.sampled_from([b"", b"\n"]))
    data = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + data
    return draw(damaged(data)) if draw(st.integers(0, 3)) == 0 else data


# The loader, through a whole run


class Made(NamedTuple):
    """What came of a shard."""

    examples: list[tuple[int, list[int]]]  # line, ids
    skipped: list[dict[str, Any]]
    entries: int


def bake(folder: Path, data: bytes, on_error: str, suffix: str = "", overlong: str = "split") -> Made:
    """Cook a shard of these bytes."""
    folder.mkdir()
    write_shard(folder, "set", [])
    (folder / "set" / "shard" / "00000.jsonl").rename(folder / "set" / "shard" / f"0.jsonl{suffix}")
    (folder / "set" / "shard" / f"0.jsonl{suffix}").write_bytes(data)
    recipe = cook.Recipe(
        datasets="set", tokenizer="llama2", source=str(folder), output=str(folder / "out"), on_error=on_error,
        cache="none", jobs=1, packing="in-order", max_length=64, overlong=overlong, max_dropped=1.0,
    )  # fmt: skip
    (done,) = cook.run(recipe).results
    examples = []
    for row in cook.read_cooked(done.folder).sequences():
        parts = np.split(row.input_ids, np.cumsum(row.seq_lengths)[:-1])
        examples += [(line, part.tolist()) for line, part in zip(row.source_line.tolist(), parts, strict=True)]
    record = done.folder / "skipped.jsonl"
    skipped = [orjson.loads(line) for line in record.read_bytes().splitlines()] if record.exists() else []
    return Made(examples, skipped, done.counts["entries"])


def written(data: bytes) -> dict[int, bytes]:
    """The lines of a shard that are not blank, by number: the plain way. One that is too long is bad, blank or not."""
    rows = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    most = SMALL["read.lines.MAX_LINE_BYTES"]
    return {number: row for number, row in enumerate(rows, 1) if row.strip(b" \t\r\n\x0b\x0c") or len(row) > most}


def is_entry(line: bytes) -> bool | None:
    """Whether a line is an entry, by the standard library; None where that reads JSON otherwise than the loader."""
    if len(line) > SMALL["read.lines.MAX_LINE_BYTES"] - 4:
        return None if len(line) < SMALL["read.lines.MAX_LINE_BYTES"] + 4 else False
    try:
        row = json.loads(line.decode(), parse_constant=lambda name: 1 / 0)
        json.dumps(row, ensure_ascii=False).encode()  # a lone surrogate cannot
        pairs = row["QA_list"]
        return (
            type(row["context"]) is str
            and type(pairs) is list
            and all(type(side) is str for pair in pairs for side in (pair["Q"], pair["A"]))
        )
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return None if b"999" in line else False
    except RecursionError:
        return False


@contextlib.contextmanager
def small_limits(part_bytes: int) -> Iterator[None]:
    """The loader's limits, small."""
    with contextlib.ExitStack() as stack:
        for name, value in {**SMALL, "read.lines.PART_BYTES": part_bytes}.items():
            stack.enter_context(mock.patch(f"cook.{name}", value))
        yield


def check_shard(data: bytes, part_bytes: int, overlong: str) -> None:
    """Every line is accounted for, whatever the policy; bad lines change nothing for the others."""
    TRIED["shards"] += 1
    rows = written(data)
    TRIED["lines"] += len(rows)
    with scratch() as root, small_limits(part_bytes), within():
        try:
            made = bake(root / "skip", data, "skip", overlong=overlong)
        except InputError as exc:
            assert "no example is left" in str(exc)  # noqa: PT017 - what it says is the point
            bad = _bad_by_fail(root / "fail", data, rows, overlong)
            assert all(is_entry(row) is not False or number in bad or not bad for number, row in rows.items())
            return
        assert made.entries == len(rows)
        left_out = {row["line"] for row in made.skipped if row["pair"] is None}
        assert {line for line, _ in made.examples} | left_out == set(rows)
        assert not {line for line, _ in made.examples} & left_out
        bad = {row["line"] for row in made.skipped if row["reason"] == "bad_line"}
        for number, row in rows.items():
            verdict = is_entry(row)
            assert verdict is None or verdict == (number not in bad), (number, row)
        TRIED["bad lines"] += len(bad)
        assert all(row["problem"] for row in made.skipped if row["line"] in bad)
        if bad:
            assert _bad_by_fail(root / "fail", data, rows, overlong) <= bad
        mark = data[: 3 * data.startswith(b"\xef\xbb\xbf")]
        raw = data.removeprefix(mark).split(b"\n")
        blanked = mark + b"\n".join(b"" if number in bad else row for number, row in enumerate(raw, 1))
        good = bake(root / "good", blanked, "fail", overlong=overlong)
        assert good.examples == made.examples
        assert good.skipped == [row for row in made.skipped if row["line"] not in bad]


def _bad_by_fail(folder: Path, data: bytes, rows: dict[int, bytes], overlong: str) -> set[int]:
    """The bad lines that the error names, where the policy is to fail. None may be missing but beyond the first 20."""
    try:
        bake(folder, data, "fail", overlong=overlong)
    except BadLines as exc:
        named = {problem.line for problem in exc.problems}
        assert named <= set(rows)
        assert len(exc.problems) == min(exc.count, 20)  # noqa: PT017 - as above
        if exc.count <= 20:
            assert not {number for number, row in rows.items() if is_entry(row) is False} - named
        return named
    except InputError as exc:
        assert "no example is left" in str(exc)  # noqa: PT017 - as above
        return set()
    raise AssertionError("a bad line passed")


def compressed(data: bytes, suffix: str) -> bytes:
    """The data as a .gz or .zst file."""
    return gzip.compress(data, 1) if suffix == ".gz" else pa.compress(data, "zstd", asbytes=True)


def check_compressed(packed: bytes, suffix: str) -> None:
    """A compressed shard, whole or damaged, gives what its decompressed bytes give, or an error that says so."""
    TRIED["compressed shards"] += 1
    with scratch() as root, small_limits(500), within():
        (root / f"x{suffix}").write_bytes(packed)
        try:
            kind = "gzip" if suffix == ".gz" else "zstd"
            with pa.input_stream(str(root / f"x{suffix}"), compression=kind) as file:
                data = file.read()
            if suffix == ".gz":
                assert data == gzip.decompress(packed)
        except (OSError, EOFError, zlib.error):
            data = None
        for on_error in ("fail", "skip"):
            try:
                made = bake(root / on_error, packed, on_error, suffix)
            except (SourceError, InputError) as exc:
                assert data is not None or isinstance(exc, SourceError), "damage passed for an empty shard"  # noqa: PT017
                if data is not None:
                    with contextlib.suppress(InputError):
                        bake(root / f"plain {on_error}", data, on_error)
                        raise AssertionError("refused, though its bytes are fine") from None
                continue
            assert data is not None, "a damaged file passed"
            plain = bake(root / f"plain {on_error}", data, on_error)
            for row in plain.skipped:
                row["shard"] += suffix
            assert made == plain


# Files that are no shards

RECIPES = [
    b"datasets: [squad, race]\ntokenizer: llama3\nmax_length: 2048\npacking: in-order\n",
    b'{datasets: all, tokenizer: "x", max_dropped: .5, bos: none, seed: 0x10, limit: null}',
    b"datasets:\n- a\n- b\npair_template: |\n  {question}\n  {answer}\ndelimiter: \"\\n\"\noverwrite: yes\n",
]  # fmt: skip
YAMLISH = [
    b"&a [x]", b"*a", b"&a [*a]", b"<<: ", b"<<: *a\n", b"!!python/name:os.system ",
    b"!!python/object/apply:os.system [x]",
    b"!!binary x", b"!!int x", b"!!float x", b"!!set {a}", b"!!omap [a]",
    b"!!timestamp x", b"!!bool x", b"!!null x",
    b"!x ", b"2001-99-99", b"2001-01-01 25:61:61", b"0b_", b"0x_", b"_", b"+.inf", b".nan", b"1:60:60", b"=",
    b"? ", b"- ",
    b"? [a]\n: b\n", b"---\n", b"...\n", b"%YAML 9.9\n", b"%TAG ! x\n", b"|\n", b">\n", b"'", b"\t", b"#",
    b"0o9", b"08",
    b"1" * 5000, b"0x" + b"f" * 5000, b"max_length: ", b"datasets: ", b"[" * 500, b"{a: " * 500, b"\xff\xfe", b"\x00",
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\nmax_length: *h\n",
]  # fmt: skip


@st.composite
def recipes(draw: st.DrawFn) -> bytes:
    """A YAML file, damaged, or pieces of YAML."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(st.sampled_from(YAMLISH) | st.sampled_from([b"\n", b" ", b"a: "]), max_size=5)))
    data = draw(st.sampled_from(RECIPES))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(YAMLISH)) + data[at:]
    return draw(damaged(data)) if draw(st.booleans()) else data


def check_recipe(data: bytes) -> None:
    """A recipe file gives settings that make a Recipe, or a CookError."""
    TRIED["recipes"] += 1
    with scratch() as root, within(5), contextlib.suppress(CookError):
        (root / "recipe.yaml").write_bytes(data)
        made = cook.Recipe(**{"datasets": "x", "tokenizer": "y"} | read_config(root / "recipe.yaml"))
        assert cook.Recipe(**made.as_dict()) == made


@functools.cache
def example_output() -> Path:
    """A dataset that is cooked, with its spool beside it."""
    root = Path(tempfile.mkdtemp(prefix="cook-fuzz-"))
    write_shard(root, "set", [entry("c" * 40, pair("q", "a"), pair("", "a")), entry("d"), b"bad", entry("e")])
    recipe = cook.Recipe(
        datasets="set", tokenizer="llama2", source=str(root), output=str(root / "out"), jobs=1, max_length=48,
        on_error="skip", max_dropped=1.0, cache=str(root / "cache"),
    )  # fmt: skip
    cook.run(recipe)
    return root


def forget_example() -> None:
    """Remove it."""
    if example_output.cache_info().currsize:
        shutil.rmtree(example_output(), ignore_errors=True)
        example_output.cache_clear()


@st.composite
def replaced(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with a value somewhere in it replaced or removed, or with one more."""
    where = document = copy.deepcopy(document)
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            return document
        key = draw(st.sampled_from(keys))
        if isinstance(where[key], dict | list) and where[key] and draw(st.integers(0, 3)):
            where = where[key]
            continue
        what = draw(st.sampled_from(["value", "remove", "name", "deep", "number"]))
        if what == "remove":
            del where[key]
        elif what == "name":
            where[key] = draw(st.sampled_from(["../x", "/etc/hostname", "", ".", "a\0b", "x" * 5000, "squad", "\n"]))
        elif what == "deep":
            where[key] = functools.reduce(lambda inner, _: [inner], range(400), 1)
        elif what == "number":
            where[key] = draw(st.sampled_from([-1, 0, 2**31, 2**63 - 1, 1e300, True]))
        else:
            where[key] = draw(JSON)
        return document


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """A manifest: damaged, or changed and sealed anew, as by someone who means it."""
    data = (example_output() / "out" / "set" / manifest.MANIFEST_NAME).read_bytes()
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged(data))
    fields = orjson.loads(data)
    del fields["sha256"]
    for _ in range(draw(st.integers(1, 2))):
        fields = draw(replaced(fields))
    try:
        return manifest.seal(fields)
    except TypeError:  # nested too deep for the form
        return json.dumps(fields).encode()


def check_manifest(data: bytes) -> None:
    """A manifest is read, with what it names, or refused; by the reader, and by a run that finds it there already."""
    TRIED["manifests"] += 1
    source = example_output()
    with scratch() as root, within():
        shutil.copytree(source / "out" / "set", root / "set")
        (root / "set" / manifest.MANIFEST_NAME).write_bytes(data)
        with contextlib.suppress(CookError):
            for output in cook.read_cooked(root / "set").manifest["outputs"]:
                assert (root / "set" / output["name"]).resolve().parent == root / "set", (
                    "it reads another folder's file"
                )
            list(cook.read_cooked(root / "set").sequences())
        with contextlib.suppress(CookError):
            cook.run(
                cook.Recipe(
                    datasets="set", tokenizer="llama2", source=str(source), output=str(root), max_length=48, jobs=1,
                    max_dropped=1.0, cache="none",
                )
            )  # fmt: skip


def example_spool() -> Path:
    """The index of a spool, whole."""
    return max(cache.cache_dir(str(example_output() / "cache")).rglob("*.index"), key=lambda path: path.stat().st_size)


@st.composite
def spools(draw: st.DrawFn) -> bytes:
    """The index of a spool: damaged; or whole, with another line of JSON, or with damaged rows."""
    data = example_spool().read_bytes()
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged(data))
    line, rows = data[: -spool.CRC_BYTES].split(b"\n", 1)
    head = orjson.loads(line)
    kind = draw(st.sampled_from(["value", "number", "remove", "line", "rows"]))
    if kind == "value":
        head[draw(st.sampled_from([*head]))] = draw(JSON)
    elif kind == "number":
        head[draw(st.sampled_from([*head]))] = draw(st.sampled_from([-1, 0, 1, 2**31, 2**63 - 1, 2**64 - 1]))
    elif kind == "remove":
        del head[draw(st.sampled_from([*head]))]
    line = draw(damaged(line)) if kind == "line" else orjson.dumps(head, default=str)
    data = line + b"\n" + (draw(damaged(rows)) if kind == "rows" else rows)
    return data + zlib.crc32(data).to_bytes(spool.CRC_BYTES, "little")


def check_spool(data: bytes) -> None:
    """A spool's index is whole, or there is none."""
    TRIED["spools"] += 1
    with scratch() as root, within():
        shutil.copy(example_spool().with_suffix(".ids"), root / "s.ids")
        (root / "s.index").write_bytes(data)
        index = spool.load(str(root / "s"))
        if index is not None:
            assert index.tokens() * 4 == (root / "s.ids").stat().st_size
            assert all(isinstance(line, int) and isinstance(what, str) for line, what in index.bad)
            assert all(isinstance(count, int) for count in index.markers.values())


def packed_shards() -> st.SearchStrategy[tuple[bytes, str]]:
    """A compressed shard and its suffix; most are damaged."""

    @st.composite
    def packed(draw: st.DrawFn) -> tuple[bytes, str]:
        suffix = draw(st.sampled_from([".gz", ".zst"]))
        data = compressed(draw(shards()), suffix)
        if draw(st.integers(0, 4)) == 0:
            data += compressed(draw(shards()), suffix)
        return draw(damaged(data)) if draw(st.integers(0, 3)) else data, suffix

    return packed()


class Target(NamedTuple):
    """A check, and what it is fed with."""

    check: Callable[..., None]
    inputs: dict[str, st.SearchStrategy[Any]]
    examples: int  # in the tests


OVERLONG = st.sampled_from(["split", "truncate", "drop"])
TARGETS = {
    "shard": Target(
        check_shard, {"data": shards(), "part_bytes": st.sampled_from([60, 500, 1 << 20]), "overlong": OVERLONG}, 50
    ),
    "bytes": Target(
        check_shard, {"data": st.binary(max_size=200), "part_bytes": st.just(60), "overlong": OVERLONG}, 40
    ),
    "compressed": Target(lambda both: check_compressed(*both), {"both": packed_shards()}, 50),
    "recipe": Target(check_recipe, {"data": recipes()}, 120),
    "manifest": Target(check_manifest, {"data": manifests()}, 100),
    "spool": Target(check_spool, {"data": spools()}, 150),
}
