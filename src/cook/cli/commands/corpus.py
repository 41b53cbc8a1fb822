"""`cook corpus`: parse, call one library function, print."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli.options import PATH, PathType, parse_key_map
from cook.cli.printing import print_json, print_unescaped

PACKINGS = ("best-fit", "best-fit-decreasing", "in-order", "wrap", "none")


def _print_styles(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - a callback's
    if value:
        from cook.corpora.styles import bundled_path

        print_unescaped(bundled_path().read_text(encoding="utf-8"), nl=False)
        ctx.exit()


@click.command("corpus")
@click.argument("collection", metavar="COLLECTION", type=PATH)
@click.option("--to", metavar="DIR", type=PATH, required=True, help="Folder that gets a folder a dataset.")
@click.option("-d", "--dataset", "datasets", multiple=True, metavar="NAME", help="Only this one; repeatable.  [all]")
@click.option("--styles", metavar="FILE", type=PathType(dir_okay=False), help="YAML that replaces or extends styles.")
@click.option(
    "--print-styles",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_styles,
    help="Print cook's own styles, to start from.",
)
@click.option("--seed", type=int, metavar="N", help="Of every text's style, and of best-fit's order.  [0]")
@click.option(
    "--format", metavar="NAME", type=click.Choice(["jsonl", "parquet"]), help="Of text: jsonl, parquet.  [jsonl]"
)
@click.option(
    "-t", "--tokenizer", metavar="NAME", type=PATH, help="Make packed sequences, not text; as for cooking.  [text]"
)
@click.option("--max-length", type=int, metavar="N", help="Most tokens a sequence holds.  [4096]")
@click.option(
    "--packing",
    metavar="HOW",
    type=click.Choice(PACKINGS),
    help="best-fit, best-fit-decreasing, in-order, wrap (one stream, cut at the length), none.  [best-fit]",
)
@click.option("--max-unknown", type=float, metavar="SHARE", help="Most characters that the tokenizer may lack.  [0.1]")
@click.option(
    "--added-tokens", metavar="HOW", type=click.Choice(["text", "tokens"]), help="As for cooking: text, tokens.  [text]"
)
@click.option("--bos", metavar="TOKEN", help="Opens a text; none: no BOS.  [the tokenizer's]")
@click.option("--eos", metavar="TOKEN", help="Closes a text.  [the tokenizer's]")
@click.option(
    "--engine",
    metavar="NAME",
    type=click.Choice(["auto", "splintr", "fastokens", "hf"]),
    help="As for cooking.  [auto]",
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a collection on the Hub.  [main]")
@click.option("--follow-links", is_flag=True, default=None, help="As for cooking.")
@click.option(
    "--on-error",
    metavar="HOW",
    type=click.Choice(["fail", "skip"]),
    help="Lines that are no entries: fail, listing them, or skip and record them.  [fail]",
)
@click.option("--fields", type=parse_key_map, metavar="NAME=KEY,…", help="Keys of a line that differ; as for cooking.")
@click.option("--limit", type=int, metavar="N", help="Only the first N entries of each dataset.")
@click.option("--jobs", type=int, metavar="N", help="Processes.  [usable cores]")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(collection: str, to: str, styles: str | None, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Make texts for pre-training of the contexts and pairs in COLLECTION.

    COLLECTION is a source as for cooking: a folder of DATASET/shard/*.jsonl, hub, hf://…, sample. Each context is
    written with its pairs in one of many plain-text styles, drawn by a seed of its own; entries that go on with the one
    before (`inherit_from_prev`) are one text with it. With --tokenizer the result is packed sequences in which every
    token bears loss.
    """
    if settings["tokenizer"]:
        from cook.pipeline import startup

        startup.preload_vocabulary(settings["tokenizer"])
    from cook.cli.summary import print_corpus_summary, summary_json
    from cook.core.progress import progress_bars
    from cook.corpora.making import make_corpus
    from cook.corpora.recipe import CorpusRecipe
    from cook.corpora.styles import read_styles

    given = {name: value for name, value in settings.items() if value not in (None, ())}
    _refuse_unused_settings(given)
    recipe = CorpusRecipe(source=collection, output=to, styles=read_styles(styles), **given)
    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
        summary = make_corpus(recipe, progress)
    if not quiet:
        print_corpus_summary(summary)
    if as_json:
        print_json(summary_json(summary))


def _refuse_unused_settings(given: dict[str, Any]) -> None:
    """Refuse settings of tokens for text, and of text for tokens: neither would do anything."""
    if "tokenizer" in given:
        if "format" in given:
            raise click.UsageError("--format is for text; with --tokenizer the result is Parquet")
        return
    for name in ("max_length", "packing", "max_unknown", "added_tokens", "bos", "eos", "engine"):
        if name in given:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --tokenizer")
