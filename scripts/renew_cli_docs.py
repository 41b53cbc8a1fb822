"""Write docs/cli.md: the help of each command, as it is.

    python scripts/renew_cli_docs.py

A test holds the page to the command.
"""

from pathlib import Path

from click.testing import CliRunner

from cook.cli.app import COMMANDS, main

FILE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"


def page() -> str:
    """The page's text."""
    parts = ["# Command line\n\nMade from `--help` by `scripts/renew_cli_docs.py`.\n"]
    for words in ([], *([name] for name in COMMANDS)):
        help_text = CliRunner().invoke(main, [*words, "--help"], prog_name="cook", terminal_width=100).stdout
        parts.append(f"## {' '.join(['cook', *words])}\n\n```text\n{help_text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
