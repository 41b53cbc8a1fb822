"""The commands `cook list` and `cook cache`."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli.options import ChoiceType, cache_option, result_options, source_option
from cook.cli.printing import echo, print_json, print_table

LIST_EPILOG = """\b
Examples:
  cook list datasets
  cook list datasets --source my/collection
  cook list tokenizers --json
"""
CACHE_EPILOG = """\b
Examples:
  cook cache info
  cook cache clear
"""


@click.command("list", epilog=LIST_EPILOG)
@click.argument("what", type=ChoiceType(("datasets", "tokenizers")))
@source_option("List the datasets of this source.  [the catalog]")
@result_options
def command(what: str, source: str | None, as_json: bool, quiet: bool) -> None:  # noqa: ARG001 - a list is its result
    """List datasets, of the catalog or of a source, or the tokenizers that need no download."""
    if what == "tokenizers" and source:
        raise click.UsageError("--source goes with datasets: cook list datasets --source SOURCE")
    rows = list_tokenizers() if what == "tokenizers" else list_datasets(source)
    if as_json:
        print_json(rows)
    else:
        print_table(rows, sys.stdout)


@click.group("cache", cls=click.Group, epilog=CACHE_EPILOG)
def cache_command() -> None:
    """Show or empty the cache of encoded tokens."""


@cache_command.command(epilog="\b\nExamples:\n  cook cache info\n  cook cache info --cache /shared/cache --json")
@cache_option
@result_options
def info(cache: str | None, as_json: bool, quiet: bool) -> None:  # noqa: ARG001 - it prints only its result
    """Print the cache's folder, size and contents."""
    from cook.core.cache import info as cache_info

    found = cache_info(cache)
    if as_json:
        print_json(found)
    else:
        for name, value in found.items():
            echo(f"{name:8} {value:,}" if isinstance(value, int) else f"{name:8} {value}")


@cache_command.command(epilog="\b\nExamples:\n  cook cache clear\n  cook cache clear --cache /shared/cache")
@cache_option
@result_options
def clear(cache: str | None, as_json: bool, quiet: bool) -> None:
    """Remove everything in the cache."""
    from cook.core.cache import clear as clear_cache

    freed = clear_cache(cache)
    if as_json:
        print_json({"bytes": freed})
    if not quiet:
        echo(f"{freed:,} bytes freed", err=True)


def list_datasets(source: str | None) -> list[dict[str, Any]]:
    """The catalog's datasets with their licences, or those that a source holds with their size. Raises SourceError."""
    from cook.core import catalog
    from cook.core.errors import SourceError
    from cook.read import sources
    from cook.read.source import MAX_NAMED

    if source is None:
        return [{"name": row.name, "licence": row.licence, "asks": row.obligations} for row in catalog.CATALOG]
    opened = sources.open_source(source, skip=True)
    kind, rows = opened.provenance()["kind"], []
    for name in opened.names():
        try:
            shards, unread = opened.listed(name), opened.unread(name)
            more = [f"… {len(unread)} in all"] if len(unread) > MAX_NAMED else []
            problem = "; ".join([*map(str, unread[:MAX_NAMED]), *more])
        except SourceError as exc:
            shards, problem = [], str(exc)
        size = sum(shard.size for shard in shards)
        known = catalog.licence_of(name, kind)
        licence = known.licence if known else ""
        rows.append({"name": name, "licence": licence, "shards": len(shards), "bytes": size, "problem": problem})
    return rows


def list_tokenizers() -> list[dict[str, Any]]:
    """The presets."""
    from cook.tokenizer.presets import PRESETS

    return [
        {
            "name": preset.name,
            "also": ", ".join(preset.aliases),
            "models": preset.models,
            "vocabulary": preset.vocab_size,
            "bos": preset.bos,
            "eos": preset.eos,
        }
        for preset in PRESETS.values()
    ]
