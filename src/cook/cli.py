"""The command: parse, call one library function, print. Only click is imported at the top, for a fast `--help`.

Standard output is for data (`--json`, `--dry-run`, `list`); progress, summary, warnings and errors: standard error.
Exit codes: 0 done; 1 a CookError; 2 usage; 3 input rejected; 4 verify or diff found something; 130, 143 interrupted.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cook.commands.corpus import corpus
from cook.commands.parse import command as parse_
from cook.commands.prompts import command as prompts_
from cook.commands.report import command as report_
from cook.commands.show import command as show_

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cook.checking import Verified
    from cook.errors import CookError
    from cook.exports.exporting import Exported
    from cook.mixing import Mixed
    from cook.pipeline import Preview, Summary
    from cook.recipe import Recipe

PRESET_NAMES = ("llama3", "llama2", "mistral")
EXECUTORS = ("local", "dask")
ENGINES = ("auto", "splintr", "fastokens", "hf")
PACKINGS = ("best-fit", "best-fit-decreasing", "in-order", "none")
TARGETS = ("trl", "hf", "llama-factory", "axolotl", "torchtune", "megatron-bridge", "olmo-core", "jsonl")
HELP_WIDTH = 100


class GroupedOption(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *args: Any, heading: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class CookGroup(click.Group):
    """Prints options by heading, and turns a CookError into its message and exit code."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                headings.setdefault(getattr(param, "heading", "Other"), []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        from cook.errors import CookError

        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, _terminated)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except CookError as exc:
            _fail(exc, ctx.params.get("as_json", False), ctx.params.get("quiet", False))
        except KeyboardInterrupt:
            click.echo(f"cook: interrupted; {AGAIN}", err=True)
            sys.exit(130)


AGAIN = "what is cooked is whole; run the same again to go on"


def _terminated(signum: int, frame: Any) -> NoReturn:  # noqa: ARG001 - a signal handler's signature
    click.echo(f"cook: ended by {signal.Signals(signum).name}; {AGAIN}", err=True)
    sys.exit(128 + signum)


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG001 - warnings.showwarning's
    click.echo(f"cook: warning: {message}", err=True)


def _fail(error: CookError, as_json: bool, quiet: bool) -> NoReturn:
    """Print an error, and what was cooked beside it; exit with its code."""
    from cook.errors import SeveralFailed

    several = error if isinstance(error, SeveralFailed) else None
    if several and several.summary.results and not quiet:
        _print_summary(several.summary)
    if as_json:
        failures = several.failures if several else {"": error}
        told = [{"name": name or None, "error": str(e), "exit_code": e.exit_code} for name, e in failures.items()]
        nothing: dict[str, Any] = {"root": None, "tokenizer": None, "seconds": None, "data_sets": []}
        _print_json((_summary_json(several.summary) if several else nothing) | {"failures": told})
    for line in str(error).splitlines():
        click.echo(f"cook: {line}", err=True)
    sys.exit(error.exit_code)


def _complete_datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    from cook.catalog import ALL, CATALOG

    names = [ALL, *(data_set.name for data_set in CATALOG)]
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def _complete_tokenizers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    presets = [CompletionItem(name) for name in PRESET_NAMES if name.startswith(incomplete)]
    return presets or [CompletionItem(incomplete, type="file")]


def _option(heading: str, *names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=GroupedOption, heading=heading, **settings)


