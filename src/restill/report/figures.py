"""Curves, points and histograms as SVG that follow the reader's light or dark page."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..core.errors import UserError

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_COLOURS = ("#4c8dd6", "#e08214", "#3fa66b", "#c05a9d")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D")
_INK = "#010203"  # drawn, then replaced by the page's text colour
_MAX_POINTS = 400
_MAX_LABEL = 24  # characters in a legend

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """A plot in a page.

    Attributes:
        title: in words, e.g. `student: score gap`.
        svg: one `<svg>` element, which alone goes into a page unescaped.
        description: the numbers, for readers who do not see the plot.
        sentence: how to read it; may be empty.
    """

    title: str
    svg: Markup
    description: str
    sentence: str = ""


class Drawing:
    """An SVG under way: `axes` to draw on, then `svg`, one element to put into a page."""

    axes: matplotlib.axes.Axes
    svg: Markup


@contextmanager
def drawing(name: str, x_label: str, y_label: str) -> Iterator[Drawing]:
    """Axes in the style of the report; `svg` is there once the block has ended.

    Args:
        name: unique on the page; identifiers inside the SVG begin with it.
    """
    import matplotlib  # here, because it takes half a second that only a report should wait for
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    result = Drawing()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure = Figure(figsize=(4.6, 2.8), layout="constrained")
        result.axes = figure.add_subplot()
        result.axes.set_xlabel(x_label, parse_math=False)
        result.axes.set_ylabel(y_label, parse_math=False)
        yield result
        _style(result.axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    result.svg = Markup(_inline(buffer.getvalue(), name))


def line_svg(
    series: Mapping[str, Points],
    x_label: str,
    y_label: str,
    name: str,
    log_y: bool = False,
    spreads: Mapping[str, Sequence[float]] | None = None,
) -> Markup:
    """A line plot as one `<svg>` element to put into a page.

    Lines differ in colour and dashes; text and axes take the page's text colour (`currentColor`). Values that are not
    finite interrupt a line. Long series are averaged down to 400 points.

    Args:
        series: points `(x, y)` by label, in order of x.
        name: unique on the page; identifiers inside the SVG begin with it.
        log_y: logarithmic y axis, where all values are positive.
        spreads: half-widths of a band around the points of a label, one for each point.

    Raises:
        UserError: no finite point.
    """
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    if not values:
        raise UserError(f"{y_label} cannot be plotted: no value is finite")
    with drawing(name, x_label, y_label) as drawn:
        for number, (label, points) in enumerate(series.items()):
            colour, dashes = _COLOURS[number % 4], _DASHES[(number + number // 4) % 4]
            x, y = zip(*_thin(points), strict=True)
            drawn.axes.plot(x, y, dashes, color=colour, linewidth=1.8, label=_short(label))
            if spreads and label in spreads:
                half = [s for _, s in _thin([(px, s) for (px, _), s in zip(points, spreads[label], strict=True)])]
                low, high = ([v + sign * s for v, s in zip(y, half, strict=True)] for sign in (-1, 1))
                drawn.axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
        if log_y and min(values) > 0:
            _logarithmic(drawn.axes)
        _counts(drawn.axes)
        if len(series) > 1:
            _legend(drawn.axes)
    return drawn.svg


def scatter_svg(
    points: Mapping[str, tuple[float, float]],
    spreads: Mapping[str, tuple[float, float]],
    x_label: str,
    y_label: str,
    name: str,
) -> Markup:
    """Named points `(x, y)`, with error bars of half-widths `spreads` (0 where not known), as one `<svg>` element."""
    with drawing(name, x_label, y_label) as drawn:
        kinds = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS))
        for (label, (x, y)), (colour, marker) in zip(points.items(), kinds, strict=False):
            dx, dy = spreads.get(label, (0.0, 0.0))
            style: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 7, "capsize": 2}
            drawn.axes.errorbar(x, y, xerr=dx or None, yerr=dy or None, label=_short(label), **style)
        drawn.axes.margins(0.15)
        _legend(drawn.axes)
    return drawn.svg


def histogram_svg(values: Sequence[float], x_label: str, name: str, bins: int = 20) -> Markup:
    """How often values occur, as one `<svg>` element: a bar for each value where there are few, else for each bin."""
    counts = Counter(values)
    with drawing(name, x_label, "measurements") as drawn:
        if len(counts) <= bins:
            gaps = [b - a for a, b in itertools.pairwise(sorted(counts))]
            drawn.axes.bar(list(counts), list(counts.values()), width=0.6 * min(gaps, default=1.0), color=_COLOURS[0])
        else:
            drawn.axes.hist(values, bins=bins, color=_COLOURS[0])
    return drawn.svg


def _short(label: str) -> str:
    """A label that leaves room for the plot."""
    half = _MAX_LABEL // 2
    return label if len(label) <= _MAX_LABEL else f"{label[: half - 1]}…{label[-half:]}"


def _thin(points: Points) -> list[tuple[float, float]]:
    """Means over runs of equal length, at most 400 of them."""
    run = math.ceil(len(points) / _MAX_POINTS)
    runs = (points[start : start + run] for start in range(0, len(points), run))
    return [(math.fsum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]


def _logarithmic(axes: matplotlib.axes.Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _counts(axes: matplotlib.axes.Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.2M images
    if max(axes.get_ylim()) >= 10_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _style(axes: matplotlib.axes.Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(which="both", colors=_INK)
    axes.grid(visible=True, color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)


def _legend(axes: matplotlib.axes.Axes) -> None:
    for text in axes.legend(frameon=False, labelcolor=_INK).get_texts():
        text.set_parse_math(False)


def _inline(svg: str, name: str) -> str:
    """Only the element: transparent, in the page's text colour, with identifiers that no other figure has."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r'(<g id="patch_[12]">\s*<path [^>]*style="[^"]*)fill: #ffffff', r"\1fill: none", svg)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
