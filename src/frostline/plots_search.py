"""Pictures of searches: the learning-rate finder's curve, the trials of a tuning. Pure functions of records, as in ``plots``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frostline.plots import DARK, MARK, TRAIN, VALIDATION, new_figure

Rows = Sequence[Mapping[str, Any]]


def rate_finder(found: Mapping[str, Any], path: Path, title: str) -> None:
    """Smoothed loss against learning rate, the rate that was taken marked; ``found`` as ``rate_finder.find_rate`` gives it."""
    rates, losses = ([row[key] for row in found["curve"]] for key in ("lr", "loss"))
    with new_figure(path, title, 6.4, 3.8) as drawn:
        axes = drawn.subplots()
        axes.plot(rates, losses, color=TRAIN)
        axes.axvline(found["lr"], color=MARK, linestyle="--")
        axes.annotate(
            f"taken: {found['lr']:.2g}", (found["lr"], max(losses)), (6, -4), textcoords="offset points", color=DARK, va="top"
        )
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed (nats)")


def trials(rows: Rows, path: Path, title: str) -> None:
    """Validation accuracy of every trial in order, the best so far as a line; and against each number that was searched."""
    whole = [row for row in rows if row["state"] == "complete"]
    searched = [name for name in _searched(rows) if all(isinstance(row[name], int | float) for row in whole)]
    columns = min(3, 1 + len(searched))
    lines = -(-(1 + len(searched)) // columns)
    with new_figure(path, title, 3.6 * columns, 3.0 * lines) as drawn:
        axes = np.atleast_1d(drawn.subplots(lines, columns)).ravel()
        _draw_order(axes[0], rows, whole)
        for each, name in zip(axes[1:], searched, strict=False):
            each.scatter([row[name] for row in whole], [100 * row["validation_accuracy"] for row in whole], color=TRAIN, s=18)
            numbers = [row[name] for row in whole]
            spread = min(numbers, default=0) > 0 and max(numbers) / min(numbers) > 20
            each.set(xlabel=name, ylabel="validation accuracy (%)", xscale="log" if spread else "linear")
        for each in axes[1 + len(searched) :]:
            each.set_visible(False)


def _searched(rows: Rows) -> list[str]:
    left_out = ("trial", "state", "validation_accuracy", "seconds")
    return [name for name in (rows[0] if rows else {}) if name not in left_out]


def _draw_order(axes: Any, rows: Rows, whole: Rows) -> None:
    pruned = [row for row in rows if row["state"] == "pruned" and row["validation_accuracy"] is not None]
    scores = [100 * row["validation_accuracy"] for row in whole]
    axes.scatter([row["trial"] for row in whole], scores, color=TRAIN, s=18, label="complete")
    if pruned:
        numbers, reached = [row["trial"] for row in pruned], [100 * row["validation_accuracy"] for row in pruned]
        axes.scatter(numbers, reached, color=VALIDATION, s=18, marker="x", label="ended early")
    axes.step([row["trial"] for row in whole], np.maximum.accumulate(scores or [0])[: len(whole)], where="post", color=MARK)
    axes.set(xlabel="trial", ylabel="validation accuracy (%)")
    axes.legend(loc="lower right")
