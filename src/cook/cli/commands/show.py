"""The command `cook show`."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli.options import PATH
from cook.cli.printing import print_json


@click.command("show")
@click.argument("path", type=PATH)
@click.option("-d", "--dataset", "dataset", metavar="NAME", help="Of a ROOT or a mix: which dataset.  [the first]")
@click.option("--split", default="train", metavar="NAME", help="The split.  [train]")
@click.option("--sequence", type=int, metavar="N", help="Which sequence, from 0.  [0]")
@click.option("--random", "draw", is_flag=True, help="One at random.")
@click.option("--seed", type=int, metavar="N", help="With --random: the same again.")
@click.option("--tokens", is_flag=True, help="Each token with its place, id and mask.")
@click.option("--full", is_flag=True, help="Leave nothing out of what is long.")
@click.option("-t", "--tokenizer", metavar="NAME", type=PATH, help="The tokenizer's place, where it has moved.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(tokens: bool, full: bool, as_json: bool, **settings: Any) -> None:
    """Show a sequence of what is cooked: a dataset's folder, a ROOT, or a mix; or a text of a corpus.

    Trained text has a mark before each line and a colour, context another; special tokens stand in ⟦ ⟧; what is
    invisible is written out, and nothing in the data can command the terminal. Each example's head says which line of
    which shard it came from.
    """
    from cook.views.showing import show
    from cook.views.texts import ShownText

    if settings["draw"] and settings["sequence"] is not None:
        raise click.UsageError("--sequence names one, --random draws one: pass either")
    if settings["seed"] is not None and not settings["draw"]:
        raise click.UsageError("--seed goes with --random")
    shown = show(settings.pop("path"), **settings)
    if as_json:
        print_json(shown.as_dict(tokens))
    elif isinstance(shown, ShownText):
        shown.write(sys.stdout, full)
    else:
        from cook.views.terminal import write_sequence

        write_sequence(shown, sys.stdout, tokens=tokens, full=full)
