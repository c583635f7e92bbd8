"""Drawings as SVG text: the same calls give the same bytes, and nothing in them points anywhere. Lengths are in px."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

#: Of every chart; on a phone of 360 px its letters are as large as they are on a desk.
WIDTH = 340.0
INK, SOFT, GRID = "#1b2733", "#51606e", "#dfe5ea"
#: Okabe and Ito's (2008), darkened where white would be too near: each has a contrast of at least 3 on white.
COLOURS = ("#0072b2", "#c04a00", "#00795a", "#a8467a", "#3b3b3b", "#8a6d00", "#2a7fb8")
DASHES = ("", "5 3", "2 2", "8 3 2 3")

Point = tuple[float, float]


class Svg:
    """A drawing in the making; the origin is its upper left corner.

    Args:
        height: px.
        width: px.
    """

    def __init__(self, height: float, width: float = WIDTH) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def _add(self, tag: str, text: str | None = None, **attributes: object) -> None:
        given = {key.rstrip("_").replace("_", "-"): _text(value) for key, value in attributes.items() if value not in (None, "")}
        inside = "".join(f" {key}={quoteattr(value)}" for key, value in given.items())
        self.parts.append(f"<{tag}{inside}/>" if text is None else f"<{tag}{inside}>{escape(text)}</{tag}>")

    def line(self, a: Point, b: Point, colour: str = GRID, width: float = 1, dash: str = "") -> None:
        """A straight line."""
        self._add("line", x1=a[0], y1=a[1], x2=b[0], y2=b[1], stroke=colour, stroke_width=width, stroke_dasharray=dash)

    def path(self, points: Sequence[Point], colour: str, width: float = 1.8, dash: str = "", fill: str = "none") -> None:
        """A line through points; with ``fill`` an area."""
        data = "M" + "L".join(f"{_text(x)} {_text(y)}" for x, y in points)
        self._add("path", d=data, stroke=colour, stroke_width=width, stroke_dasharray=dash, fill=fill, stroke_linejoin="round")

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "", radius: float = 0) -> None:
        """A rectangle by its upper left corner."""
        self._add("rect", x=x, y=y, width=max(width, 0), height=max(height, 0), fill=fill, stroke=stroke, rx=radius or None)

    def dot(self, x: float, y: float, colour: str, radius: float = 3.5, hollow: bool = False) -> None:
        """A round mark."""
        self._add("circle", cx=x, cy=y, r=radius, fill="#fff" if hollow else colour, stroke=colour, stroke_width=1.5)

    def diamond(self, x: float, y: float, colour: str, radius: float = 4.5) -> None:
        """A hollow mark on its point."""
        corners = ((x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y), (x, y - radius))
        self.path(corners, colour, 1.5, fill="#fff")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 11,
        colour: str = INK,
        anchor: str = "start",
        bold: bool = False,
        turn: float = 0,
    ) -> None:
        """Words on a baseline; ``anchor`` is start, middle or end; ``turn`` in degrees about (x, y)."""
        rotation = f"rotate({_text(turn)} {_text(x)} {_text(y)})" if turn else ""
        weight = "600" if bold else ""
        self._add("text", words, x=x, y=y, font_size=size, fill=colour, text_anchor=anchor, font_weight=weight, transform=rotation)

    def render(self, alt: str) -> str:
        """The whole drawing; ``alt`` is what a screen reader says of it."""
        box = f"0 0 {_text(self.width)} {_text(self.height)}"
        size = f'width="{_text(self.width)}" height="{_text(self.height)}"'
        font = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {size} role="img" aria-label={quoteattr(alt)} {font}>'
        return "\n".join([head, *self.parts, "</svg>"])


def _text(value: object) -> str:
    """Numbers with as many digits as can be seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


class Scale:
    """Values to px: linear, or logarithmic in base ten."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False) -> None:
        self.log, self.start, self.end = log, start, end
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        if self.high <= self.low:
            self.low, self.high = self.low - 0.5, self.high + 0.5

    def __call__(self, value: float) -> float:
        place = math.log10(value) if self.log else value
        return self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5, whole: bool = False) -> list[float]:
        """Round values inside the scale; with ``whole`` no fractions."""
        if self.log:
            return self._powers(count)
        step = _round_step((self.high - self.low) / count)
        step = max(1.0, float(math.ceil(step))) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _powers(self, count: int) -> list[float]:
        found: list[float] = []
        for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            powers = range(math.floor(self.low) - 1, math.ceil(self.high) + 1)
            values = [factor * 10.0**power for power in powers for factor in factors]
            found = [value for value in values if self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9]
            if len(found) >= min(3, count):
                break
        return found


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
