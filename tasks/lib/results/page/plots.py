"""Charts as SVG, drawn here: the page needs no script and no library.

The drawing is as wide as the page. So nothing may be stretched that a person reads: marks and words
stand at percentages of the width, and only lines are drawn in a box that is stretched, with strokes that
are not. Labels of the axes hang over the edge, into margins that the style sheet leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tasks.lib.results.page.markup import node
from tasks.lib.results.page.scales import Axis

BOX = 1000
"""Units of a line's own box in both directions."""
MARKS = (
    "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z",
    "M-3.2,-3.2h6.4v6.4h-6.4z",
    "M0,-4.4L4.4,3.4H-4.4z",
    "M0,-4.6L4.6,0L0,4.6L-4.6,0z",
)
"""Circle, square, triangle, diamond, around their own middle: the shape tells them apart without colours."""


@dataclass(frozen=True)
class Point:
    """A mark, and what a pointer that rests on it is told."""

    x: float
    y: float
    told: str
    low: float | None = None
    """With `high`: a whisker from one to the other."""
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """What belongs together: a line, marks, or both. `kind` is its class, which has colour and dashes."""

    name: str
    kind: str
    points: Sequence[Point] = ()
    line: Sequence[tuple[float, float]] = ()
    faint: Sequence[tuple[float, float]] = ()
    """The part of a line that means little."""
    mark: int = 0
    """Of MARKS."""


@dataclass(frozen=True)
class Band:
    """Everything between two values of the y axis, or just one of them."""

    name: str
    kind: str
    low: float
    high: float


