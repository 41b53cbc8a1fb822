"""One text of a corpus, for a terminal or as JSON. All of it is trained, so only invisible characters are marked."""

from __future__ import annotations

import dataclasses
import itertools
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from cook.core.errors import OutputError
from cook.corpora.text_files import read_text_rows
from cook.views.outputs import VERIFY_HINT, Output
from cook.views.visible import abbreviated, one_line

STYLES = {"rule": "bold", "mark": "magenta", "text": ""}
HEAD_CHARS, TAIL_CHARS = 4_000, 1_000  # letters that are kept of a longer text


@dataclasses.dataclass(frozen=True)
class ShownText:
    """A text and its row."""

    output: Output
    split: str
    number: int
    """In its split, from 0."""
    texts: int
    seed: int | None
    row: dict[str, Any]

    @property
    def place(self) -> str:
        """The source of its first entry, as FILE:LINE."""
        return self.output.source_location(self.output.name, self.row["source_shard"], self.row["source_line"])

    def as_dict(self, tokens: bool = False) -> dict[str, Any]:  # noqa: ARG002 - as Shown.as_dict
        """All of it as JSON values. A text has no tokens."""
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
        """Print the text with its facts; its middle is left out if it is long and `full` is false."""
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
    """A text by its number in its split. Raises OutputError, RecipeError."""
    path, _, index = output.find_row(split, number)
    row = next(itertools.islice(read_text_rows(path), index, None), None)
    try:
        shown = ShownText(output, split, number, output.count_rows(split), seed, row or {})
        shown.as_dict()
    except (KeyError, TypeError) as exc:
        raise OutputError(f"{path}: holds rows that cook does not write; {VERIFY_HINT}") from exc
    return shown
