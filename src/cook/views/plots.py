"""Counts -> plots as SVG. This module computes the geometry, in points; the template `plot.svg` draws it.

Colours are names that the page gives values to: `ink`, `grid`, `trained`, `context`, `plain`.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cook.core.errors import CookError, install_hint
from cook.views.counts import LengthCounts
from cook.views.visible import one_line

MAX_BINS = 48
WIDTH, HEIGHT = 252, 137  # of a histogram
TOP, RIGHT, BOTTOM = 6, 14, 26  # margins around the bars
MIN_STEP, MIN_BARS_HEIGHT = 16, 30  # of a bar chart: from bar to bar, and all bars together
CHAR_WIDTH, WIDE_CHAR_WIDTH = 4.7, 8.0  # estimates for the page's font at 8 points
MAX_NAME_CHARS = 26


class Label(NamedTuple):
    """A text of a plot, at its baseline. `anchor` is start, middle or end."""

    x: float
    y: float
    anchor: str
    text: str


def require_libraries() -> None:
    """Raise CookError if Jinja, which draws plots and pages, is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError as exc:
        raise CookError(f"a report needs Jinja, which is not installed ({exc}): {install_hint('report')}") from exc


def histogram(lengths: LengthCounts, title: str, x: str, y: str, percent: bool = False) -> Any:
    """The SVG of how often numbers occur, in at most MAX_BINS bins of one width, as Markup."""
    present = np.flatnonzero(lengths.counts)
    first, last = int(present[0]), int(present[-1])
    width = -(-(last - first + 1) // MAX_BINS)
    starts = np.arange(first, last + 1, width)
    amounts = np.add.reduceat(lengths.counts[first : last + 1], starts - first)
    edges = np.append(starts, starts[-1] + width) - (0 if percent or width > 1 else 0.5)
    most, bottom = 1.05 * float(amounts.max()), HEIGHT - BOTTOM
    rows = [(value, f"{value:,.0f}") for value in _ticks(0, most)]
    left = 16 + max(_text_width(text) for _, text in rows)
    across = np.interp(edges, (edges[0], edges[-1]), (left, WIDTH - RIGHT)).tolist()
    up = np.interp(amounts, (0, most), (bottom, TOP)).tolist()
    labels, grid = [], ""
    for value, text in rows:
        place = float(np.interp(value, (0, most), (bottom, TOP)))
        labels.append(Label(left - 3, round(place + 3, 1), "end", text))
        grid += f"M{left:g} {place:.1f}H{WIDTH - RIGHT}"
    for value in _ticks(edges[0], edges[-1]):
        place = float(np.interp(value, (edges[0], edges[-1]), (left, WIDTH - RIGHT)))
        labels.append(Label(round(place, 1), bottom + 10, "middle", f"{value:,.0f}"))
    labels.append(Label((left + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", x))
    bars = "".join(
        _rectangle(begin, top, end - begin, bottom - top)
        for begin, end, top in zip(across, across[1:], up, strict=False)
    )
    return _draw(title, HEIGHT, {"plain": bars}, grid, labels, y)


def bar_chart(
    names: Sequence[str], parts: dict[str, Sequence[float]], title: str, x: str, form: str = "{:,.0f}"
) -> Any:
    """The SVG of a bar for each name, as Markup. `parts` are stacked; the key of a part is its colour."""
    shown = [name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "…" for name in names]
    step = max(MIN_STEP, MIN_BARS_HEIGHT / len(names))
    height = TOP + step * len(names) + BOTTOM
    left, bottom = 6 + max(map(_text_width, shown)), height - BOTTOM
    most = 1.05 * max(map(sum, zip(*parts.values(), strict=True))) or 1.0
    scale = (WIDTH - RIGHT - left) / most
    labels = [Label(left - 4, TOP + step * (row + 0.5) + 3, "end", name) for row, name in enumerate(shown)]
    labels.append(Label((left + WIDTH - RIGHT) / 2, height - 4, "middle", x))
    grid = ""
    for value in _ticks(0, most, 5, whole=form.endswith(",.0f}")):
        labels.append(Label(round(left + scale * value, 1), bottom + 10, "middle", form.format(value)))
        grid += f"M{left + scale * value:.1f} {TOP}V{bottom}"
    shapes, begins = {}, [left] * len(names)
    for colour, amounts in parts.items():
        rows = enumerate(zip(begins, amounts, strict=True))
        shapes[colour] = "".join(
            _rectangle(begin, TOP + step * (row + 0.15), scale * amount, 0.7 * step) for row, (begin, amount) in rows
        )
        begins = [begin + scale * amount for begin, amount in zip(begins, amounts, strict=True)]
    return _draw(title, height, shapes, grid, labels)


def _ticks(low: float, high: float, most: int = 6, whole: bool = True) -> list[float]:
    """Round numbers from `low` to `high`, about `most` at the most; 1, 2 or 5 times a power of ten apart."""
    steps = (factor * 10.0**power for power in range(0 if whole else -6, 20) for factor in (1, 2, 5))
    step = next(step for step in steps if (high - low) / step <= most)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _text_width(text: str) -> float:
    return sum(WIDE_CHAR_WIDTH if unicodedata.east_asian_width(char) in "WF" else CHAR_WIDTH for char in text)


def _rectangle(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.2f} {y:.2f}h{width:.2f}v{height:.2f}h{-width:.2f}z"


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["one_line"] = one_line
    return environment.from_string(Path(__file__).with_name("plot.svg").read_text("utf-8"))


def _draw(title: str, height: float, shapes: dict[str, str], grid: str, labels: list[Label], y_label: str = "") -> Any:
    from markupsafe import Markup

    svg = _template().render(
        title=title, width=WIDTH, height=height, shapes=shapes, grid=grid, labels=labels, y_label=y_label
    )
    return Markup(svg)  # noqa: S704 - the template has escaped all text
