"""Charts of scores, as SVG. Each is a pure function of values; who calls it says in words what can be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.abstaining import Coverage
from frostline.calibrate import Reliability
from frostline.metrics import normalised, wilson_interval
from frostline.reporting.svg import COLOURS, DASHES, GRID, INK, SOFT, WIDTH, Point, Scale, Svg

#: More classes than these have no counts, no names; above the last, neighbours share a square.
MOST_COUNTED, MOST_NAMED, MOST_SQUARES = 20, 40, 100
#: Points of a curve beyond these cannot be told apart.
_MOST_POINTS = 160
_LEFT, _RIGHT = 46.0, 330.0


def confusion(counts: NDArray[Any], classes: Sequence[str], alt: str, percent: bool = False) -> str:
    """A (K, K) confusion matrix: counts as numbers, the share of its row as a square's colour (by its square root).

    With ``percent`` the shares are the numbers, as percentages.
    """
    together = math.ceil(len(classes) / MOST_SQUARES)
    starts = np.arange(0, len(classes), together)
    counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    k, named = len(counts), len(classes) <= MOST_NAMED
    names = [_short(name) for name in classes] if named else []
    letters = 9.5 if k <= MOST_COUNTED else 6.5
    margin = max([14.0, *(len(name) * letters * 0.56 + 8 for name in names)]) + 16
    upper = margin if max([0, *map(len, names)]) > 3 else 34.0
    side = (WIDTH - margin - 4) / k
    drawing = Svg(upper + k * side + 6)
    shares = normalised(counts)
    drawing.box(margin, upper, k * side, k * side, "#f4f7f9")
    for row, column in zip(*np.nonzero(counts), strict=True):
        strength = math.sqrt(shares[row, column])
        x, y = margin + column * side, upper + row * side
        drawing.box(x, y, side, side, _mixed(strength))
        if k <= MOST_COUNTED:
            words = f"{100 * shares[row, column]:.1f}" if percent else f"{counts[row, column]}"
            fitting = min(letters, side / max(len(words), 2) * 1.5)
            drawing.text(x + side / 2, y + side / 2 + fitting * 0.36, words, fitting, "#fff" if strength > 0.62 else INK, "middle")
    for i, name in enumerate(names):
        middle = i * side + side / 2
        drawing.text(margin - 5, upper + middle + 3.5, name, letters, anchor="end")
        turned = upper != 34.0
        drawing.text(
            margin + middle + (3 if turned else 0),
            upper - 5,
            name,
            letters,
            anchor="start" if turned else "middle",
            turn=-90 if turned else 0,
        )
    about = "" if named else f" ({together} classes to a square)" if together > 1 else " (number of the class)"
    drawing.text(margin + k * side / 2, 10, f"predicted{', % of the true class' if percent else ''}{about}", 10, SOFT, "middle")
    drawing.text(10, upper + k * side / 2, f"true{about}", 10, SOFT, "middle", turn=-90)
    return drawing.render(alt)


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else f"{name[: most - 5]}…{name[-4:]}"


def _mixed(strength: float) -> str:
    """White to blue."""
    return "#" + "".join(f"{round(255 + (end - 255) * strength):02x}" for end in (0, 91, 150))


class Axes:
    """A frame with a grid, ticks and labels.

    Args:
        x, y: (low, high) of the values.
        labels: of the two axes.
        forms: how ticks are written.
        height: px of the whole drawing.
        log: whether x is logarithmic.
        top: px above the frame, for a legend.
        whole: whether x is ticked at whole numbers only.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        forms: tuple[Callable[[float], str], Callable[[float], str]],
        height: float = 230,
        log: bool = False,
        top: float = 12,
        whole: bool = False,
    ) -> None:
        bottom = height - 40
        self.drawing = Svg(height)
        self.x, self.y = Scale(*x, _LEFT, _RIGHT, log), Scale(*y, bottom, top)
        for tick in self.y.ticks(5):
            self.drawing.line((_LEFT, self.y(tick)), (_RIGHT, self.y(tick)))
            self.drawing.text(_LEFT - 5, self.y(tick) + 3.5, forms[1](tick), 10, SOFT, "end")
        for tick in self.x.ticks(5, whole):
            self.drawing.line((self.x(tick), bottom), (self.x(tick), bottom + 4), SOFT)
            self.drawing.text(self.x(tick), bottom + 15, forms[0](tick), 10, SOFT, "middle")
        self.drawing.line((_LEFT, bottom), (_RIGHT, bottom), SOFT)
        self.drawing.text((_LEFT + _RIGHT) / 2, height - 7, labels[0], 10.5, SOFT, "middle")
        self.drawing.text(11, (top + bottom) / 2, labels[1], 10.5, SOFT, "middle", turn=-90)

    def places(self, points: Sequence[Point]) -> list[Point]:
        """Values to px."""
        return [(self.x(x), self.y(y)) for x, y in points]


