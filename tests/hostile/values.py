"""The odd values that a hostile server puts in the place of each field, of headers and of JSON."""

from __future__ import annotations

import json
from typing import Any

PLACE = "@PLACE@"  # becomes the path of a file that is none of the server's business
SIZES: list[Any] = ["12", None, -1, 10**30, 1.5, True, [], {}, "١٢", float("nan")]
TEXTS: list[Any] = [
    PLACE, f"{PLACE}.json", "../../../../../../precious/rc", "", "a" * 5000, "x\x1b]0;pwn\x07", "x\u202egpj", "a\0b",
    "\ud800", 5, None, [], {"a": 1}, "c" * 39, "C" * 40, "d\nlimit: 1\n#",
]  # fmt: skip
PATHS: list[Any] = [
    PLACE, "../../precious/rc.jsonl", "d/../../../precious/rc.jsonl", "/d/shard/0.jsonl", "d//shard/0.jsonl", "",
    "d\\shard\\0.jsonl", "d/shard/\x1b]0;pwn\x07.jsonl", "d/shard/\u202e.jsonl", "d/shard/a\0.jsonl",
    "d/shard/\n.jsonl", "d/shard/\ud800.jsonl", "d/shard/" + "n" * 300 + ".jsonl", "d/" * 600 + "0.jsonl", 5, None,
    [], {}, True, "d/shard/0.jsonl\u2028", "~/d/shard/0.jsonl", "d/shard/$(touch x).jsonl",
]  # fmt: skip
KINDS: list[Any] = [None, 5, "", "symlink", [], PLACE]
LFS: list[Any] = [
    5, "x", [], {"oid": 5}, {"oid": PLACE, "size": 1}, {"oid": PLACE, "size": 1, "pointerSize": 1},
    {"oid": "f" * 64, "size": "1", "pointerSize": None}, {"oid": "x\x1b[2J", "size": 1, "pointerSize": 1},
]  # fmt: skip
BODIES: list[bytes] = [
    b"", b"null", b"5", b'"text"', b"{}", b"[]", b"[5]", b"[null]", b"{", b"NaN", b"\xff\xfe\x00", b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"<html><body>log in</body></html>", b'{"error": {"a": 1}}', b"\x1b[2J",
    json.dumps({"sha": "c" * 40}).encode(), b'[{"type": "file"}]', b'{"Code": 200, "Data": {"Files": [5]}}',
]  # fmt: skip
HEADER: list[str] = [
    f'"{PLACE}"', PLACE, f"W/\"{PLACE}\"", "../../../../../../precious/rc", "", "a" * 5000, "\x1b]0;pwn\x07",
    "\u202egpj", "5", '"' + "c" * 39 + '"', "C" * 40, "f" * 40,
]  # fmt: skip
NUMBERS: list[str] = ["-1", "x", "", "1e9", "9" * 30, "9" * 5000, "12, 13", "\x1b[2J", "0x10", "1000000000"]
WAITS: list[str] = ["1000000000", "300", "9" * 30, "9" * 5000, "-5", "x", "", "1e9", "\x1b[2J",
                    "Wed, 21 Oct 2099 07:28:00 GMT"]  # fmt: skip
LIMITS: list[str] = ['"api";r=0;t=1000000000', '"api";r=0;t=' + "9" * 5000, '"\x1b[2J";r=0;t=5000', "r=0;t=-1", "x"]
PLACES: list[str] = [
    PLACE, "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "//", "http://[::1", "http://127.0.0.1:99999/x", "",
    "http://127.0.0.1:9/x", "x" * 9_000, "http://a\x1b]0;pwn\x07/", "javascript:alert(1)", "?", "http://127.0.0.1:9:9/",
]  # fmt: skip
LINKS: list[str] = [f'<{place}>; rel="next"' for place in PLACES] + ["<", "<>;", "<x>; rel=next, <y>; rel=next", ";;,,"]
TYPES: list[str] = ["text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml", "", "\x1b[2J"]
CODINGS: list[str] = ["gzip", "br", "deflate", "zstd", "x", "gzip, gzip", "\x1b[2J"]
