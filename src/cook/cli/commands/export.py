"""The command `cook export`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, pluralize, print_json, print_table

if TYPE_CHECKING:
    from cook.trainers.exporter import Exported


TARGETS = ("trl", "hf", "llama-factory", "axolotl", "torchtune", "megatron-bridge", "olmo-core", "jsonl")


@click.command("export")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--for", "target", type=click.Choice(TARGETS), required=True, help="Who reads it; jsonl: people.")
@click.option("--to", metavar="DIR", type=PATH, required=True, help="The export's folder.")
@click.option("--split", default="train", metavar="NAME", help="The split that is exported.  [train]")
@click.option(
    "--attention",
    type=click.Choice(["isolated", "few-shot"]),
    metavar="HOW",
    help="For hf: examples do not see each other, or see earlier ones.  [isolated]",
)
@click.option(
    "--tokenizer", metavar="NAME", type=PATH, help="For jsonl: decodes; must be the manifest's.  [the manifest's]"
)
@click.option("--jobs", type=int, metavar="N", help="Processes.  [usable cores]")
@click.option("--overwrite", is_flag=True, help="Replace another export.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(folder: str, target: str, to: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write the dataset or mix in DIR as another trainer reads it.

    The new folder has a USE.md: the trainer's settings that make it right, and those that silently make it wrong.
    """
    from cook.core.progress import progress_bars
    from cook.trainers.exporter import export

    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
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