def share(value: float) -> str:
    """A tick of an axis of shares, in percent."""
    return f"{100 * value:.4g}"


def legend(drawing: Svg, rows: Sequence[tuple[str, str, str]], x: float, y: float) -> None:
    """(words, colour, dash) beneath one another."""
    for i, (words, colour, dash) in enumerate(rows):
        drawing.line((x, y + 14 * i - 3.5), (x + 18, y + 14 * i - 3.5), colour, 2, dash)
        drawing.text(x + 23, y + 14 * i, words, 10)


def reliability_diagram(tables: Mapping[str, Reliability], alt: str) -> str:
    """Accuracy against confidence of each table's bins; a mark's area follows the images in the bin."""
    axes = Axes((0, 1), (0, 1), ("confidence (%)", "right (%)"), (share, share), 296, top=40)
    axes.drawing.path(axes.places([(0, 0), (1, 1)]), SOFT, 1, "3 3")
    for number, table in enumerate(tables.values()):
        colour, filled = COLOURS[1 - number % 2], np.flatnonzero(table.counts)
        points = axes.places([(float(table.confidence[i]), float(table.accuracy[i])) for i in filled])
        axes.drawing.path(points, colour, 1.5, DASHES[1 - number % 2])
        for i, (x, y) in zip(filled, points, strict=True):
            radius = 2 + 6 * math.sqrt(table.counts[i] / table.counts.sum())
            axes.drawing.dot(x, y, colour, radius, hollow=number == 0)
    names = [(name, COLOURS[1 - i % 2], DASHES[1 - i % 2]) for i, name in enumerate(tables)]
    legend(axes.drawing, names, _LEFT, 14)
    return axes.drawing.render(alt)


def coverage_chart(curve: Coverage, marks: Sequence[Point], alt: str) -> str:
    """Accuracy against the share answered, with its interval as a band; ``marks`` are (coverage, accuracy) of thresholds."""
    chosen = np.unique(np.linspace(0, len(curve.coverage) - 1, _MOST_POINTS).astype(int))
    chosen = chosen[curve.answered[chosen] >= min(10, curve.n)]
    points = [(float(curve.coverage[i]), float(curve.accuracy[i])) for i in chosen]
    ends = [wilson_interval(int(curve.hits[i]), int(curve.answered[i])) for i in chosen]
    low = min([accuracy for _, accuracy in points] + [ends[-1][0]]) - 0.01
    axes = Axes((0, 1), (low, 1), ("answered (%)", "right of these (%)"), (share, share))
    band = [(x, end[1]) for (x, _), end in zip(points, ends, strict=True)]
    band += [(x, max(end[0], low)) for (x, _), end in zip(points, ends, strict=True)][::-1]
    axes.drawing.path(axes.places(band), "none", 0, fill="#d6e8f3")
    axes.drawing.path(axes.places(points), COLOURS[0])
    for x, y in axes.places(marks):
        axes.drawing.diamond(x, y, COLOURS[1])
    return axes.drawing.render(alt)


