"""Outputs -> one HTML file: numbers, plots, what was left out, and sample sequences.

Text of the data is escaped by Jinja, and `visible` marks what is invisible. The page's Content-Security-Policy allows
one script and one style sheet, by their hashes, and loads nothing. The same output gives the same bytes: the page
holds the folder's name, but no time, host or path.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cook.core import owned
from cook.core.errors import OutputError, OutputExists, RecipeError, refuse_empty
from cook.core.progress import Progress, no_progress
from cook.core.records import REASON_WORDS
from cook.encode import unknown_characters
from cook.read.lines import SUFFIXES
from cook.store import kinds, manifest
from cook.store.dataset_card import is_own_card
from cook.store.kinds import SKIPPED_NAME
from cook.store.outputs import cooked_folders, read_cooked
from cook.store.replace import check_output_file
from cook.views import plots
from cook.views.counts import LengthCounts, OutputCounts, Sampled, count_output
from cook.views.outputs import Output, find_outputs
from cook.views.parts import Example, SequenceDecoder, TextPart
from cook.views.visible import Piece, abbreviated, one_line, visible_pieces

SAMPLE_BYTES = 1_200_000  # about, of the text of all samples of a page
GENERATOR = "cook report"  # in <meta name="generator">; cook replaces only files that have it
HEAD_CHARS, TAIL_CHARS = 4_500, 1_000  # letters that are kept of a longer part
MAX_SKIPPED_ROWS = 10  # rows of skipped.jsonl that are shown


@dataclasses.dataclass(frozen=True)
class Reported:
    """A page that was written."""

    page: Path
    bytes: int
    datasets: tuple[str, ...]
    samples: int
    """The number of sample sequences in it."""


class Plot(NamedTuple):
    """A plot with its caption. `svg` is Markup."""

    svg: Any
    caption: str


class TextRun(NamedTuple):
    """A stretch of an example's text, with its marks."""

    special: bool
    pieces: list[Piece]


class Block(NamedTuple):
    """Successive runs of an example that are all trained, or all context."""

    trained: bool
    runs: list[TextRun]


class ExampleView(NamedTuple):
    """An example as the page shows it."""

    place: str
    tokens: int
    trained_tokens: int
    blocks: list[Block]
    goes_on: bool
    cut: bool

    @property
    def size(self) -> int:
        """The bytes that its text takes on the page, about."""
        return sum(len(p.text.encode(errors="replace")) + 16 for b in self.blocks for r in b.runs for p in r.pieces)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sequence as the page shows it."""

    name: str
    split: str
    number: int
    tokens: int
    trained: int
    examples: list[ExampleView]
    left: int
    """The number of examples at its end that are not shown because the page would be too long."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The part of the page on one dataset or mix."""

    output: Output
    name: str
    counts: dict[str, Any]
    figures: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    plots: list[Plot]
    left: list[tuple[str, str, int]]
    """What was left out: (entries, lines or pairs; the reason; how many)."""
    skipped: list[dict[str, Any]]
    """The first rows of skipped.jsonl."""
    samples: list[Sample]
    pairs_note: str
    """Why there is no plot of pairs per entry; empty if there is one."""
    unknown_note: str
    """The characters that the tokenizer lacks; empty if it lacks none."""


