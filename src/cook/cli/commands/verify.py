"""The command `cook verify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.check.verifier import Verified


MAX_PRINTED = 20  # findings of a file that are printed


@click.command("verify")
@click.argument("path", type=PATH)
@click.option("--deep", is_flag=True, help="Read the shards, and compare every context, question and answer.")
@click.option(
    "-s", "--source", metavar="SOURCE", type=PATH, help="What --deep needs: where the shards are; as for cooking."
)
@click.option(
    "-t", "--tokenizer", metavar="NAME", type=PATH, help="With --deep: the tokenizer's place, where it has moved."
)
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
def command(path: str, deep: bool, source: str | None, tokenizer: str | None, as_json: bool) -> None:
    """Check what is cooked: a dataset's folder, all in a ROOT, a mix, a corpus, prompts, or what is parsed.

    Files are held against the manifest, rows against what a row must be, and sums against the rows. With --deep the
    output is proved to be its source: every pair once, with its context, or left out for a reason that is true. Exit
    code 4: something is wrong, and listed.
    """
    from cook.check.verifier import verify
    from cook.core.errors import EXIT_DIFFERENCES

    if deep != (source is not None):
        raise click.UsageError("--deep and --source, the shards that are compared with, need each other")
    verified = verify(path, deep=deep, source=source, tokenizer=tokenizer)
    if as_json:
        print_json(_verified_json(verified))
    else:
        _print_verified(verified)
    if verified.found:
        sys.exit(EXIT_DIFFERENCES)


def _verified_json(verified: Verified) -> dict[str, Any]:
    return {
        "right": not verified.found,
        "datasets": [
            {
                "name": each.name,
                "folder": str(each.folder),
                "compared": each.compared,
                "sequences": each.sequences,
                "examples": each.examples,
                "tokens": each.tokens,
                "holds": each.holds,
                "unread": list(each.unread),
                "found": each.found,
                "findings": [{"file": f.file, "row": f.row, "what": f.what} for f in each.findings],
            }
            for each in verified.datasets
        ],
        "unchecked": [{"folder": str(folder), "why": why} for folder, why in verified.unchecked.items()],
    }


def _print_verified(verified: Verified) -> None:
    from cook.check.verifier import first_findings_per_file

    for each in verified.datasets:
        shown = list(first_findings_per_file(each.findings, MAX_PRINTED))
        for finding in shown:
            echo(f"{each.folder}/{finding}")
        if rest := each.found - len(shown):
            echo(f"{each.folder}: … and {rest:,} more (--json lists them)")
        made = ", ".join(pluralize(count, _singular(noun)) for noun, count in each.holds.items())
        done = "; equal to its shards" if each.compared else ""
        done += (
            f", but for {pluralize(len(each.unread), 'file')} that cook did not read" if done and each.unread else ""
        )
        verdict = f"{pluralize(each.found, 'finding')}" if each.found else f"right: {made}{done}"
        echo(f"{each.folder}: {verdict}", err=True)
    if any(finding.of_row for each in verified.datasets for finding in each.findings):
        echo("rows count from 0, as `cook show --sequence` does; lines and files' places (FILE:LINE) from 1", err=True)
    for folder, why in verified.unchecked.items():
        echo(f"{folder}: {why}", err=True)


def _singular(noun: str) -> str:
    return noun[:-3] + "y" if noun.endswith("ies") else noun[:-1]
