"""Draw docs/show.svg: `cook show` of two short examples, as a terminal prints it.

python scripts/picture.py
"""

from __future__ import annotations

import io
import os
import pty
import sys
import tempfile
from pathlib import Path

import orjson
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import cook

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "show.svg"
COLUMNS = 92
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
ENTRIES = [
    {
        "context": "The pump runs at 3 bar. It stops by itself when the tank is full.",
        "QA_list": [
            {"Q": "At what pressure does it run?", "A": "3 bar"},
            {"Q": "When does it stop?", "A": "When full"},
        ],
    },
    {"context": "Oil the pump once a month.", "QA_list": [{"Q": "How often is it oiled?", "A": "Once a month"}]},
]


def main() -> None:
    """Cook the entries, show them in a terminal of `COLUMNS` columns, and write the picture."""
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        Path("mine").mkdir()
        Path("mine/manuals.jsonl").write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in ENTRIES))
        recipe = cook.Recipe(
            datasets="manuals",
            tokenizer="llama3",
            source="mine",
            output="cooked/mine",
            packing="in-order",
            cache="none",
        )
        cook.run(recipe)
        printed = in_terminal([sys.executable, "-m", "cook", "show", "cooked/mine"])
        os.chdir("/")
    PICTURE.write_text(svg(printed), encoding="utf-8")
    print(PICTURE)


def in_terminal(command: list[str]) -> str:
    """What a command prints to a terminal, with its colours."""
    os.environ.update(COLUMNS=str(COLUMNS), LINES="40", TERM="xterm-256color", PYTHONIOENCODING="utf-8")
    read: list[bytes] = []

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 1 << 16)
        read.append(data)
        return b"\x00" if data else b""  # shown to nobody; an empty one would mean the end

    standard = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # pty.spawn copies what it reads there
    try:
        code = pty.spawn(command, keep)
    finally:
        os.dup2(standard, 1)
    if code:
        raise SystemExit(f"{command} ended with {code}")
    return b"".join(read).decode().replace("\r\n", "\n")


def svg(printed: str) -> str:
    """The picture of a terminal's output; fonts are the reader's, so nothing is loaded."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("$ cook show cooked/mine\n" + printed.rstrip("\n")))
    drawn = console.export_svg(title="cook show", theme=MONOKAI, unique_id="cook")
    begin, end = drawn.index("@font-face"), drawn.index(".cook-matrix")
    return (drawn[:begin] + drawn[end:]).replace("Fira Code, monospace", FONT)


if __name__ == "__main__":
    main()
