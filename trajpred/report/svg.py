"""Pictures as SVG, which takes the colours of the page: a box with axes, and what is drawn in it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from trajpred.report.markup import Html, element
from trajpred.types import Float


class Box(NamedTuple):
    """The inside of a chart in px, and the values at its lower left and upper right corner."""

    left: float
    top: float
    width: float
    height: float
    low: tuple[float, float]
    high: tuple[float, float]

    def px(self, values: Float) -> Float:
        """(..., 2) values, the second upwards -> (..., 2) px."""
        share = (values - np.array(self.low)) / (np.array(self.high) - self.low)
        corner = np.array([self.left, self.top + self.height])
        return np.asarray(corner + share * [self.width, -self.height], np.float64)

    def axes(self, x: str, y: str) -> Html:
        """Grid, numbers and titles."""
        bottom, right, drawn = self.top + self.height, self.left + self.width, []
        for value in _ticks(self.low[0], self.high[0]):
            at = float(self.px(np.array([value, self.low[1]]))[0])
            drawn.append(
                element("line", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=self.top, y2=bottom, class_="grid")
            )
            drawn.append(element("text", f"{value:g}", x=f"{at:.1f}", y=bottom + 18, text_anchor="middle"))
        for value in _ticks(self.low[1], self.high[1]):
            at = float(self.px(np.array([self.low[0], value]))[1])
            drawn.append(
                element("line", x1=self.left, x2=right, y1=f"{at:.1f}", y2=f"{at:.1f}", class_="grid")
            )
            drawn.append(element("text", f"{value:g}", x=self.left - 5, y=f"{at + 4:.1f}", text_anchor="end"))
        middle = f"{self.left + self.width / 2:.1f}", f"{self.top + self.height / 2:.1f}"
        drawn.append(element("text", x, x=middle[0], y=bottom + 33, text_anchor="middle", class_="title"))
        turned = f"translate(9 {middle[1]}) rotate(-90)"
        drawn.append(element("text", y, transform=turned, text_anchor="middle", class_="title"))
        return element("g", *drawn)

    def clipped(self, drawn: Iterable[Html]) -> Html:
        """What is drawn, but nothing outside."""
        view = f"{self.left:g} {self.top:g} {self.width:g} {self.height:g}"
        return element(
            "svg", *drawn, x=self.left, y=self.top, width=self.width, height=self.height, viewBox=view
        )


def picture(box: Box, drawn: Iterable[Html], title: str) -> Html:
    """What is drawn in a box and round it, with its text for those who do not see it."""
    view = f"0 0 {box.left + box.width + 10:g} {box.top + box.height + 36:g}"
    return element("svg", *drawn, viewBox=view, role="img", aria_label=title)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(step * i, 9) + 0.0 for i in range(first, last + 1)]


def coordinates(points: Float) -> str:
    """(N, 2) px -> what `points` of an element says."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points.tolist())


def line(points: Float, look: str, opacity: str | None = None) -> Html:
    """Through (N, 2) px."""
    return element("polyline", points=coordinates(points), class_=look, opacity=opacity)


def dot(point: Float, radius: float, look: str, opacity: str | None = None) -> Html:
    """At (2,) px."""
    x, y = point.tolist()
    return element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, class_=look, opacity=opacity)


def legend(lines: Iterable[tuple[str, str]]) -> Html:
    """What lines mean: the look and the text of each."""
    swatch = np.array([[1.0, 6.0], [33.0, 6.0]])
    return element(
        "ul",
        *(
            element("li", element("svg", line(swatch, look), viewBox="0 0 34 12", aria_hidden="true"), text)
            for look, text in lines
        ),
        class_="legend",
    )
