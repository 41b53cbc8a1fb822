"""All that commands print goes through here: lines, JSON, YAML, tables. What data puts into them is escaped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from cook.core.escapes import escape_controls, escape_json_controls, invisible_chars


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, each of them as one: a line break in it is the data's, and escaped with all that is unseen."""
    for line in lines:
        click.echo(escape_controls(line), err=err)


def on_terminal() -> bool:
    """Whether standard error is a terminal that can move its cursor, as bars do."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def print_log(enabled: bool) -> Iterator[None]:
    """Print what cook's modules log of their decisions on standard error, if that is asked for."""
    if not enabled:
        yield
        return
    import logging

    class Echo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            echo(f"cook: {record.getMessage()}", err=True)

    logger, handler, level = logging.getLogger("cook"), Echo(), logging.getLogger("cook").level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def print_unescaped(text: str, nl: bool = True) -> None:
    """Print text of several lines that holds nothing but cook's own words, on standard output."""
    click.echo(text, nl=nl)


def print_json(value: Any) -> None:
    """A value as JSON, on standard output."""
    import orjson

    try:
        document = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # a name that is no UTF-8
        import json

        document = json.dumps(value, indent=2, ensure_ascii=False)
    print_unescaped(escape_json_controls(document))


def print_yaml(value: Any) -> None:
    """A mapping as YAML, on standard output."""
    import yaml

    document = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if invisible_chars(document) - {"\n"}:
        document = yaml.safe_dump(value, sort_keys=False)
    print_unescaped(document.rstrip())


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
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else escape_controls(str(cell)) for cell in row.values()))
    console = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, width=500)
    console.print(table)


def pluralize(count: int, one: str) -> str:
    """A count with its noun: 1 entry, 2 entries, 3 pairs."""
    many = one[:-1] + "ies" if one.endswith("y") else one + "s"
    return f"{count:,} {one if count == 1 else many}"
