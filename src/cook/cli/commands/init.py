"""The command `cook init`."""

from __future__ import annotations

import click

from cook.cli import options as shared
from cook.cli.printing import echo, print_json

EPILOG = """\b
Examples:
  cook init
  cook init my/collection -o my.yaml
  cook --config my.yaml --dry-run
"""


@click.command("init", epilog=EPILOG)
@click.argument("folder", type=shared.PATH, default=".")
@shared.output_option(
    "FILE",
    "The recipe to write.  [recipe.yaml]",
    type=shared.PathType(dir_okay=False),
    required=False,
    default="recipe.yaml",
)
@shared.overwrite_option("Replace a file that is there.")
@shared.result_options
def command(folder: str, to: str, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Write a recipe with comments from a folder of data, this folder by default.

    It lists the datasets found, with shards, sizes and splits, and has the settings that most people change. Edit it,
    then run `cook --config recipe.yaml`.
    """
    from cook.pipeline.recipe_draft import draft_recipe

    drafted = draft_recipe(folder, to, overwrite=overwrite)
    if not quiet:
        echo(f"{drafted.path}: written, for {', '.join(drafted.datasets)}", err=True)
        if drafted.left_out:
            echo(f"left out, with the reason in {drafted.path}: {', '.join(drafted.left_out)}", err=True)
        echo(f"Next: cook --config {drafted.path} --dry-run", err=True)
    if as_json:
        print_json(drafted._asdict() | {"path": str(drafted.path)})
