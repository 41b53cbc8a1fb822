"""What the shell offers for a word that is being typed, and the scripts that ask for it. Nothing here uses a network.

A function takes click's (context, parameter, incomplete word) and gives the words; whatever fails, it gives none.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cook.core import choices

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

SHELLS = ("bash", "zsh", "fish")


def _completer(words: Callable[[click.Context], Iterable[str]]) -> Completer:
    """A completer that offers those words that go on from the one typed, in any case."""

    @functools.wraps(words)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        from click.shell_completion import CompletionItem

        try:
            found = sorted({*words(ctx)})
        except Exception:  # a traceback would stand in the line that is being typed
            return []
        # One that is printed is a line of what the shell reads.
        return [CompletionItem(w) for w in found if w.isprintable() and w.lower().startswith(incomplete.lower())]

    return complete


def _argument(ctx: click.Context) -> str:
    """The command's first argument; "" without one. It is in `args`, while the option after it lacks its value."""
    named = [ctx.params.get(param.name) for param in ctx.command.params if isinstance(param, click.Argument)]
    return str(next((value for value in (*named, *ctx.args) if value and isinstance(value, str)), ""))


@_completer
def datasets(ctx: click.Context) -> Iterable[str]:
    """`all`, and the datasets of the source given: those of the catalog for the Hub, else those in the folder."""
    from cook.core.catalog import ALL_DATASETS, CATALOG

    source = str(ctx.params.get("source") or _argument(ctx) or "hub")
    if source == "sample" or os.path.isdir(os.path.expanduser(source)):
        from cook.read import sources as registry

        return [ALL_DATASETS, *registry.open_source(source, skip=True).names()]
    return [ALL_DATASETS, *(row.name for row in CATALOG)]


def _results(ctx: click.Context) -> dict[str, Any]:
    """The manifests of the results in the ROOT or folder given, by name."""
    from cook.store.outputs import cooked_folders, read_cooked

    found = [read_cooked(folder) for folder in cooked_folders(Path(_argument(ctx)))]
    return {each.name: each.manifest for each in found}


@_completer
def results(ctx: click.Context) -> Iterable[str]:
    """The datasets in the result given."""
    return [name for key, manifest in _results(ctx).items() for name in (manifest.get("datasets") or [key])]


@_completer
def weights(ctx: click.Context) -> Iterable[str]:
    """The datasets in ROOT, as --weights names them."""
    return [f"{name}=" for name in _results(ctx)]


@_completer
def splits(ctx: click.Context) -> Iterable[str]:
    """The splits in the result given."""
    return [row["split"] for manifest in _results(ctx).values() for row in manifest["outputs"] if "split" in row]


def _with_paths(words: tuple[str, ...], kind: str) -> Completer:
    """Names, or a path where none goes on from what was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        from click.shell_completion import CompletionItem

        named = [CompletionItem(word) for word in words if word.startswith(incomplete)]
        # bash shows either names or paths: a word that is empty gets the names.
        return named or [CompletionItem(incomplete, type=kind)] * incomplete.isprintable()

    return complete


tokenizers = _with_paths(choices.PRESET_NAMES, "file")
sources = _with_paths(choices.SOURCES, "dir")


def install(shell: str, command: click.Command) -> list[str]:
    """Write the completion script to the shell's usual place, and give what was done. Raises OSError, ValueError."""
    from click.shell_completion import ShellComplete, get_completion_class

    shell = Path(os.environ.get("SHELL", "")).name if shell == "auto" else shell
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise ValueError(f"cook completes in {', '.join(SHELLS)}; name one: cook --install-completion bash")
    script, startup, line = _places(shell)
    # Not `kind.source`, which runs bash to ask its version.
    text = ShellComplete.source(kind(command, {}, "cook", "_COOK_COMPLETE"))
    done = [_write(script, text)]
    if startup:
        done.append(_add_line(startup, line))
    return [*done, f"open a new shell, or run: {'exec ' + shell}"]


def _places(shell: str) -> tuple[Path, Path | None, str]:
    """The script's path; the startup file that loads it, where the shell does not by itself, and the line for it."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    if shell == "fish":
        return config / "fish" / "completions" / "cook.fish", None, ""
    from shlex import quote

    if shell == "bash":
        script = data / "bash-completion" / "completions" / "cook"
        return script, home / ".bashrc", f"[ -r {quote(str(script))} ] && . {quote(str(script))}  # cook's completion"
    script = data / "zsh" / "site-functions" / "_cook"
    load = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
    startup = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    return script, startup, f"{load}; [ -r {quote(str(script))} ] && . {quote(str(script))}  # cook's completion"


def _write(path: Path, text: str) -> str:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return f"{path}: up to date"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"{path}: written"


def _add_line(path: Path, line: str) -> str:
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    if line in text.splitlines():
        return f"{path}: loads it already"
    newline = "\n" if text and not text.endswith("\n") else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{newline}{line}\n")
    return f"{path}: one line added, which loads it"
