"""The command `cook mix`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli import completion
from cook.cli import options as shared
from cook.cli.printing import echo, pluralize, print_json, print_table

if TYPE_CHECKING:
    from cook.cli.options import Bars
    from cook.pipeline.mixing import Mixed

EPILOG = """\b
Examples:
  cook mix cooked/llama3 --to mixed
  cook mix cooked/llama3 --to mixed --weights squad=2,race=0.5
  cook mix cooked/llama3 --to mixed --sequences 10000
"""


@click.command("mix", epilog=EPILOG)
@click.argument("root", type=shared.PATH)
@shared.output_option("DIR", "Folder of the mix.")
@click.option(
    "--weights",
    "asked",
    metavar="NAME=X,…",
    multiple=True,
    shell_complete=completion.weights,
    help="Factor for each dataset's number of sequences; 0 leaves it out.  [1 each]",
)
@click.option(
    "--sequences", type=int, metavar="N", help="Total number of sequences, shared in proportion to size times weight."
)
@shared.seed_option("Seed for the choice of sequences and the shuffle.  [0]", default=0)
@shared.split_option("The split to mix.")
@shared.jobs_option
@shared.overwrite_option("Replace another mix.")
@shared.run_options
def command(
    root: str, to: str, asked: tuple[str, ...], bars: Bars, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Mix the datasets in ROOT into one shuffled dataset.

    By default the mix has each sequence once. A weight of 2 takes a dataset's sequences twice, 0.5 a random half of
    them.
    """
    from cook.pipeline.mixing import mix

    with bars as progress:
        mixed = mix(root, to, weights=parse_weights(asked), progress=progress, **settings)
    if not quiet:
        _print_mixed(mixed)
    if as_json:
        print_json(mixed.as_dict("mix", "counts", "datasets", "outputs"))


def parse_weights(asked: tuple[str, ...]) -> dict[str, Any]:
    """NAME=X,NAME=X as a mapping; what X may be is the library's to say."""
    weights: dict[str, Any] = {}
    for item in ",".join(asked).split(",") if asked else ():
        name, equals, weight = item.strip().rpartition("=")
        if not (name and equals):
            raise click.BadParameter(f"{item!r} is not NAME=X, such as squad=2", param_hint="--weights")
        if name in weights:
            raise click.BadParameter(f"{name} is named twice", param_hint="--weights")
        weights[name] = weight
    return weights


def _print_mixed(mixed: Mixed) -> None:
    total = mixed.manifest["counts"]
    rows = [
        {
            "dataset": name,
            "sequences": counts["held"]["sequences"],
            "asked": f"{counts['asked']['sequences']:,.10g}",
            "given": counts["given"]["sequences"],
            "tokens": counts["given"]["tokens"],
            "trained": counts["given"]["trained_tokens"],
            "share": f"{counts['given']['tokens'] / total['tokens']:.1%}",
        }
        for name, counts in mixed.manifest["datasets"].items()
    ]
    print_table(rows, sys.stderr)
    duration = "up to date" if mixed.up_to_date else f"{mixed.seconds:.2f} s"
    echo(
        f"{pluralize(total['sequences'], 'sequence')}, {total['tokens']:,} tokens: {duration}: {mixed.folder}", err=True
    )
    from cook.cli.summary import load_statement

    echo(load_statement(mixed.folder, repr(str(mixed.folder)), mixed.manifest["mix"]["split"]), err=True)
