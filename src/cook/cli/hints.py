"""What to paste next: after a word that is no command, an option in the wrong place, or an interrupt."""

from __future__ import annotations

import os
from collections.abc import Collection

import click

ARGUMENTS, RESUMES = "cook.arguments", "cook.resumes"  # keys of a context's meta
MIN_PREFIX = 2
USUAL = {"--dataset": "squad", "--tokenizer": "llama3"}
READ_ONLY = ("verify", "diff", "fingerprint", "show", "report", "list", "cache", "help", "version")
WHOLE = ("mix", "export", "prompts", "parse")  # commands that write one result, whole or not at all


def command_hint(ctx: click.Context, args: list[str], commands: Collection[str]) -> str:
    """What to do about a word that is no command: the dataset or folder it names, or a command that is near."""
    if command := _cooking_command(ctx, args):
        return f"To cook it: {command}"
    near = nearest(args[0], commands)
    return f"Did you mean {near!r}?" if near else "For all commands: cook help"


def nearest(word: str, names: Collection[str]) -> str | None:
    """The name that a word misspells or shortens; None where none is near: "prepare" does not mean "parse"."""
    from difflib import get_close_matches

    word = word.lower().replace("_", "-")
    for name in get_close_matches(word, names, cutoff=0.65):
        if abs(len(name) - len(word)) <= 1:
            return name
    return next((name for name in names if len(word) > MIN_PREFIX and (name.startswith(word))), None)


def _cooking_command(ctx: click.Context, args: list[str]) -> str | None:
    """The command that cooks the datasets, or the collection, that bare words name; None where the first names none."""
    from itertools import takewhile
    from shlex import join

    from cook.core.catalog import ALIASES, CATALOG

    given = ctx.meta[ARGUMENTS]
    before, words = given[: len(given) - len(args)], [*takewhile(lambda word: not word.startswith("-"), args)]
    names = {name.lower(): name for name in (*(row.name for row in CATALOG), *ALIASES)}
    flags: list[str] = []
    if words[0].lower() in names:
        for word in words:
            flags += ["--dataset", names.get(word.lower(), word)]
    elif os.path.isdir(os.path.join(words[0], "shard")):
        parent, name = os.path.split(os.path.normpath(words[0]))
        flags = ["--dataset", name, "--source", parent or "."]
    elif os.path.isdir(words[0]):
        flags = ["--dataset", "all", "--source", words[0]]
        words = words[:1]
    else:
        return None
    rest = [*before, *args[len(words) :]]
    named = any(word.startswith(("-t", "--tokenizer")) for word in rest)
    return join(["cook", *flags, *rest, *([] if named else ["--tokenizer", USUAL["--tokenizer"]])])


def refuse_root_options(ctx: click.Context) -> None:
    """Raise UsageError where options stand before a command: those of cooking, or its own in the wrong place."""
    command = ctx.invoked_subcommand
    sources = (click.core.ParameterSource.COMMANDLINE,)
    given = [param for param in ctx.command.params if param.name and ctx.get_parameter_source(param.name) in sources]
    used = [param.opts[-1] if len(param.opts) < 3 else "--output" for param in given]  # --output has three names
    if used:
        raise click.UsageError(
            f"{', '.join(used)}: stands before the command {command!r}, which would ignore it. Options of a command "
            "stand after its name.",
            click.Context(click.Command(command), parent=ctx, info_name=command),
        )


def resume_hint() -> str:
    """What an interrupt left, and what to do: `; …`, or nothing for a command that only reads."""
    ctx = click.get_current_context(silent=True)
    root = ctx.find_root() if ctx else None
    command = root.invoked_subcommand if root else None
    if command in READ_ONLY:
        return ""
    if command in WHOLE:
        return "; nothing was replaced. Run the same command again."
    if command == "corpus" or (root and not root.meta.get(RESUMES, True)):
        return "; finished datasets are complete. Run the same command again; the others start anew."
    return "; finished datasets are complete. Run the same command again to resume."