def _share_or_count(value: str) -> float:
    """A share, written with a point, or a whole number."""
    try:
        return float(value) if "." in value or "e" in value else int(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is neither a share such as 0.01 nor a whole number") from exc


def _keys(value: str) -> dict[str, str]:
    """NAME=KEY, several separated by commas."""
    pairs = [item.partition("=") for item in value.split(",")]
    if not all(name and sign and key for name, sign, key in pairs):
        raise click.BadParameter(f"{value!r} is not of the form NAME=KEY,NAME=KEY")
    return {name.strip(): key.strip() for name, _, key in pairs}


WHAT, SEQUENCES, TEXT, RUN, CLUSTER = "What to cook", "Sequences", "Text", "Run", "Cluster"

# The settings of a recipe, each None unless given: then the configuration file's holds, then the recipe's default.
RECIPE_OPTIONS = (
    _option(WHAT, "-d", "--dataset", "datasets", multiple=True, metavar="NAME", shell_complete=_complete_datasets,
            help="Data set, any case; repeatable; all: every one that the source holds."),
    _option(WHAT, "-t", "--tokenizer", metavar="NAME", shell_complete=_complete_tokenizers,
            help="llama3, llama2, mistral; a folder; a tokenizer.json; a Hub id OWNER/NAME."),
    _option(WHAT, "-s", "--source", metavar="SOURCE",
            help="hub; hf://datasets/OWNER/NAME[@REV]; modelscope; sample; a folder of DATASET/shard/*.jsonl.  [hub]"),
    _option(WHAT, "--revision", metavar="REV", help="Branch, tag or commit of a source on the Hub.  [main]"),
    _option(WHAT, "--follow-links", is_flag=True, default=None,
            help="Read what symbolic links lead to outside of the source folder."),
    _option(WHAT, "--on-error", metavar="HOW", type=click.Choice(["fail", "skip"]),
            help="Lines that are no entries: fail, listing them, or skip and record them.  [fail]"),
    _option(WHAT, "-o", "--output", metavar="ROOT", help="Folder that gets a folder a data set.  [cooked/TOKENIZER]"),
    _option(SEQUENCES, "--max-length", type=int, metavar="N", help="Most tokens a sequence holds.  [4096]"),
    _option(SEQUENCES, "--packing", metavar="HOW", type=click.Choice(PACKINGS),
            help="best-fit, best-fit-decreasing, in-order (the published recipe), none.  [best-fit]"),
    _option(SEQUENCES, "--overlong", metavar="HOW", type=click.Choice(["split", "truncate", "drop", "error"]),
            help="An example over the length: split by pairs, truncate contexts, drop, error.  [split]"),
    _option(SEQUENCES, "--max-dropped", type=float, metavar="SHARE",
            help="Largest share of a data set's pairs that may be lost to length.  [0.05]"),
    _option(SEQUENCES, "--seed", type=int, metavar="N", help="Of the random order that best-fit packs in.  [0]"),
    _option(SEQUENCES, "--validation", type=_share_or_count, metavar="SHARE|N",
            help="Entries for a validation split, by a hash of their context: 0.01, or at most 500."),
    _option(SEQUENCES, "--dedup", is_flag=True, default=None,
            help="Leave out entries that repeat another's context and pairs exactly."),
    _option(SEQUENCES, "--limit", type=int, metavar="N", help="Only the first N entries of each data set."),
    _option(TEXT, "--fields", type=_keys, metavar="NAME=KEY,…",
            help="Keys of a line that differ from context=context, pairs=QA_list, question=Q, answer=A."),
    _option(TEXT, "--bos", metavar="TOKEN", help="Opens an input; none: no BOS.  [the tokenizer's]"),
    _option(TEXT, "--eos", metavar="TOKEN", help="Closes an output.  [the tokenizer's]"),
    _option(TEXT, "--context-template", metavar="TEXT", help="[' <CON> {context} </CON>']"),
    _option(TEXT, "--pair-template", metavar="TEXT", help="['<QUE> {question} <ANS> {answer} </END>']"),
    _option(TEXT, "--delimiter", metavar="TEXT", help="After the context and between pairs.  [two newlines]"),
    _option(RUN, "--engine", metavar="NAME", type=click.Choice(ENGINES),
            help="auto, splintr, fastokens, hf: all give the same ids.  [auto: the faster for the size]"),
    _option(RUN, "--jobs", type=int, metavar="N", help="Processes.  [usable cores]"),
    _option(RUN, "--cache", metavar="DIR", help="Folder that keeps tokens between runs.  [$COOK_CACHE, ~/.cache/cook]"),
    _option(RUN, "--no-cache", "cache", flag_value="none", help="Keep no tokens, and use none."),
    _option(RUN, "--overwrite", is_flag=True, default=None, help="Replace a result of another recipe or other inputs."),
    _option(CLUSTER, "--executor", metavar="NAME", type=click.Choice(EXECUTORS),
            help="Where the work runs: local, or dask: on the workers of a cluster.  [local]"),
    _option(CLUSTER, "--scheduler", metavar="ADDRESS", help="The cluster's scheduler: tcp://HOST:PORT, tls://HOST:PORT."),
    _option(CLUSTER, "--scheduler-file", metavar="FILE", help="The file that the scheduler put its address into."),
    _option(CLUSTER, "--tls-ca", metavar="FILE", help="For tls://, who signed: PEM.  [as Dask is configured]"),
    _option(CLUSTER, "--tls-cert", metavar="FILE", help="This client's certificate: PEM.  [likewise]"),
    _option(CLUSTER, "--tls-key", metavar="FILE", help="Its key: PEM.  [likewise]"),
)  # fmt: skip


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a recipe, for a command that takes one."""
    for option in reversed(RECIPE_OPTIONS):
        command = option(command)
    return command


EPILOG = """\b
Examples:
  cook --dataset squad --tokenizer llama3
  cook --dataset squad --tokenizer llama3 --source sample
  cook -d squad -d QED -t llama3 -s my/collection -o cooked --max-length 8192
  cook --config recipe.yaml --dry-run
"""


@click.group(
    cls=CookGroup,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@recipe_options
@_option(RUN, "--config", metavar="FILE", type=click.Path(dir_okay=False), help="YAML recipe; flags win over it.")
@_option(RUN, "--dry-run", is_flag=True, help="Print the resolved recipe and its shards; cook nothing.")
@_option(RUN, "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@_option(RUN, "-q", "--quiet", is_flag=True, help="No progress, no summary.")
@click.version_option(package_name="instruct-cook", prog_name="cook")
@click.pass_context
def main(ctx: click.Context, /, config: str | None, dry_run: bool, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Cook question-answer data over contexts into packed training sequences with loss masks.

    Each entry becomes an example: BOS and its context, then its question-answer pairs and EOS. Whole examples of one
    data set are joined into sequences; loss falls on the pairs alone. The result is Parquet with input_ids, labels and
    loss_mask, for datasets.load_dataset and any trainer.
    """
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if ctx.invoked_subcommand is not None:
        if given or config:
            raise click.UsageError(f"these options are for cooking, not for `cook {ctx.invoked_subcommand}`")
        return
    if not given and not config:
        click.echo(ctx.get_help())
        return
    _cook(ctx, _recipe(config, given), dry_run, as_json, quiet)


def _recipe(config: str | None, given: dict[str, Any]) -> Recipe:
    from cook.recipe import Recipe, read_config

    settings = (read_config(config) if config else {}) | given
    for name, flag in (("datasets", "--dataset"), ("tokenizer", "--tokenizer")):
        if name not in settings:
            raise click.UsageError(f"pass {flag}" + (f", or set {name} in {config}" if config else ""))
    recipe = Recipe(**settings)
    for name in ("context_template", "pair_template", "delimiter"):
        if "\\n" in getattr(recipe, name):
            told = f"{name}: holds a backslash and an n; for a newline write $'\\n' in a shell, \"\\n\" in YAML"
            warnings.warn(told, stacklevel=2)
    return recipe


def _tell(notice: str) -> None:
    click.echo(f"cook: {notice}", err=True)


def _cook(ctx: click.Context, recipe: Recipe, dry_run: bool, as_json: bool, quiet: bool) -> None:  # noqa: ARG001
    from cook.pipeline import preview, run

    if dry_run:
        _print_preview(preview(recipe), as_json)
        return
    from cook.progress import bars

    with bars(shown=not quiet and sys.stderr.isatty()) as progress:
        summary = run(recipe, progress, None if quiet else _tell)
    if not quiet:
        _print_summary(summary)
    if as_json:
        _print_json(_summary_json(summary))


@main.command("mix")
@click.argument("root", type=click.Path())
@click.option("--to", metavar="DIR", type=click.Path(), required=True, help="The mix's folder.")
@click.option(
    "--weights",
    "asked",
    metavar="NAME=X,…",
    multiple=True,
    help="Factors on the data sets' sizes; 0 leaves one out.  [1 each]",
)
@click.option("--sequences", type=int, metavar="N", help="So many in all, in proportion to size times weight.")
@click.option("--seed", type=int, default=0, metavar="N", help="Of the choice and the shuffle.  [0]")
@click.option("--split", default="train", metavar="NAME", help="The split that is mixed.  [train]")
@click.option("--jobs", type=int, metavar="N", help="Processes.  [usable cores]")
@click.option("--overwrite", is_flag=True, help="Replace another mix.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def mix_(root: str, to: str, asked: tuple[str, ...], as_json: bool, quiet: bool, **settings: Any) -> None:
    """Mix the cooked data sets in ROOT into one shuffled stream of sequences.

    By default each sequence of each data set is in it once. A weight of 2 takes a data set's sequences twice, 0.5 a
    seeded half of them; with --sequences the weights share out that many.
    """
    from cook.mixing import mix
    from cook.progress import bars

    with bars(shown=not quiet and sys.stderr.isatty()) as progress:
        mixed = mix(root, to, weights=_weights(asked), progress=progress, **settings)
    if not quiet:
        _print_mixed(mixed)
    if as_json:
        _print_json(_mixed_json(mixed))


@main.command("export")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--for", "target", type=click.Choice(TARGETS), required=True, help="Who reads it; jsonl: people.")
@click.option("--to", metavar="DIR", type=click.Path(), required=True, help="The export's folder.")
@click.option("--split", default="train", metavar="NAME", help="The split that is exported.  [train]")
@click.option(
    "--attention",
    type=click.Choice(["isolated", "few-shot"]),
    metavar="HOW",
    help="For hf: examples do not see each other, or see earlier ones.  [isolated]",
)
@click.option("--tokenizer", metavar="NAME", help="For jsonl: decodes; must be the manifest's.  [the manifest's]")
@click.option("--jobs", type=int, metavar="N", help="Processes.  [usable cores]")
@click.option("--overwrite", is_flag=True, help="Replace another export.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def export_(folder: str, target: str, to: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write the data set or mix in DIR as another trainer reads it.

    The new folder has a USE.md: the trainer's settings that make it right, and those that silently make it wrong.
    """
    from cook.exports.exporting import export
    from cook.progress import bars

    with bars(shown=not quiet and sys.stderr.isatty()) as progress:
        exported = export(folder, target, to, progress=progress, **settings)
    if not quiet:
        _print_exported(exported)
    if as_json:
        _print_json(_exported_json(exported))


main.add_command(corpus)


def _weights(asked: tuple[str, ...]) -> dict[str, Any]:
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


@main.command("verify")
@click.argument("path", type=click.Path())
@click.option("--deep", is_flag=True, help="Read the shards, and compare every context, question and answer.")
@click.option("-s", "--source", metavar="SOURCE", help="With --deep: where the shards are; as for cooking.")
@click.option("-t", "--tokenizer", metavar="NAME", help="With --deep: the tokenizer's place, where it has moved.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
def verify_(path: str, deep: bool, source: str | None, tokenizer: str | None, as_json: bool) -> None:
    """Check what is cooked: a data set's folder, all in a ROOT, or a mix.

    Files are held against the manifest, rows against what a row must be, and sums against the rows. With --deep the
    output is proved to be its source: every pair once, with its context, or left out for a reason that is true. Exit
    code 4: something is wrong, and listed.
    """
    from cook.checking import verify
    from cook.errors import FOUND

    if deep != (source is not None):
        raise click.UsageError("--deep and --source go together: the shards that are compared with")
    verified = verify(path, deep=deep, source=source, tokenizer=tokenizer)
    if as_json:
        _print_json(_verified_json(verified))
    else:
        _print_verified(verified)
    if verified.found:
        sys.exit(FOUND)


def _verified_json(verified: Verified) -> dict[str, Any]:
    return {
        "right": not verified.found,
        "data_sets": [
            {
                "name": each.name,
                "folder": str(each.folder),
                "compared": each.compared,
                "sequences": each.sequences,
                "examples": each.examples,
                "tokens": each.tokens,
                "found": each.found,
                "findings": [{"file": f.file, "row": f.row, "what": f.what} for f in each.findings],
            }
            for each in verified.data_sets
        ],
    }


MOST_SHOWN = 20  # findings of a file that are printed


def _print_verified(verified: Verified) -> None:
    from cook.checking import by_file

    for each in verified.data_sets:
        shown = list(by_file(each.findings, MOST_SHOWN))
        for finding in shown:
            click.echo(_printable(f"{each.folder}/{finding}"))
        if rest := each.found - len(shown):
            click.echo(f"{each.folder}: … and {rest:,} more (--json lists them)")
        made = f"{_several(each.sequences, 'sequence')}, {_several(each.examples, 'example')}, {each.tokens:,} tokens"
        done = "; equal to its shards" if each.compared else ""
        verdict = f"{_several(each.found, 'finding')}" if each.found else f"right: {made}{done}"
        click.echo(f"{each.folder}: {verdict}", err=True)


@main.command("diff")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff_(a: str, b: str, as_json: bool) -> None:
    """Say what changed from A to B: each a data set's folder, a ROOT, a mix, or a fingerprint's file.

    Exit code 0: the same sequences, by the same recipe, of the same shards; 4: something differs.
    """
    from cook.comparing import diff
    from cook.errors import FOUND

    found = diff(a, b)
    if as_json:
        _print_json({"same": found.same, "data_sets": found.data_sets})
    else:
        for name, told in found.data_sets.items():
            for line in told:
                click.echo(_printable(f"{name}: {line}"))
        if found.same:
            click.echo("same", err=True)
    if not found.same:
        sys.exit(FOUND)


@main.command("fingerprint")
@click.argument("path", type=click.Path())
def fingerprint_(path: str) -> None:
    """Print the fingerprint of what is cooked: a small JSON file to commit, which diff compares with."""
    from cook.comparing import fingerprint

    _print_json(fingerprint(path))


main.add_command(show_)
main.add_command(report_)
main.add_command(prompts_)
main.add_command(parse_)


@main.command("list")
@click.argument("what", type=click.Choice(["datasets", "tokenizers"]))
@click.option("-s", "--source", metavar="SOURCE", help="List what this source holds, not the catalog.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(what: str, source: str | None, as_json: bool) -> None:
    """List the data sets of the catalog or of a source, or the tokenizers that work offline."""
    from cook import listing

    if what == "tokenizers" and source:
        raise click.UsageError("--source goes with datasets")
    rows = listing.tokenizers() if what == "tokenizers" else listing.datasets(source)
    if as_json:
        _print_json(rows)
    else:
        _print_table(rows, sys.stdout)


@main.group("cache", cls=click.Group)
def cache_() -> None:
    """Tokens that are kept between runs."""


CACHE_OPTION = click.option("--cache", metavar="DIR", help="The cache's folder.  [$COOK_CACHE, ~/.cache/cook]")


@cache_.command()
@CACHE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(cache: str | None, as_json: bool) -> None:
    """Say where the cache lies and what it holds."""
    from cook.cache import info as look

    found = look(cache)
    if as_json:
        _print_json(found)
    else:
        for name, value in found.items():
            click.echo(f"{name:8} {value:,}" if isinstance(value, int) else f"{name:8} {value}")


@cache_.command()
@CACHE_OPTION
def clear(cache: str | None) -> None:
    """Remove all that the cache holds."""
    from cook.cache import clear as empty

    click.echo(f"{empty(cache):,} bytes freed", err=True)


def _print_json(value: Any) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _printable(text: str) -> str:
    """A line that holds text of the data, with what could steer a terminal escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _print_table(rows: list[dict[str, Any]], file: Any) -> None:
    """Rows of equal keys as a table; never cut, however narrow the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in rows[0] if rows else ():
        numbers = all(isinstance(row[name], int) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row.values()))
    console = Console(file=file, highlight=False, soft_wrap=True, width=500)
    console.print(table)


def _print_preview(ready: Preview, as_json: bool) -> None:
    shards = {name: [shard.place for shard in found] for name, found in ready.shards.items()}
    settings = ready.recipe.as_dict() | {
        "datasets": list(ready.shards),
        "output": str(ready.root),
        "bos": ready.tokenizer.bos or "none",
        "eos": ready.tokenizer.eos,
    }
    if commit := ready.source.provenance().get("commit"):  # so that what is printed fetches the same again
        settings |= {"source": settings["source"].partition("@")[0], "revision": commit}
    if as_json:
        _print_json({"recipe": settings, "shards": shards})
        return
    import yaml

    recipe = {key: value for key, value in settings.items() if value is not None}
    click.echo(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).rstrip())
    for name, found in ready.shards.items():
        size = sum(shard.size for shard in found)
        click.echo(f"# {name}: {len(found)} shards, {size:,} bytes")
        for path in shards[name]:
            click.echo(f"#   {path}")


def _summary_json(summary: Summary) -> dict[str, Any]:
    return {
        "root": str(summary.root),
        "tokenizer": summary.tokenizer,
        "seconds": round(summary.seconds, 3),
        "data_sets": [
            {
                "name": result.name,
                "folder": str(result.folder),
                "up_to_date": result.up_to_date,
                "seconds": round(result.seconds, 3),
                "counts": result.counts,
                "figures": result.manifest.get("figures"),  # text has none
                "outputs": result.manifest["outputs"],
            }
            for result in summary.results
        ],
        "failures": [],
    }


def _print_summary(summary: Summary) -> None:
    if any("styles" in result.manifest for result in summary.results):
        from cook.commands.corpus import print_summary

        print_summary(summary)
        return
    rows = []
    for result in summary.results:
        counts, figures = result.counts, result.manifest["figures"]
        rows.append(
            {
                "data set": result.name,
                **{key: counts[key] for key in ("entries", "pairs", "examples", "sequences", "tokens")},
                "trained": f"{figures['trained_share']:.1%}",
                "full": f"{figures['utilisation']:.1%}",
                "seconds": "up to date" if result.up_to_date else f"{result.seconds:.2f}",
            }
        )
    _print_table(rows, sys.stderr)
    for result in summary.results:
        for line in _told(result.counts):
            click.echo(f"{result.name}: {line}", err=True)
    click.echo(f"{_several(len(summary.results), 'data set')} in {summary.seconds:.2f} s: {summary.root}", err=True)
    for result in summary.results:
        place = f"{str(summary.root)!r}, {result.name!r}" if summary.card else repr(str(result.folder))
        for split in result.counts.get("splits", ("train",)):
            click.echo(f'load_dataset({place}, split="{split}")', err=True)


def _mixed_json(mixed: Mixed) -> dict[str, Any]:
    return {
        "folder": str(mixed.folder),
        "up_to_date": mixed.up_to_date,
        "seconds": round(mixed.seconds, 3),
        **{key: mixed.manifest[key] for key in ("mix", "counts", "data_sets", "outputs")},
    }


def _print_mixed(mixed: Mixed) -> None:
    total = mixed.manifest["counts"]
    rows = [
        {
            "data set": name,
            "sequences": counts["held"]["sequences"],
            "asked": f"{counts['asked']['sequences']:,.10g}",
            "given": counts["given"]["sequences"],
            "tokens": counts["given"]["tokens"],
            "trained": counts["given"]["trained_tokens"],
            "share": f"{counts['given']['tokens'] / total['tokens']:.1%}",
        }
        for name, counts in mixed.manifest["data_sets"].items()
    ]
    _print_table(rows, sys.stderr)
    told = "up to date" if mixed.up_to_date else f"{mixed.seconds:.2f} s"
    click.echo(
        f"{_several(total['sequences'], 'sequence')}, {total['tokens']:,} tokens: {told}: {mixed.folder}", err=True
    )
    click.echo(f'load_dataset({str(mixed.folder)!r}, split="{mixed.manifest["mix"]["split"]}")', err=True)


def _exported_json(exported: Exported) -> dict[str, Any]:
    return {
        "folder": str(exported.folder),
        "up_to_date": exported.up_to_date,
        "seconds": round(exported.seconds, 3),
        **{key: exported.manifest[key] for key in ("export", "source", "counts", "outputs")},
    }


def _print_exported(exported: Exported) -> None:
    settings = exported.manifest["export"]
    counts = exported.counts
    row = {"target": settings["target"], "split": settings["split"], **counts}
    _print_table([row], sys.stderr)
    told = "up to date" if exported.up_to_date else f"{exported.seconds:.2f} s"
    click.echo(f"{_several(counts['rows'], 'row')}: {told}: {exported.folder}", err=True)
    click.echo(f"how to use it: {exported.folder / 'USE.md'}", err=True)


def _told(counts: dict[str, Any]) -> list[str]:
    """What was split, cut or left out, and what text may confuse who parses a model's output, in words."""
    from cook.accounts import REASONS

    lines = []
    if counts["split"]:
        cut = f"; {_several(counts['truncated'], 'example')} with a cut context" if counts["truncated"] else ""
        lines.append(f"{_several(counts['split'], 'entry')} too long for a sequence made into several examples{cut}")
    for kind, one in (("entries", "entry"), ("pairs", "pair")):
        for reason, count in counts[f"skipped_{kind}"].items():
            told = _several(count, "line" if reason == "bad_line" else one)
            lines.append(f"{told} {REASONS[reason]} left out (skipped.jsonl)")
    for split, made in counts.get("splits", {}).items():
        parts = (_several(made[kind + "s"], kind) for kind in ("example", "sequence", "token"))
        lines.append(f"{split}: {', '.join(parts)}")
    if counts["markers"]:
        held = ", ".join(f"{marker} in {_several(count, 'entry')}" for marker, count in counts["markers"].items())
        lines.append(f"template markers in the text itself: {held}")
    if counts["special_strings"]:
        lines.append(f"{_several(counts['special_strings'], 'entry')} with the text of a special token, cooked as text")
    return lines


def _several(count: int, one: str) -> str:
    """A count with its noun: 1 entry, 2 entries, 3 pairs."""
    many = one[:-1] + "ies" if one.endswith("y") else one + "s"
    return f"{count:,} {one if count == 1 else many}"
