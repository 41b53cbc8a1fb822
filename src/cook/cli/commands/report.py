"""The command `cook report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cook.cli import options as shared
from cook.cli.options import PATH, PathType
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.cli.options import Bars

EPILOG = """\b
Examples:
  cook report cooked/llama3
  cook report cooked/llama3/squad --to squad.html --samples 30
"""


@click.command("report", epilog=EPILOG)
@click.argument("path", type=PATH)
@shared.output_option(
    "FILE", "The HTML file.  [report.html]", required=False, default="report.html", type=PathType(dir_okay=False)
)
@click.option("--samples", type=int, default=12, metavar="N", help="Number of sequences of each dataset to show.  [12]")
@shared.seed_option("Seed for the choice of those sequences.  [0]", default=0)
@shared.tokenizer_option("Where the tokenizer of the result is now.  [where it was]")
@shared.overwrite_option("Replace a file that cook did not write.")
@shared.run_options
def command(path: str, to: str, bars: Bars, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write an HTML page about the results in PATH.

    PATH is a dataset's folder, a mix, or a ROOT. The page shows counts, plots of lengths and shares, what was left out
    and why, and some sequences. It is one file that loads nothing from the network. An earlier page is replaced. In
    cook's checkout, install its packages with pip install -e '.[report]'.
    """
    from cook.views.html_report import report

    with bars as progress:
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
