"""A sequence printed by rich. Trained text has a colour, and a mark before each line, so it shows in a pipe too.

▌ trained text          also before each line that is folded to the terminal's width
  context
⟦<|end_of_text|>⟧       a special token; text of the data never holds ⟦…⟧
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import IO

from rich.console import Console
from rich.text import Text

from cook.views.parts import Example, TextPart, Token
from cook.views.showing import Shown
from cook.views.visible import CLOSE, OPEN, abbreviated, is_right_to_left, one_line, visible_pieces

STYLES = {"context": "cyan", "trained": "bold green", "special": "reverse", "mark": "magenta", "rule": "bold"}
TRAINED_MARK, CONTEXT_MARK = "▌ ", "  "
ASCII_SIGNS = str.maketrans({"▌": ">", "─": "-", "·": "-", "…": "~", "⟦": "[", "⟧": "]", "␣": "_", "⇥": ">", "↵": "$"})
HEAD_CHARS, TAIL_CHARS = 1_200, 400  # letters that are kept of a longer part
HEAD_TOKENS, TAIL_TOKENS = 100, 20  # tokens that are kept of a longer part
LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"


def write_sequence(
    shown: Shown, file: IO[str], *, tokens: bool = False, full: bool = False, width: int | None = None
) -> None:
    """Print a sequence; the middle of long parts is left out unless `full`. Lines are folded only in a terminal."""
    _Writer(shown, file, full, width).write(tokens)


class _Writer:
    def __init__(self, shown: Shown, file: IO[str], full: bool, width: int | None) -> None:
        self.shown, self.full = shown, full
        self.console = Console(file=file, highlight=False, markup=False, emoji=False, width=width)
        self.wraps_lines = self.console.is_terminal or width is not None
        self.ascii_only = not self.console.encoding.lower().startswith("utf")

    def write(self, tokens: bool) -> None:
        self._print_heading()
        for number, example in enumerate(self.shown.examples, 1):
            self._print_rule(number, example)
            if tokens:
                self._print_tokens(example)
            else:
                for line, trained in _lines(example, self.full):
                    self._print_line(line, trained)

    def _print_heading(self) -> None:
        shown, row = self.shown, self.shown.sequence
        length, trained = len(row.input_ids), int(row.loss_mask.sum())
        inside = f"{shown.output.name}: " if shown.output.mixed else ""
        facts = [
            f"{inside}{row.dataset}",
            shown.split,
            f"sequence {shown.number:,} (of 0 to {shown.sequences - 1:,})",
            f"{len(shown.examples):,} {'example' if len(shown.examples) == 1 else 'examples'}",
            f"{length:,} of at most {shown.output.max_length(row.dataset):,} tokens",
            f"{trained:,} trained ({trained / length:.1%})",
        ]
        if shown.seed is not None:
            facts.append(f"drawn by --seed {shown.seed}")
        self._print(Text(one_line(" · ".join(facts)), STYLES["rule"]), wraps=True)
        legend = (
            Text(CONTEXT_MARK)
            .append("context", STYLES["context"])
            .append("   ")
            .append(TRAINED_MARK, STYLES["trained"])
        )
        legend.append("trained", STYLES["trained"]).append("   ").append(
            f"{OPEN}special token{CLOSE}", STYLES["special"]
        )
        legend.append("   ").append("␣ ⇥ ↵", STYLES["mark"]).append(" space, tab, newline")
        self._print(legend, wraps=True)

    def _print_rule(self, number: int, example: Example) -> None:
        heading = f"── example {number:,} ── {one_line(example.place)} ── {example.end - example.begin:,} tokens, "
        heading += f"{example.trained_tokens:,} trained "
        heading += "── goes on with its text " if example.goes_on else ""
        heading += "── cut: goes on in another piece " if example.cut else ""
        rest = self.console.width - len(heading) if self.wraps_lines else 3
        self._print(Text(heading + "─" * max(3, rest), STYLES["rule"]), wraps=True)

    def _print_tokens(self, example: Example) -> None:
        wide = max(len(f"{example.end:,}"), 2)
        self._print(Text(f"  {'at':>{wide}} {'id':>8} mask  text", "dim"))
        for part in example.parts:
            for at, token in self._some_tokens(part):
                if token is None:
                    self._print_line(Text(at, STYLES["mark"]), part.trained)
                    continue
                line = Text(f"{at:>{wide}} {token.id:>8} {token.mask:>4}  ")
                self._print_line(line.append_text(_token_text(token, part)), bool(token.mask))

    def _some_tokens(self, part: TextPart) -> Iterator[tuple[str, Token | None]]:
        """The tokens of a part with their places; (a note, None) where tokens are left out."""
        begin, end = part.begin, part.end
        ranges = [(begin, end)]
        if not self.full and end - begin > HEAD_TOKENS + TAIL_TOKENS:
            ranges = [(begin, begin + HEAD_TOKENS), (end - TAIL_TOKENS, end)]
        for index, (first, last) in enumerate(ranges):
            if index:
                yield f"{OPEN}… {first - ranges[0][1]:,} tokens left out: --full …{CLOSE}", None
            tokens = self.shown.reader.tokens(self.shown.sequence, first, last)
            yield from zip((f"{at:,}" for at in itertools.count(first)), tokens, strict=False)

    def _print_line(self, line: Text, trained: bool) -> None:
        """Print a line after its mark, folded to the terminal's width; each folded line has the mark."""
        wrapped: Iterable[Text] = [line]
        if self.wraps_lines:
            wrapped = line.wrap(self.console, max(8, self.console.width - len(TRAINED_MARK)), overflow="fold") or [line]
        for each in wrapped:
            turns = self.console.is_terminal and is_right_to_left(each.plain)
            lead = Text(LEFT_TO_RIGHT if turns else "")
            lead.append(TRAINED_MARK if trained else CONTEXT_MARK, STYLES["trained"] if trained else "")
            self._print(lead.append(LEFT_TO_RIGHT if turns else "").append_text(each))

    def _print(self, text: Text, wraps: bool = False) -> None:
        if self.ascii_only:
            signs = text.plain.translate(ASCII_SIGNS).encode(self.console.encoding, "backslashreplace")
            self.console.print(signs.decode(self.console.encoding), soft_wrap=True)
        else:
            self.console.print(text, soft_wrap=not (wraps and self.wraps_lines))