def report(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str] = "report.html",
    *,
    samples: int = 12,
    seed: int = 0,
    tokenizer: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Reported:
    """Write a page on a dataset, a mix, or the datasets of a ROOT.

    The page replaces an older page at `to`, and with `overwrite` another file, but never a link, or a file of a source
    or of an output. `seed` draws `samples` sequences of each dataset. If `samples` is 0, no tokenizer is needed and
    pairs per entry are not counted. All files are checked by their sha256.

    Raises RecipeError for settings, OutputError for what cannot be read or written, OutputExists, TokenizerError, and
    CookError if Jinja is not installed (the extra `report`).
    """
    refuse_empty(path=path, to=to, tokenizer=tokenizer)
    plots.require_libraries()
    if samples < 0:
        raise RecipeError(f"samples: must be 0 or more (it is {samples})")
    _refuse_existing(Path(to), overwrite)
    found = find_outputs(Path(path), "report")
    shown = [each for each in found if not each.mixed] or found  # a ROOT's mixes repeat the sequences of its datasets
    sections = list(_sections(shown, samples, seed, tokenizer, progress or no_progress))
    also = [each.name for each in found if each not in shown]
    read = {each.folder for each in found}
    others = [folder.name for folder in cooked_folders(Path(path)) if folder not in read]
    document = _render_page(Path(path).resolve().name, sections, also, others).encode("utf-8", "xmlcharrefreplace")
    _refuse_existing(Path(to), overwrite)  # again: counting takes a while
    owned.replace_atomically(Path(to), document)
    return Reported(
        Path(to), len(document), tuple(each.name for each in sections), sum(len(s.samples) for s in sections)
    )


