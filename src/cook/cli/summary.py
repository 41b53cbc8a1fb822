"""What a run of `cook` prints: what it would do, and what it did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cook.cli.printing import echo, pluralize, print_json, print_table, print_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from cook.core.results import Summary
    from cook.pipeline.runner import Preview


def print_preview(ready: Preview, as_json: bool) -> None:
    """The recipe with all that it leaves open, and its shards, on standard output."""
    shards = {name: [shard.path for shard in found] for name, found in ready.shards.items()}
    settings = ready.recipe.as_dict() | {
        "datasets": list(ready.shards),
        "output": str(ready.root),
        "bos": ready.tokenizer.bos or "none",
        "eos": ready.tokenizer.eos,
    }
    if commit := ready.source.provenance().get("commit"):  # so that what is printed fetches the same again
        settings |= {"source": settings["source"].partition("@")[0], "revision": commit}
    if as_json:
        unread = {name: [each._asdict() for each in found] for name, found in ready.unread.items()}
        print_json({"recipe": settings, "shards": shards, "unread": unread})
        return
    recipe = {key: value for key, value in settings.items() if value is not None}
    print_yaml(recipe)
    for name, found in ready.shards.items():
        size = sum(shard.size for shard in found)
        echo(f"# {name}: {len(found)} shards, {size:,} bytes")
        echo(*(f"#   {path}" for path in shards[name]))
        echo(*(f"#   not read: {each}" for each in ready.unread[name]))


def summary_json(summary: Summary) -> dict[str, Any]:
    """What `--json` prints of a run; docs/json.md."""
    return {
        "root": str(summary.root),
        "tokenizer": summary.tokenizer or None,  # none for text
        "seconds": round(summary.seconds, 3),
        "datasets": [
            {
                "name": result.name,
                **result.as_dict("counts", "outputs"),
                "figures": result.manifest.get("figures"),  # text has none
                "unread": result.manifest.get("unread", []),
            }
            for result in summary.results
        ],
        "unnamed_tokens": list(summary.unnamed),
        "failures": [],
    }


def print_summary(summary: Summary) -> None:
    """What was made and left out, on standard error."""
    from cook.store import kinds

    if any(kinds.kind_of(result.manifest).is_corpus for result in summary.results):
        print_corpus_summary(summary)
        return
    rows = []
    for result in summary.results:
        counts, figures = result.counts, result.manifest["figures"]
        rows.append(
            {
                "dataset": result.name,
                **{key: counts[key] for key in ("entries", "pairs", "examples", "sequences", "tokens")},
                "trained": f"{figures['trained_share']:.1%}",
                "full": f"{figures['utilisation']:.1%}",
                "seconds": "up to date" if result.up_to_date else f"{result.seconds:.2f}",
            }
        )
    print_table(rows, sys.stderr)
    for result in summary.results:
        echo(*(f"{result.name}: {line}" for line in _summary_lines(result.counts)), err=True)
        echo(*(f"{result.name}: not read: {path}" for path in result.manifest.get("unread", ())), err=True)
    print_unnamed_tokens(summary)
    echo(f"{pluralize(len(summary.results), 'dataset')} in {summary.seconds:.2f} s: {summary.root}", err=True)
    for result in summary.results:
        place = f"{str(summary.root)!r}, {result.name!r}" if summary.card else repr(str(result.folder))
        for split in result.counts.get("splits", ("train",)):
            echo(load_statement(result.folder, place, split), err=True)


def load_statement(folder: Path, place: str, split: str) -> str:
    """The line of Python that opens a split: `load_dataset` takes what is in brackets in a path for a pattern."""
    if set("*?[]") & set(str(folder)):
        return f'cook.load({str(folder)!r}, split="{split}")'
    return f'load_dataset({place}, split="{split}")'


def print_unnamed_tokens(summary: Summary) -> None:
    """The added tokens that nothing names, and what they are in the data."""
    if summary.unnamed:
        few = ", ".join(summary.unnamed[:8]) + (", …" if len(summary.unnamed) > 8 else "")
        how = f"{pluralize(len(summary.unnamed), 'added token')} of {summary.tokenizer} that nothing names"
        echo(f"{how}, as {summary.added_tokens} in the data (--added-tokens): {few}", err=True)


def _summary_lines(counts: dict[str, Any]) -> list[str]:
    """What was split, cut or left out, and what text may confuse who parses a model's output, in words."""
    from cook.core.records import REASON_WORDS
    from cook.encode import unknown_characters

    lines = []
    if counts["split"]:
        cut = f"; {pluralize(counts['truncated'], 'example')} with a cut context" if counts["truncated"] else ""
        lines.append(f"{pluralize(counts['split'], 'entry')} too long for a sequence made into several examples{cut}")
    for kind, one in (("entries", "entry"), ("pairs", "pair")):
        for reason, count in counts[f"skipped_{kind}"].items():
            counted = pluralize(count, "line" if reason == "bad_line" else one)
            lines.append(f"{counted} {REASON_WORDS[reason]} left out (skipped.jsonl)")
    for split, made in counts.get("splits", {}).items():
        parts = (pluralize(made[kind + "s"], kind) for kind in ("example", "sequence", "token"))
        lines.append(f"{split}: {', '.join(parts)}")
    if counts["markers"]:
        held = ", ".join(f"{marker} in {pluralize(count, 'entry')}" for marker, count in counts["markers"].items())
        lines.append(f"template markers in the text itself: {held}")
    if counts["special_strings"]:
        lines.append(
            f"{pluralize(counts['special_strings'], 'entry')} with the text of a special token, cooked as text"
        )
    if unknown := counts.get("unknown"):
        lines.append(f"{unknown_characters.describe(unknown)} (--max-unknown)")
    return lines


