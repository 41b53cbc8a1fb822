"""The commands `cook help` and `cook version`."""

from __future__ import annotations

from typing import Any

import click

from cook.cli.options import CLUSTER, result_options
from cook.cli.printing import echo, print_json, print_unescaped

CLUSTER_EPILOG = """\b
Examples:
  cook -d squad -t llama3 --executor dask --scheduler tcp://10.0.0.1:8786
  cook -d all -t llama3 -s /shared/collection -o /shared/cooked --executor dask --scheduler-file /shared/dask.json
"""


def _complete_topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    return [CompletionItem(name) for name in (*group.list_commands(ctx), "cluster") if name.startswith(incomplete)]


@click.command(
    "help", epilog="\b\nExamples:\n  cook help\n  cook help verify\n  cook help cache clear\n  cook help cluster"
)
@click.argument("command", nargs=-1, shell_complete=_complete_topics)
@click.pass_context
def help_command(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Print the help of cook, of a COMMAND, or of "cluster"."""
    root = ctx.find_root()
    if command == ("cluster",):
        print_unescaped(_cluster_help(root))
        return
    found, found_ctx = root.command, root
    for name in command:
        if not isinstance(found, click.Group):
            ctx.fail(f"{found.name!r} has no command {name!r}")
        _, below, _ = found.resolve_command(found_ctx, [name])
        assert below is not None
        found, found_ctx = below, click.Context(below, info_name=name, parent=found_ctx)
    print_unescaped(found.get_help(found_ctx))


def _cluster_help(root: click.Context) -> str:
    formatter = root.make_formatter()
    formatter.write_usage("cook", "--executor dask (--scheduler ADDRESS | --scheduler-file FILE) [OPTIONS]")
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(
            "Run on the workers of a Dask cluster. The source, the output and the cache must be folders that all "
            "machines share."
        )
    params = [param for param in root.command.params if getattr(param, "heading", "") == CLUSTER]
    with formatter.section("Options"):
        formatter.write_dl([record for param in params if (record := param.get_help_record(root))])
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(CLUSTER_EPILOG)
    return formatter.getvalue().rstrip("\n")


@click.command("version", epilog="\b\nExamples:\n  cook version\n  cook version --json")
@result_options
def version_command(as_json: bool, quiet: bool) -> None:  # noqa: ARG001 - it prints only its result
    """Print the version of cook, as -V does."""
    from cook._version import __version__

    if as_json:
        print_json({"version": __version__})
    else:
        echo(f"cook, version {__version__}")
