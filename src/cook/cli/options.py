"""The options that make a recipe, under their headings."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

from cook.cli.printing import echo

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


PRESET_NAMES = ("llama3", "llama2", "mistral")
EXECUTORS = ("local", "dask")
ADDED_TOKENS = ("text", "tokens")
ENGINES = ("auto", "splintr", "fastokens", "hf")
PACKINGS = ("best-fit", "best-fit-decreasing", "in-order", "none")


class GroupedOption(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *args: Any, heading: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


def _complete_datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    from cook.core.catalog import ALL_DATASETS, CATALOG

    names = [ALL_DATASETS, *(dataset.name for dataset in CATALOG)]
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def _complete_tokenizers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    presets = [CompletionItem(name) for name in PRESET_NAMES if name.startswith(incomplete)]
    # One that is printed is a line of what the shell reads.
    return presets or [CompletionItem(incomplete, type="file")] * incomplete.isprintable()


class BadPath(click.ClickException):
    """A path that nothing can be at, or that would be waited for."""

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature
        """See click."""
        echo(f"cook: {self.message}", err=True)


class PathType(click.Path):
    """A path, or what may be one: all options and arguments of that kind are of this type. None is empty, or a pipe."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        if value == "":
            self.fail("the path is empty; is it of a variable that is not set?", param, ctx)
        if str(value).startswith("~") and os.path.expanduser(value) == value and not os.path.lexists(value):
            raise BadPath(f"{value}: there is no such user; for a folder of this name write ./{value}")
        try:
            mode = os.stat(value).st_mode
        except FileNotFoundError:
            mode = 0
        except (OSError, ValueError) as exc:
            if getattr(exc, "errno", 0) in (errno.ENAMETOOLONG, errno.ELOOP, 0):
                raise BadPath(f"{value}: is no path: {getattr(exc, 'strerror', exc)}") from exc
            mode = 0
        if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise BadPath(f"{value}: is a pipe or a device, and no file: nothing is read from it or written to it")
        return super().convert(value, param, ctx)


PATH = PathType()


def option(heading: str, *names: str, **settings: Any) -> Callable[[Any], Any]:
    """An option under this heading."""
    return click.option(*names, cls=GroupedOption, heading=heading, **settings)


