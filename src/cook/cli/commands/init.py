"""The command `cook init`."""

from __future__ import annotations

import click

from cook.cli.options import PATH, PathType
from cook.cli.printing import echo


@click.command("init")
@click.argument("folder", type=PATH, default=".")
@click.option(
    "-o",
    "--output",
    "--to",
    "to",
    metavar="FILE",
    type=PathType(dir_okay=False),
    default="recipe.yaml",
    help="The recipe to write.  [recipe.yaml]",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def command(folder: str, to: str, overwrite: bool) -> None:
    """Write a recipe with comments from a folder of data, this folder by default.

    It lists the datasets found, with shards, sizes and splits, and has the settings that most people change. Edit it,
    then run `cook --config recipe.yaml`.
    """
    from cook.pipeline.recipe_draft import draft_recipe

    made = draft_recipe(folder, to, overwrite=overwrite)
    echo(f"{made.path}: written, for {', '.join(made.datasets)}", err=True)
    if made.left_out:
        echo(f"left out, with the reason in {made.path}: {', '.join(made.left_out)}", err=True)
    echo(f"Look at what it would do: cook --config {made.path} --dry-run", err=True)
