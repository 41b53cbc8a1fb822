"""Options: their types, those that many commands have (as decorators), and those that make a recipe."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any

import click

from cook.cli import completion, hints
from cook.cli.printing import echo, on_terminal, print_log
from cook.core import choices

if TYPE_CHECKING:
    from cook.core.progress import Progress

    Bars = AbstractContextManager[Progress | None]


class GroupedOption(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *args: Any, heading: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class ChoiceType(click.Choice):  # type: ignore[type-arg] # generic from click 8.2
    """One of some names. Other names for them are read as `aliases` has them; `notes` says why a name is none."""

    def __init__(
        self, names: Sequence[str], aliases: Mapping[str, str] | None = None, notes: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(tuple(names))
        self.aliases, self.notes = aliases or {}, notes or {}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name as cook writes it, or fail with the nearest name."""
        value = self.aliases.get(value, value)
        if value not in self.choices:
            self.fail(self._problem(value), param, ctx)
        return value

    def _problem(self, value: str) -> str:
        near = hints.nearest(value, self.choices)
        hint = self.notes.get(value) or (f"Did you mean {near!r}?" if near else "")
        return f"{value!r} is not one of {', '.join(map(repr, self.choices))}. {hint}".rstrip()


PACKING = ChoiceType(
    choices.PACKINGS,
    {"bfd": choices.PACKING_ALIASES["bfd"]},
    dict.fromkeys(("wrap", "wrapped"), "Only `cook corpus --tokenizer` has wrap: it cuts examples."),
)
CORPUS_PACKING = ChoiceType(choices.CORPUS_PACKINGS, choices.PACKING_ALIASES)


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


DATA, TOKENIZER, SEQUENCES, OUTPUT, RUN, CLUSTER = "Data", "Tokenizer", "Sequences", "Output", "Run", "Cluster"
TEXT = "Text of an example"

# What several commands have. `heading` matters to the root's help alone.