def print_corpus_summary(summary: Summary) -> None:
    """What was made, on standard error."""
    rows = []
    for result in summary.results:
        counts = result.counts
        row = {"dataset": result.name, **{key: counts[key] for key in ("entries", "pairs", "texts")}}
        row |= {key: counts[key] for key in ("letters", "sequences", "tokens") if key in counts}
        row["seconds"] = "up to date" if result.up_to_date else f"{result.seconds:.2f}"
        rows.append(row)
    print_table(rows, sys.stderr)
    for result in summary.results:
        echo(*(f"{result.name}: {line}" for line in _corpus_summary_lines(result.counts)), err=True)
        echo(*(f"{result.name}: not read: {path}" for path in result.manifest.get("unread", ())), err=True)
    print_unnamed_tokens(summary)
    echo(f"{pluralize(len(summary.results), 'dataset')} in {summary.seconds:.2f} s: {summary.root}", err=True)
    for result in summary.results:
        place = f"{str(summary.root)!r}, {result.name!r}" if summary.card else repr(str(result.folder))
        echo(load_statement(result.folder, place, "train"), err=True)


def _corpus_summary_lines(counts: dict[str, Any]) -> list[str]:
    """How the texts came about, and what was left out, in words."""
    from cook.core.records import REASON_WORDS
    from cook.encode import unknown_characters

    def listed(parts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in parts.items())

    lines = [f"modes: {listed(counts['modes'])}; context after the pairs {counts['context_after']:,}"]
    if counts["kinds"]:
        lines.append(f"pairs: {listed(counts['kinds'])}")
    if counts["options"]:
        lines.append(f"options with other names and order, or why not: {listed(counts['options'])}")
    if counts["chains"]:
        lines.append(f"chains: {listed(counts['chains'])}")
    for kind, one in (("entries", "entry"), ("pairs", "pair")):
        for reason, count in counts[f"skipped_{kind}"].items():
            counted = pluralize(count, "line" if reason == "bad_line" else one)
            lines.append(f"{counted} {REASON_WORDS[reason]} left out (skipped.jsonl)")
    if unknown := counts.get("unknown"):
        lines.append(f"{unknown_characters.describe(unknown)} (--max-unknown)")
    return lines
