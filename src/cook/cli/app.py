"""The command: parse, call one library function, print. Only click is imported at the top, for a fast `--help`.

Standard output is for data (`--json`, `--dry-run`, `list`); progress, summary, warnings and errors: standard error.
Exit codes: 0 done; 1 a CookError; 2 usage; 3 input rejected; 4 verify or diff found something; 5 another result is
there already; 129, 130, 143 ended by a signal.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cook.cli import ending, hints
from cook.cli.options import CLUSTER, RUN, BadPath, ChoiceType, PathType, option, recipe_options, run_options
from cook.cli.printing import echo, print_json, print_unescaped
from cook.core.escapes import escape_controls
from cook.executors import process

if TYPE_CHECKING:
    from types import TracebackType

    from cook.cli.options import Bars
    from cook.core.errors import CookError
    from cook.core.recipe import Recipe

HELP_WIDTH = 100
COMMANDS = {  # where in cook.cli.commands each is; imported when it is asked for, since a cook needs none
    "init": "init.command",
    "mix": "mix.command",
    "export": "export.command",
    "corpus": "corpus.command",
    "verify": "verify.command",
    "diff": "diff.diff_command",
    "fingerprint": "diff.fingerprint_command",
    "show": "show.command",
    "report": "report.command",
    "prompts": "prompts.command",
    "parse": "parse.command",
    "list": "listing.command",
    "cache": "listing.cache_command",
    "help": "about.help_command",
    "version": "about.version_command",
}
COMMAND_HEADINGS = {
    "Prepare": ("init",),
    "Mix and export": ("mix", "export", "corpus"),
    "Inspect": ("list", "show", "report"),
    "Verify and compare": ("verify", "diff", "fingerprint"),
    "Synthesis loop": ("prompts", "parse"),
    "The command itself": ("cache", "help", "version"),
}


class CookGroup(click.Group):
    """Prints options by heading, and turns a CookError into its message and exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """See click."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """See click."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"cook.cli.commands.{module}"), name)
        return command

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """See click."""
        with _handle_interrupts(), _plain_usage_errors():
            return super().make_context(*args, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        ctx.meta[hints.ARGUMENTS] = [*args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click, which can suggest only commands that are imported, and knows nothing of datasets."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. {hints.command_hint(ctx, args, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                headings.setdefault(getattr(param, "heading", "Other"), []).append(record)
        headings[RUN] += headings.pop("Other")
        del headings[CLUSTER]  # `cook help cluster`
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        for heading, names in COMMAND_HEADINGS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl([(name, command.get_short_help_str(90)) for name, command in commands if command])

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        process.configure_process()
        # Those of a subcommand stand in ctx.args.
        as_json = ctx.params.get("as_json", False) or "--json" in ctx.args
        quiet = ctx.params.get("quiet", False) or bool({"-q", "--quiet"} & {*ctx.args})
        ending.install_handlers(signal.SIGTERM, signal.SIGHUP)
        with _handle_interrupts():
            from cook.core.errors import CookError, from_os_error

            try:
                with _plain_usage_errors(), warnings.catch_warnings():
                    warnings.showwarning = _show_warning
                    return super().invoke(ctx)
            except CookError as exc:
                if ending.pending_signal():  # it led to this
                    raise
                _fail(exc, as_json, quiet, cooking=ctx.invoked_subcommand is None)
            except OSError as exc:
                if not exc.filename:
                    raise
                _fail(from_os_error(exc), as_json, quiet, ctx.invoked_subcommand is None)


@contextlib.contextmanager
def _handle_interrupts() -> Iterator[None]:
    """What an interrupt leads to, be it another error, is told as one, with its code; and output that is full."""
    try:
        yield
    except BaseException as exc:
        if ending.pending_signal():
            sys.exit(ending.report_end(hints.resume_hint()))
        if isinstance(exc, KeyboardInterrupt):  # raised by who runs the command in a process of their own
            echo(f"cook: interrupted{hints.resume_hint()}", err=True)
            sys.exit(130)
        if isinstance(exc, OSError) and not exc.filename and exc.errno != errno.EPIPE:
            echo(f"cook: standard output: cannot be written: {exc.strerror}", err=True)
            sys.stdout = sys.__stdout__ = None  # type: ignore[misc] # what it still holds is lost
            sys.exit(1)
        raise


class UsageProblem(click.ClickException):
    """Arguments that are wrong, in cook's own voice."""

    exit_code = 2

    def __init__(self, problem: click.UsageError) -> None:
        super().__init__(problem.format_message())
        self.path = " ".join(["cook", *(problem.ctx.command_path.split()[1:] if problem.ctx else ())])

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Say what is wrong, and where the help is."""
        echo(f"cook: {self.message}", f"cook: see: {self.path} --help", err=True)


@contextlib.contextmanager
def _plain_usage_errors() -> Iterator[None]:
    """Arguments that are wrong are told as UsageProblem, which escapes them; click's own help stays as it is."""
    try:
        yield
    except getattr(click.exceptions, "NoArgsIsHelpError", ()):
        raise
    except click.UsageError as exc:
        raise UsageProblem(exc) from exc
    except click.ClickException as exc:
        exc.message = escape_controls(exc.message)  # type: ignore[misc] # nothing else of it is as free
        raise


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG001 - warnings.showwarning's
    echo(f"cook: warning: {message}", err=True)


def _fail(error: CookError, as_json: bool, quiet: bool, cooking: bool) -> NoReturn:
    """Print an error, and what was cooked beside it; exit with its code."""
    from cook.cli.summary import print_summary, summary_json
    from cook.core.errors import SeveralFailed

    several = error if isinstance(error, SeveralFailed) else None
    if several and several.summary.results and not quiet:
        print_summary(several.summary)
    if as_json:
        failures = several.failures if several else {"": error}
        failed = [{"name": name or None, "error": str(e), "exit_code": e.exit_code} for name, e in failures.items()]
        made: dict[str, Any] = {}
        if several:
            made = summary_json(several.summary)
        elif cooking:
            made = {"root": None, "tokenizer": None, "seconds": None, "datasets": []}
        print_json(made | {"failures": failed})
    echo(*(f"cook: {line}" for line in error.lines), err=True)
    sys.exit(error.exit_code)


def _install_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:  # noqa: ARG001
    if shell is None or ctx.resilient_parsing:
        return
    from cook.cli import completion

    try:
        echo(*completion.install(shell, ctx.command), err=True)
    except ValueError as exc:
        ctx.fail(str(exc))
    except OSError as exc:
        raise BadPath(f"{exc.filename}: cannot be written: {exc.strerror}") from exc
    ctx.exit()


EPILOG = """\b
Examples:
  cook --dataset squad --tokenizer llama3 --source sample
  cook -d squad -d QED -t llama3 -s my/collection -o cooked --max-length 8192
  cook --config recipe.yaml --dry-run
\b
More:
  cook help COMMAND    the options of a command, with examples
  cook help cluster    options to run on a Dask cluster
"""


@click.group(
    cls=CookGroup,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@recipe_options
@option(RUN, "--config", metavar="FILE", type=PathType(dir_okay=False), help="YAML recipe; flags win over it.")
@option(RUN, "--dry-run", is_flag=True, help="Print the resolved recipe and its shards; write nothing.")
@run_options
@option(
    RUN,
    "--install-completion",
    metavar="[SHELL]",
    is_flag=False,
    flag_value="auto",
    type=ChoiceType(("auto", "bash", "zsh", "fish")),
    is_eager=True,
    expose_value=False,
    callback=_install_completion,
    help="Install completion for bash, zsh or fish, and exit.  [your shell]",
)
@click.version_option(
    None, "-V", "--version", package_name="instruct-cook", prog_name="cook", help="Print the version."
)
@click.pass_context
def main(
    ctx: click.Context,
    /,
    config: str | None,
    dry_run: bool,
    bars: Bars,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Turn question-answer data into packed training sequences with loss masks, for any base model.

    Each entry of a dataset becomes an example: its context, then its question-answer pairs. Whole examples of one
    dataset are packed into sequences, and only the pairs bear loss. The result is Parquet with input_ids, labels and
    loss_mask; datasets.load_dataset opens it.
    """
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if ctx.invoked_subcommand is not None:
        hints.refuse_root_options(ctx)
        return
    if not given and not config:
        print_unescaped(ctx.get_help())
        return
    settings = _recipe_settings(config, given)
    ctx.meta[hints.RESUMES] = settings.get("cache") != "none" and not settings.get("limit")
    if not dry_run and settings.get("executor", "local") == "local":
        from cook.pipeline import startup

        startup.preload_vocabulary(str(settings["tokenizer"]))
    _run_recipe(_make_recipe(settings), dry_run, bars, as_json, quiet)


def _recipe_settings(config: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """What a recipe is made of: the flags, and what the file says of others."""
    settings = given
    if config:
        from cook.core.recipe import read_config

        settings = read_config(config) | given
    for name, flag in (("datasets", "--dataset"), ("tokenizer", "--tokenizer")):
        if name not in settings:
            more = f", or set {name} in {config}" if config else f": cook {flag} {hints.USUAL[flag]} …"
            raise click.UsageError(f"pass {flag}{more}")
    return settings


def _make_recipe(settings: dict[str, Any]) -> Recipe:
    from cook.core.recipe import Recipe

    recipe = Recipe(**settings)
    for name in ("context_template", "pair_template", "delimiter"):
        if "\\n" in getattr(recipe, name):
            warning = f"{name}: holds a backslash and an n; for a newline write $'\\n' in a shell, \"\\n\" in YAML"
            warnings.warn(warning, stacklevel=2)
    return recipe


def _print_notice(notice: str) -> None:
    echo(f"cook: {notice}", err=True)


def _run_recipe(recipe: Recipe, dry_run: bool, bars: Bars, as_json: bool, quiet: bool) -> None:
    from cook.cli.summary import print_preview, print_summary, summary_json
    from cook.pipeline.runner import preview, run

    if dry_run:
        print_preview(preview(recipe), as_json)
        return
    with bars as progress:
        summary = run(recipe, progress, None if quiet else _print_notice)
    if not quiet:
        print_summary(summary)
    if as_json:
        print_json(summary_json(summary))


def _print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python tells of an error that nothing took; its words may be of data."""
    import traceback

    echo(*"".join(traceback.format_exception(kind, error, trace)).rstrip().split("\n"), err=True)


def start() -> None:
    """`main` as a process of its own, which ends at once: Python takes 0.1 s to free what it holds, and may wait.

    What cannot be written then is told as Python tells it.
    """
    sys.excepthook = _print_crash
    code: Any = 0
    try:
        main(prog_name="cook")
    except SystemExit as ended:
        code = ended.code
    if ending.pending_signal():
        ending.exit_now()
    ending.ignore_signals()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # None where it was closed
            sys.exit(code)
    os._exit(code if isinstance(code, int) else int(code is not None))
