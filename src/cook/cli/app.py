"""The command: parse, call one library function, print. Only click is imported at the top, for a fast `--help`.

Standard output is for data (`--json`, `--dry-run`, `list`); progress, summary, warnings and errors: standard error.
Exit codes: 0 done; 1 a CookError; 2 usage; 3 input rejected; 4 verify or diff found something; 130, 143 interrupted.
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

from cook.cli import ending
from cook.cli.options import RUN, PathType, option, recipe_options
from cook.cli.printing import echo, print_json, print_unescaped
from cook.core.escapes import escape_controls
from cook.executors import process

if TYPE_CHECKING:
    from types import TracebackType

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
        with _handle_interrupts(), _escape_usage_errors():
            return super().make_context(*args, **settings)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click, which can suggest only commands that are imported, and knows nothing of datasets."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"A dataset is named by --dataset {name}."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

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
        process.configure_process()
        as_json = ctx.params.get("as_json", False) or "--json" in ctx.args  # those of a subcommand
        ending.install_handlers(signal.SIGTERM, signal.SIGHUP)
        with _handle_interrupts():
            from cook.core.errors import CookError, from_os_error

            try:
                with _escape_usage_errors(), warnings.catch_warnings():
                    warnings.showwarning = _show_warning
                    return super().invoke(ctx)
            except CookError as exc:
                if ending.pending_signal():  # it led to this
                    raise
                _fail(exc, as_json, ctx.params.get("quiet", False), cooking=ctx.invoked_subcommand is None)
            except OSError as exc:
                if not exc.filename:
                    raise
                _fail(from_os_error(exc), as_json, ctx.params.get("quiet", False), ctx.invoked_subcommand is None)


@contextlib.contextmanager
def _handle_interrupts() -> Iterator[None]:
    """What an interrupt leads to, be it another error, is told as one, with its code; and output that is full."""
    try:
        yield
    except BaseException as exc:
        if ending.pending_signal():
            sys.exit(ending.report_end(_resume_hint()))
        if isinstance(exc, KeyboardInterrupt):  # raised by who runs the command in a process of their own
            echo(f"cook: interrupted{_resume_hint()}", err=True)
            sys.exit(130)
        if isinstance(exc, OSError) and not exc.filename and exc.errno != errno.EPIPE:
            echo(f"cook: standard output: cannot be written: {exc.strerror}", err=True)
            sys.stdout = sys.__stdout__ = None  # type: ignore[misc] # what it still holds is lost
            sys.exit(1)
        raise


@contextlib.contextmanager
def _escape_usage_errors() -> Iterator[None]:
    """What click says of arguments repeats them: they are escaped, and its own help, where that is said, is not."""
    try:
        yield
    except click.ClickException as exc:
        if not isinstance(exc, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            exc.message = escape_controls(exc.message)  # type: ignore[misc] # nothing else of it is as free
        raise


READ_ONLY_COMMANDS = (
    "verify",
    "diff",
    "fingerprint",
    "show",
    "report",
    "list",
    "cache",
)  # commands that make no folder


def _resume_hint() -> str:
    context = click.get_current_context(silent=True)
    reads = context is not None and context.find_root().invoked_subcommand in READ_ONLY_COMMANDS
    return "" if reads else "; what is cooked is whole; run the same again to go on"


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
@option(RUN, "--config", metavar="FILE", type=PathType(dir_okay=False), help="YAML recipe; flags win over it.")
@option(RUN, "--dry-run", is_flag=True, help="Print the resolved recipe and its shards; cook nothing.")
@option(RUN, "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@option(RUN, "-q", "--quiet", is_flag=True, help="No progress, no summary.")
@click.version_option(package_name="instruct-cook", prog_name="cook")
@click.pass_context
def main(ctx: click.Context, /, config: str | None, dry_run: bool, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Cook question-answer data over contexts into packed training sequences with loss masks.

    Each entry becomes an example: BOS and its context, then its question-answer pairs and EOS. Whole examples of one
    dataset are joined into sequences; loss falls on the pairs alone. The result is Parquet with input_ids, labels and
    loss_mask, for datasets.load_dataset and any trainer.
    """
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if ctx.invoked_subcommand is not None:
        if given or config:
            raise click.UsageError(f"these options are for cooking, not for `cook {ctx.invoked_subcommand}`")
        return
    if not given and not config:
        print_unescaped(ctx.get_help())
        return
    settings = _recipe_settings(config, given)
    if not dry_run and settings.get("executor", "local") == "local":
        from cook.pipeline import startup

        startup.preload_vocabulary(str(settings["tokenizer"]))
    _run_recipe(ctx, _make_recipe(settings), dry_run, as_json, quiet)


def _recipe_settings(config: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """What a recipe is made of: the flags, and what the file says of others."""
    settings = given
    if config:
        from cook.core.recipe import read_config

        settings = read_config(config) | given
    for name, flag in (("datasets", "--dataset"), ("tokenizer", "--tokenizer")):
        if name not in settings:
            raise click.UsageError(f"pass {flag}" + (f", or set {name} in {config}" if config else ""))
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


def _run_recipe(ctx: click.Context, recipe: Recipe, dry_run: bool, as_json: bool, quiet: bool) -> None:  # noqa: ARG001
    from cook.cli.summary import print_preview, print_summary, summary_json
    from cook.pipeline.runner import preview, run

    if dry_run:
        print_preview(preview(recipe), as_json)
        return
    from cook.core.progress import progress_bars

    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
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
