"""The command `cook mix`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, pluralize, print_json, print_table

if TYPE_CHECKING:
    from cook.pipeline.mixing import Mixed


@click.command("mix")
@click.argument("root", type=PATH)
@click.option("--to", metavar="DIR", type=PATH, required=True, help="The mix's folder.")
@click.option(
    "--weights",
    "asked",
    metavar="NAME=X,…",
    multiple=True,
    help="Factors on the datasets' sizes; 0 leaves one out.  [1 each]",
)
@click.option("--sequences", type=int, metavar="N", help="So many in all, in proportion to size times weight.")
@click.option("--seed", type=int, default=0, metavar="N", help="Of the choice and the shuffle.  [0]")
@click.option("--split", default="train", metavar="NAME", help="The split that is mixed.  [train]")
@click.option("--jobs", type=int, metavar="N", help="Processes.  [usable cores]")
@click.option("--overwrite", is_flag=True, help="Replace another mix.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(root: str, to: str, asked: tuple[str, ...], as_json: bool, quiet: bool, **settings: Any) -> None:
    """Mix the cooked datasets in ROOT into one shuffled stream of sequences.

    By default each sequence of each dataset is in it once. A weight of 2 takes a dataset's sequences twice, 0.5 a
    seeded half of them; with --sequences the weights share out that many.
    """
    from cook.core.progress import progress_bars
    from cook.pipeline.mixing import mix

    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
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
            raise click.BadParameter(f"{item!r} is not NAME=X", param_hint="--weights")
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
