"""The command `cook verify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli.options import PATH, result_options, source_option, tokenizer_option
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.check.verifier import Verified


MAX_PRINTED = 20  # findings of a file that are printed
EPILOG = """\b
Examples:
  cook verify cooked/llama3
  cook verify cooked/llama3 --deep --source my/collection
"""


@click.command("verify", epilog=EPILOG)
@click.argument("path", type=PATH)
@click.option("--deep", is_flag=True, help="Read the shards too, and compare every context, question and answer.")
@source_option("With --deep: the source of the shards, named as for cooking.")
@tokenizer_option("With --deep: where the tokenizer of the result is now.  [where it was]")
@result_options
def command(path: str, deep: bool, source: str | None, tokenizer: str | None, as_json: bool, quiet: bool) -> None:
    """Verify datasets, mixes, corpora, prompts or parsed datasets.

    PATH is a result, or a folder of several. Files are compared with the manifest, rows with the rules of a row, and
    counts with the rows. With --deep the result is compared with its shards: every pair is there once, or was left out
    for a true reason.

    Exit code 4: something is wrong; the findings are listed.
    """
    from cook.check.verifier import verify
    from cook.core.errors import EXIT_DIFFERENCES

    if deep != (source is not None):
        raise click.UsageError(f"--deep and --source need each other: cook verify {path} --deep --source SOURCE")
    verified = verify(path, deep=deep, source=source, tokenizer=tokenizer)
    if as_json:
        print_json(_verified_json(verified))
    else:
        _print_verified(verified, quiet)
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


def _print_verified(verified: Verified, quiet: bool) -> None:
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
        verdict = f"{pluralize(each.found, 'finding')}" if each.found else f"OK: {made}{done}"
        if not quiet:
            echo(f"{each.folder}: {verdict}", err=True)
    if any(finding.of_row for each in verified.datasets for finding in each.findings):
        echo("rows count from 0, as `cook show --sequence` does; lines and files' places (FILE:LINE) from 1", err=True)
    for folder, why in verified.unchecked.items():
        echo(f"{folder}: {why}", err=True)


def _singular(noun: str) -> str:
    return noun[:-3] + "y" if noun.endswith("ies") else noun[:-1]