def _sections(
    shown: list[Output], samples: int, seed: int, tokenizer: str | None, progress: Progress
) -> Iterator[Section]:
    """The section of each output. Outputs of one tokenizer share a decoder."""
    readers: dict[str, SequenceDecoder] = {}
    for output in shown:
        read_cooked(output.folder)
        recorded = output.manifest["tokenizer"]
        key = repr(sorted((name, value) for name, value in recorded.items() if name != "special_ids"))
        if samples and key not in readers:
            readers[key] = SequenceDecoder(recorded, tokenizer)
        reader = readers.get(key)
        counts = count_output(output, reader, samples, seed, progress)
        yield _build_section(output, counts, reader, SAMPLE_BYTES // len(shown))


def _refuse_existing(to: Path, overwrite: bool) -> None:
    """Raise OutputExists if `to` is there and a page may not replace it."""
    if not check_output_file(to, "a page") or _is_page(to):
        return
    if (
        to.name.endswith((*SUFFIXES, ".parquet"))
        or manifest.read_sealed(Path(f"{to}{kinds.SIDECAR_SUFFIX}")) is not None
    ):
        raise OutputExists(f"{to}: is a file of data, which a page does not replace; name another file")
    if is_own_card(to):
        raise OutputExists(f"{to}: is the card of an output, which a page does not replace; name another file")
    if not overwrite:
        raise OutputExists(f"{to}: exists, and is not a page of cook; name another file, or pass --overwrite")


def _is_page(to: Path) -> bool:
    try:
        with to.open("rb") as file:
            head = file.read(1000)
    except OSError as exc:
        raise OutputError(f"{to}: cannot be read: {exc.strerror or exc}") from exc
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in head


def _build_section(output: Output, tallied: OutputCounts, reader: SequenceDecoder | None, room: int) -> Section:
    counts, fields = output.manifest["counts"], output.manifest
    tokens, sequences = counts["tokens"], counts["sequences"]
    if output.mixed:
        full = sum(given["given"]["sequences"] * output.max_length(name) for name, given in fields["datasets"].items())
    else:
        full = sequences * output.max_length(output.name)
    counts = {"examples": tallied.example_tokens.total, **counts}
    made = Section(
        output=output,
        name=output.name,
        counts=counts | {"trained_share": counts["trained_tokens"] / tokens, "utilisation": tokens / full},
        figures=[],
        settings=[*_corpus_rows(counts), *_settings(fields)],
        plots=list(_plots(output, tallied)),
        left=list(_left_out_counts(counts)),
        skipped=list(itertools.islice(_read_skipped(output), MAX_SKIPPED_ROWS)),
        samples=list(_samples(output, tallied.sample, reader, room)) if reader else [],
        pairs_note=_pairs_note(output, tallied, reader),
        unknown_note=unknown_characters.describe(counts["unknown"]) if counts.get("unknown") else "",
    )
    made.figures.extend(_figures(made.counts))
    return made


def _pairs_note(output: Output, tallied: OutputCounts, reader: SequenceDecoder | None) -> str:
    if tallied.pairs_per_entry is not None:
        return ""
    if output.mixed:
        return "The pages of the datasets of this mix show pairs per entry."
    if reader is None:
        return "Pairs per entry were not counted: counting them needs the tokenizer, which --samples 0 does not load."
    if output.is_corpus(output.name):
        return "Pairs per entry are not counted: the texts of a corpus do not mark them."
    return "Pairs per entry cannot be counted: the templates put only white space between pairs."


def _figures(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("entries", "pairs", "examples", "sequences", "tokens"):
        if name in counts:
            yield name, f"{counts[name]:,}"
    yield "trained", f"{counts['trained_share']:.1%}"
    yield "full", f"{counts['utilisation']:.1%}"


def _corpus_rows(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The counts of a corpus: texts, modes, kinds of pairs, options, chains."""
    for name in ("texts", "context_after"):
        if name in counts:
            yield name.replace("_", " "), f"{counts[name]:,}"
    for name in ("modes", "kinds", "options", "chains"):
        if counts.get(name):
            yield name, ", ".join(f"{key} {count:,}" for key, count in counts[name].items())


def _settings(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Source, tokenizer, recipe and versions, as in the manifest."""
    tokenizer = fields["tokenizer"]
    source = fields.get("source") or {}
    if source:
        yield "source", ", ".join(f"{name} {value}" for name, value in sorted(source.items()))
    yield "tokenizer", f"{tokenizer['name']}, BOS {tokenizer['bos'] or 'none'}, EOS {tokenizer['eos']}"
    for name, value in (fields.get("recipe") or fields.get("mix") or {}).items():
        yield name.replace("_", " "), value if isinstance(value, str) else orjson.dumps(value).decode()
    yield "versions", ", ".join(f"{name} {version}" for name, version in sorted(fields.get("versions", {}).items()))


def _left_out_counts(counts: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    for kind in ("entries", "pairs"):
        for reason, count in counts.get(f"skipped_{kind}", {}).items():
            yield "lines" if reason == "bad_line" else kind, REASON_WORDS.get(reason, reason), count


def _read_skipped(output: Output) -> Iterator[dict[str, Any]]:
    path = output.folder / SKIPPED_NAME
    if any(row["name"] == SKIPPED_NAME for row in output.manifest["outputs"]):
        try:
            with path.open("rb") as file:
                for line in file:
                    row = orjson.loads(line)
                    yield row | {"why": REASON_WORDS.get(row["reason"], row["reason"])}
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise OutputError(f"{path}: cannot be read: {exc}") from exc


def _plots(output: Output, tallied: OutputCounts) -> Iterator[Plot]:
    name = output.name
    for lengths, what, x, y in (
        (tallied.example_tokens, "Length of examples", "tokens", "examples"),
        (tallied.sequence_tokens, "Length of sequences", "tokens", "sequences"),
        (tallied.examples_per_sequence, "Examples per sequence", "examples", "sequences"),
        (tallied.pairs_per_entry, "Pairs per entry", "pairs", "entries"),
        (tallied.trained_percent, "Trained share of sequences", "% of tokens trained", "sequences"),
    ):
        if lengths is None or not lengths.total:
            continue
        caption = f"{what}: {_length_summary(lengths, '%' if x.startswith('%') else '')}"
        if what == "Length of sequences" and not output.mixed:
            caption += f"; at most {output.max_length(name):,} are allowed"
        if what == "Pairs per entry" and tallied.entries < output.manifest["counts"]["entries"]:
            caption += f" (of {tallied.entries:,} entries)"
        yield Plot(plots.histogram(lengths, f"{name}: {caption}", x, y, percent=x.startswith("%")), caption)


def _length_summary(lengths: LengthCounts, unit: str) -> str:
    low, middle, high = (f"{lengths.quantile(share):,}{unit}" for share in (0.0, 0.5, 1.0))
    return f"{low} to {high}, median {middle}, mean {lengths.mean:,.1f}{unit}"


def _overview(sections: list[Section]) -> Iterator[Plot]:
    """Plots that compare datasets: of a ROOT, or of a mix."""
    if len(sections) > 1:
        names = [each.name for each in sections]
        counts = [each.counts for each in sections]
    elif sections[0].output.mixed:
        datasets = sections[0].output.manifest["datasets"]
        names, counts = list(datasets), [each["given"] for each in datasets.values()]
    else:
        return
    trained = [row["trained_tokens"] for row in counts]
    rest = [row["tokens"] - row["trained_tokens"] for row in counts]
    caption = "Tokens by dataset: trained, then the rest"
    yield Plot(plots.bar_chart(names, {"trained": trained, "context": rest}, caption, "tokens"), caption)
    caption = "Trained share of tokens"
    shares = [row["trained_tokens"] / max(1, row["tokens"]) for row in counts]
    yield Plot(plots.bar_chart(names, {"trained": shares}, caption, "", "{:.0%}"), caption)
    if "utilisation" in counts[0]:
        caption = "Utilisation: how full sequences are"
        used = [row["utilisation"] for row in counts]
        yield Plot(plots.bar_chart(names, {"plain": used}, caption, "", "{:.0%}"), caption)


def _left_out_plots(sections: list[Section]) -> Iterator[Plot]:
    """Plots of the entries and pairs that were left out, by reason, over all sections."""
    for kind in ("entries", "pairs"):
        sums: dict[str, int] = {}
        for section in sections:
            for of, why, count in section.left:
                if of == kind or (of == "lines" and kind == "entries"):
                    sums[why] = sums.get(why, 0) + count
        if sums:
            caption = f"{kind.capitalize()} left out: {sum(sums.values()):,}"
            yield Plot(plots.bar_chart(list(sums), {"plain": list(sums.values())}, caption, kind), caption)


def _samples(output: Output, sample: list[Sampled], reader: SequenceDecoder, room: int) -> Iterator[Sample]:
    """The first sample, and as many more as fit into about `room` bytes."""
    each = max(20_000, room // max(1, len(sample)))
    for index, (split, number, sequence) in enumerate(sample):
        if index and room <= 0:
            return
        kept: list[ExampleView] = []
        used = 0
        for example in map(_example_view, reader.examples(sequence, output)):
            if kept and used + example.size > each:
                break
            kept.append(example)
            used += example.size
        left = len(sequence.seq_lengths) - len(kept)
        room -= used
        trained = int(sequence.loss_mask.sum())
        yield Sample(sequence.dataset, split, number, len(sequence.input_ids), trained, kept, left)


def _example_view(example: Example) -> ExampleView:
    by_trained = itertools.groupby(example.parts, key=lambda part: part.trained)
    blocks = [Block(trained, list(map(_text_run, parts))) for trained, parts in by_trained]
    tokens = example.end - example.begin
    return ExampleView(example.place, tokens, example.trained_tokens, blocks, example.goes_on, example.cut)


def _text_run(part: TextPart) -> TextRun:
    if part.kind == "special":
        return TextRun(True, [Piece(one_line(part.text), False)])
    return TextRun(False, list(abbreviated(part.text, HEAD_CHARS, TAIL_CHARS)))


def _render_page(title: str, sections: list[Section], also: list[str], others: list[str]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__)
    template, style, script = (here.with_name(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"pieces": _list_pieces, "one_line": one_line, "grouped": "{:,}".format}
    totals = {
        name: sum(each.counts.get(name, 0) for each in sections)
        for name in ("entries", "pairs", "examples", "sequences", "tokens", "trained_tokens")
    }
    made: str = environment.from_string(template).render(
        title=title,
        mark=GENERATOR,
        policy=f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - the package's own
        script=Markup(script),  # noqa: S704 - the package's own
        sections=sections,
        also=also,
        others=others,
        totals=totals,
        overview=list(_overview(sections)),
        left_out=list(_left_out_plots(sections)),
        samples=[sample for section in sections for sample in section.samples],
    )
    return made.lstrip()


def _list_pieces(text: str) -> list[Piece]:
    return list(visible_pieces(text))
