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
from cook.core.records import BAD_LINE, NO_PAIRS, PLACE, SKIPPED
from cook.corpora.render import Passage, Rendered, Renderer
from cook.encode.parts import Tokenized, bad_line
from cook.read.lines import Line, LineReader, Part
from cook.shapes.context_qa import Entry, parse

INHERITS, FOLLOWED = "inherit_from_prev", "followed_by_next"
KEYS = INHERITS.encode(), FOLLOWED.encode()


class Document(NamedTuple):
    """What one text is made of."""

    line: int  # of its first entry, counted from the start of the part
    passages: list[Passage]


def tell(told: Counter[tuple[str, str]], made: Rendered, passages: int) -> None:
    """Count how a text came about: ("modes", "classic") and so on."""
    told["texts", ""] += 1
    told["after", ""] += made.after
    told["modes", made.mode] += 1
    if passages > 1:
        told["chains", "texts"] += 1
        told["chains", "entries"] += passages
    for kind, count in made.kinds.items():
        told["kinds", kind] += count
    for reason, count in made.options.items():
        told["options", reason] += count


def no_texts() -> Tokenized:
    """What comes back from a part of a corpus, before it is read."""
    nothing = np.empty(0, PLACE)
    return Tokenized(nothing, nothing, np.empty(0, SKIPPED))


def counts(parts: Iterable[Any]) -> dict[str, Any]:
    """The counts of a manifest: texts, those with the context after the pairs, modes, kinds, options, chains."""
    told: Counter[tuple[str, str]] = Counter()
    for part in parts:
        told.update(part.extra)
    groups: dict[str, Any] = {"texts": told["texts", ""], "context_after": told["after", ""]}
    for group in ("modes", "kinds", "options", "chains"):
        groups[group] = {name: count for (of, name), count in sorted(told.items()) if of == group and count}
    return groups


class Source(NamedTuple):
    """What is read: a part of a shard, the most entries of it, and what is called with the texts of each entry."""

    recipe: Recipe
    part: Part
    limit: int | None
    look: Callable[[list[str]], None] | None = None


def documents(source: Source, result: Tokenized) -> Iterator[Document]:
    """The texts that begin in a part; what is read and left out goes into the result."""
    reading = _Reading(source, result)
    reader = LineReader(source.part)
    yield from reading.own(reader)
    result.lines = reader.lines
    if reading.begun and source.part.end is not None:
        yield from reading.beyond(LineReader(Part(source.part.path, source.part.end, None)), reader.lines)
    if reading.open is not None:
        yield reading.open
    rows = np.array(reading.skipped, SKIPPED)
    result.skipped = rows[np.argsort(rows["line"], kind="stable")]


class _Reading:
    """The state between the lines of a part."""

    def __init__(self, source: Source, result: Tokenized) -> None:
        self.source, self.result = source, result
        self.skipped: list[tuple[int, int, int, int, int]] = []
        self.open: Document | None = None
        """The text that the next line may go on with."""
        self.begun = source.part.start == 0
        """Whether a text may begin: until one does, lines are of a chain that the part before has."""
        self.first = source.part.start == 0
        """Whether the next line is the first of its shard."""
        self.closes = False
        """Whether the line before says that it is not followed."""

    def own(self, reader: LineReader) -> Iterator[Document]:
        """Lines of the part itself."""
        result = self.result
        for line in reader:
            if result.entries == self.source.limit:
                return
            result.entries += 1
            entry, inherits, followed = _read(self.source, line)
            if isinstance(entry, list):
                self._bad(entry)
                yield from self._close()
                continue
            if self.source.look is not None and isinstance(line, Line):
                self.source.look(entry.texts)
            result.units += len(entry.pairs) + len(entry.left_out)
            for at, reason in entry.left_out:
                self.skipped.append((entry.line, at, reason, 1, 0))
            if self.begun or not inherits:
                yield from self._take(entry, inherits, followed)

    def beyond(self, reader: LineReader, lines: int) -> Iterator[Document]:
        """Lines of the next parts, as long as they go on with a chain; the part itself has so many lines."""
        count = self.result.entries
        for line in reader:
            entry, inherits, followed = _read(self.source, line)
            if count == self.source.limit or isinstance(entry, list) or not inherits:
                return
            count += 1
            yield from self._take(entry._replace(line=lines + entry.line), inherits, followed)

    def _take(self, entry: Entry, inherits: bool, followed: bool | None) -> Iterator[Document]:
        """Go on with the text that is open, or begin another."""
        wrong = self._wrong(entry, inherits)
        if wrong is not None or not (entry.pairs or entry.context.strip()):
            if wrong is not None:
                self._bad([wrong])
            else:
                self.skipped.append((entry.line, -1, NO_PAIRS, 0, 0))
            yield from self._close()
            return
        broken = inherits and self.open is None  # the line before is left out
        self.begun, self.first, self.closes = True, False, followed is False
        passage = Passage(entry.context, entry.pairs)
        if inherits and self.open is not None:
            self.open.passages.append(passage)
            return
        self.result.extra["chains", "broken"] += broken
        if self.open is not None:
            yield self.open
        self.open = Document(entry.line, [passage])

    def _wrong(self, entry: Entry, inherits: bool) -> Problem | None:
        """What contradicts itself in how a line goes with the one before it."""
        place = self.source.part.path, entry.line, INHERITS
        if inherits and self.first:
            return Problem(*place, "is true on the first line of a shard, which has none before it")
        if inherits and self.closes:
            return Problem(*place, f"is true, but {FOLLOWED} is false on the line before")
        return None

    def _bad(self, problems: list[Problem]) -> None:
        bad_line(self.source.recipe, problems, self.result)
        self.skipped.append((problems[0].line, -1, BAD_LINE, 0, 0))

    def _close(self) -> Iterator[Document]:
        """After a line that is left out."""
        if self.open is not None:
            yield self.open
        self.open, self.begun, self.first, self.closes = None, True, False, False


def _read(source: Source, line: Line | Problem) -> tuple[Entry | list[Problem], bool, bool | None]:
    """The entry on a line, whether it inherits, and whether it says to be followed."""
    if isinstance(line, Problem):
        return [line], False, None
    entry = parse(source.part.path, line, source.recipe.fields)
    if isinstance(entry, list) or not any(key in line.text for key in KEYS):
        return entry, False, None
    row = orjson.loads(line.text)
    wrong = [
        Problem(source.part.path, line.number, name, "must be true or false")
        for name in (INHERITS, FOLLOWED)
        if not isinstance(row.get(name, False), bool)
    ]
    return (wrong or entry), row.get(INHERITS, False), row.get(FOLLOWED)


class Texts:
    """Renders the texts of a part in batches of some bytes."""

    def __init__(self, renderer: Renderer, result: Tokenized, batch: int) -> None:
        self.renderer, self.result, self.batch = renderer, result, batch

    def batches(self, source: Source) -> Iterator[tuple[list[Document], list[Rendered]]]:
        """Documents and their texts."""
        read: list[Document] = []
        made: list[Rendered] = []
        size = 0
        for document in documents(source, self.result):
            text = self.renderer.render(document.passages)
            tell(self.result.extra, text, len(document.passages))
            read.append(document)
            made.append(text)
            size += len(text.text)
            if size >= self.batch:
                yield read, made
                read, made, size = [], [], 0
        if read:
            yield read, made
