"""The commands `cook list` and `cook cache`."""

from __future__ import annotations

import sys
from typing import Any

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, print_json, print_table


@click.command("list")
@click.argument("what", type=click.Choice(["datasets", "tokenizers"]))
@click.option(
    "-s", "--source", metavar="SOURCE", type=PATH, help="List what this source holds, as for cooking, not the catalog."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(what: str, source: str | None, as_json: bool) -> None:
    """List the datasets of the catalog or of a source, or the tokenizers that work offline."""
    if what == "tokenizers" and source:
        raise click.UsageError("--source goes with datasets")
    rows = list_tokenizers() if what == "tokenizers" else list_datasets(source)
    if as_json:
        print_json(rows)
    else:
        print_table(rows, sys.stdout)


@click.group("cache", cls=click.Group)
def cache_command() -> None:
    """Tokens that are kept between runs."""


CACHE_OPTION = click.option(
    "--cache", metavar="DIR", type=PATH, help="The cache's folder.  [$COOK_CACHE, ~/.cache/cook]"
)


@cache_command.command()
@CACHE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(cache: str | None, as_json: bool) -> None:
    """Say where the cache lies and what it holds."""
    from cook.core.cache import info as cache_info

    found = cache_info(cache)
    if as_json:
        print_json(found)
    else:
        for name, value in found.items():
            echo(f"{name:8} {value:,}" if isinstance(value, int) else f"{name:8} {value}")


@cache_command.command()
@CACHE_OPTION
def clear(cache: str | None) -> None:
    """Remove all that the cache holds."""
    from cook.core.cache import clear as clear_cache

    echo(f"{clear_cache(cache):,} bytes freed", err=True)


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
