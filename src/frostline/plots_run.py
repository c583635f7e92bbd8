"""The pictures of one run, from what it has recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from frostline import plots, plots_search
from frostline.runs import PLOTS, Run


def draw_run(run: Run, recipe: str, record: Mapping[str, Any]) -> None:
    """Draw curves, and the confusion matrix of each split as counts and, where there is room for numbers, as percentages.

    Args:
        run: with its history and scores.
        recipe: its name, for the titles.
        record: what was chosen in training: ``best``, ``lr_finder`` and ``learning_curve``, where there are such.

    Raises:
        UserError: Matplotlib is missing.
    """
    title = f"{run.folder.resolve().name} · {recipe}"
    draw: Callable[[str], Path] = lambda name: run.folder / PLOTS / f"{name}.png"  # noqa: E731
    if epochs := [row for row in run.history() if "epoch" in row and row.get("stage") != "head"]:
        plots.curves(epochs, draw("curves"), title, record.get("best", {}).get("epoch"))
    if found := record.get("lr_finder"):
        plots_search.rate_finder(found, draw("lr_finder"), title)
    if points := record.get("learning_curve"):
        plots.learning_curve(points, draw("learning_curve"), title, record["more_images"])
    for name in run.splits:
        scores = run.scores(name)
        matrix, classes = scores["confusion"], [row["class"] for row in scores["per_class"]]
        plots.confusion(matrix, classes, draw(f"confusion_{name}"), f"{title} · {name}")
        if len(classes) <= plots.MOST_COUNTED:
            plots.confusion(matrix, classes, draw(f"confusion_{name}_percent"), f"{title} · {name}", percent=True)
