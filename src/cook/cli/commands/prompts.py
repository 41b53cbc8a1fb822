"""The command `cook prompts`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cook.cli.options import PATH
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.synthesis.prompt_files import Prompted

EPILOG = """\b
Examples:
  cook prompts texts.jsonl --to prompts.jsonl -t llama3
  cook prompts texts/ --to round-1.jsonl -t llama3 --rounds 3 --format openai-batch --model my/synthesizer
  cook prompts texts/ --to round-2.jsonl -t llama3 --rounds 3 --format openai-batch --model my/synthesizer \\
    --previous pairs/round-1
"""


@click.command("prompts", epilog=EPILOG)
@click.argument("raw", nargs=-1, required=True, type=PATH)
@click.option("--to", metavar="FILE", type=PATH, required=True, help="The file of prompts; FILE.cook beside it.")
@click.option("-t", "--tokenizer", metavar="NAME", type=PATH, required=True, help="As for cooking: the synthesizer's.")
@click.option("--field", default="text", metavar="NAME", help="Key or column of the texts.  [text]")
@click.option("--rounds", type=int, default=1, metavar="M", help="Rounds that share out the texts: M-shot.  [1]")
@click.option("--previous", metavar="PARSED", type=PATH, help="What the round before was parsed into.")
@click.option("--max-length", type=int, default=4096, metavar="N", help="Tokens of prompt and answer.  [4096]")
@click.option("--max-new-tokens", type=int, default=400, metavar="N", help="Tokens of the answer.  [400]")
@click.option(
    "--overlong",
    type=click.Choice(["drop", "truncate", "error"]),
    default="drop",
    metavar="HOW",
    help="A text over the length: no prompt for it, a prompt for its head, error.  [drop]",
)
@click.option(
    "--format",
    type=click.Choice(["jsonl", "openai-batch"]),
    default="jsonl",
    metavar="FORM",
    help="jsonl: text and token ids; openai-batch: what servers read.  [jsonl]",
)
@click.option(
    "--endpoint",
    type=click.Choice(["chat", "completions"]),
    metavar="WHICH",
    help="Of openai-batch: chat, as text, which vllm run-batch reads; completions, as token ids.  [chat]",
)
@click.option("--model", metavar="NAME", help="For openai-batch: what the server calls the model.")
@click.option("--temperature", type=float, default=0.0, metavar="X", help="For openai-batch; 0: greedy.  [0]")
@click.option("--bos", metavar="TOKEN", help="As for cooking.  [the tokenizer's]")
@click.option("--eos", metavar="TOKEN", help="As for cooking.  [the tokenizer's]")
@click.option("--context-template", metavar="TEXT", help="As for cooking.")
@click.option("--pair-template", metavar="TEXT", help="As for cooking.")
@click.option("--delimiter", metavar="TEXT", help="As for cooking.")
@click.option("--engine", metavar="NAME", help="As for cooking.  [auto]")
@click.option("--cache", metavar="DIR", type=PATH, help="The cache's folder.  [$COOK_CACHE, ~/.cache/cook]")
@click.option("--overwrite", is_flag=True, help="Replace other prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(raw: tuple[str, ...], as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write prompts that have a trained synthesizer write pairs for raw texts.

    RAW is JSONL, Parquet or text files, or folders of them. A prompt is BOS, the text as a context, and the delimiter;
    with --previous, before it what the rounds before gave: contexts, pairs, EOS, as long as all of it and the answer
    fit. Answers go to `cook parse`.
    """
    from cook.core.progress import progress_bars
    from cook.synthesis.prompt_files import prompts

    given = {name: value for name, value in settings.items() if value is not None}
    with progress_bars(enabled=not quiet and sys.stderr.isatty()) as progress:
        made = prompts(list(raw), progress=progress, **given)
    if not quiet:
        _print_prompted(made)
    if as_json:
        print_json({"file": str(made.file)} | made.as_dict("prompts", "counts", "requests"))


LEFT_OUT_WORDS = {"overlong": "too long for a prompt", "special_string": "with the text of a special token"}
BROKEN_HISTORY_WORDS = {
    "no_pairs": "the text before got no pairs",
    "did_not_fit": "it did not fit",
    "special_string": "it holds the text of a special token",
}


def _print_prompted(made: Prompted) -> None:

    counts, settings = made.counts, made.manifest["prompts"]
    number, rounds = settings["round"], settings["rounds"]
    lines = [
        f"round {number} of {rounds}: {pluralize(counts['prompts'], 'prompt')} for {counts['in_round']:,} of "
        f"{pluralize(counts['texts'], 'text')}, the longest of {pluralize(counts['longest'], 'token')}"
    ]
    if number > 1:
        lines.append(f"{pluralize(counts['with_history'], 'prompt')} with the rounds before")
    lines += [f"{pluralize(n, 'history')} left out: {BROKEN_HISTORY_WORDS[why]}" for why, n in counts["broken"].items()]
    for why, count in counts["left_out"].items():
        lines.append(
            f"{pluralize(count, 'text')} {LEFT_OUT_WORDS[why]}: no prompt, kept without pairs ({made.file}.cook)"
        )
    if counts["truncated"]:
        lines.append(f"{pluralize(counts['truncated'], 'text')} cut to the head that fits; the rest is not kept")
    if counts["blank"]:
        lines.append(f"{pluralize(counts['blank'], 'text')} passed over: empty or white space")
    lines.append(f"{'up to date' if made.up_to_date else f'{made.seconds:.2f} s'}: {made.file}")
    echo(*lines, err=True)
