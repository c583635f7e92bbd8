"""Pictures of several runs. Pure functions of records, as in ``plots``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.compare import pareto_front
from frostline.errors import UserError
from frostline.plots import DARK, new_figure

#: Okabe and Ito's colours but for yellow, which is hard to see on white; then dashes tell more runs apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":")
#: Inches that a line of a legend takes.
LEGEND_LINE = 0.22


def accuracy_against_seconds(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], path: Path, title: str) -> None:
    """Validation accuracy against seconds since the command, a line a run, the finished model marked; the time is logarithmic.

    Args:
        curves: name and (seconds, accuracy) of each run in order of time (``compare.curves``); runs without points are left out.
        path: the PNG to write.
        title: of the picture.

    Raises:
        UserError: no run has a point.
    """
    drawn = [(name, points) for name, points in curves if points]
    if not drawn:
        raise UserError(
            "None of these runs tells when it reached which accuracy.", expected="runs that 'frostline train' has finished"
        )
    with new_figure(path, title, 8, 4.2 + LEGEND_LINE * math.ceil(len(drawn) / 2)) as figure:
        axes = figure.subplots()
        for number, (name, points) in enumerate(drawn):
            seconds, accuracy = [max(point[0], 0.1) for point in points], [100 * point[1] for point in points]
            colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
            # Matplotlib leaves lines out of a legend whose names begin with _
            label = f"{' ' * name.startswith('_')}{name}: {accuracy[-1]:.1f} % after {_duration(seconds[-1])}"
            axes.plot(seconds, accuracy, dash, color=colour, marker=".", markersize=5, label=label)
            axes.plot(seconds[-1], accuracy[-1], "o", color=colour, markersize=8)
        axes.set(xscale="log", xlabel="time since the command, reading and compiling included", ylabel="validation accuracy (%)")
        _label_times(axes)
        figure.legend(loc="outside lower center", ncols=2, labelcolor=DARK)


def pareto(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Test accuracy with its interval against what it costs: seconds of training, milliseconds for one image; both logarithmic.

    What nothing beats in both is joined by a line (``compare.pareto_front``). A run without a figure is named beneath the panel.

    Args:
        rows: of ``compare.table``.
        path: the PNG to write.
        title: of the picture.

    Raises:
        UserError: no run tells either cost.
    """
    told = [cost for cost in _COSTS if any(row.get(cost) for row in rows)]
    if not told:
        raise UserError(
            "None of these runs tells what it costs.", expected="runs that 'frostline train' of this version has finished"
        )
    with new_figure(path, title, 5.6 * len(told), 4.6) as figure:
        for axes, cost in zip(figure.subplots(1, len(told), squeeze=False)[0], told, strict=True):
            _draw_front(axes, rows, cost)


#: Key of a row, and the label of its axis.
_COSTS = {"training_seconds": "seconds to the saved model", "latency_ms": "milliseconds for one image"}


#: Behind a name, so that no line runs through it.
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def _draw_front(axes: Any, rows: Sequence[Mapping[str, Any]], cost: str) -> None:
    known = [row for row in rows if row.get(cost)]
    points = [(float(row[cost]), float(row["accuracy"])) for row in known]
    front = [points[i] for i in pareto_front(points)]
    axes.step(*zip(*((x, 100 * y) for x, y in front), strict=True), where="post", color="#888888", linestyle="--", zorder=1)
    for number, (row, (x, y)) in enumerate(zip(known, points, strict=True)):
        below, above = (100 * abs(y - end) for end in row["interval"])
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(x, 100 * y, yerr=[[below], [above]], fmt="o", color=colour, capsize=3, label=row["name"])
        axes.annotate(row["name"], (x, 100 * y), xytext=(7, 6), textcoords="offset points", fontsize=8, color=DARK, bbox=_PAPER)
    missing = ", ".join(row["name"] for row in rows if not row.get(cost))
    axes.set(xscale="log", xlabel=_COSTS[cost] + (f"\nnot recorded: {missing}" if missing else ""), ylabel="test accuracy (%)")
    axes.margins(x=0.25)
    _plain_ticks(axes.xaxis)


def _plain_ticks(axis: Any) -> None:
    """A logarithmic axis in plain numbers, as few as can be read."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8)):
        marks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(marks) >= 3:
            break
    axis.set_major_locator(FixedLocator(marks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _label_times(axes: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    marks = (0.1, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 36000, 86400)
    axis = axes.xaxis
    axis.set_major_locator(FixedLocator(marks))
    axis.set_major_formatter(FuncFormatter(lambda seconds, _: _duration(seconds)))
    axis.set_minor_locator(NullLocator())


def _duration(seconds: float) -> str:
    """0.5 s, 42 s, 12 min, 2 h."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
