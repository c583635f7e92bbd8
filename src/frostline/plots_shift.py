"""Pictures of how a model does on changed images. Pure functions of records, as in ``plots``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frostline.plots import DARK, TRAIN, VALIDATION, new_figure

#: What the horizontal axis of each curve means.
_AMOUNTS = {"brightness": "factor on every value", "rotation": "degrees to the left", "occlusion": "share of each side covered"}


def heat_map(record: Mapping[str, Any], path: Path, title: str) -> None:
    """Accuracy by corruption and severity as colours and numbers, beneath it what others state.

    ``record`` as ``shift.judge_shift`` gives it.
    """
    rows = {"no corruption": [record["clean"]] * 5, **record["corruptions"], "mean": record["by_severity"]}
    table = 100 * np.array(list(rows.values()))
    stated = [f"{100 * corrupted:.1f} % stated for {name}" for name, (_, corrupted) in record.get("stated", {}).items()]
    lines = [f"mean of all 75: {100 * record['mean_corrupted']:.1f} %", *stated] if stated else []
    with new_figure(path, title, 5.8, 1.4 + 0.34 * len(rows) + 0.2 * len(lines)) as figure:
        axes = figure.subplots()
        image = axes.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.grid(visible=False)
        axes.set_xticks(range(5), range(1, 6))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("\n".join(["severity", *lines]), fontsize=8 if lines else None)
        for (row, column), value in np.ndenumerate(table):
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9, color="black" if value > 55 else "white")
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
        bar.set_label("accuracy (%)")
        bar.outline.set_visible(False)


def curves(record: Mapping[str, Any], path: Path, title: str) -> None:
    """Accuracy along each curve of the record, beside the accuracy on images as they are."""
    with new_figure(path, title, 3.6 * len(record["curves"]), 3.4) as figure:
        panels = figure.subplots(1, len(record["curves"]), sharey=True, squeeze=False)[0]
        for axes, (name, points) in zip(panels, record["curves"].items(), strict=True):
            amounts, accuracy = zip(*points, strict=True)
            axes.plot(amounts, [100 * each for each in accuracy], "o-", color=TRAIN, markersize=4)
            axes.axhline(100 * record["clean"], color=VALIDATION, linestyle="--", linewidth=1)
            axes.set(title=name, xlabel=_AMOUNTS.get(name, ""), ylim=(0, 100))
        panels[0].set_ylabel("accuracy (%)", color=DARK)
        place: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        panels[0].annotate("as they are", (0.02, 100 * record["clean"]), (2, 4), color=VALIDATION, **place)