def apply_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator; the help lists them in this order."""

    def decorate(command: Any) -> Any:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


# --json and -q, of every command.
result_options = apply_options(
    option(RUN, "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."),
    option(RUN, "-q", "--quiet", is_flag=True, help="Print results, warnings and errors only."),
)
verbose_option = option(RUN, "--verbose", is_flag=True, help="Say on standard error what cook decides and why.")


def run_options(command: Callable[..., Any]) -> Any:
    """--json, -q and --verbose; the command gets `bars`, a context that shows progress unless it is quiet."""

    @functools.wraps(command)
    def run(*args: Any, verbose: bool, **settings: Any) -> Any:
        from cook.core.progress import progress_bars

        with print_log(verbose):
            return command(*args, bars=progress_bars(enabled=not settings["quiet"] and on_terminal()), **settings)

    return result_options(verbose_option(run))


def output_option(metavar: str, text: str, **settings: Any) -> Callable[[Any], Any]:
    """Where a command writes: --to, -o and --output are one option."""
    settings = {"type": PATH, "required": True} | settings
    return option(OUTPUT, "-o", "--output", "--to", "to", metavar=metavar, help=text, **settings)


def overwrite_option(text: str, **settings: Any) -> Callable[[Any], Any]:
    """--overwrite; what it replaces differs by command."""
    return option(OUTPUT, "--overwrite", is_flag=True, help=text, **settings)


def seed_option(text: str, **settings: Any) -> Callable[[Any], Any]:
    """--seed; what it is of differs by command."""
    return option(SEQUENCES, "--seed", type=int, metavar="N", help=text, **settings)


def split_option(text: str) -> Callable[[Any], Any]:
    """--split, of a result that is read."""
    complete = completion.splits
    return click.option("--split", default="train", metavar="NAME", shell_complete=complete, help=f"{text}  [train]")


def tokenizer_option(text: str, **settings: Any) -> Callable[[Any], Any]:
    """-t; what it is for differs by command."""
    complete = completion.tokenizers
    return option(
        TOKENIZER, "-t", "--tokenizer", metavar="NAME", type=PATH, shell_complete=complete, help=text, **settings
    )


def source_option(text: str) -> Callable[[Any], Any]:
    """-s: where shards are."""
    return option(DATA, "-s", "--source", metavar="SOURCE", type=PATH, shell_complete=completion.sources, help=text)


DATASET_HELP = "Dataset name in any case; repeat for several; all: every dataset of the source."
jobs_option = option(RUN, "--jobs", type=int, metavar="N", help="Number of processes.  [usable cores]")
engine_option = option(
    TOKENIZER, "--engine", metavar="NAME", type=ChoiceType(choices.ENGINES),
    help="auto, splintr, fastokens or hf. All give the same ids.  [auto: the fastest for the input's size]",
)  # fmt: skip
max_length_option = option(
    SEQUENCES, "--max-length", type=int, metavar="N", help="Largest number of tokens in a sequence.  [4096]"
)
max_unknown_option = option(
    SEQUENCES, "--max-unknown", type=float, metavar="SHARE",
    help="Fail if a larger share of a dataset's characters is unknown to the tokenizer.  [0.1]",
)  # fmt: skip
added_tokens_option = option(
    TOKENIZER, "--added-tokens", metavar="HOW", type=ChoiceType(choices.ADDED_TOKENS),
    help="How to encode strings in the data that look like unnamed added tokens: as text, or as tokens.  [text]",
)  # fmt: skip
bos_option = option(
    TOKENIZER, "--bos", metavar="TOKEN", help="Token at the start of each example; none: no BOS.  [the tokenizer's]"
)
eos_option = option(TOKENIZER, "--eos", metavar="TOKEN", help="Token at the end of each example.  [the tokenizer's]")
fields_option = option(
    DATA, "--fields", type=parse_key_map, metavar="NAME=KEY,…",
    help="Map your column names, as in context=passage,question=query.  "
    "[context=context,pairs=QA_list,question=Q,answer=A]",
)  # fmt: skip
limit_option = option(DATA, "--limit", type=int, metavar="N", help="Read only the first N entries of each dataset.")
revision_option = option(
    DATA, "--revision", metavar="REV", help="Branch, tag or commit of a source on the Hub.  [main]"
)
follow_links_option = option(
    DATA, "--follow-links", is_flag=True, default=None, help="Follow symbolic links out of the source folder."
)
on_error_option = option(
    DATA, "--on-error", metavar="HOW", type=ChoiceType(choices.ON_ERROR_POLICIES),
    help="How to handle lines that are not entries, and unreadable files: fail and list them, or skip and record "
    "them.  [fail]",
)  # fmt: skip
cache_option = option(
    RUN, "--cache", metavar="DIR", type=PATH, help="Cache directory for encoded tokens.  [$COOK_CACHE, ~/.cache/cook]"
)
context_template_option = option(
    TEXT, "--context-template", metavar="TEXT", help="Text around a context.  [' <CON> {context} </CON>']"
)
pair_template_option = option(
    TEXT, "--pair-template", metavar="TEXT",
    help="Text around a question and its answer.  ['<QUE> {question} <ANS> {answer} </END>']",
)  # fmt: skip
delimiter_option = option(
    TEXT, "--delimiter", metavar="TEXT", help="Text after the context and between pairs.  [two newlines]"
)

# The settings of a recipe, each None unless given: then the configuration file's holds, then the recipe's default.
RECIPE_OPTIONS = (
    option(DATA, "-d", "--dataset", "datasets", multiple=True, metavar="NAME", shell_complete=completion.datasets,
            help=DATASET_HELP),
    source_option("hub; hf://datasets/OWNER/NAME[@REV]; modelscope; sample; or a folder of DATASET/shard/*.jsonl."
            "  [hub]"),
    revision_option,
    fields_option,
    limit_option,
    option(DATA, "--dedup", is_flag=True, default=None,
            help="Leave out entries whose context and pairs repeat an earlier entry exactly."),
    option(DATA, "--validation", type=parse_share_or_count, metavar="SHARE|N",
            help="Make a validation split: a share such as 0.01, or at most N entries. Entries with one context stay "
            "together."),
    option(DATA, "--splits", metavar="HOW", type=ChoiceType(choices.SPLIT_POLICIES),
            help="names: a shard named for a split, such as test.jsonl, goes to that split. all-train: every shard "
            "is for training.  [names]"),
    follow_links_option,
    on_error_option,
    tokenizer_option("llama3, llama2, mistral; a folder; a tokenizer.json; or a Hub id OWNER/NAME."),
    bos_option,
    eos_option,
    added_tokens_option,
    engine_option,
    max_length_option,
    option(SEQUENCES, "--packing", metavar="HOW", type=PACKING,
            help="best-fit; best-fit-decreasing (TRL's bfd); in-order (the published recipe); none: one example a "
            "sequence.  [best-fit]"),
    option(SEQUENCES, "--overlong", metavar="HOW", type=ChoiceType(choices.OVERLONG_POLICIES),
            help="How to handle examples longer than --max-length. split: several examples, each with the context. "
            "truncate: split, and cut the context if one pair is still too long. drop. error.  [split]"),
    option(SEQUENCES, "--max-dropped", type=float, metavar="SHARE",
            help="Fail if a larger share of a dataset's pairs is lost to length.  [0.05]"),
    max_unknown_option,
    seed_option("Seed for the packing order.  [0]"),
    context_template_option,
    pair_template_option,
    delimiter_option,
    option(OUTPUT, "-o", "--output", "--to", "output", metavar="ROOT", type=PATH,
            help="Output directory; one subdirectory per dataset.  [cooked/TOKENIZER]"),
    overwrite_option("Replace results of another recipe or of other inputs.", default=None),
    jobs_option,
    cache_option,
    option(RUN, "--no-cache", "cache", flag_value="none", help="Neither read nor write the cache."),
    option(CLUSTER, "--executor", metavar="NAME", type=ChoiceType(choices.EXECUTORS),
            help="local: this machine. dask: the workers of a Dask cluster.  [local]"),
    option(CLUSTER, "--scheduler", metavar="ADDRESS",
            help="Address of the cluster's scheduler: tcp://HOST:PORT or tls://HOST:PORT."),
    option(CLUSTER, "--scheduler-file", metavar="FILE", type=PATH,
            help="The scheduler file that dask wrote; it holds the address."),
    option(CLUSTER, "--tls-ca", metavar="FILE", type=PATH,
            help="CA certificate (PEM) for tls:// schedulers.  [Dask's configuration]"),
    option(CLUSTER, "--tls-cert", metavar="FILE", type=PATH,
            help="Client certificate (PEM).  [Dask's configuration]"),
    option(CLUSTER, "--tls-key", metavar="FILE", type=PATH,
            help="Key of the client certificate (PEM).  [Dask's configuration]"),
)  # fmt: skip


recipe_options = apply_options(*RECIPE_OPTIONS)
