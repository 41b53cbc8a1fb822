"""`cook corpus`: parse, call one library function, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cook.cli import completion
from cook.cli import options as shared
from cook.cli.options import ChoiceType, PathType
from cook.cli.printing import print_json, print_unescaped

if TYPE_CHECKING:
    from cook.cli.options import Bars

EPILOG = """\b
Examples:
  cook corpus sample --to texts
  cook corpus my/collection --to packed --tokenizer llama3 --packing wrap
  cook corpus --print-styles > styles.yaml
"""


def _print_styles(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - a callback's
    if value:
        from cook.corpora.styles import bundled_path

        print_unescaped(bundled_path().read_text(encoding="utf-8"), nl=False)
        ctx.exit()


@click.command("corpus", epilog=EPILOG)
@click.argument("collection", metavar="COLLECTION", type=shared.PATH, shell_complete=completion.sources)
@shared.output_option("ROOT", "Output directory; one subdirectory per dataset.")
@click.option(
    "-d",
    "--dataset",
    "datasets",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.datasets,
    help="Only this dataset; repeat for several.  [all]",
)
@click.option(
    "--styles", metavar="FILE", type=PathType(dir_okay=False), help="YAML file that replaces or extends the styles."
)
@click.option(
    "--print-styles",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_styles,
    help="Print cook's own styles as YAML, and exit.",
)
@shared.seed_option("Seed for the style of each text and for the packing order.  [0]")
@click.option(
    "--format",
    metavar="NAME",
    type=ChoiceType(("jsonl", "parquet")),
    help="Format of text: jsonl or parquet.  [jsonl]",
)
@shared.tokenizer_option("Write packed sequences instead of text. Names are those of cook --tokenizer.  [text]")
@shared.max_length_option
@click.option(
    "--packing",
    metavar="HOW",
    type=shared.CORPUS_PACKING,
    help="best-fit; best-fit-decreasing (TRL's bfd); in-order; wrap (TRL's wrapped): one stream, cut at the length; "
    "none.  [best-fit]",
)
@shared.apply_options(
    shared.max_unknown_option,
    shared.added_tokens_option,
    shared.bos_option,
    shared.eos_option,
    shared.engine_option,
    shared.revision_option,
    shared.follow_links_option,
    shared.on_error_option,
    shared.fields_option,
    shared.limit_option,
    shared.jobs_option,
)
@shared.overwrite_option("Replace results of other settings or other inputs.", default=None)
@shared.run_options
def command(
    collection: str, to: str, styles: str | None, bars: Bars, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Write pre-training text from the contexts and pairs in COLLECTION.

    COLLECTION is a source: hub, hf://…, sample, or a folder of DATASET/shard/*.jsonl. Each context is written with its
    pairs in one of many plain-text styles, chosen by the seed. Entries with `inherit_from_prev` continue the text of
    the entry before. With --tokenizer the result is packed sequences in which every token bears loss.
    """
    if settings["tokenizer"]:
        from cook.pipeline import startup

        startup.preload_vocabulary(settings["tokenizer"])
    from cook.cli.summary import print_corpus_summary, summary_json
    from cook.corpora.making import make_corpus
    from cook.corpora.recipe import CorpusRecipe
    from cook.corpora.styles import read_styles

    given = {name: value for name, value in settings.items() if value not in (None, ())}
    _refuse_unused_settings(given)
    recipe = CorpusRecipe(source=collection, output=to, styles=read_styles(styles), **given)
    with bars as progress:
        summary = make_corpus(recipe, progress)
    if not quiet:
        print_corpus_summary(summary)
    if as_json:
        print_json(summary_json(summary))


def _refuse_unused_settings(given: dict[str, Any]) -> None:
    """Refuse settings of tokens for text, and of text for tokens: neither would do anything."""
    if "tokenizer" in given:
        if "format" in given:
            raise click.UsageError("--format is for text. Leave it out: with --tokenizer the result is Parquet")
        return
    for name in ("max_length", "packing", "max_unknown", "added_tokens", "bos", "eos", "engine"):
        if name in given:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --tokenizer: add --tokenizer llama3")