@dataclass(frozen=True)
class Stretch:
    """Parts of the x axis that have something in common."""

    name: str
    kind: str
    parts: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One picture with its axes, its legend and what it says."""

    title: str
    explained: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    bands: Sequence[Band] = ()
    lines: Sequence[float] = ()
    """Values of the y axis that are drawn through."""
    stretches: Sequence[Stretch] = ()

    def figure(self, *data: Element) -> Element:
        """With `data`, tables of what it shows, folded behind it."""
        caption = node("figcaption", node("h3", self.title), node("p", self.explained))
        made = node("figure", caption, self._legend(), self._drawing())
        if data:
            made.append(node("details", node("summary", "These figures as a table"), *data))
        return made

    def _legend(self) -> Element:
        items = []
        for curve in self.series:
            swatch = node("svg", class_="swatch", viewBox="-14 -7 28 14", aria_hidden="true")
            if curve.line:
                swatch.append(node("path", d="M-13,0H13", class_=f"line {curve.kind}"))
            if curve.points:
                swatch.append(node("path", d=MARKS[curve.mark], class_=f"mark {curve.kind}"))
            items.append(node("li", swatch, curve.name))
        areas: list[Band | Stretch] = [*self.bands, *self.stretches]
        for band in areas:
            box = node("rect", x=-13, y=-5, width=26, height=10, class_=f"band {band.kind}")
            swatch = node("svg", box, class_="swatch", viewBox="-14 -7 28 14", aria_hidden="true")
            items.append(node("li", swatch, band.name))
        return node("ul", *items, class_="legend")

    def _drawing(self) -> Element:
        told = f"{self.title}. {self.explained} {self.x.title} against {self.y.title}."
        drawing = node("svg", class_="plot", role="img", aria_label=told)
        drawing.append(node("g", *self._grid(), class_="axes"))
        drawing.extend(self._areas())
        for value in self.lines:
            drawing.append(_across(self._down(value), "reference"))
        strokes = node("svg", viewBox=f"0 0 {BOX} {BOX}", preserveAspectRatio="none", class_="lines")
        for curve in self.series:
            for points, faint in ((curve.line, ""), (curve.faint, " faint")):
                if len(points) > 1:
                    strokes.append(node("path", d=self._path(points), class_=f"line {curve.kind}{faint}"))
        if len(strokes):
            drawing.append(strokes)
        for curve in self.series:
            drawing.append(node("g", *self._marks(curve)))
        return drawing

    def _areas(self) -> Iterator[Element]:
        for stretch in self.stretches:
            for begin, end in stretch.parts:
                yield _area(stretch.kind, self.x.at(begin), self.x.at(end), 0, 1)
        for band in self.bands:
            yield _area(band.kind, 0, 1, self._down(band.high), self._down(band.low))

    def _grid(self) -> list[Element]:
        made = []
        for value, text in self.y.ticks:
            made.append(_across(self._down(value), "grid"))
            made.append(
                node("text", text, x=0, y=_percent(self._down(value)), dx=-8, dy="0.35em", class_="y")
            )
        for value, text in self.x.ticks:
            at = _percent(self.x.at(value))
            made.append(node("line", x1=at, x2=at, y1="100%", y2="100%", class_="tick"))
            made.append(node("text", text, x=at, y="100%", dy=18, class_="x"))
        made.append(_across(1, "floor"))
        made.append(node("text", self.y.title, x=0, y=0, dx=-44, dy=-10, class_="title"))
        made.append(node("text", self.x.title, x="100%", y="100%", dy=36, class_="title end"))
        return made

    def _marks(self, curve: Series) -> list[Element]:
        made = []
        for point in curve.points:
            x = _percent(self.x.at(point.x))
            if point.low is not None and point.high is not None:
                made.append(
                    node(
                        "line",
                        x1=x,
                        x2=x,
                        y1=_percent(self._down(point.low)),
                        y2=_percent(self._down(point.high)),
                        class_=f"whisker {curve.kind}",
                    )
                )
            mark = node(
                "path",
                node("title", point.told),
                d=MARKS[curve.mark],
                class_=f"mark {curve.kind}",
            )
            made.append(node("svg", mark, x=x, y=_percent(self._down(point.y)), class_="at"))
        return made

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        placed = (f"{BOX * self.x.at(x):.1f},{BOX * self._down(y):.1f}" for x, y in points)
        return "M" + "L".join(placed)

    def _down(self, value: float) -> float:
        """SVG counts downwards."""
        return 1 - self.y.at(value)


def strip(axis: Axis, low: float, middle: float, high: float, noise: float, told: str, kind: str) -> Element:
    """An interval on one line, with the noise around 1 behind it."""
    left, right = (axis.at(max(axis.low, min(axis.high, one))) for one in (1 / (1 + noise), 1 + noise))
    begin, end = _percent(axis.at(low)), _percent(axis.at(high))
    whisker = [
        node("line", x1=begin, x2=end, y1="50%", y2="50%", class_=f"interval {kind}"),
        *(node("line", x1=x, x2=x, y1="25%", y2="75%", class_=f"interval {kind}") for x in (begin, end)),
    ]
    mark = node("path", node("title", told), d=MARKS[0], class_=f"mark {kind}")
    return node(
        "svg",
        node("rect", x=_percent(left), width=_percent(right - left), height="100%", class_="band noise"),
        node("line", x1=_percent(axis.at(1)), x2=_percent(axis.at(1)), y1=0, y2="100%", class_="reference"),
        *whisker,
        node("svg", mark, x=_percent(axis.at(middle)), y="50%", class_="at"),
        class_="strip",
        role="img",
        aria_label=told,
    )


def ruler(axis: Axis) -> Element:
    """The axis below strips."""
    made = node("svg", class_="ruler", aria_hidden="true")
    made.append(_across(0, "floor"))
    for value, text in axis.ticks:
        at = _percent(axis.at(value))
        made.append(node("line", x1=at, x2=at, y1=0, y2=5, class_="tick"))
        made.append(node("text", text, x=at, y=19, class_="x"))
    made.append(node("text", axis.title, x="100%", y=37, class_="title end"))
    return made


def _area(kind: str, left: float, right: float, top: float, bottom: float) -> Element:
    return node(
        "rect",
        x=_percent(left),
        y=_percent(top),
        width=_percent(right - left),
        height=_percent(bottom - top),
        class_=f"band {kind}",
    )


def _across(down: float, kind: str) -> Element:
    at = _percent(down)
    return node("line", x1=0, x2="100%", y1=at, y2=at, class_=kind)


def _percent(part: float) -> str:
    return f"{100 * part:.3f}".rstrip("0").rstrip(".") + "%"
