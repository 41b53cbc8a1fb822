"""The command `cook report`."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli.options import PATH, PathType
from cook.cli.printing import echo, pluralize, print_json


@click.command("report")
@click.argument("path", type=PATH)
@click.option(
    "--to", metavar="FILE", type=PathType(dir_okay=False), default="report.html", help="The page.  [report.html]"
)
@click.option("--samples", type=int, default=12, metavar="N", help="Sequences of each dataset to look at.  [12]")
@click.option("--seed", type=int, default=0, metavar="N", help="Of their choice.  [0]")
@click.option("-t", "--tokenizer", metavar="NAME", type=PATH, help="The tokenizer's place, where it has moved.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no page of cook's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(path: str, to: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write one HTML page on what is cooked: a dataset's folder, a mix, or all datasets in a ROOT.

    It has the numbers, plots of lengths and shares, what was left out and why, and sequences to look at; it loads
    nothing, and opens from disk. A page of cook's that is there is replaced. Needs pip install 'instruct-cook[report]'.
    """
    from cook.core.progress import progress_bars
    from cook.views.html_report import report

    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
        made = report(path, to, progress=progress, **settings)
    if not quiet:
        echo(f"{pluralize(len(made.datasets), 'dataset')}, {made.bytes:,} bytes: {made.page}", err=True)
    if as_json:
        fields = {
            "page": str(made.page),
            "bytes": made.bytes,
            "datasets": list(made.datasets),
            "samples": made.samples,
        }
        print_json(fields)