def _lines(example: Example, full: bool) -> Iterator[tuple[Text, bool]]:
    """The lines of an example in colours, and whether each is trained."""
    for trained, parts in itertools.groupby(example.parts, key=lambda part: part.trained):
        line = Text()
        for part in parts:
            for text, style in _styled_text(part, full):
                first, *more = text.split("\n")
                line.append(first, style)
                for each in more:
                    yield line, trained
                    line = Text(each, style)
        if line:
            yield line, trained


def _styled_text(part: TextPart, full: bool) -> Iterator[tuple[str, str]]:
    """The text of a part in stretches of one style; the middle of a long part is left out unless `full`."""
    if part.kind == "special":
        yield f"{OPEN}{one_line(part.text)}{CLOSE}", STYLES["special"]
        return
    head, tail = (len(part.text), 0) if full else (HEAD_CHARS, TAIL_CHARS)
    for piece in abbreviated(part.text, head, tail, ": --full"):
        yield piece.text, STYLES["mark" if piece.mark else part.kind]


def _token_text(token: Token, part: TextPart) -> Text:
    if token.special:
        return Text(f"{OPEN}{one_line(token.text)}{CLOSE}", STYLES["special"])
    text = Text()
    for piece in visible_pieces(token.text):
        text.append(piece.text.removesuffix("\n"), STYLES["mark" if piece.mark else part.kind])
    if token.added:
        text.append(f"{OPEN}added token{CLOSE}", STYLES["mark"])
    return text
