"""The command `cook prompts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cook.cli import options as shared
from cook.cli.options import PATH, ChoiceType
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.cli.options import Bars
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
@shared.output_option("FILE", "File of prompts; its manifest is FILE.cook.")
@shared.tokenizer_option("Tokenizer of the synthesizer. Names are those of cook --tokenizer.", required=True)
@click.option("--field", default="text", metavar="NAME", help="Key or column that holds the text.  [text]")
@click.option(
    "--rounds", type=int, default=1, metavar="M", help="Number of rounds; each takes a share of the texts.  [1]"
)
@click.option(
    "--previous", metavar="PARSED", type=PATH, help="Dataset that cook parse made of the round before this one."
)
@click.option(
    "--max-length", type=int, default=4096, metavar="N", help="Largest number of tokens of prompt and answer.  [4096]"
)
@click.option(
    "--max-new-tokens", type=int, default=400, metavar="N", help="Largest number of tokens of an answer.  [400]"
)
@click.option(
    "--overlong",
    type=ChoiceType(("drop", "truncate", "error")),
    default="drop",
    metavar="HOW",
    help="How to handle a text that is too long. drop: no prompt. truncate: a prompt for its start. error.  [drop]",
)
@click.option(
    "--format",
    type=ChoiceType(("jsonl", "openai-batch")),
    default="jsonl",
    metavar="FORM",
    help="jsonl: text and token ids. openai-batch: requests that servers read.  [jsonl]",
)
@click.option(
    "--endpoint",
    type=ChoiceType(("chat", "completions")),
    metavar="WHICH",
    help="For openai-batch. chat: text, as vllm run-batch reads it. completions: token ids.  [chat]",
)
@click.option("--model", metavar="NAME", help="For openai-batch: the model's name on the server.")
@click.option(
    "--temperature", type=float, default=0.0, metavar="X", help="For openai-batch: the sampling temperature.  [0]"
)
@shared.apply_options(
    shared.bos_option,
    shared.eos_option,
    shared.context_template_option,
    shared.pair_template_option,
    shared.delimiter_option,
    shared.engine_option,
    shared.cache_option,
)
@shared.overwrite_option("Replace a file of other prompts.")
@shared.run_options
def command(raw: tuple[str, ...], bars: Bars, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Write prompts for a trained synthesizer, which answers with pairs for raw texts.

    RAW is JSONL, Parquet or text files, or folders of them. A prompt is BOS, the text as a context, and the delimiter.
    With --previous, the contexts and pairs of earlier rounds come first, if everything fits. `cook parse` reads the
    answers.
    """
    from cook.synthesis.prompt_files import prompts

    given = {name: value for name, value in settings.items() if value is not None}
    with bars as progress:
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
        lines.append(f"{pluralize(counts['blank'], 'text')} ignored: empty or white space")
    lines.append(f"{'up to date' if made.up_to_date else f'{made.seconds:.2f} s'}: {made.file}")
    echo(*lines, err=True)