def parse_share_or_count(value: str) -> float:
    """A share, written with a point, or a whole number."""
    try:
        return float(value) if "." in value or "e" in value else int(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is neither a share such as 0.01 nor a whole number") from exc


def parse_key_map(value: str) -> dict[str, str]:
    """NAME=KEY, several separated by commas."""
    pairs = [item.partition("=") for item in value.split(",")]
    if not all(name and sign and key for name, sign, key in pairs):
        raise click.BadParameter(f"{value!r} is not of the form NAME=KEY,NAME=KEY")
    return {name.strip(): key.strip() for name, _, key in pairs}


INPUT, SEQUENCES, TEXT, RUN, CLUSTER = "What to cook", "Sequences", "Text", "Run", "Cluster"

# The settings of a recipe, each None unless given: then the configuration file's holds, then the recipe's default.
RECIPE_OPTIONS = (
    option(INPUT, "-d", "--dataset", "datasets", multiple=True, metavar="NAME", shell_complete=_complete_datasets,
            help="Dataset, any case; repeatable; all: every one that the source holds."),
    option(INPUT, "-t", "--tokenizer", metavar="NAME", type=PATH, shell_complete=_complete_tokenizers,
            help="llama3, llama2, mistral; a folder; a tokenizer.json; a Hub id OWNER/NAME."),
    option(INPUT, "-s", "--source", metavar="SOURCE", type=PATH,
            help="hub; hf://datasets/OWNER/NAME[@REV]; modelscope; sample; a folder of DATASET/shard/*.jsonl.  [hub]"),
    option(INPUT, "--revision", metavar="REV", help="Branch, tag or commit of a source on the Hub.  [main]"),
    option(INPUT, "--follow-links", is_flag=True, default=None,
            help="Read what symbolic links lead to outside of the source folder."),
    option(INPUT, "--on-error", metavar="HOW", type=click.Choice(["fail", "skip"]),
            help="Lines that are no entries, and files that are not read: fail, listing them, or skip and record "
            "them.  [fail]"),
    option(INPUT, "-o", "--output", metavar="ROOT", type=PATH,
            help="Folder that gets a folder a dataset.  [cooked/TOKENIZER]"),
    option(SEQUENCES, "--max-length", type=int, metavar="N", help="Most tokens a sequence holds.  [4096]"),
    option(SEQUENCES, "--packing", metavar="HOW", type=click.Choice(PACKINGS),
            help="best-fit, best-fit-decreasing, in-order (the published recipe), none.  [best-fit]"),
    option(SEQUENCES, "--overlong", metavar="HOW", type=click.Choice(["split", "truncate", "drop", "error"]),
            help="An example over the length: split by pairs; truncate, which also cuts the context of a pair that is "
            "still too long; drop; error.  [split]"),
    option(SEQUENCES, "--max-dropped", type=float, metavar="SHARE",
            help="Largest share of a dataset's pairs that may be lost to length.  [0.05]"),
    option(SEQUENCES, "--max-unknown", type=float, metavar="SHARE",
            help="Largest share of a dataset's characters that its tokenizer may lack.  [0.1]"),
    option(SEQUENCES, "--seed", type=int, metavar="N", help="Of the random order that best-fit packs in.  [0]"),
    option(SEQUENCES, "--validation", type=parse_share_or_count, metavar="SHARE|N",
            help="Entries for a validation split, by a hash of their context: 0.01, or at most 500."),
    option(SEQUENCES, "--splits", metavar="HOW", type=click.Choice(["names", "all-train"]),
            help="Shards named for a split, such as test.jsonl, go to it by their names; or all-train.  [names]"),
    option(SEQUENCES, "--dedup", is_flag=True, default=None,
            help="Leave out entries that repeat another's context and pairs exactly."),
    option(SEQUENCES, "--limit", type=int, metavar="N", help="Only the first N entries of each dataset."),
    option(TEXT, "--fields", type=parse_key_map, metavar="NAME=KEY,…",
            help="Keys of a line that differ from context=context, pairs=QA_list, question=Q, answer=A."),
    option(TEXT, "--bos", metavar="TOKEN", help="Opens an input; none: no BOS.  [the tokenizer's]"),
    option(TEXT, "--eos", metavar="TOKEN", help="Closes an output.  [the tokenizer's]"),
    option(TEXT, "--added-tokens", metavar="HOW", type=click.Choice(ADDED_TOKENS),
            help="Added tokens that look like markers, and nothing names: text, spelt in letters, or tokens.  [text]"),
    option(TEXT, "--context-template", metavar="TEXT", help="[' <CON> {context} </CON>']"),
    option(TEXT, "--pair-template", metavar="TEXT", help="['<QUE> {question} <ANS> {answer} </END>']"),
    option(TEXT, "--delimiter", metavar="TEXT", help="After the context and between pairs.  [two newlines]"),
    option(RUN, "--engine", metavar="NAME", type=click.Choice(ENGINES),
            help="auto, splintr, fastokens, hf: all give the same ids.  [auto: the faster for the size]"),
    option(RUN, "--jobs", type=int, metavar="N", help="Processes.  [usable cores]"),
    option(RUN, "--cache", metavar="DIR", type=PATH,
            help="Folder that keeps tokens between runs.  [$COOK_CACHE, ~/.cache/cook]"),
    option(RUN, "--no-cache", "cache", flag_value="none", help="Keep no tokens, and use none."),
    option(RUN, "--overwrite", is_flag=True, default=None, help="Replace a result of another recipe or other inputs."),
    option(CLUSTER, "--executor", metavar="NAME", type=click.Choice(EXECUTORS),
            help="Where the work runs: local, or dask: on the workers of a cluster.  [local]"),
    option(CLUSTER, "--scheduler", metavar="ADDRESS", help="The cluster's scheduler: tcp://HOST:PORT, tls://HOST:PORT."),
    option(CLUSTER, "--scheduler-file", metavar="FILE", type=PATH,
            help="The file that the scheduler put its address into."),
    option(CLUSTER, "--tls-ca", metavar="FILE", type=PATH,
            help="For tls://, who signed: PEM.  [as Dask is configured]"),
    option(CLUSTER, "--tls-cert", metavar="FILE", type=PATH, help="This client's certificate: PEM.  [likewise]"),
    option(CLUSTER, "--tls-key", metavar="FILE", type=PATH, help="Its key: PEM.  [likewise]"),
)  # fmt: skip


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a recipe, for a command that takes one."""
    for option in reversed(RECIPE_OPTIONS):
        command = option(command)
    return command
