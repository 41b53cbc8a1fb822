"""Plots as SVG for a page: by matplotlib, then made to follow the page's colours and to carry a title.

What a colour means is told by names that the page gives values to: `ink` for text and axes, `grid`, `trained`,
`context`, `plain`. The page's policy allows no style attributes, so those that matplotlib writes become attributes of
their own; its ids get a prefix, since a page holds many plots.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from cook.core.errors import CookError, install_hint
from cook.views.counts import LengthCounts

MAX_BINS = 48
FIGURE_INCHES = (3.5, 1.9)  # inches
COLOURS = {name: f"#0a0b0{index}" for index, name in enumerate(("ink", "grid", "trained", "context", "plain"))}
MATPLOTLIB_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cook",
    "font.size": 8,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.5,
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "figure.constrained_layout.use": True,
}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
KEPT_STYLES = frozenset(("fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
                  "text-anchor", "opacity", "fill-opacity", "stroke-opacity"))  # fmt: skip


def require_libraries() -> None:
    """Raise CookError where the libraries that draw and write pages are not installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib.style  # noqa: F401
    except ImportError as exc:
        raise CookError(
            f"a report needs Matplotlib and Jinja, which are not installed ({exc}): {install_hint('report')}"
        ) from exc


def histogram(lengths: LengthCounts, title: str, x: str, y: str, percent: bool = False) -> str:
    """How often numbers occur, in at most MAX_BINS bins of one width, as SVG."""
    present = np.flatnonzero(lengths.counts)
    first, last = int(present[0]), int(present[-1])
    width = -(-(last - first + 1) // MAX_BINS)
    starts = np.arange(first, last + 1, width)
    amounts = np.add.reduceat(lengths.counts[first : last + 1], starts - first)
    edges = np.append(starts, starts[-1] + width) - (0 if percent or width > 1 else 0.5)

    def draw(axes: Any) -> None:
        axes.stairs(amounts, edges, fill=True, color=COLOURS["plain"])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(_integer_ticks())
        axes.yaxis.set_major_locator(_integer_ticks())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:,.0f}")

    return _draw_svg(draw, title, FIGURE_INCHES)


def bar_chart(
    names: Sequence[str], parts: dict[str, Sequence[float]], title: str, x: str, form: str = "{x:,.0f}"
) -> str:
    """A bar a name, of parts that lie one after the other; the key of a part is its colour. As SVG."""

    def draw(axes: Any) -> None:
        places, begins = np.arange(len(names)), np.zeros(len(names))
        for colour, amounts in parts.items():
            axes.barh(places, amounts, 0.7, begins, color=COLOURS[colour], label=colour)
            begins = begins + np.array(amounts)
        axes.set_yticks(places, [_shorten_label(name) for name in names])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(x)
        axes.xaxis.set_major_locator(_integer_ticks(5) if form.endswith(",.0f}") else _decimal_ticks(5))
        axes.xaxis.set_major_formatter(form)

    return _draw_svg(draw, title, (FIGURE_INCHES[0], 0.7 + 0.22 * len(names)))


def _shorten_label(name: str) -> str:
    name = name.replace("$", r"\$")  # matplotlib would take what stands between two for a formula
    return name if len(name) <= 26 else name[:25] + "…"


def _integer_ticks(most: int = 6) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, integer=True, min_n_ticks=1)


def _decimal_ticks(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _draw_svg(draw: Any, title: str, size: tuple[float, float]) -> str:
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", MATPLOTLIB_SETTINGS]):  # whatever the user's own matplotlibrc says
        figure = Figure(figsize=size)
        draw(figure.add_subplot())
        written = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _adapt_svg(written.getvalue(), title)


def _adapt_svg(document: str, title: str) -> str:
    ET.register_namespace("", SVG_NAMESPACE)
    svg = ET.fromstring(document)  # noqa: S314 - what matplotlib has just written
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG_NAMESPACE}}}metadata", f"{{{SVG_NAMESPACE}}}style"):
                parent.remove(child)
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", document))
    prefix = re.sub(r"\W+", "-", title)
    for element in svg.iter():
        _restyle(element)
        if (name := element.attrib.pop("id", None)) in used:
            element.set("id", f"{prefix}-{name}")
        if target := element.attrib.pop(XLINK_HREF, None):
            element.set("href", f"#{prefix}-{target[1:]}")
        if clip := element.get("clip-path"):
            element.set("clip-path", clip.replace("#", f"#{prefix}-"))
    for name in ("width", "height", "version"):
        svg.attrib.pop(name, None)
    svg.set("role", "img")
    svg.set("aria-label", title)
    return re.sub(r">\s+<", "><", ET.tostring(svg, encoding="unicode"))


def _restyle(element: ET.Element) -> None:
    """Turn an element's style into attributes, and its colours into names."""
    style = dict(item.split(": ", 1) for item in element.attrib.pop("style", "").split("; ") if ": " in item)
    font = style.pop("font", "")
    if size := re.search(r"([\d.]+)px", font or style.pop("font-size", "")):
        element.set("font-size", size[1])
    for name in KEPT_STYLES & style.keys():
        element.set(name, style[name])
    for name in ("d", "transform", "x", "y"):
        if name in element.attrib:  # hundredths of a point are enough
            element.set(name, re.sub(r"(\.\d\d)\d+", r"\1", element.attrib[name]).strip())
    for name in ("fill", "stroke"):
        value = element.get(name)
        for colour, code in COLOURS.items():
            if value == code:
                element.set(name, f"var(--{colour})")
