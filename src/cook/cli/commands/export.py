"""The command `cook export`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli import completion
from cook.cli import options as shared
from cook.cli.options import ChoiceType
from cook.cli.printing import echo, pluralize, print_json, print_table
from cook.core.choices import TARGETS

if TYPE_CHECKING:
    from cook.cli.options import Bars
    from cook.trainers.exporter import Exported

EPILOG = """\b
Examples:
  cook export cooked/llama3/squad --for axolotl --to exported/squad
  cook export mixed --for hf --attention few-shot --to exported/mixed
"""


@click.command("export", epilog=EPILOG)
@click.argument("folder", metavar="DIR", type=shared.PATH)
@click.option(
    "--for",
    "target",
    type=ChoiceType(TARGETS),
    required=True,
    help="The trainer that reads the export; jsonl: text for people.",
)
@shared.output_option("DIR", "Folder of the export.")
@shared.split_option("The split to export.")
@click.option(
    "--attention",
    type=ChoiceType(("isolated", "few-shot")),
    metavar="HOW",
    help="For hf. isolated: examples do not see each other. few-shot: they see earlier ones.  [isolated]",
)
@click.option(
    "--tokenizer",
    metavar="NAME",
    type=shared.PATH,
    shell_complete=completion.tokenizers,
    help="For jsonl: where the tokenizer of the result is now.  [where it was]",
)
@shared.jobs_option
@shared.overwrite_option("Replace another export.")
@shared.run_options
def command(folder: str, target: str, to: str, bars: Bars, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write the dataset or mix in DIR in the format of a trainer.

    The new folder has a USE.md: the trainer's settings to use, and those that silently make the loss wrong.
    """
    from cook.trainers.exporter import export

    with bars as progress:
        exported = export(folder, target, to, progress=progress, **settings)
    if not quiet:
        _print_exported(exported)
    if as_json:
        print_json(exported.as_dict("export", "source", "counts", "outputs"))


def _print_exported(exported: Exported) -> None:
    from cook.trainers.job import COUNT_FIELDS

    settings = exported.manifest["export"]
    counts = exported.counts
    row = {"target": settings["target"], "split": settings["split"]} | {name: counts[name] for name in COUNT_FIELDS}
    print_table([row], sys.stderr)
    duration = "up to date" if exported.up_to_date else f"{exported.seconds:.2f} s"
    echo(f"{pluralize(counts['rows'], 'row')}: {duration}: {exported.folder}", err=True)
    echo(f"how to use it: {exported.folder / 'USE.md'}", err=True)
