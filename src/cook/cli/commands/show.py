"""The command `cook show`."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli import completion
from cook.cli import options as shared
from cook.cli.printing import print_json

EPILOG = """\b
Examples:
  cook show cooked/llama3
  cook show cooked/llama3 --dataset squad --sequence 3 --tokens
  cook show mixed --random --seed 7
"""


@click.command("show", epilog=EPILOG)
@click.argument("path", type=shared.PATH)
@click.option(
    "-d",
    "--dataset",
    "dataset",
    metavar="NAME",
    shell_complete=completion.results,
    help="The dataset to show, in a ROOT or a mix.  [the first]",
)
@shared.split_option("The split to show.")
@click.option("--sequence", type=int, metavar="N", help="Number of the sequence, from 0.  [0]")
@click.option("--random", "draw", is_flag=True, help="Show a random sequence.")
@shared.seed_option("With --random: show the same sequence each time.")
@click.option("--tokens", is_flag=True, help="Show each token with its position, id and mask.")
@click.option("--full", is_flag=True, help="Show long texts in full.")
@shared.tokenizer_option("Where the tokenizer of the result is now.  [where it was]")
@shared.result_options
def command(tokens: bool, full: bool, as_json: bool, quiet: bool, **settings: Any) -> None:  # noqa: ARG001 - no summary
    """Show a sequence of a result: a dataset's folder, a ROOT, or a mix. Of a text corpus, show a text.

    Trained text has a mark before each line and its own colour. Special tokens stand in ⟦ ⟧, and invisible characters
    are written out. The head of each example names its shard and line.
    """
    from cook.views.showing import show
    from cook.views.texts import ShownText

    if settings["draw"] and settings["sequence"] is not None:
        raise click.UsageError("--sequence names one, --random draws one: leave one of them out")
    if settings["seed"] is not None and not settings["draw"]:
        raise click.UsageError("--seed goes with --random: add --random")
    shown = show(settings.pop("path"), **settings)
    if as_json:
        print_json(shown.as_dict(tokens))
    elif isinstance(shown, ShownText):
        shown.write(sys.stdout, full)
    else:
        from cook.views.terminal import write_sequence

        write_sequence(shown, sys.stdout, tokens=tokens, full=full)
