"""A text of a corpus, in a terminal or a pipe: all of it is trained, so what is told apart is only what is not seen."""

from __future__ import annotations

import dataclasses
import itertools
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from cook.core.errors import OutputError, SourceError
from cook.core.files import sha256_of
from cook.corpora.text_files import read_text_rows
from cook.views.outputs import Output
from cook.views.visible import abbreviated, one_line

STYLES = {"rule": "bold", "mark": "magenta", "text": ""}
HEAD_CHARS, TAIL_CHARS = 4_000, 1_000  # letters that stay of a text that has more


@dataclasses.dataclass(frozen=True)
class ShownText:
    """A text, and how it came about."""

    output: Output
    split: str
    number: int
    """In its split, from 0."""
    texts: int
    seed: int | None
    row: dict[str, Any]

    @property
    def place(self) -> str:
        """Where its first entry came from: FILE:LINE."""
        return self.output.source_location(self.output.name, self.row["source_shard"], self.row["source_line"])

    def as_dict(self, tokens: bool = False) -> dict[str, Any]:  # noqa: ARG002 - a text has none
        """For machines."""
        return {
            "dataset": self.output.name,
            "folder": str(self.output.folder),
            "split": self.split,
            "text_number": self.number,
            "texts": self.texts,
            "seed": self.seed,
            "source": self.place,
            **{name: self.row[name] for name in ("mode", "context_after", "entries", "text")},
        }

    def write(self, file: IO[str], full: bool) -> None:
        """Print it."""
        console = Console(file=file, highlight=False, markup=False, emoji=False)
        after = ", context after the pairs" if self.row["context_after"] else ""
        entries = f", of {self.row['entries']:,} entries" if self.row["entries"] > 1 else ""
        facts = [
            self.output.name,
            self.split,
            f"text {self.number:,} (of 0 to {self.texts - 1:,})",
            self.place,
            f"{self.row['mode']}{after}{entries}",
            f"{len(self.row['text']):,} letters",
            *([f"drawn by --seed {self.seed}"] if self.seed is not None else []),
        ]
        lines = Text(one_line(" · ".join(facts)) + "\n", STYLES["rule"])
        text = self.row["text"]
        for piece in abbreviated(text, *((len(text), 0) if full else (HEAD_CHARS, TAIL_CHARS)), ": --full"):
            lines.append(piece.text, STYLES["mark" if piece.mark else "text"])
        if console.encoding.lower().startswith("utf"):
            console.print(lines, soft_wrap=True)
        else:
            plain = lines.plain.encode(console.encoding, "backslashreplace").decode(console.encoding)
            console.print(plain, soft_wrap=True)


def read_text(output: Output, split: str, number: int, seed: int | None) -> ShownText:
    """A text by its number in its split. Raises OutputError."""
    before = 0
    for file in output.files(split):
        path = output.folder / file["name"]
        if number >= before + file["rows"]:
            before += file["rows"]
            continue
        try:
            if sha256_of(path) != file["sha256"]:
                raise OutputError(f"{path}: is damaged: its sha256 is not the one in its manifest")
        except (OSError, SourceError) as exc:
            raise OutputError(f"{path}: cannot be read: {exc}") from exc
        row = next(itertools.islice(read_text_rows(path), number - before, None), None)
        try:
            shown = ShownText(output, split, number, output.sequences(split), seed, row or {})
            shown.as_dict()
        except (KeyError, TypeError) as exc:
            raise OutputError(f"{path}: holds rows that cook does not write; `cook verify` says what is wrong") from exc
        return shown
    raise OutputError(f"{output.folder}: {split} has no text {number:,}; it has {before:,}, from 0")
