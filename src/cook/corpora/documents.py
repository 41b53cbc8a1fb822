"""A part of a shard -> the passages of its texts, chains joined.

An entry whose `inherit_from_prev` is true goes on where the line before it in its shard ends: its pairs were made with
that one's text and pairs before them (M-shot), and both are one text. Such a chain is read by the part that its first
line is in, however far it goes; so parts, and who reads them, change no text. `followed_by_next`, on the line before,
says the same from the other side; the two must not contradict one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson

from cook.core.errors import Problem
from cook.core.recipe import Recipe
from cook.core.records import BAD_LINE, EXAMPLE_POSITION_DTYPE, NO_PAIRS, SKIPPED_ROW_DTYPE
from cook.corpora.render import Passage, Rendered, Renderer
from cook.encode.parts import EncodedPart, record_bad_line
from cook.read.lines import ByteRange, Line, LineReader
from cook.shapes.context_qa import Entry, parse_entry

INHERITS, FOLLOWED = "inherit_from_prev", "followed_by_next"
CHAIN_KEYS = INHERITS.encode(), FOLLOWED.encode()


class Document(NamedTuple):
    """The passages of one text."""

    line: int  # of its first entry, counted from the start of the part
    passages: list[Passage]


def count_text(counter: Counter[tuple[str, str]], rendered: Rendered, passages: int) -> None:
    """Add a text to the counts; keys are (group, name), as ("modes", "classic")."""
    counter["texts", ""] += 1
    counter["after", ""] += rendered.context_after
    counter["modes", rendered.mode] += 1
    if passages > 1:
        counter["chains", "texts"] += 1
        counter["chains", "entries"] += passages
    for kind, count in rendered.kinds.items():
        counter["kinds", kind] += count
    for reason, count in rendered.options.items():
        counter["options", reason] += count


def empty_part() -> EncodedPart:
    """The result for a part of a corpus before it is read."""
    nothing = np.empty(0, EXAMPLE_POSITION_DTYPE)
    return EncodedPart(nothing, nothing, np.empty(0, SKIPPED_ROW_DTYPE))


def corpus_counts(parts: Iterable[Any]) -> dict[str, Any]:
    """The counts of a manifest: texts, those with the context after the pairs, modes, kinds, options, chains."""
    totals: Counter[tuple[str, str]] = Counter()
    for part in parts:
        totals.update(part.extra)
    groups: dict[str, Any] = {"texts": totals["texts", ""], "context_after": totals["after", ""]}
    for group in ("modes", "kinds", "options", "chains"):
        groups[group] = {name: count for (of, name), count in sorted(totals.items()) if of == group and count}
    return groups


class PartInput(NamedTuple):
    """A part of a shard, the most entries to read, and a function that is called with the texts of each entry."""

    recipe: Recipe
    part: ByteRange
    limit: int | None
    on_entry: Callable[[list[str]], None] | None = None


def read_documents(part_input: PartInput, result: EncodedPart) -> Iterator[Document]:
    """The texts that begin in a part. Counts and what is left out are added to `result`."""
    reading = _ChainReader(part_input, result)
    reader = LineReader(part_input.part)
    yield from reading.read_part(reader)
    result.lines = reader.lines
    if reading.started and part_input.part.end is not None:
        yield from reading.read_continuation(
            LineReader(ByteRange(part_input.part.path, part_input.part.end, None)), reader.lines
        )
    if reading.open_document is not None:
        yield reading.open_document
    rows = np.array(reading.skipped, SKIPPED_ROW_DTYPE)
    result.skipped = rows[np.argsort(rows["line"], kind="stable")]


class _ChainReader:
    """The state between the lines of a part."""

    def __init__(self, source: PartInput, result: EncodedPart) -> None:
        self.part_input, self.result = source, result
        self.skipped: list[tuple[int, int, int, int, int]] = []
        self.open_document: Document | None = None
        """The text that the next line may continue."""
        self.started = source.part.start == 0
        """Whether a text may begin: until one does, lines are of a chain that the part before has."""
        self.at_shard_start = source.part.start == 0
        """Whether the next line is the first of its shard."""
        self.chain_ended = False
        """Whether the line before says that it is not followed."""

    def read_part(self, reader: LineReader) -> Iterator[Document]:
        """Read the lines of the part itself."""
        result = self.result
        for line in reader:
            if result.entries == self.part_input.limit:
                return
            result.entries += 1
            entry, inherits, followed = _read_entry(self.part_input, line)
            if isinstance(entry, list):
                self._skip_bad_line(entry)
                yield from self._close_document()
                continue
            if self.part_input.on_entry is not None and isinstance(line, Line):
                self.part_input.on_entry(entry.texts)
            result.units += len(entry.pairs) + len(entry.left_out)
            for pair_index, reason in entry.left_out:
                self.skipped.append((entry.line, pair_index, reason, 1, 0))
            if self.started or not inherits:
                yield from self._add_entry(entry, inherits, followed)

    def read_continuation(self, reader: LineReader, lines: int) -> Iterator[Document]:
        """Read lines after the part while they continue a chain; `lines` is the number of lines of the part."""
        count = self.result.entries
        for line in reader:
            entry, inherits, followed = _read_entry(self.part_input, line)
            if count == self.part_input.limit or isinstance(entry, list) or not inherits:
                return
            count += 1
            yield from self._add_entry(entry._replace(line=lines + entry.line), inherits, followed)

    def _add_entry(self, entry: Entry, inherits: bool, followed: bool | None) -> Iterator[Document]:
        """Add an entry to the open text, or begin another text."""
        wrong = self._chain_problem(entry, inherits)
        if wrong is not None or not (entry.pairs or entry.context.strip()):
            if wrong is not None:
                self._skip_bad_line([wrong])
            else:
                self.skipped.append((entry.line, -1, NO_PAIRS, 0, 0))
            yield from self._close_document()
            return
        broken = inherits and self.open_document is None  # the line before is left out
        self.started, self.at_shard_start, self.chain_ended = True, False, followed is False
        passage = Passage(entry.context, entry.pairs)
        if inherits and self.open_document is not None:
            self.open_document.passages.append(passage)
            return
        self.result.extra["chains", "broken"] += broken
        if self.open_document is not None:
            yield self.open_document
        self.open_document = Document(entry.line, [passage])

    def _chain_problem(self, entry: Entry, inherits: bool) -> Problem | None:
        """The contradiction between a line and the one before it, if there is one."""
        place = self.part_input.part.path, entry.line, INHERITS
        if inherits and self.at_shard_start:
            return Problem(*place, "is true on the first line of a shard, which has none before it")
        if inherits and self.chain_ended:
            return Problem(*place, f"is true, but {FOLLOWED} is false on the line before")
        return None

    def _skip_bad_line(self, problems: list[Problem]) -> None:
        record_bad_line(self.part_input.recipe, problems, self.result)
        self.skipped.append((problems[0].line, -1, BAD_LINE, 0, 0))

    def _close_document(self) -> Iterator[Document]:
        """End the open text after a line that is left out."""
        if self.open_document is not None:
            yield self.open_document
        self.open_document, self.started, self.at_shard_start, self.chain_ended = None, True, False, False


def _read_entry(source: PartInput, line: Line | Problem) -> tuple[Entry | list[Problem], bool, bool | None]:
    """The entry on a line, whether it inherits, and whether it says to be followed."""
    if isinstance(line, Problem):
        return [line], False, None
    entry = parse_entry(source.part.path, line, source.recipe.fields)
    if isinstance(entry, list) or not any(key in line.text for key in CHAIN_KEYS):
        return entry, False, None
    row = orjson.loads(line.text)
    wrong = [
        Problem(source.part.path, line.number, name, "must be true or false")
        for name in (INHERITS, FOLLOWED)
        if not isinstance(row.get(name, False), bool)
    ]
    return (wrong or entry), row.get(INHERITS, False), row.get(FOLLOWED)


class TextBatches:
    """Renders the texts of a part in batches of some bytes."""

    def __init__(self, renderer: Renderer, result: EncodedPart, batch: int) -> None:
        self.renderer, self.result, self.batch_chars = renderer, result, batch

    def render_batches(self, source: PartInput) -> Iterator[tuple[list[Document], list[Rendered]]]:
        """Documents and their texts."""
        read: list[Document] = []
        made: list[Rendered] = []
        size = 0
        for document in read_documents(source, self.result):
            text = self.renderer.render(document.passages)
            count_text(self.result.extra, text, len(document.passages))
            read.append(document)
            made.append(text)
            size += len(text.text)
            if size >= self.batch_chars:
                yield read, made
                read, made, size = [], [], 0
        if read:
            yield read, made
