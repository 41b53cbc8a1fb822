"""The commands `cook diff` and `cook fingerprint`."""

from __future__ import annotations

import sys

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, print_json


@click.command("diff")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff_command(a: str, b: str, as_json: bool) -> None:
    """Say what changed from A to B: each a dataset's folder, a ROOT, a mix, or a fingerprint's file.

    Corpora as text are compared by their texts, packed ones by pieces, prompts and parsed datasets by lines.

    Exit code 0: the same sequences, by the same recipe, of the same shards; 4: something differs.
    """
    from cook.check.comparison import diff
    from cook.core.errors import EXIT_DIFFERENCES

    found = diff(a, b)
    if as_json:
        print_json({"same": found.same, "datasets": found.datasets})
    else:
        for name, lines in found.datasets.items():
            echo(*(f"{name}: {line}" for line in lines))
        if found.same:
            echo("same", err=True)
    if not found.same:
        sys.exit(EXIT_DIFFERENCES)


@click.command("fingerprint")
@click.argument("path", type=PATH)
def fingerprint_command(path: str) -> None:
    """Print the fingerprint of what is cooked: a small JSON file to commit, which diff compares with."""
    from cook.check.fingerprints import fingerprint

    print_json(fingerprint(path))
