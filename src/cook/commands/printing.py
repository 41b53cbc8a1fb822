"""What commands print: JSON, tables, counts with their nouns."""

from __future__ import annotations

from typing import Any

import click


def print_json(value: Any) -> None:
    """A value as JSON, on standard output."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def printable(text: str) -> str:
    """A line that holds text of the data, with what could steer a terminal escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def print_table(rows: list[dict[str, Any]], file: Any) -> None:
    """Rows of equal keys as a table; never cut, however narrow the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in rows[0] if rows else ():
        numbers = all(isinstance(row[name], int) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row.values()))
    console = Console(file=file, highlight=False, soft_wrap=True, width=500)
    console.print(table)


def several(count: int, one: str) -> str:
    """A count with its noun: 1 entry, 2 entries, 3 pairs."""
    many = one[:-1] + "ies" if one.endswith("y") else one + "s"
    return f"{count:,} {one if count == 1 else many}"