def lines(
    series: Mapping[str, Sequence[Point]],
    labels: tuple[str, str],
    alt: str,
    shares: bool,
    log: bool = False,
    kept: float | None = None,
) -> str:
    """Lines through points, one a name; ``kept`` marks an x. ``shares``: y is in percent."""
    every = [point for points in series.values() for point in points]
    xs, ys = [x for x, _ in every], [y for _, y in every]
    room = (max(ys) - min(ys) or 0.1) * 0.06
    top = min(1.0, max(ys) + room) if shares else max(ys) + room
    height = 214.0 + 14 * len(series)
    axes = Axes(
        (min(xs), max(xs)),
        (min(ys) - room, top),
        labels,
        (_plain, share if shares else _plain),
        height,
        log,
        12 + 14 * len(series),
        labels[0] == "epoch",
    )
    for number, points in enumerate(series.values()):
        colour = COLOURS[number % len(COLOURS)]
        axes.drawing.path(axes.places(points), colour, dash=DASHES[number % len(DASHES)])
        for x, y in axes.places(points) if len(points) <= 40 else []:
            axes.drawing.dot(x, y, colour, 2)
    if kept is not None:
        axes.drawing.line((axes.x(kept), axes.y.end), (axes.x(kept), axes.y.start), COLOURS[2], 1.5, "2 2")
        side = "end" if axes.x(kept) > WIDTH / 2 else "start"
        axes.drawing.text(axes.x(kept) + (-4 if side == "end" else 4), axes.y.start - 5, "kept", 10, COLOURS[2], side)
    legend(axes.drawing, [(name, COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i, name in enumerate(series)], _LEFT, 14)
    return axes.drawing.render(alt)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def intervals(rows: Sequence[tuple[str, float, Sequence[float] | None]], alt: str) -> str:
    """Accuracies with their intervals beneath one another; a hollow mark is stated by others, without an interval."""
    ends = [end for _, accuracy, interval in rows for end in (interval or (accuracy,))]
    low, high = min(ends), max(ends)
    room = max((high - low) * 0.06, 0.004)
    drawing = Svg(34 * len(rows) + 34)
    scale = Scale(low - room, min(1.0, high + room), 12, WIDTH - 12)
    bottom = 34 * len(rows) + 6
    for tick in scale.ticks(5):
        drawing.line((scale(tick), 6), (scale(tick), bottom), GRID)
        drawing.text(scale(tick), bottom + 13, share(tick), 10, SOFT, "middle")
    for i, (name, accuracy, interval) in enumerate(rows):
        y = 34 * i + 27
        drawing.text(12, y - 10, f"{_short(name, 40)}: {100 * accuracy:.2f} %", 10.5)
        if interval is None:
            drawing.diamond(scale(accuracy), y, SOFT)
            continue
        drawing.line((scale(interval[0]), y), (scale(interval[1]), y), COLOURS[0], 2)
        for end in interval:
            drawing.line((scale(end), y - 4), (scale(end), y + 4), COLOURS[0], 2)
        drawing.dot(scale(accuracy), y, COLOURS[0], 4)
    drawing.text(WIDTH / 2, bottom + 26, "accuracy (%)", 10.5, SOFT, "middle")
    return drawing.render(alt)


def front(named: Sequence[tuple[str, Point]], best: Sequence[int], label: str, alt: str) -> str:
    """Accuracy against a cost (logarithmic), what nothing beats joined by steps; numbers in the marks lead to names beneath."""
    points = [point for _, point in named]
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    room = max((max(ys) - min(ys)) * 0.15, 0.005)
    spread = (min(xs) / 1.6, max(xs) * 1.6)
    extra = 14.0 * len(points)
    axes = Axes(
        spread, (min(ys) - room, min(1.0, max(ys) + room)), (label, "accuracy (%)"), (_plain, share), 220 + extra, True, 12 + extra
    )
    steps: list[Point] = []
    for i in best:
        steps += [(points[i][0], steps[-1][1])] if steps else []
        steps.append(points[i])
    if len(steps) > 1:
        axes.drawing.path(axes.places(steps), SOFT, 1.2, "4 3")
    for i, (x, y) in enumerate(axes.places(points)):
        axes.drawing.dot(x, y, COLOURS[i % len(COLOURS)], 8)
        axes.drawing.text(x, y + 3.5, str(i + 1), 10, "#fff", "middle", bold=True)
    for i, (name, _) in enumerate(named):
        axes.drawing.text(12, 12 + 14 * i, f"{i + 1}  {_short(name, 44)}", 10, COLOURS[i % len(COLOURS)], bold=i in best)
    return axes.drawing.render(alt)
