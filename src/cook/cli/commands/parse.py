"""The command `cook parse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cook.cli import options as shared
from cook.cli.options import PATH, parse_key_map
from cook.cli.printing import echo, pluralize, print_json

if TYPE_CHECKING:
    from cook.cli.options import Bars
    from cook.synthesis.answer_files import Parsed

EPILOG = """\b
Examples:
  cook parse answers.jsonl --prompts prompts.jsonl --to pairs/news
  cook parse answers.jsonl again.jsonl --prompts prompts.jsonl --to pairs/news --overwrite
  cook -d news -s pairs -t llama3
"""


@click.command("parse", epilog=EPILOG)
@click.argument("answers", nargs=-1, required=True, type=PATH)
@shared.output_option("COLLECTION/NAME", "Folder of the new dataset.")
@click.option("--prompts", metavar="FILE", type=PATH, help="The prompts that were answered, from cook prompts.")
@click.option(
    "--unique-questions", is_flag=True, help="Leave out a question that was asked before, in any upper or lower case."
)
@click.option(
    "--fields", metavar="NAME=KEY,…", help="Map your keys, as in text=output.  [id=custom_id,text=text,context=context]"
)
@click.option("--pair-template", metavar="TEXT", help="Template of the pairs, without --prompts.  [as for cooking]")
@click.option("--delimiter", metavar="TEXT", help="Text between pairs, without --prompts.  [as for cooking]")
@shared.overwrite_option("Replace a dataset of other answers.")
@shared.run_options
def command(
    answers: tuple[str, ...], fields: str | None, bars: Bars, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Parse a model's answers into a dataset of contexts and pairs, ready to cook.

    ANSWERS are results in the OpenAI batch format, as vllm run-batch writes them. Lines with a text and the prompt's
    custom_id work too, in any order. Answers without pairs are counted and recorded. Unanswered prompts are written to
    a file, to send again.
    """
    from cook.synthesis.answer_files import parse

    with bars as progress:
        made = parse(list(answers), fields=parse_key_map(fields) if fields else {}, progress=progress, **settings)
    if not quiet:
        _print_parsed(made)
    if as_json:
        print_json(made.as_dict("parse", "counts", "outputs"))


LEFT_OUT_WORDS = {
    "unfinished": "unfinished",
    "no_question_marker": "without the marker of a question",
    "no_answer_marker": "without the marker of an answer",
    "several_answer_markers": "with several markers of an answer",
    "blank_question": "with a blank question",
    "blank_answer": "with a blank answer",
    "repeat": "a repeat",
    "repeated_question": "of a question asked before",
}


def _print_parsed(made: Parsed) -> None:
    counts = made.counts
    lines = [
        f"{pluralize(counts['pairs'], 'pair')} for {counts['with_pairs']:,} of {pluralize(counts['entries'], 'entry')}"
    ]
    for why, count in counts["left_out"].items():
        lines.append(f"{pluralize(count, 'piece')} left out: {LEFT_OUT_WORDS[why]} (left-out/skipped.jsonl)")
    if counts["repeated"]:
        lines.append(f"{pluralize(counts['repeated'], 'answer')} ignored: their prompts were answered before")
    if unanswered := counts["failed"] + counts["missing"]:
        lines.append(
            f"{pluralize(unanswered, 'prompt')} without an answer ({counts['failed']:,} failed): send "
            f"{made.folder / 'left-out' / 'rerun.jsonl'}, and parse again with both files of answers"
        )
    lines.append(f"{'up to date' if made.up_to_date else f'{made.seconds:.2f} s'}: {made.folder}")
    echo(*lines, err=True)
