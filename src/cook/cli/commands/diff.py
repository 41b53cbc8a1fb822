"""The commands `cook diff` and `cook fingerprint`."""

from __future__ import annotations

import sys

import click

from cook.cli.options import PATH, PathType, output_option, result_options
from cook.cli.printing import echo, print_json

DIFF_EPILOG = """\b
Examples:
  cook diff cooked/llama3 cooked/llama3-new
  cook diff tests/data/fingerprint.json cooked/llama3
"""
FINGERPRINT_EPILOG = """\b
Examples:
  cook fingerprint cooked/llama3 -o fingerprint.json
  cook diff fingerprint.json cooked/llama3
"""


@click.command("diff", epilog=DIFF_EPILOG)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@result_options
def diff_command(a: str, b: str, as_json: bool, quiet: bool) -> None:
    """Say in words what changed from A to B.

    Each is a dataset's folder, a ROOT, a mix, or a fingerprint file. Text corpora are compared by text, packed ones by
    piece, prompts and parsed datasets by line.

    Exit code 0: the same sequences, from the same recipe and shards. Exit code 4: something differs.
    """
    from cook.check.comparison import diff
    from cook.core.errors import EXIT_DIFFERENCES

    found = diff(a, b)
    if as_json:
        print_json({"same": found.same, "datasets": found.datasets})
    else:
        for name, lines in found.datasets.items():
            echo(*(f"{name}: {line}" for line in lines))
        if found.same and not quiet:
            echo("same", err=True)
    if not found.same:
        sys.exit(EXIT_DIFFERENCES)


@click.command("fingerprint", epilog=FINGERPRINT_EPILOG)
@click.argument("path", type=PATH)
@output_option(
    "FILE", "Write this file, whole or not at all.  [standard output]", required=False, type=PathType(dir_okay=False)
)
@result_options
def fingerprint_command(path: str, to: str | None, as_json: bool, quiet: bool) -> None:
    """Print the fingerprint of a result, for `cook diff` to compare with.

    It is a small JSON file to commit. Write it with --output: a shell's > empties the file first, also when cook fails.
    """
    from pathlib import Path

    from cook.check.fingerprints import fingerprint
    from cook.core.files import replace_file

    made = fingerprint(path)
    if to is None:
        print_json(made)
        return
    import orjson

    replace_file(Path(to), orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if as_json:
        print_json({"file": to, "datasets": [*made["datasets"]]})
    if not quiet:
        echo(f"fingerprint written: {to}", err=True)
